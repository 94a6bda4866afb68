package eesp

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"unsafe"

	"libeesp/internal/burst"
	"libeesp/internal/counter"
	"libeesp/internal/kerneltest"
	"libeesp/internal/profile"
	"libeesp/internal/status"
	"libeesp/internal/testrun"
)

// A model of the library, made of crypto/hkdf, crypto/aes and crypto/cipher,
// and random bursts that go through both. The seeds are fixed.

type modelGroup struct {
	*Group
	seed    string
	keyLen  int
	current [2]uint64 // indices of the zone's and the user's root key
}

type modelSender struct {
	*Sender
	g       *modelGroup
	id      uint64
	v       uint8
	levels  Levels
	options bool
	bits    uint8 // of a counter without its engine's number
	engine  uint64
	next    uint64 // epoch and counter of the next packet, without the engine's number
}

type modelPacket struct {
	from             *modelSender
	payload          []byte
	coffset, ioffset uint8
	src, dst         [16]byte
	index            [2]uint64 // of the root keys that it was sealed with
	tsc              uint64
	header           int
	sealed           []byte
}

func (g *modelGroup) rotate(t *testing.T, l Level) {
	g.current[l]++
	rotate(t, g.Group, g.seed, l, g.current[l]+1)
}

// master is the master key of some levels, at the given indices.
func (g *modelGroup) master(levels Levels, index [2]uint64) []byte {
	var ikm []byte
	info := "EESP-SE master"
	for _, l := range []Level{Zone, User} {
		if levels&Set(l) == 0 {
			continue
		}
		value := generation(levelSeed(g.seed, l), index[l])
		ikm = append(ikm, value[:]...)
		id, _, _ := ring(levelSeed(g.seed, l))
		info += string([]byte{0xE0 + byte(l), byte(index[l]), byte(len(id))}) + string(id)
	}
	return must(hkdf.Key(sha256.New, ikm, nil, info, 32))
}

func (p *modelPacket) dataKey() (key []byte) {
	x := p.from
	master := x.g.master(x.levels, p.index)
	for i := 1; i <= x.g.keyLen/16; i++ {
		m := []byte{byte(i), 0x45, x.v, 0}
		m = binary.BigEndian.AppendUint64(m, x.id)
		m = binary.BigEndian.AppendUint16(m, uint16(p.tsc>>48))
		if x.v&7 >= 1 {
			m = append(m, p.src[:]...)
		}
		if x.v&7 == 2 {
			m = append(m, p.dst[:]...)
		}
		m = binary.BigEndian.AppendUint16(m, uint16(x.g.keyLen*8))
		k := must(kerneltest.CMAC(master, m))
		key = append(key, k[:]...)
	}
	return key
}

func (p *modelPacket) nonce() []byte {
	salt := uint32(p.from.id ^ p.from.id>>32)
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(nil, salt), p.tsc)
}

// seal returns the packet that goes with a header.
func (p *modelPacket) seal(header []byte) []byte {
	aead := must(cipher.NewGCM(must(aes.NewCipher(p.dataKey()))))
	clear := 4 * int(p.coffset)
	aad := append(bytes.Clone(header), p.payload[4*int(p.ioffset):clear]...)
	return aead.Seal(append(bytes.Clone(header), p.payload[:clear]...), p.nonce(), p.payload[clear:], aad)
}

// tsc is Epoch || Counter of the i-th packet of the next burst.
func (s *modelSender) tsc(i int) uint64 {
	at := s.next + uint64(i)
	return at>>s.bits<<48 | at&(1<<s.bits-1)<<(48-s.bits) | s.engine
}

// opens says what a receiver whose first group is g makes of the packet.
func (p *modelPacket) opens(g *modelGroup, tryPrevious bool) status.Code {
	x := p.from
	current, previous := x.options || x.g == g, x.options || x.g == g && tryPrevious
	for _, l := range []Level{Zone, User} {
		if x.levels&Set(l) == 0 {
			continue
		}
		now := x.g.current[l]
		if x.options {
			if p.index[l]+1 < now || p.index[l] > now+1 {
				return status.ErrNoKey
			}
			continue
		}
		current = current && p.index[l] == now
		previous = previous && p.index[l]+1 == now
	}
	if current || previous {
		return status.OK
	}
	return status.ErrAuth
}

// laid is a packet in memory, with margins on both sides of all its parts:
// segments (one, if it is not chained), and a destination where it has one.
type laid struct {
	segs [][]byte
	dst  []byte
	iov  []profile.IOV
	was  *laid // a copy of before
}

const margin = 160

func withMargins(b []byte) []byte {
	m := bytes.Repeat([]byte{0xA5}, len(b)+2*margin)
	copy(m[margin:], b)
	return m
}

