package eesp

import (
	"bufio"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"encoding"
	"encoding/binary"
	"fmt"
	"hash"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"libeesp/internal/hkdf"
	"libeesp/internal/keys"
	"libeesp/internal/secmem"
	"libeesp/internal/status"
	"libeesp/internal/testrun"
)

// secrets are octets to look for in memory, in parts of 16. They are kept masked, so that
// the search does not find them or its own copies.
type secrets map[uint64][]secret

type secret struct {
	name string
	rest uint64
}

const secretMask = 0xA5A5A5A5A5A5A5A5

func (s secrets) remember(name string, p unsafe.Pointer, n int) {
	for i := 0; i < n; i += 16 {
		x := binary.LittleEndian.Uint64((*[8]byte)(unsafe.Add(p, i))[:]) ^ secretMask
		y := binary.LittleEndian.Uint64((*[8]byte)(unsafe.Add(p, i+8))[:]) ^ secretMask
		s[x] = append(s[x], secret{fmt.Sprintf("%s, octet %d", name, i), y})
	}
}

// found lists the secrets in all writable memory of the process that is not
// locked, with the mapping that each is in.
func (s secrets) found(t *testing.T) (where []string) {
	t.Helper()
	var first [1 << 16]bool // whether a secret begins so
	for x := range s {
		first[uint16(x)] = true
	}
	mem, maps := must(os.Open("/proc/self/mem")), must(os.Open("/proc/self/smaps"))
	defer mem.Close()
	defer maps.Close()
	buf := must(secmem.Alloc(1 << 20)) // in locked memory, so that it is not searched itself
	defer secmem.Free(buf)
	var mapping string
	for lines := bufio.NewScanner(maps); lines.Scan(); {
		line := lines.Text()
		name, flags, _ := strings.Cut(line, " ")
		if !strings.HasSuffix(name, ":") {
			mapping = line
			continue
		}
		if name != "VmFlags:" || !strings.Contains(flags, " wr") || strings.Contains(flags, " lo") {
			continue
		}
		var from, to int64
		if n, err := fmt.Sscanf(mapping, "%x-%x", &from, &to); n != 2 {
			t.Fatal(err)
		}
		for at := from; at < to; at += int64(len(buf) - 15) {
			n, _ := mem.ReadAt(buf[:min(int64(len(buf)), to-at)], at)
			for i := 0; i+16 <= n; i++ {
				x := binary.LittleEndian.Uint64(buf[i:]) ^ secretMask
				if !first[uint16(x)] {
					continue
				}
				for _, k := range s[x] {
					if binary.LittleEndian.Uint64(buf[i+8:])^secretMask == k.rest {
						where = append(where, fmt.Sprintf("%s at %#x in %s", k.name, at+int64(i), mapping))
					}
				}
			}
		}
	}
	return where
}

// searchable runs the test in a process of its own, whose memory can be
// searched, and reports whether this is it.
func searchable(t *testing.T) bool {
	t.Helper()
	if testing.Short() {
		t.Skip("in short mode")
	}
	// As in the C library: no preemption by signals, which would save registers with keys,
	// and no collector that causes it.
	const quiet = "asyncpreemptoff=1"
	if debug := os.Getenv("GODEBUG"); !strings.HasPrefix(debug, quiet) {
		cmd := must(testrun.Self("-test.run=^" + t.Name() + "$"))
		cmd.Env = append(os.Environ(), "GODEBUG="+quiet+","+debug)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return false
	}
	percent := debug.SetGCPercent(-1)
	t.Cleanup(func() { debug.SetGCPercent(percent) })
	sample := stream("sample", 16)
	control := secrets{}
	control.remember("sample", unsafe.Pointer(&sample[0]), 16)
	if n := len(control.found(t)); n == 0 {
		t.Fatal("the search finds nothing")
	}
	return true
}

