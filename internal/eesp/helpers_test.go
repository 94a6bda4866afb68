package eesp

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"reflect"
	"sync/atomic"
	"syscall"
	"testing"
	"unsafe"

	"libeesp/internal/counter"
	"libeesp/internal/status"
	"libeesp/internal/testrun"
)

// TestMain runs the child of TestKill if the environment asks for it.
func TestMain(m *testing.M) {
	if mode := os.Getenv(childEnv); mode != "" {
		killChild(mode)
	}
	os.Exit(m.Run())
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// stream returns n octets that are derived from a seed, as in the vectors.
func stream(seed string, n int) (b []byte) {
	for i := uint32(0); len(b) < n; i++ {
		h := sha256.Sum256(binary.BigEndian.AppendUint32([]byte(seed), i))
		b = append(b, h[:]...)
	}
	return b[:n]
}

// ring returns the parts of a root key that is derived from a seed, with indices 1, 2, 3.
func ring(seed string) (id []byte, index [3]uint64, value *[3][RootKeyLen]byte) {
	value = new([3][RootKeyLen]byte)
	for i := range value {
		value[i] = generation(seed, uint64(i+1))
	}
	return stream("id/"+seed, 16), [3]uint64{1, 2, 3}, value
}

// generation returns the value of an index of ring(seed), also after rotations.
func generation(seed string, index uint64) [RootKeyLen]byte {
	return [RootKeyLen]byte(stream(fmt.Sprintf("value/%s/%d", seed, index), RootKeyLen))
}

func levelSeed(seed string, l Level) string { return fmt.Sprintf("%s/level %d", seed, l) }

func setRing(g *Group, seed string, l Level) error {
	id, index, value := ring(levelSeed(seed, l))
	return g.SetRootKey(l, id, index, value)
}

// newGroup makes a group whose root keys are derived from a seed.
func newGroup(t testing.TB, seed string, c GroupConfig, levels ...Level) *Group {
	t.Helper()
	g := must(NewGroup(c))
	t.Cleanup(g.Close)
	for _, l := range levels {
		if err := setRing(g, seed, l); err != nil {
			t.Fatal(err)
		}
	}
	return g
}

// rotate rotates a level of newGroup(seed) to the key of an index.
func rotate(t testing.TB, g *Group, seed string, l Level, index uint64) {
	t.Helper()
	v := generation(levelSeed(seed, l), index)
	if err := g.Rotate(l, index, &v); err != nil {
		t.Fatal(err)
	}
}

// Senders of one process share counters by ID, so each test takes new IDs. They are not the
// small numbers of the vectors.
var lastID atomic.Uint32

func init() { lastID.Store(4096) }

func freshID() uint64 { return uint64(lastID.Add(1)) }

// newSender makes a sender; without an ID it gets one, and without a counter
// mode explicit counters.
func newSender(t testing.TB, g *Group, c SenderConfig) *Sender {
	t.Helper()
	if c.ID == 0 {
		c.ID = freshID()
		if ProfileID(g.g.Params().Profile) == ProfileEESP { // of 16 bits, after many runs too
			c.ID &= 0xffff
		}
	}
	if c.Counter == CounterClock {
		c.Counter = CounterExplicit
	}
	s, err := NewSender(g, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// ownCounters gives a sender counters from (epoch, start) on, which it does not share.
func ownCounters(s *Sender, epoch uint16, start uint64) {
	setCounters(s, counter.Config{Mode: CounterExplicit, FixedEpoch: true, Epoch: epoch, Start: start})
}

// leaveEpoch makes explicit counters go on for n packets in the next epoch, as those of the
// clock mode do.
func leaveEpoch(s *Sender, n uint64) {
	field := func(name string) unsafe.Pointer {
		return reflect.ValueOf(s.now.Load().s.Counter).Elem().FieldByName(name).Addr().UnsafePointer()
	}
	*(*uint64)(field("end")) += n
	(*atomic.Uint64)(field("limit")).Add(n)
}

func setCounters(s *Sender, c counter.Config) {
	s.now.Load().s.Counter.Release()
	s.now.Load().s.Counter = must(counter.New(c))
	if s.now.Load().anew != nil {
		s.now.Load().anew.close()
		s.now.Load().anew.own = s.now.Load().s.Counter
	}
}

// eachBackend runs f with every backend that this machine has.
func eachBackend(t *testing.T, f func(t *testing.T)) {
	before := must(Backend())
	defer SelectBackend(before)
	all := Backends()
	if testing.Short() && (testrun.Race || testrun.Emulated()) { // takes minutes, and other backends differ only in kernels
		all = []string{before}
	}
	for _, name := range all {
		t.Run(name, func(t *testing.T) {
			if !BackendSupported(name) {
				testrun.Skip(t, "this machine cannot run backend "+name)
			}
			if err := SelectBackend(name); err != nil {
				t.Fatal(err)
			}
			f(t)
		})
	}
}

func newReceiver(t testing.TB, c ReceiverConfig, groups ...*Group) *Receiver {
	t.Helper()
	r, err := NewReceiver(c, groups...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

// plain describes a payload in a new buffer with room around it.
func plain(payload []byte) Packet {
	b := make([]byte, MaxHeader+len(payload)+ICVLen)
	copy(b[MaxHeader:], payload)
	return Packet{Buf: b, Off: MaxHeader, Len: len(payload), SrcIP: zeros, DstIP: zeros}
}

// zeros is the address of receivers if none is given.
var zeros = netip.IPv6Unspecified()

// whole describes a copy of a sealed packet that fills its buffer.
func whole(sealed []byte) Packet {
	return Packet{Buf: bytes.Clone(sealed), Len: len(sealed), SrcIP: zeros, DstIP: zeros}
}

// sealed seals one packet and returns a copy of it.
func sealed(t testing.TB, s *Sender, p Packet) []byte {
	t.Helper()
	pkts := []Packet{p}
	if s.Seal(pkts) != 1 {
		t.Fatalf("seal: %v", pkts[0].Status)
	}
	return bytes.Clone(pkts[0].Out)
}

// open1 opens one packet.
func open1(r *Receiver, p Packet) Packet {
	pkts := []Packet{p}
	if n := r.Open(pkts); (n == 1) != (pkts[0].Status == status.OK) {
		panic("count and status disagree")
	}
	return pkts[0]
}

// wantOpen opens a sealed packet and compares.
func wantOpen(t testing.TB, r *Receiver, p Packet, payload []byte) {
	t.Helper()
	if p = open1(r, p); p.Status != status.OK || !bytes.Equal(p.Out, payload) {
		t.Fatalf("open: %v, %x; want %x", p.Status, p.Out, payload)
	}
}

// wantStatus opens a packet that must be refused.
func wantStatus(t testing.TB, r *Receiver, p Packet, want status.Code) {
	t.Helper()
	if p = open1(r, p); p.Status != want || p.Out != nil {
		t.Fatalf("open: %v, want %v", p.Status, want)
	}
}

// guarded returns n octets of memory between pages without access.
func guarded(t testing.TB, n int) []byte {
	t.Helper()
	page := os.Getpagesize()
	n = (n + page - 1) &^ (page - 1)
	m := must(syscall.Mmap(-1, 0, n+2*page, syscall.PROT_NONE, syscall.MAP_PRIVATE|syscall.MAP_ANON))
	t.Cleanup(func() { syscall.Munmap(m) })
	b := m[page : page+n : page+n]
	if err := syscall.Mprotect(b, syscall.PROT_READ|syscall.PROT_WRITE); err != nil {
		t.Fatal(err)
	}
	return b
}

func allZero(b []byte) bool { return len(bytes.TrimLeft(b, "\x00")) == 0 }