// span is where octets of the packet are, in pieces. Negative positions and
// those from its length on are in the margins of the first and last segment.
func (l *laid) span(from, to int) (pieces [][]byte) {
	at := 0
	for i, s := range l.segs {
		lo, hi := at, at+len(s)-2*margin
		origin := lo - margin
		at = hi
		if i == 0 {
			lo -= margin
		}
		if i == len(l.segs)-1 {
			hi += margin
		}
		if lo, hi = max(lo, from), min(hi, to); lo < hi {
			pieces = append(pieces, s[lo-origin:hi-origin])
		}
	}
	return pieces
}

func (l *laid) all() []byte { return bytes.Join(append(l.segs[:len(l.segs):len(l.segs)], l.dst), nil) }

// Placements of a packet and its result.
const (
	inPlace = iota
	elsewhere
	onTheSpot // with a destination that is where the result would be in place
	chained
	placements
)

// lay puts b into memory, placed so, and describes it. The result will have n
// octets, the first of them at position at.
func lay(r *rand.Rand, d *profile.Desc, b []byte, placement, at, n int) *laid {
	l, rest := &laid{was: &laid{}}, b
	for placement == chained && r.IntN(4) != 0 {
		k := max(r.IntN(len(rest)+1), min(at, len(rest)))
		at = 0 // a header to be opened is in the first segment
		l.segs, rest = append(l.segs, withMargins(rest[:k])), rest[k:]
	}
	l.segs = append(l.segs, withMargins(rest))
	switch placement {
	case elsewhere:
		l.dst = withMargins(bytes.Repeat([]byte{0xA5}, n))
		d.Dst, d.DstSize = unsafe.Pointer(&l.dst[margin]), uint32(n)
	case onTheSpot:
		d.Dst, d.DstSize = unsafe.Pointer(&l.segs[0][margin+at]), uint32(n)
	}
	for _, s := range l.segs {
		l.iov = append(l.iov, profile.IOV{Base: unsafe.Pointer(&s[margin]), Len: uintptr(len(s) - 2*margin)})
		l.was.segs = append(l.was.segs, bytes.Clone(s))
	}
	l.was.dst = bytes.Clone(l.dst)
	if placement == chained {
		d.IOV, d.IOVCount = unsafe.Pointer(&l.iov[0]), uint16(len(l.iov))
	} else {
		d.Data, d.Len = l.iov[0].Base, uint32(len(b))
	}
	return l
}

// also returns n octets from position at of the packet on, which may have been
// written beside the output.
func (l *laid) also(at, n int) []byte {
	got, was := l.span(at, at+n), l.was.span(at, at+n)
	for i := range got {
		copy(was[i], got[i])
	}
	return bytes.Join(got, nil)
}

// written returns n octets of output, from position at of the packet or skip of
// the destination on; it checks that nothing else was written.
func (l *laid) written(t *testing.T, d *profile.Desc, at, skip, n int) []byte {
	t.Helper()
	got, was := l.span(at+skip, at+skip+n), l.was.span(at+skip, at+skip+n)
	if l.dst != nil {
		got, was = [][]byte{l.dst[margin+skip:][:n]}, [][]byte{l.was.dst[margin+skip:][:n]}
	}
	for i := range got {
		copy(was[i], got[i])
	}
	if !bytes.Equal(l.all(), l.was.all()) {
		t.Fatal("memory beside the result was written")
	}
	if d.Status != status.OK && (d.Out != 0 || d.OutLen != 0) {
		t.Fatalf("%v, but out is %#x, %d octets", d.Status, d.Out, d.OutLen)
	}
	if d.Status == status.OK && (int(d.OutLen) != n || n != 0 && d.Out != uintptr(unsafe.Pointer(unsafe.SliceData(got[0])))) {
		t.Fatalf("out is %#x, %d octets; want %p, %d", d.Out, d.OutLen, got[0], n)
	}
	return bytes.Join(got, nil)
}

// differential is one run of the test: two groups, four senders, two receivers.
type differential struct {
	*rand.Rand
	w         *burst.Worker
	groups    []*modelGroup
	receivers [2]*Receiver // the second one tries previous keys
	octets    []byte       // random ones
	used      map[string]bool
	packets   []*modelPacket
}

func (x *differential) some(n int) []byte { return x.octets[x.IntN(len(x.octets)-n):][:n] }