// All parts of root keys, master keys and data keys are in locked memory only: not on the
// heap, and not on the stack of a thread that made or used them.
func TestKeysAreInLockedMemory(t *testing.T) {
	if !searchable(t) {
		return
	}
	eachBackend(t, func(t *testing.T) {
		s := secrets{}
		for _, c := range []GroupConfig{{AEAD: AES128GCM}, {AEAD: AES256GCM, Combiner: CombinerXOR}} {
			g := must(NewGroup(c))
			defer g.Close()
			levels := []Level{Zone, User, Task}
			hold := make(chan bool)
			defer close(hold)
			// Each change in a goroutine that keeps its stack until the end.
			change := func(f func() error) {
				done := make(chan error)
				go func() {
					done <- f()
					<-hold
				}()
				if err := <-done; err != nil {
					t.Fatal(err)
				}
			}
			change(func() error {
				for _, l := range levels {
					if err := g.GenerateRootKey(l, stream(levelSeed("id", l), 16)); err != nil {
						return err
					}
				}
				return nil
			})
			for i := range uint64(3) {
				change(func() error { return g.Rotate(levels[i], 3, nil) })
			}
			der := must(secmem.Alloc(keys.DERLen))
			defer secmem.Free(der)
			change(func() error {
				n, err := g.WriteRootKeyDER(der, User)
				if err != nil {
					return err
				}
				return g.SetRootKeyDER(User, der[:n])
			})

			for _, l := range levels {
				g.g.With(int(l), func(k *keys.RootKey) error {
					s.remember(fmt.Sprint("root key of level ", l), unsafe.Pointer(k.Value), int(unsafe.Sizeof(*k.Value)))
					return nil
				})
			}
			snap := g.g.Snapshot()
			for sel := range 64 {
				if m := snap.Master(sel); m != nil {
					s.remember(fmt.Sprintf("master key %#x", sel), unsafe.Pointer(m), int(unsafe.Sizeof(*m)-unsafe.Sizeof([48]byte{})))
				}
			}
			sender, r := newSender(t, g, SenderConfig{V: VIDSrc, Options: true}), newReceiver(t, ReceiverConfig{}, g)
			out := must(secmem.Alloc(g.KeyLen()))
			defer secmem.Free(out)
			change(func() error {
				for i := range 3 {
					p := plain(make([]byte, 64+4000*i))
					p.SrcIP = v4
					q := whole(sealed(t, sender, p))
					if q.SrcIP = v4; i == 2 {
						q.Buf[len(q.Buf)-1] ^= 1
					}
					if q = open1(r, q); (q.Status == status.OK) != (i < 2) {
						return q.Status
					}
				}
				return g.DeriveKeys([]Context{{ID: sender.ID(), V: VIDSrc, Addr: Addr{Src: v4.As16()}}}, out)
			})
			s.remember("data key", unsafe.Pointer(&out[0]), len(out))
		}
		for _, what := range s.found(t) {
			t.Error(what)
		}
	})
}

// The same for keys that HKDF-Expand uses or makes, and for the hash function's states.
func TestExpandedKeysAreInLockedMemory(t *testing.T) {
	if !searchable(t) {
		return
	}
	hold := make(chan bool)
	defer close(hold)
	cache := must(keys.NewCache())
	defer cache.Close()
	type state interface {
		hash.Hash
		encoding.BinaryAppender
	}
	room := must(secmem.New[struct{ prk, key, pad, state [256]byte }]())
	defer secmem.Delete(room)
	// The standard library's digests leave states in vector registers, which an emulator keeps in memory: all of them
	// on one thread, with a block of zeros after each.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	s := secrets{}
	for _, x := range []struct {
		hash             hkdf.Hash
		digest           state
		block, n, octets int // of the state, and of a word of it
	}{
		{hkdf.SHA256, sha256.New().(state), 64, 32, 4},
		{hkdf.SHA384, sha512.New384().(state), 128, 64, 8},
		{hkdf.SHA512, sha512.New().(state), 128, 64, 8},
	} {
		prk := room.prk[:x.hash.Size()]
		if _, err := rand.Read(prk); err != nil {
			t.Fatal(err)
		}
		// In a goroutine that keeps its stack until the end.
		done := make(chan *hkdf.Expander)
		go func() {
			e := must(hkdf.NewExpander(x.hash, prk))
			for range 2 {
				cache.Fetch(unsafe.Pointer(&room.key), e, 0x0123, 36)
			}
			done <- e
			<-hold
		}()
		defer (<-done).Free()
		name := func(what string) string { return fmt.Sprintf("%s, hash %d", what, x.hash) }
		s.remember(name("key"), unsafe.Pointer(&room.prk), len(prk))
		s.remember(name("expanded key"), unsafe.Pointer(&room.key), 32)
		for _, pad := range []byte{0x36, 0x5c} {
			for i := range room.pad {
				room.pad[i] = pad
			}
			for i, k := range prk {
				room.pad[i] ^= k
			}
			s.remember(name("padded key"), unsafe.Pointer(&room.pad), len(prk))
			x.digest.Write(room.pad[:x.block])
			must(x.digest.AppendBinary(room.state[:0]))
			chain := room.state[4:][:x.n]
			s.remember(name("state, marshalled"), unsafe.Pointer(&chain[0]), x.n)
			for i := 0; i < x.n; i += x.octets {
				slices.Reverse(chain[i : i+x.octets])
			}
			s.remember(name("state"), unsafe.Pointer(&chain[0]), x.n)
			x.digest.Reset()
			x.digest.Write(make([]byte, x.block))
			x.digest.Reset()
			secmem.BurnStack()
		}
	}
	for _, what := range s.found(t) {
		t.Error(what)
	}
}