func (x *differential) newSender(t *testing.T, g *modelGroup) *modelSender {
	s := &modelSender{g: g, id: freshID(), v: allV[x.IntN(len(allV))], levels: Levels(1 + x.IntN(3)), options: x.IntN(2) == 0}
	if s.v&8 != 0 {
		s.id |= uint64(x.Uint32()) << 32
	}
	c := SenderConfig{ID: s.id, V: s.v, Levels: s.levels, Options: s.options}
	if !s.options {
		c.Levels, s.levels = 0, Set(Zone, User)
	}
	s.Sender = newSender(t, g.Group, c)
	// Counters that come to their end in a burst and go on in the next epoch,
	// as the clock's do.
	k := counter.Config{Mode: CounterExplicit, FixedEpoch: true, Epoch: uint16(x.IntN(1<<16 - 1)), EngineBits: uint8(x.IntN(3))}
	s.bits = 48 - k.EngineBits
	k.Engine, k.Start = uint32(x.IntN(1<<k.EngineBits)), 1<<s.bits-1-x.Uint64N(40)
	s.engine, s.next = uint64(k.Engine), uint64(k.Epoch)<<s.bits+k.Start
	setCounters(s.Sender, k)
	leaveEpoch(s.Sender, 1<<20)
	return s
}

func (x *differential) draw(s *modelSender, plain, few bool, fixed int) *modelPacket {
	n := []int{0, x.IntN(200), x.IntN(2000), x.IntN(9000)}[x.IntN(4)]
	if x.IntN(150) == 0 {
		n = 130<<10 + x.IntN(70<<10)
	}
	if fixed != 0 {
		n = fixed
	}
	p := &modelPacket{from: s, payload: x.some(n), index: s.g.current, header: s.HeaderLen()}
	if !plain && x.IntN(2) == 0 {
		p.coffset = uint8(x.IntN(min(255, n/4) + 1))
		p.ioffset = uint8(x.IntN(min(15, int(p.coffset)) + 1))
	}
	if few {
		p.src[0] = byte(x.IntN(2))
	} else {
		p.src, p.dst = [16]byte(x.some(16)), [16]byte(x.some(16))
	}
	return p
}

// seal seals a burst of one sender and compares it with the model's.
func (x *differential) seal(t *testing.T, s *modelSender) {
	n := 1 + x.IntN(70)
	plain, few, fixed := x.IntN(2) == 0, x.IntN(2) == 0, 0
	if x.IntN(3) == 0 {
		fixed = 777
	}
	pkts, mem, d := make([]*modelPacket, n), make([]*laid, n), make([]profile.Desc, n)
	for i := range pkts {
		p, placement := x.draw(s, plain, few, fixed), inPlace
		if !plain {
			placement = x.IntN(placements)
		}
		d[i] = profile.Desc{Headroom: uint32(p.header), Tailroom: ICVLen, COffset: p.coffset, IOffset: p.ioffset,
			Src: p.src, DstIP: p.dst, ID: 5, TSC: 5}
		pkts[i], mem[i] = p, lay(x.Rand, &d[i], p.payload, placement, -p.header, p.header+len(p.payload)+ICVLen)
		if d[i].Dst == nil && !plain && x.IntN(8) == 0 {
			d[i].Headroom--
		}
	}
	x.w.Seal(s.Burst(), d)
	for i, p := range pkts {
		d := &d[i]
		if d.Dst == nil && d.Headroom < uint32(p.header) {
			if d.Status != status.ErrRoom || d.ID != 0 || d.TSC != 0 {
				t.Fatalf("packet %d: %v, ID %d, TSC %d", i, d.Status, d.ID, d.TSC)
			}
			mem[i].written(t, d, 0, 0, 0)
			continue
		}
		p.tsc = s.tsc(i)
		if d.Status != status.OK || d.ID != s.id || d.TSC != p.tsc {
			t.Fatalf("packet %d: %v, ID %#x, TSC %#x; want %#x, %#x", i, d.Status, d.ID, d.TSC, s.id, p.tsc)
		}
		p.sealed = mem[i].written(t, d, -p.header, 0, p.header+len(p.payload)+ICVLen)
		if tsc := binary.BigEndian.Uint64(p.sealed[p.header-8:]); tsc != p.tsc {
			t.Fatalf("packet %d: TSC %#x in the header, want %#x", i, tsc, p.tsc)
		}
		if want := p.seal(p.sealed[:p.header]); !bytes.Equal(p.sealed, want) {
			t.Fatalf("packet %d of %d, V %#x, %d octets, offsets %d and %d: %.80x, want %.80x", i, n, s.v, len(p.payload), p.coffset, p.ioffset, p.sealed, want)
		}
		name := string(p.dataKey()) + string(p.nonce())
		if x.used[name] {
			t.Fatalf("packet %d: key and nonce were used before", i)
		}
		x.used[name] = true
		x.packets = append(x.packets, p)
	}
	s.next += uint64(n)
}

// forge damages a packet and says what it is then; want is what it was.
func (x *differential) forge(b []byte, p *modelPacket, want status.Code) status.Code {
	from, to := len(b)-ICVLen, len(b)
	switch x.IntN(4) {
	case 0:
		b[0] ^= 0x10
		return status.ErrVersion
	case 1:
		from, to = p.header-8, p.header // epoch and counter
	case 2:
		from = p.header + 4*int(p.ioffset)
	}
	b[from+x.IntN(to-from)] ^= 1 << x.IntN(8)
	if want == status.OK {
		return status.ErrAuth
	}
	return want
}

// open opens packets, some of them forged: in random order, or mostly in runs of
// packets of one pattern.
func (x *differential) open(t *testing.T, which int, packets []*modelPacket) {
	tryPrevious, r, rows := which == 1, x.receivers[which], x.IntN(2) == 0
	swaps, bad := 4*len(packets), 4
	if rows {
		swaps, bad = len(packets)/20, 20
	}
	packets = slices.Clone(packets)
	for range swaps {
		i, j := x.IntN(len(packets)), x.IntN(len(packets))
		packets[i], packets[j] = packets[j], packets[i]
	}
	mem, d, want := make([]*laid, len(packets)), make([]profile.Desc, len(packets)), make([]status.Code, len(packets))
	good := 0
	for i, p := range packets {
		b := bytes.Clone(p.sealed)
		want[i] = p.opens(x.groups[0], tryPrevious)
		if x.IntN(bad) == 0 {
			want[i] = x.forge(b, p, want[i])
		}
		if want[i] == status.OK {
			good++
		}
		placement := x.IntN(placements)
		if rows && x.IntN(20) != 0 {
			placement = x.IntN(chained)
		}
		d[i] = profile.Desc{Src: p.src, DstIP: p.dst}
		mem[i] = lay(x.Rand, &d[i], b, placement, p.header, len(p.payload))
	}
	if n := x.w.Open(&r.r, d); n != good {
		t.Errorf("opened %d, want %d", n, good)
	}
	for i, p := range packets {
		d, clear := &d[i], 4*int(p.coffset)
		if d.Status != want[i] {
			t.Fatalf("packet %d: %v, want %v (options %v, try previous %v, indices %d, now %d)",
				i, d.Status, want[i], p.from.options, tryPrevious, p.index, p.from.g.current)
		}
		switch d.Status {
		case status.OK:
			if got := mem[i].written(t, d, p.header, 0, len(p.payload)); !bytes.Equal(got, p.payload) {
				t.Fatalf("packet %d: another payload", i)
			}
			if d.ID != p.from.id || d.TSC != p.tsc || d.COffset != p.coffset || d.IOffset != p.ioffset {
				t.Fatalf("packet %d: %+v", i, d)
			}
		case status.ErrAuth:
			if got := mem[i].written(t, d, p.header, clear, len(p.payload)-clear); !allZero(got) {
				t.Fatalf("packet %d: forged, and not zeroed", i)
			}
		default:
			mem[i].written(t, d, 0, 0, 0)
		}
	}
}

// Random bursts of every form, with keys of several generations, are octet for octet as the
// model says.
func TestLikeTheModel(t *testing.T) {
	runs := uint64(testrun.Rounds(3, 4, 50))
	pool := stream("differential", 1<<20)
	eachBackend(t, func(t *testing.T) {
		for run := range runs {
			x := &differential{Rand: rand.New(rand.NewPCG(run, 0)), w: must(burst.NewWorker()), octets: pool, used: map[string]bool{}}
			defer x.w.Close()
			var senders []*modelSender
			for i := range 2 {
				c := GroupConfig{AEAD: AEAD(x.IntN(2))}
				g := &modelGroup{seed: fmt.Sprint("model ", i), keyLen: 16 << c.AEAD, current: [2]uint64{2, 2}}
				g.Group = newGroup(t, g.seed, c, Zone, User)
				x.groups = append(x.groups, g)
				senders = append(senders, x.newSender(t, g), x.newSender(t, g))
			}
			for i := range x.receivers {
				x.receivers[i] = newReceiver(t, ReceiverConfig{TryPrevious: i == 1}, x.groups[0].Group, x.groups[1].Group)
			}
			for range 3 {
				for _, s := range senders {
					x.seal(t, s)
				}
				x.open(t, x.IntN(2), x.packets[x.IntN(len(x.packets)):])
				for _, g := range x.groups {
					levels := Levels(x.IntN(4))
					for _, l := range []Level{Zone, User} {
						if levels&Set(l) != 0 {
							g.rotate(t, l)
						}
					}
				}
				first := x.IntN(2)
				x.open(t, first, x.packets)
				x.open(t, 1-first, x.packets)
			}
			if t.Failed() {
				t.Fatalf("in run %d", run)
			}
		}
	})
}
