package eesp

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	crand "crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"libeesp/internal/burst"
	"libeesp/internal/counter"
	"libeesp/internal/profile"
	"libeesp/internal/secmem"
	"libeesp/internal/status"
	"libeesp/internal/testrun"
	"libeesp/internal/wire"
)

// Senders of one SPI and Session ID share counters, so each test uses new SPIs.
func freshSPI() uint32 { return uint32(freshID()) }

// eespGroup makes a group with a root key.
func eespGroup(t testing.TB, c GroupConfig, root []byte) *Group {
	t.Helper()
	if string(root[:4]) == string(stream("root", 4)) { // a root key belongs to one SPI
		root = stream(fmt.Sprint("root of ", c.Domain), len(root))
	}
	g := must(NewGroup(c))
	t.Cleanup(g.Close)
	if err := g.SetKey(0, root); err != nil {
		t.Fatal(err)
	}
	return g
}

func eespWorker(t testing.TB) *burst.Worker {
	t.Helper()
	w := must(burst.NewWorker())
	t.Cleanup(w.Close)
	return w
}

// Packets in all placements, in one burst. The packet decides the segments of chained ones.
func eespRand(b []byte) *rand.Rand { return rand.New(rand.NewPCG(uint64(len(b)), 1)) }

// eespSeal seals a payload in every placement, each time with the same counter, and
// checks that nothing but the result is written.
func eespSeal(t *testing.T, w *burst.Worker, s *Sender, seq uint64, payload []byte, coffset, next uint8, want []byte) {
	t.Helper()
	x, h := eespRand(payload), s.HeaderLen()
	tail := len(want) - h - len(payload)
	for placement := range placements {
		ownCounters(s, uint16(seq>>48), seq&(1<<48-1))
		// The second one would have the next counter.
		d := make([]profile.Desc, 2)
		var mem [2]*laid
		for i := range d {
			d[i] = profile.Desc{Headroom: uint32(h), Tailroom: uint32(tail), COffset: coffset, NextHeader: next}
			mem[i] = lay(x, &d[i], payload, placement, -h, len(want))
		}
		switch d[1].Headroom, d[1].Tailroom = uint32(h-placement&1), uint32(tail-1+placement&1); placement {
		case elsewhere, onTheSpot:
			d[1].DstSize--
		}
		w.Seal(s.Burst(), d)
		if d[0].Status != status.OK || d[1].Status != status.ErrRoom && d[1].Status != status.ErrExhausted {
			t.Fatalf("placement %d: %v %v", placement, d[0].Status, d[1].Status)
		}
		wantOctets(t, fmt.Sprint("packet, placement ", placement), mem[0].written(t, &d[0], -h, 0, len(want)), want)
		mem[1].written(t, &d[1], 0, 0, 0)
		if d[0].TSC != seq {
			t.Fatalf("TSC %#x, want %#x", d[0].TSC, seq)
		}
	}
}

// eespPlaces are the places in a valid packet of the body, of its first encrypted octet, of
// the payload, and of its end with padding.
type eespPlaces struct{ text, clear, payload, end int }

func eespParse(b []byte, s wire.EESPFormat) (p eespPlaces, h wire.EESP, ok bool) {
	if s.SubSAs == 0 {
		s.SubSAs = 1 << 16
	}
	ok = h.Parse(b, &s, ICVLen) == status.OK
	p = eespPlaces{h.Len, h.Len + 4*int(h.COffset), h.Len + s.InfoLen(), len(b) - ICVLen}
	return p, h, ok
}

func (c *GroupConfig) format() wire.EESPFormat {
	s := wire.EESPFormat{Seq: !c.NoSequence, IV: c.IV, Full: !c.Optimized, MaxCOffset: c.MaxCOffset, SubSAs: c.SubSAs, Flow: c.Draft == 2}
	if c.Encap == EncapTunnel {
		s.Tunnel, s.Full = true, c.MaxCOffset != 0
	}
	return s
}

// eespOpened checks one packet that was opened, and the memory around it.
func eespOpened(t *testing.T, l *laid, d *profile.Desc, at eespPlaces, want status.Code, payload []byte) {
	t.Helper()
	if d.Status != want {
		t.Fatalf("open: %v, want %v", d.Status, want)
	}
	allow := func(got, was []byte) { copy(was, got) }
	whole := at.end - at.payload
	switch want {
	case status.OK:
		if l.dst == nil { // the info header and padding are decrypted too
			got, was := l.span(at.clear, at.end), l.was.span(at.clear, at.end)
			for i := range got {
				allow(got[i], was[i])
			}
		} else if at.text == at.payload { // only padding
			allow(l.dst[margin+len(payload):][:whole-len(payload)], l.was.dst[margin+len(payload):][:whole-len(payload)])
		}
		wantOctets(t, "payload", l.written(t, d, at.payload, 0, len(payload)), payload)
	case status.ErrAuth, status.ErrPayload, status.ErrReplay, status.ErrDummy:
		b := []byte(nil)
		if l.dst != nil {
			asIs := max(at.clear-at.payload, 0)
			b = l.written(t, d, 0, asIs, whole-asIs)
		} else {
			b = l.written(t, d, at.clear, 0, at.end-at.clear)
		}
		if !allZero(b) {
			t.Fatalf("%v, but %x was left", want, b)
		}
	default:
		l.written(t, d, 0, 0, 0)
	}
}

// eespOpen opens a packet in every placement, in one burst with forged ones where it
// is good.
func eespOpen(t *testing.T, w *burst.Worker, r *Receiver, s wire.EESPFormat, b []byte, want status.Code, payload []byte) (first profile.Desc) {
	t.Helper()
	x := eespRand(b)
	at, _, ok := eespParse(b, s)
	if !ok {
		at = eespPlaces{0, 0, 0, 0}
	}
	var d [2 * placements]profile.Desc
	var mem [2 * placements]*laid
	for i := range d {
		c := b
		if i >= placements && want == status.OK {
			c = bytes.Clone(b)
			c[len(c)-1-x.IntN(len(c)-at.text)] ^= 0x10
		}
		mem[i] = lay(x, &d[i], c, i%placements, at.payload, at.end-at.payload)
	}
	good := w.Open(&r.r, d[:])
	for i := range d {
		expect := want
		if i >= placements && want == status.OK {
			if expect = status.ErrAuth; good != placements {
				t.Fatalf("%d good", good)
			}
		}
		eespOpened(t, mem[i], &d[i], at, expect, payload)
	}
	return d[0]
}

// Wrong configurations of groups, senders and receivers, and wrong contexts.
func TestEESPConfig(t *testing.T) {
	ok := GroupConfig{Profile: ProfileEESP, Mode: SSKDFSHA256, Domain: 1}
	for name, change := range map[string]func(*GroupConfig){
		"no SSKDF":                    func(c *GroupConfig) { c.Mode = 0 },
		"SSKDF 5":                     func(c *GroupConfig) { c.Mode = 5 },
		"neither sequence nor IV":     func(c *GroupConfig) { c.NoSequence = true },
		"too many Sub SAs":            func(c *GroupConfig) { c.SubSAs = 65537 },
		"CryptOffset 64":              func(c *GroupConfig) { c.MaxCOffset = 64 },
		"CryptOffset, optimized":      func(c *GroupConfig) { c.MaxCOffset, c.Optimized = 1, true },
		"combiner":                    func(c *GroupConfig) { c.Combiner = CombinerXOR },
		"versions":                    func(c *GroupConfig) { c.Versions = 1 },
		"rekey":                       func(c *GroupConfig) { c.RekeyMask = 1 },
		"AEAD":                        func(c *GroupConfig) { c.AEAD = 2 },
		"draft 1":                     func(c *GroupConfig) { c.Draft = 1 },
		"draft 4":                     func(c *GroupConfig) { c.Draft = 4 },
		"mode 4":                      func(c *GroupConfig) { c.Encap = 4 },
		"mode of -02":                 func(c *GroupConfig) { c.Draft, c.Encap = 2, EncapTunnel },
		"optimized BEET":              func(c *GroupConfig) { c.Encap, c.Optimized = EncapBEET, true },
		"optimized IP-TFS":            func(c *GroupConfig) { c.Encap, c.Optimized = EncapIPTFS, true },
		"Sub SAs without SSKDF":       func(c *GroupConfig) { c.Mode, c.SubSAs = SSKDFNone, 2 },
		"fields of a profile without": func(c *GroupConfig) { c.Profile = ProfileStateless },
	} {
		c := ok
		if change(&c); c == ok {
			t.Fatal(name)
		}
		if _, err := NewGroup(c); !errors.Is(err, status.ErrArgument) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for mode, n := range map[uint8]int{SSKDFSHA256: 32, SSKDFSHA384: 48, SSKDFSHA512: 64, SSKDFCMAC: 32} {
		c := ok
		c.Mode = mode
		g := must(NewGroup(c))
		defer g.Close()
		for _, l := range []int{0, 16, 32, 48, 64} {
			if err := g.SetKey(0, stream("root", l)); (err == nil) != (l == n) || err != nil && !errors.Is(err, status.ErrRootKey) {
				t.Errorf("mode %d, root key of %d octets: %v", mode, l, err)
			}
		}
		if err := g.SetKey(1, stream("root", n)); !errors.Is(err, status.ErrArgument) {
			t.Errorf("slot 1: %v", err)
		}
		if _, err := g.RotateKey(nil); !errors.Is(err, status.ErrArgument) {
			t.Errorf("rotate: %v", err)
		}
		if err := g.GenerateRootKey(Zone, make([]byte, 16)); !errors.Is(err, status.ErrUnsupported) {
			t.Errorf("level: %v", err)
		}
		if g.KeyLen() != 20 {
			t.Errorf("key length %d", g.KeyLen())
		}
	}
	few := ok
	few.SubSAs, few.Domain = 10, freshSPI()
	g := eespGroup(t, few, stream("root", 32))
	for name, c := range map[string]SenderConfig{
		"Session ID": {ID: 10}, "long Session ID": {ID: 1 << 32}, "V": {V: 8}, "levels": {Levels: 1}, "options": {Options: true},
		"flow": {Extra: make([]byte, 1)}, "engine bits": {EngineBits: 1},
	} {
		if _, err := NewSender(g, c); !errors.Is(err, status.ErrArgument) {
			t.Errorf("%s: %v", name, err)
		}
	}
	old := few
	old.Domain, old.Draft = freshSPI(), 2
	if _, err := NewSender(eespGroup(t, old, stream("root", 32)), SenderConfig{Extra: make([]byte, 65)}); !errors.Is(err, status.ErrArgument) {
		t.Errorf("long flow: %v", err)
	}
	few.Domain, few.NoSequence, few.IV = freshSPI(), true, true
	for name, c := range map[string]ReceiverConfig{"previous keys": {TryPrevious: true}, "engine bits": {EngineBits: 1}, "no sequence numbers": {ReplayWindow: 64}} {
		if _, err := NewReceiver(c, g, eespGroup(t, few, stream("other root", 32))); !errors.Is(err, status.ErrArgument) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, c := range map[string]Context{"Session ID": {ID: 10}, "epoch": {Epoch: 1}, "V": {V: 1}, "levels": {Levels: 1}, "generation": {Generation: 1}, "address": {Addr: Addr{Src: [16]byte{1}}}} {
		if _, err := g.ExportDataKey(c, false); !errors.Is(err, status.ErrArgument) {
			t.Errorf("context, %s: %v", name, err)
		}
	}
	// Without a root key nothing is sealed or opened.
	s, r := newSender(t, g, SenderConfig{ID: 1}), newReceiver(t, ReceiverConfig{}, g)
	b := sealed(t, s, eespPlain(nil))
	if err := g.RemoveKey(0); err != nil {
		t.Fatal(err)
	}
	if p := []Packet{eespPlain(nil)}; s.Seal(p) != 0 || p[0].Status != status.ErrNoKey || s.HeaderLen() != 0 {
		t.Errorf("seal: %v", p[0].Status)
	}
	wantStatus(t, r, whole(b), status.ErrNoKey)
	if _, err := g.ExportDataKey(Context{}, false); !errors.Is(err, status.ErrNoKey) {
		t.Errorf("export: %v", err)
	}
}

// eespPlain describes a payload with room for padding, too.
func eespPlain(payload []byte) Packet {
	p := plain(payload)
	p.Buf = append(p.Buf, make([]byte, profile.MaxTail-ICVLen)...)
	return p
}

// Packets that sealing refuses, among others that it seals.
func TestEESPSealStatuses(t *testing.T) {
	text := ipPacket(4, 40)
	full := eespGroup(t, GroupConfig{Profile: ProfileEESP, Mode: SSKDFSHA256, Domain: freshSPI(), MaxCOffset: 9}, stream("root", 32))
	optimized := eespGroup(t, GroupConfig{Profile: ProfileEESP, Mode: SSKDFSHA256, Domain: freshSPI(), Optimized: true}, stream("root", 32))
	for _, c := range []struct {
		name   string
		g      *Group
		change func(p *Packet)
		want   status.Code
	}{
		{"COffset", full, func(p *Packet) { p.COffset = 8 }, status.OK},
		{"COffset over the maximum", full, func(p *Packet) { p.COffset = 9 }, status.ErrOffset},
		{"COffset of 256 with the info header", full, func(p *Packet) { p.COffset = 255 }, status.ErrOffset},
		{"COffset behind the payload", full, func(p *Packet) { p.Len, p.COffset = 15, 4 }, status.ErrOffset},
		{"IOffset", full, func(p *Packet) { p.COffset, p.IOffset = 2, 1 }, status.ErrOffset},
		{"IPv6 prefix", full, func(p *Packet) { p.IPv6 = true }, status.ErrArgument},
		{"beyond the buffer", full, func(p *Packet) { p.Len = 1000 }, status.ErrArgument},
		{"COffset, optimized", optimized, func(p *Packet) { p.COffset = 1 }, status.ErrOffset},
		{"no IP packet", optimized, func(p *Packet) { p.Buf[p.Off] = 0x50 }, status.ErrArgument},
		{"shorter than it says", optimized, func(p *Packet) { p.Len = 39 }, status.ErrArgument},
		{"longer than it says", optimized, func(p *Packet) { p.Buf[p.Off+3]-- }, status.ErrArgument},
		{"no header", optimized, func(p *Packet) { p.Len = 0 }, status.ErrArgument},
		{"nothing, elsewhere", optimized, func(p *Packet) { *p = Packet{Dst: make([]byte, 100)} }, status.ErrArgument},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, r := newSender(t, c.g, SenderConfig{}), newReceiver(t, ReceiverConfig{}, c.g)
			pkts := []Packet{eespPlain(text), eespPlain(text), eespPlain(text)}
			c.change(&pkts[1])
			want := bytes.Clone(pkts[1].Buf)
			s.Seal(pkts)
			for i := range pkts {
				if i == 1 && c.want != status.OK {
					if p := pkts[1]; p.Status != c.want || !bytes.Equal(p.Buf, want) || !allZero(p.Dst) || p.ID != 0 || p.TSC != 0 {
						t.Fatalf("%v, want %v", p.Status, c.want)
					}
					continue
				}
				p := whole(pkts[i].Out)
				wantOpen(t, r, p, text)
			}
		})
	}
}

// ipPacket returns an IP packet with the shortest header of its version and n octets.
func ipPacket(version, n int) []byte {
	b := stream("IP", n)
	b[0] = byte(version<<4 | 5)
	if version == 4 {
		binary.BigEndian.PutUint16(b[2:], uint16(n))
	} else {
		binary.BigEndian.PutUint16(b[4:], uint16(n-40))
	}
	return b
}

// eespSA is an SA of TestEESPBursts, with senders of some of its Sub SAs. For each there is
// another sender, which holds the Sub SA's data key.
type eespSA struct {
	c      GroupConfig
	format wire.EESPFormat
	g      *Group
	s, own []*Sender
	ids    []uint16
}

func newEESPSA(t *testing.T, x *rand.Rand, spi uint32) *eespSA {
	a := &eespSA{c: GroupConfig{Profile: ProfileEESP, AEAD: AEAD(x.IntN(2)), Mode: uint8(1 + x.IntN(4)), Domain: spi, Align8: x.IntN(2) == 0}}
	switch x.IntN(3) {
	case 0:
		a.c.NoSequence, a.c.IV = true, true
	case 1:
		a.c.IV = true
	}
	if a.c.Draft = 2 + uint8(x.IntN(2)); a.c.Draft == 3 && x.IntN(2) == 0 {
		a.c.Encap = EncapTunnel
	} else {
		a.c.Optimized = x.IntN(3) == 0
	}
	if !a.c.Optimized && x.IntN(2) == 0 {
		a.c.MaxCOffset = uint8(x.IntN(64))
	}
	if x.IntN(5) == 0 {
		a.c.Mode = SSKDFNone
	}
	a.format = a.c.format()
	a.g = eespGroup(t, a.c, stream(fmt.Sprint("root", spi), map[uint8]int{1: 32, 2: 48, 3: 64, 4: 32, SSKDFNone: 20 + 16*int(a.c.AEAD)}[a.c.Mode]))
	for range 1 + x.IntN(5) {
		id := uint16(x.IntN(1 << 16))
		if a.c.Mode == SSKDFNone {
			id = 0
		}
		if slices.Contains(a.ids, id) {
			continue
		}
		flow := stream("flow", x.IntN(65)*x.IntN(2))
		if a.c.Draft != 2 {
			flow = nil
		}
		key := must(a.g.ExportDataKey(Context{ID: uint64(id)}, false))
		s := must(NewSender(a.g, SenderConfig{ID: uint64(id), Extra: flow, Counter: CounterExplicit}))
		t.Cleanup(s.Close)
		ownCounters(s, 0, 1) // of no other sender
		own := must(NewSenderWithKey(key, SenderConfig{Counter: CounterExplicit, Extra: flow}))
		t.Cleanup(own.Close)
		a.ids, a.s, a.own = append(a.ids, id), append(a.s, s), append(a.own, own)
	}
	return a
}

type eespDrawn struct {
	a             *eespSA
	payload       []byte
	coffset, next uint8
	seq           uint64
	session       uint16
	b             []byte
}

func (a *eespSA) draw(x *rand.Rand) *eespDrawn {
	n := []int{x.IntN(64), x.IntN(2000), 100, x.IntN(9000)}[x.IntN(4)]
	if x.IntN(200) == 0 {
		n = 130<<10 + x.IntN(70<<10)
	}
	p := &eespDrawn{a: a, next: uint8(x.Uint32N(59))} // 59 would be a dummy
	if a.c.Optimized || a.format.Tunnel {
		p.next = uint8(4 + x.IntN(2)*37)
		if p.next == 4 {
			p.payload = ipPacket(4, 20+n%60000)
		} else {
			p.payload = ipPacket(6, 40+n%60000)
		}
	} else {
		p.payload = stream(fmt.Sprint(x.Uint32()), n)
	}
	if most := min(len(p.payload)/4, int(a.c.MaxCOffset)-1); most > 0 && x.IntN(2) == 0 {
		p.coffset = uint8(x.IntN(most + 1))
	}
	return p
}

// Bursts of packets of all formats and sizes, in all places, of many Sub SAs of several SAs.
// Good packets are as when sealed alone with their data key. Bad ones have the right status.
func TestEESPBursts(t *testing.T) {
	rounds := testrun.Rounds(6, 12, 40)
	eachBackend(t, func(t *testing.T) {
		for seed := range uint64(3) {
			x := rand.New(rand.NewPCG(seed, 3))
			w := eespWorker(t)
			var sas []*eespSA
			var groups []*Group
			for i := range 5 {
				sas = append(sas, newEESPSA(t, x, freshSPI()))
				groups = append(groups, sas[i].g)
			}
			r := newReceiver(t, ReceiverConfig{OwnIDs: []uint64{uint64(sas[0].ids[0])}}, groups...)
			for round := range rounds {
				var all []*eespDrawn
				for range 1 + x.IntN(4) {
					all = append(all, eespSealBurst(t, x, w, sas[x.IntN(len(sas))])...)
				}
				x.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
				eespOpenBurst(t, x, w, r, sas[0].ids[0], all)
				if t.Failed() {
					t.Fatalf("seed %d, round %d", seed, round)
				}
			}
		}
	})
}

func eespSealBurst(t *testing.T, x *rand.Rand, w *burst.Worker, a *eespSA) []*eespDrawn {
	t.Helper()
	i := x.IntN(len(a.s))
	s, own := a.s[i], a.own[i]
	first := s.NextTSC()
	if x.IntN(4) == 0 { // the upper 16 bits change in the burst
		first = first>>48<<48 | 1<<48 - 1 - x.Uint64N(40)
		setCounters(s, counter.Config{Mode: CounterExplicit, FixedEpoch: true, Epoch: uint16(first >> 48), Start: first & (1<<48 - 1)})
		leaveEpoch(s, 1<<20)
	}
	n := 1 + x.IntN(70)
	pkts, mem, d := make([]*eespDrawn, n), make([]*laid, n), make([]profile.Desc, n)
	for j := range pkts {
		p := a.draw(x)
		h, inner := s.HeaderLen(), a.format.InfoLen()
		tail := -(inner+len(p.payload))&3 + ICVLen
		d[j] = profile.Desc{Headroom: uint32(h), Tailroom: uint32(tail), COffset: p.coffset, NextHeader: p.next, ID: 7, TSC: 7}
		pkts[j], mem[j] = p, lay(x, &d[j], p.payload, x.IntN(placements), -h, h+len(p.payload)+tail)
		if d[j].Dst == nil && x.IntN(8) == 0 {
			d[j].Tailroom--
		}
	}
	w.Seal(s.Burst(), d)
	var good []*eespDrawn
	for j, p := range pkts {
		d, h := &d[j], s.HeaderLen()
		tail := -(a.format.InfoLen()+len(p.payload))&3 + ICVLen
		if d.Dst == nil && int(d.Tailroom) < tail {
			if d.Status != status.ErrRoom || d.ID != 0 || d.TSC != 0 {
				t.Fatalf("packet %d: %v", j, d.Status)
			}
			mem[j].written(t, d, 0, 0, 0)
			continue
		}
		p.seq, p.session = first+uint64(j), a.ids[i]
		if d.Status != status.OK || d.TSC != p.seq || d.ID != uint64(p.session) {
			t.Fatalf("packet %d: %v, TSC %#x, want %#x", j, d.Status, d.TSC, p.seq)
		}
		p.b = mem[j].written(t, d, -h, 0, h+len(p.payload)+tail)
		ownCounters(own, uint16(p.seq>>48), p.seq&(1<<48-1))
		q := eespPlain(p.payload)
		q.COffset, q.NextHeader = p.coffset, p.next
		wantOctets(t, "packet", p.b, sealed(t, own, q))
		good = append(good, p)
	}
	return good
}

func eespOpenBurst(t *testing.T, x *rand.Rand, w *burst.Worker, r *Receiver, reflected uint16, pkts []*eespDrawn) {
	t.Helper()
	d, mem, want, at := make([]profile.Desc, len(pkts)), make([]*laid, len(pkts)), make([]status.Code, len(pkts)), make([]eespPlaces, len(pkts))
	for i, p := range pkts {
		b := bytes.Clone(p.b)
		at[i], _, _ = eespParse(b, p.a.format)
		change := -1
		if x.IntN(3) == 0 {
			change = x.IntN(8)
		}
		switch change {
		case 0:
			b[0] ^= 0x80
			want[i] = status.ErrVersion
		case 1:
			b[0] ^= 1
			want[i] = status.ErrReserved
		case 2:
			b[4] ^= 0x80
			want[i] = status.ErrNoKey
		case 3:
			b[1] ^= 2
			want[i] = status.ErrHeaderLen
		case 4:
			b = b[:x.IntN(32)]
			want[i] = status.ErrShort
		default:
			if want[i] = status.OK; p.session == reflected {
				want[i] = status.ErrReflected
			}
			if change >= 0 {
				b[at[i].text+x.IntN(len(b)-at[i].text)] ^= 1 << x.IntN(8)
				if want[i] == status.OK {
					want[i] = status.ErrAuth
				}
			}
		}
		n := at[i].end - at[i].payload
		mem[i] = lay(x, &d[i], b, x.IntN(placements), min(at[i].payload, len(b)), n)
		if d[i].Dst != nil && n > 0 && x.IntN(8) == 0 && (want[i] == status.OK || want[i] == status.ErrAuth) {
			d[i].DstSize--
			want[i] = status.ErrRoom
		}
	}
	w.Open(&r.r, d)
	for i, p := range pkts {
		eespOpened(t, mem[i], &d[i], at[i], want[i], p.payload)
		if want[i] == status.OK && (d[i].ID != uint64(p.session) || d[i].TSC != p.seq || d[i].COffset != p.coffset || d[i].NextHeader != p.next) {
			t.Fatalf("packet %d: ID %d TSC %d COffset %d next header %d", i, d[i].ID, d[i].TSC, d[i].COffset, d[i].NextHeader)
		}
	}
}

// Counters begin at 1 in every counter mode, and rise. Senders of a Sub SA share them.
func TestEESPCounters(t *testing.T) {
	g := eespGroup(t, GroupConfig{Profile: ProfileEESP, Mode: SSKDFSHA512, Domain: freshSPI()}, stream("root", 64))
	r := newReceiver(t, ReceiverConfig{ReplayWindow: 64}, g)
	path := filepath.Join(t.TempDir(), "counters")
	for i, c := range []SenderConfig{
		{ID: 1, Counter: CounterExplicit},
		{ID: 2, Counter: CounterExplicit, Start: 1},
		{ID: 3, Counter: CounterReserved, StatePath: path, ReserveRun: 10},
		{ID: 4, FixedEpoch: true, EpochStart: time.Now().Add(-time.Second)},
	} {
		s := must(NewSender(g, c))
		first := s.NextTSC()
		if first == 0 || i < 3 && first != 1 {
			t.Fatalf("sender %d: first counter %d", i, first)
		}
		for k := range uint64(30) {
			p := []Packet{eespPlain([]byte("x"))}
			if s.Seal(p); p[0].Status != status.OK || p[0].TSC != first+k {
				t.Fatalf("sender %d: %v, counter %d, want %d", i, p[0].Status, p[0].TSC, first+k)
			}
			wantOpen(t, r, whole(p[0].Out), []byte("x"))
			wantStatus(t, r, whole(p[0].Out), status.ErrReplay)
		}
		s.Close()
	}
	s := must(NewSender(g, SenderConfig{ID: 3, Counter: CounterReserved, StatePath: path, ReserveRun: 10}))
	defer s.Close()
	if s.NextTSC() < 31 {
		t.Fatalf("counter %d after a restart", s.NextTSC())
	}
	if _, err := NewSender(g, SenderConfig{ID: 1, Counter: CounterExplicit}); !errors.Is(err, status.ErrExists) {
		t.Fatalf("counters that were used: %v", err)
	}
}

// No nonce comes twice under a key, with many senders of many Sub SAs.
func TestEESPSenders(t *testing.T) {
	g := eespGroup(t, GroupConfig{Profile: ProfileEESP, Mode: SSKDFCMAC, Domain: freshSPI()}, stream("root", 32))
	var (
		wg  sync.WaitGroup
		mu  sync.Mutex
		all = map[[2]uint64]bool{}
	)
	for i := range 6 {
		s := newSender(t, g, SenderConfig{ID: uint64(1 + i%3)})
		wg.Go(func() {
			pkts := make([]Packet, 5+i)
			for range 50 {
				last := uint64(0)
				for j := range pkts {
					pkts[j] = eespPlain([]byte("x"))
				}
				s.Seal(pkts)
				mu.Lock()
				for _, p := range pkts {
					k := [2]uint64{p.ID, p.TSC}
					if p.Status != status.OK || all[k] || p.TSC <= last {
						t.Errorf("%v: %d", p.Status, k)
					}
					all[k], last = true, p.TSC
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	// A holder of the data key of a Sub SA that has senders would repeat counters.
	key := must(g.ExportDataKey(Context{ID: 1}, false))
	if _, err := NewSenderWithKey(key, SenderConfig{Counter: CounterExplicit, Start: 1 << 40}); !errors.Is(err, status.ErrExists) {
		t.Fatal(err)
	}
}

// The holder of a Sub SA's data key, and the holder of the root key.
func TestEESPDataKey(t *testing.T) {
	for mode, n := range map[uint8]int{SSKDFSHA256: 32, SSKDFSHA384: 48, SSKDFSHA512: 64, SSKDFCMAC: 32} {
		for _, c := range []GroupConfig{
			{}, {AEAD: AES256GCM, IV: true, MaxCOffset: 20, Align8: true, SubSAs: 9}, {Optimized: true, Align8: true}, {NoSequence: true, IV: true},
			{Draft: 2}, {Draft: 2, Optimized: true}, {Encap: EncapTunnel, MaxCOffset: 3}, {Encap: EncapBEET, MaxCOffset: 3},
		} {
			c.Profile, c.Mode, c.Domain = ProfileEESP, mode, freshSPI()
			g := eespGroup(t, c, stream("root", n))
			key, text := must(g.ExportDataKey(Context{ID: 8}, false)), ipPacket(4, 77)
			other := c
			other.Domain = freshSPI()
			far := eespGroup(t, other, stream("root", n))
			if key.Domain != c.Domain || key.ID != 8 || key.Profile != uint8(ProfileEESP) {
				t.Fatal(key)
			}
			r, kr := newReceiver(t, ReceiverConfig{}, far, g), must(NewReceiverWithKey(key, ReceiverConfig{}))
			defer kr.Close()
			sc := SenderConfig{Counter: CounterExplicit, FixedEpoch: true, Epoch: 3, Start: 77}
			if c.Draft == 2 {
				sc.Extra = []byte("flow")
			}
			ks := must(NewSenderWithKey(key, sc))
			p := eespPlain(text)
			p.NextHeader = 4
			b := sealed(t, ks, p)
			ks.Close()
			for _, r := range []*Receiver{r, kr} {
				if p := open1(r, whole(b)); p.Status != status.OK || !bytes.Equal(p.Out, text) || p.TSC != 3<<48+77 || p.ID != 8 || p.NextHeader != 4 {
					t.Fatal(p.Status, p.TSC, p.ID, p.NextHeader)
				}
			}
			for _, s := range []*Sender{newSender(t, g, SenderConfig{ID: 7}), newSender(t, far, SenderConfig{ID: 8})} {
				ownCounters(s, 0, 5)
				p := eespPlain(text)
				p.NextHeader = 4
				b := sealed(t, s, p)
				wantOpen(t, r, whole(b), text)
				wantStatus(t, kr, whole(b), status.ErrContext)
			}
			for name, change := range map[string]func(k *DataKey){
				"ID": func(k *DataKey) { k.ID = 1 << 16 }, "epoch": func(k *DataKey) { k.Epoch = 1 }, "V": func(k *DataKey) { k.V = 1 },
				"salt": func(k *DataKey) { k.OptionsLen = 3 }, "address": func(k *DataKey) { k.Addr.Dst[0] = 1 }, "key": func(k *DataKey) { k.KeyLen = 24 },
				"flags": func(k *DataKey) { k.Params[0] |= 0x10 }, "kind of packet": func(k *DataKey) { k.Params[0] &^= 3 }, "offset": func(k *DataKey) { k.Params[1] = 64 },
				"format": func(k *DataKey) { k.Params[0] = k.Params[0]&^0xC0 | 0x80 },
			} {
				k := *key
				change(&k)
				if _, err := NewReceiverWithKey(&k, ReceiverConfig{}); !errors.Is(err, status.ErrArgument) {
					t.Errorf("%s: %v", name, err)
				}
				if _, err := NewSenderWithKey(&k, SenderConfig{}); !errors.Is(err, status.ErrArgument) {
					t.Errorf("%s: %v", name, err)
				}
			}
			if _, err := NewReceiverWithKey(key, ReceiverConfig{ReplayWindow: 64}); (err == nil) == c.NoSequence {
				t.Errorf("replay: %v", err)
			}
		}
	}
}

// Each Sub SA of a root key has a window.
func TestEESPReplay(t *testing.T) {
	a := eespGroup(t, GroupConfig{Profile: ProfileEESP, Mode: SSKDFSHA256, Domain: freshSPI(), MaxCOffset: 10}, stream("root", 32))
	b := eespGroup(t, GroupConfig{Profile: ProfileEESP, Mode: SSKDFSHA384, Domain: freshSPI(), Optimized: true, IV: true}, stream("root", 48))
	r := newReceiver(t, ReceiverConfig{ReplayWindow: 128, ReplayContexts: 5}, a, b)
	text := ipPacket(6, 61)
	var pkts [][]byte
	for i, g := range []*Group{a, b, a, b} {
		s := newSender(t, g, SenderConfig{ID: 1 + uint64(i/2)}) // 0 would be a fresh one, which may be 99 or 100
		for j, seq := range []uint64{1, 5, 1 << 63, 1<<64 - 300, 1<<64 - 2} {
			ownCounters(s, uint16(seq>>48), seq&(1<<48-1))
			p := eespPlain(text)
			p.COffset = uint8(j * (1 - i%2))
			pkts = append(pkts, sealed(t, s, p))
		}
	}
	for _, b := range pkts {
		forged := whole(b)
		forged.Buf[len(b)-1] ^= 1
		wantStatus(t, r, forged, status.ErrAuth)
		wantOpen(t, r, whole(b), text)
		wantStatus(t, r, whole(b), status.ErrReplay)
		d := whole(b)
		d.Dst = make([]byte, len(b))
		wantStatus(t, r, d, status.ErrReplay)
	}
	wantStatus(t, r, whole(pkts[0]), status.ErrReplay) // old
	// Twice in one burst: the second one is refused after it was opened.
	s := newSender(t, a, SenderConfig{ID: 99})
	x := sealed(t, s, eespPlain(text))
	twice := []Packet{whole(x), whole(x), whole(x)}
	twice[1].Dst, twice[2].Dst = make([]byte, 64), make([]byte, 64)
	if n := r.Open(twice); n != 1 || twice[0].Status != status.OK || twice[1].Status != status.ErrReplay || !allZero(twice[1].Dst) || !allZero(twice[2].Dst) {
		t.Fatalf("%d: %v %v", n, twice[0].Status, twice[1].Status)
	}
	wantStatus(t, r, whole(sealed(t, newSender(t, a, SenderConfig{ID: 100}), eespPlain(text))), status.ErrWindows)
	// A new root key has new windows.
	if err := a.SetKey(0, stream(fmt.Sprint("root c ", freshSPI()), 32)); err != nil {
		t.Fatal(err)
	}
	wantWiped(t)
	wantStatus(t, r, whole(x[:9]), status.ErrShort) // frees the windows of the old one
	wantWiped(t)
	ownCounters(s, 0, 1)
	wantOpen(t, r, whole(sealed(t, s, eespPlain(text))), text)
}

// The root key is replaced and removed while bursts run.
func TestEESPRekey(t *testing.T) {
	for _, mode := range []uint8{SSKDFSHA256, SSKDFCMAC} {
		g := eespGroup(t, GroupConfig{Profile: ProfileEESP, Mode: mode, Domain: freshSPI()}, stream("root", 32))
		r := newReceiver(t, ReceiverConfig{ReplayWindow: 4096}, g)
		var (
			wg   sync.WaitGroup
			done atomic.Bool
			ok   [3]atomic.Int64
		)
		text := stream("payload", 90)
		for i := range ok {
			s := newSender(t, g, SenderConfig{ID: 1 + uint64(i)}) // 0 would be a fresh one, which may be 1 or 2
			ownCounters(s, 0, 1)
			wg.Go(func() {
				pkts := make([]Packet, 40)
				for !done.Load() {
					for j := range pkts {
						pkts[j] = eespPlain(text)
					}
					s.Seal(pkts)
					for j, p := range pkts {
						if p.Status != status.OK && p.Status != status.ErrNoKey {
							t.Errorf("seal: %v", p.Status)
						}
						pkts[j] = whole(p.Out)
					}
					r.Open(pkts)
					for _, p := range pkts {
						switch {
						case p.Status == status.OK && bytes.Equal(p.Out, text):
							ok[i].Add(1)
						case p.Status != status.ErrAuth && p.Status != status.ErrNoKey && (p.Len != 0 || p.Status != status.ErrArgument && p.Status != status.ErrShort):
							t.Errorf("open: %v", p.Status)
						}
					}
				}
			})
		}
		for k := range 60 {
			if err := g.SetKey(0, stream(fmt.Sprint("rekey ", k, freshSPI()), 32)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(300 * time.Microsecond)
			if k%4 == 0 {
				if err := g.RemoveKey(0); err != nil {
					t.Fatal(err)
				}
			}
		}
		for i := range ok {
			for ok[i].Load() == 0 && !t.Failed() {
				time.Sleep(time.Millisecond)
			}
		}
		done.Store(true)
		wg.Wait()
		wantWiped(t)
	}
}

// More Sub SAs than the cache has room for, several times: each has its key.
func TestEESPManySubSAs(t *testing.T) {
	eachBackend(t, func(t *testing.T) {
		for _, aead := range []AEAD{AES128GCM, AES256GCM} {
			g := eespGroup(t, GroupConfig{Profile: ProfileEESP, AEAD: aead, Mode: SSKDFSHA384, Domain: freshSPI()}, stream("root", 48))
			w, r := eespWorker(t), newReceiver(t, ReceiverConfig{}, g)
			const n = 1500
			pkts := make([][]byte, n)
			for i := range pkts {
				s := must(NewSender(g, SenderConfig{ID: uint64(i * 43 % 65536), Counter: CounterExplicit}))
				ownCounters(s, 0, 1)
				pkts[i] = sealed(t, s, eespPlain(binary.BigEndian.AppendUint64(nil, uint64(i))))
				s.Close()
			}
			x := rand.New(rand.NewPCG(1, 1))
			for range 3 {
				d, bufs := make([]profile.Desc, n), make([][]byte, n)
				order := x.Perm(n)
				for i, k := range order {
					bufs[i] = bytes.Clone(pkts[k])
					d[i] = profile.Desc{Data: unsafe.Pointer(&bufs[i][0]), Len: uint32(len(bufs[i]))}
				}
				if good := w.Open(&r.r, d); good != n {
					t.Fatalf("%d of %d", good, n)
				}
				for i, k := range order {
					if got := bufs[i][len(bufs[i])-ICVLen-8:][:8]; binary.BigEndian.Uint64(got) != uint64(k) || d[i].OutLen != 8 {
						t.Fatalf("packet %d: %x", k, got)
					}
				}
			}
		}
	})
}

func TestEESPNoAllocation(t *testing.T) {
	for _, c := range []GroupConfig{{Mode: SSKDFSHA256}, {Mode: SSKDFSHA512, AEAD: AES256GCM, MaxCOffset: 30}, {Mode: SSKDFCMAC, Optimized: true}} {
		c.Profile, c.Domain = ProfileEESP, freshSPI()
		g := eespGroup(t, c, stream("root", map[uint8]int{1: 32, 3: 64, 4: 32}[c.Mode]))
		s, r := newSender(t, g, SenderConfig{ID: 1}), newReceiver(t, ReceiverConfig{ReplayWindow: 1024}, g)
		again := newReceiver(t, ReceiverConfig{}, g)
		k := must(g.ExportDataKey(Context{ID: 2}, false))
		ks, kr := must(NewSenderWithKey(k, SenderConfig{Counter: CounterExplicit})), must(NewReceiverWithKey(k, ReceiverConfig{}))
		defer ks.Close()
		defer kr.Close()
		const n = 140
		pkts, bufs, dsts := make([]Packet, n), make([][]byte, n), make([][]byte, n)
		text := ipPacket(4, 65)
		for i := range bufs {
			bufs[i], dsts[i] = make([]byte, MaxHeader+65+profile.MaxTail), make([]byte, 200)
		}
		fill := func() {
			for i := range pkts {
				copy(bufs[i][MaxHeader:], text)
				pkts[i] = Packet{Buf: bufs[i], Off: MaxHeader, Len: 65}
				if c.MaxCOffset != 0 {
					pkts[i].COffset = uint8(i % 10)
				}
			}
		}
		turn := func(h int) {
			for i := range pkts {
				pkts[i].Off, pkts[i].Len, pkts[i].Dst = MaxHeader-h, len(pkts[i].Out), nil
				if i%2 == 0 {
					pkts[i].Dst = dsts[i]
				}
			}
		}
		for what, f := range map[string]func(){
			"seal and open": func() {
				if fill(); s.Seal(pkts) != n {
					t.Fatal(pkts[0].Status)
				}
				if turn(s.HeaderLen()); r.Open(pkts) != n {
					t.Fatal(pkts[0].Status)
				}
			},
			"forged": func() {
				fill()
				s.Seal(pkts)
				turn(s.HeaderLen())
				for i := range pkts {
					pkts[i].Buf[MaxHeader] ^= 1
				}
				if again.Open(pkts) != 0 {
					t.Fatal("forged packets were opened")
				}
			},
			"data key": func() {
				if fill(); ks.Seal(pkts) != n {
					t.Fatal(pkts[0].Status)
				}
				if turn(ks.HeaderLen()); kr.Open(pkts) != n {
					t.Fatal(pkts[0].Status)
				}
			},
		} {
			if a := testing.AllocsPerRun(5, f); a != 0 {
				t.Errorf("mode %d, %s: %v allocations", c.Mode, what, a)
			}
		}
	}
}

// Proxies from one SA to another, to profile stateless, and from it.
func TestEESPProxy(t *testing.T) {
	config := func(c GroupConfig) GroupConfig {
		c.Profile, c.Mode, c.Domain = ProfileEESP, SSKDFSHA256, freshSPI()
		return c
	}
	root := stream("root", 32)
	full := eespGroup(t, config(GroupConfig{MaxCOffset: 20, Align8: true}), root)
	bare := eespGroup(t, config(GroupConfig{Optimized: true, AEAD: AES256GCM}), root)
	both := eespGroup(t, config(GroupConfig{IV: true, MaxCOffset: 63}), root)
	old := newGroup(t, "a", GroupConfig{}, Zone)
	for i, x := range [][2]*Group{{full, bare}, {bare, full}, {full, both}, {both, old}, {old, both}, {old, bare}} {
		in, out := newSender(t, x[0], SenderConfig{}), newSender(t, x[1], SenderConfig{})
		p, end := NewProxy(newReceiver(t, ReceiverConfig{}, x[0]), out), newReceiver(t, ReceiverConfig{}, x[1])
		for _, dst := range []bool{false, true} {
			var pkts []Packet
			for j := range 70 {
				q := eespPlain(ipPacket(4, 20+j))
				q.NextHeader = 4
				if x[0] != bare && x[1] != bare {
					q.COffset = uint8(j % 6)
				}
				b := sealed(t, in, q)
				room := max(0, out.HeaderLen()-in.HeaderLen())
				q = Packet{Buf: slices.Concat(make([]byte, room), b, make([]byte, 3)), Off: room, Len: len(b)}
				if j%10 == 9 {
					q.Buf[room+len(b)-1] ^= 1
				}
				if dst {
					q.Dst = make([]byte, out.HeaderLen()+len(b)+profile.MaxTail)
				}
				pkts = append(pkts, q)
			}
			if n := p.Forward(pkts); n != 63 {
				t.Fatalf("pair %d: forwarded %d: %v", i, n, pkts[0].Status)
			}
			for j, q := range pkts {
				if j%10 == 9 {
					if q.Status != status.ErrAuth || q.Out != nil {
						t.Fatalf("packet %d: %v", j, q.Status)
					}
					continue
				}
				o := open1(end, whole(q.Out))
				if o.Status != status.OK || !bytes.Equal(o.Out, ipPacket(4, 20+j)) || x[0] != bare && x[1] != bare && o.COffset != uint8(j%6) {
					t.Fatalf("pair %d, packet %d: %v", i, j, o.Status)
				}
				if (x[0] != old && x[1] != old) && o.NextHeader != 4 {
					t.Fatalf("pair %d: next header %d", i, o.NextHeader)
				}
			}
		}
	}
}

// All parts of root keys and of Sub SAs' keys are in locked memory only.
func TestEESPKeysAreInLockedMemory(t *testing.T) {
	if !searchable(t) {
		return
	}
	eachBackend(t, func(t *testing.T) {
		where := secrets{}
		for mode, n := range map[uint8]int{SSKDFSHA256: 32, SSKDFSHA384: 48, SSKDFSHA512: 64, SSKDFCMAC: 32, SSKDFNone: 36} {
			g := must(NewGroup(GroupConfig{Profile: ProfileEESP, AEAD: AES256GCM, Mode: mode, Domain: freshSPI(), MaxCOffset: 9}))
			defer g.Close()
			root, out := must(secmem.Alloc(n)), must(secmem.Alloc(3*g.KeyLen()))
			defer secmem.Free(root)
			defer secmem.Free(out)
			if _, err := crand.Read(root); err != nil {
				t.Fatal(err)
			}
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
			change(func() error { return g.SetKey(0, root) })
			r := newReceiver(t, ReceiverConfig{}, g)
			ids := []uint64{1, 2, 3}
			if mode == SSKDFNone {
				clear(ids)
			}
			s := make([]*Sender, 2)
			for i := range s {
				s[i] = must(NewSender(g, SenderConfig{ID: ids[i], Counter: CounterExplicit}))
				defer s[i].Close()
			}
			change(func() error {
				for i := range 4 {
					p := eespPlain(make([]byte, 65+4000*i))
					p.COffset = uint8(i)
					q := whole(sealed(t, s[i%2], p))
					if i > 1 {
						q.Dst = make([]byte, len(q.Buf))
					}
					if q = open1(r, q); q.Status != status.OK {
						return q.Status
					}
				}
				return g.DeriveKeys([]Context{{ID: ids[0]}, {ID: ids[1]}, {ID: ids[2]}}, out)
			})
			where.remember(fmt.Sprintf("mode %d: root key", mode), unsafe.Pointer(&root[0]), n)
			for i := range 3 {
				where.remember(fmt.Sprintf("mode %d: key of Sub SA %d", mode, i+1), unsafe.Pointer(&out[i*g.KeyLen()]), 32)
			}
		}
		for _, what := range where.found(t) {
			t.Error(what)
		}
	})
}

// FuzzEESPOpen opens any octets. Only packets of senders open, nothing outside of the buffers
// is touched, and no plaintext of a packet that is not authentic stays.
func FuzzEESPOpen(f *testing.F) {
	text := ipPacket(4, 45)
	made := map[string]bool{}
	var groups []*Group
	var receivers []*Receiver
	for i, c := range []GroupConfig{
		{Draft: 2}, {MaxCOffset: 63, Align8: true, AEAD: AES256GCM, Draft: 2}, {Optimized: true, IV: true, Draft: 2}, {NoSequence: true, IV: true, SubSAs: 4, MaxCOffset: 5}, {Encap: EncapTunnel, Align8: true}, {Encap: EncapTunnel, MaxCOffset: 7},
	} {
		c.Profile, c.Mode, c.Domain = ProfileEESP, uint8(1+3*(i%2)), 0xF0000000+uint32(i) // not of freshSPI
		g := eespGroup(f, c, stream("root", 32))
		groups = append(groups, g)
		for id := range uint64(2) {
			sc := SenderConfig{ID: id + 1}
			if c.Draft == 2 {
				sc.Extra = stream("flow", int(id)*i)
			}
			s := newSender(f, g, sc)
			for j := range uint64(2) {
				ownCounters(s, 0, 1+j)
				p := eespPlain(text)
				if p.NextHeader = 4; c.MaxCOffset != 0 {
					p.COffset = uint8(3 * j)
				}
				b := sealed(f, s, p)
				made[string(b)] = true
				f.Add(b, uint16(0), uint8(0), false)
				f.Add(b, uint16(i), uint8(1), true)
				f.Add(b, uint16(len(b)-20), uint8(0x80), true)
			}
		}
		k := must(g.ExportDataKey(Context{ID: 1}, false))
		r := must(NewReceiverWithKey(k, ReceiverConfig{}))
		f.Cleanup(r.Close)
		receivers = append(receivers, r)
	}
	receivers = append(receivers, newReceiver(f, ReceiverConfig{}, groups...))
	room, dst, pattern := guarded(f, 4096), guarded(f, 4096), bytes.Repeat([]byte{0xA5}, 4096)
	f.Fuzz(func(t *testing.T, b []byte, at uint16, change uint8, elsewhere bool) {
		if b = bytes.Clone(b[:min(len(b), 2000)]); len(b) != 0 {
			b[int(at)%len(b)] ^= change
		}
		for i, r := range receivers {
			copy(room, pattern)
			copy(dst, pattern)
			buf := room[len(room)-len(b):]
			copy(buf, b)
			p := Packet{Buf: buf, Len: len(b)}
			n := 0
			if elsewhere {
				n = len(b) / 2
				p.Dst = dst[len(dst)-n:]
			}
			p = open1(r, p)
			if p.Status == status.OK && (!made[string(b)] || !bytes.Equal(p.Out, text)) {
				t.Fatalf("%x was opened to %x", b, p.Out)
			}
			if i == len(receivers)-1 && !elsewhere && made[string(b)] && p.Status != status.OK {
				t.Fatalf("%x: %v", b, p.Status)
			}
			if !bytes.HasPrefix(pattern, room[:len(room)-len(b)]) || !bytes.HasPrefix(pattern, dst[:len(dst)-n]) {
				t.Fatal("written outside")
			}
			if p.Status != status.OK && p.Status != status.ErrAuth && (!bytes.Equal(buf, b) || !bytes.Equal(dst, pattern)) {
				t.Fatalf("%v, but something was written", p.Status)
			}
			if elsewhere && !bytes.Equal(buf, b) {
				t.Fatal("the source was written to")
			}
			if p.Status == status.ErrAuth && (bytes.Contains(buf, text[12:24]) && !bytes.Contains(b, text[12:24]) || bytes.Contains(dst, text[12:24])) {
				t.Fatal("decrypted octets were left")
			}
		}
	})
}

// A root key seals under one SPI only. Under two, a Session ID would have the same key and
// sequence numbers twice.
func TestEESPRootKeyOfTwoSPIs(t *testing.T) {
	root := stream(fmt.Sprint("shared ", freshSPI()), 32)
	c := GroupConfig{Profile: ProfileEESP, Mode: SSKDFSHA256, Domain: freshSPI()}
	near, far := eespGroup(t, c, root), eespGroup(t, c, root) // both ends of one SA
	c.Domain = freshSPI()
	other := eespGroup(t, c, root)
	s := newSender(t, near, SenderConfig{ID: 3})
	p := []Packet{plain(ipPacket(4, 60))}
	if s.Seal(p) != 1 {
		t.Fatal(p[0].Status)
	}
	q := []Packet{whole(p[0].Out)}
	if newReceiver(t, ReceiverConfig{}, far).Open(q) != 1 {
		t.Fatal(q[0].Status)
	}
	p = []Packet{plain(ipPacket(4, 60))}
	if s := newSender(t, other, SenderConfig{ID: 3}); s.Seal(p) != 0 || p[0].Status != status.ErrRootKey || s.HeaderLen() != 0 {
		t.Fatal(p[0].Status)
	}
	// Data keys of the other SPI are the same, so they are refused too.
	if _, err := other.ExportDataKey(Context{ID: 5}, false); !errors.Is(err, status.ErrRootKey) {
		t.Fatal(err)
	}
	a := must(near.ExportDataKey(Context{ID: 5}, false))
	must(NewSenderWithKey(a, SenderConfig{})).Close()
	b := *a
	b.Domain = c.Domain
	if _, err := NewSenderWithKey(&b, SenderConfig{}); !errors.Is(err, status.ErrExists) {
		t.Fatal(err)
	}
}

// An exported data key counts as used for sealing: its holder and a sender of the other SPI
// would have the same key and sequence numbers.
func TestEESPRootKeyOfTwoSPIsExported(t *testing.T) {
	root := stream(fmt.Sprint("shared ", freshSPI()), 32)
	c := GroupConfig{Profile: ProfileEESP, Mode: SSKDFCMAC, Domain: freshSPI()}
	one := eespGroup(t, c, root)
	c.Domain = freshSPI()
	other := eespGroup(t, c, root)
	s := must(NewSenderWithKey(must(one.ExportDataKey(Context{ID: 3}, false)), SenderConfig{Counter: CounterExplicit}))
	defer s.Close()
	p := []Packet{plain(ipPacket(4, 60))}
	if s.Seal(p) != 1 {
		t.Fatal(p[0].Status)
	}
	if s := newSender(t, other, SenderConfig{ID: 3}); s.Seal(p) != 0 || p[0].Status != status.ErrRootKey {
		t.Fatal(p[0].Status)
	}
	// The same key, set again, still belongs to the first SPI.
	for _, g := range []*Group{one, other} {
		if err := g.SetKey(0, stream("another", 32)); err != nil {
			t.Fatal(err)
		}
		if err := g.SetKey(0, root); err != nil {
			t.Fatal(err)
		}
	}
	must(one.ExportDataKey(Context{ID: 4}, false))
	if _, err := other.ExportDataKey(Context{ID: 4}, false); !errors.Is(err, status.ErrRootKey) {
		t.Fatal(err)
	}
}

// In draft -03 the mode selects the format, in -02 a flag does. Only the format and Flow
// Identifiers show the draft of a packet.
func TestEESPDrafts(t *testing.T) {
	text := ipPacket(4, 40)
	for name, x := range map[string]struct {
		c      GroupConfig
		header int
		flow   status.Code // of a sender with a Flow Identifier: ErrArgument is none
	}{
		"-03 is what groups speak":     {GroupConfig{}, 16 + 4, status.ErrArgument},
		"transport":                    {GroupConfig{Draft: 3, Encap: EncapTransport}, 16 + 4, status.ErrArgument},
		"BEET":                         {GroupConfig{Encap: EncapBEET}, 16 + 4, status.ErrArgument},
		"IP-TFS":                       {GroupConfig{Encap: EncapIPTFS}, 16 + 4, status.ErrArgument},
		"tunnel":                       {GroupConfig{Encap: EncapTunnel}, 16, status.ErrArgument},
		"optimized, which is a tunnel": {GroupConfig{Optimized: true}, 16, status.ErrArgument},
		"the same twice":               {GroupConfig{Optimized: true, Encap: EncapTunnel}, 16, status.ErrArgument},
		"tunnel with a crypt offset":   {GroupConfig{Encap: EncapTunnel, MaxCOffset: 8}, 16 + 4 + 4, status.ErrArgument},
		"BEET with a crypt offset":     {GroupConfig{Encap: EncapBEET, MaxCOffset: 8}, 16 + 4 + 4, status.ErrArgument},
		"-02, full":                    {GroupConfig{Draft: 2}, 16 + 4, status.OK},
		"-02, optimized":               {GroupConfig{Draft: 2, Optimized: true}, 16, status.OK},
	} {
		t.Run(name, func(t *testing.T) {
			x.c.Profile, x.c.Mode, x.c.Domain = ProfileEESP, SSKDFSHA256, freshSPI()
			g := eespGroup(t, x.c, stream("root", 32))
			s, r := newSender(t, g, SenderConfig{ID: 1}), newReceiver(t, ReceiverConfig{}, g)
			if s.HeaderLen() != x.header {
				t.Fatalf("%d octets of header, want %d", s.HeaderLen(), x.header)
			}
			p := eespPlain(text)
			p.NextHeader = 4
			b := sealed(t, s, p)
			if q := open1(r, whole(b)); q.Status != status.OK || q.NextHeader != 4 || !bytes.Equal(q.Out, text) {
				t.Fatal(q.Status, q.NextHeader)
			}
			f, err := NewSender(g, SenderConfig{ID: 2, Extra: []byte("flow"), Counter: CounterExplicit})
			if x.flow != status.OK {
				if !errors.Is(err, x.flow) {
					t.Fatal(err)
				}
				return
			}
			defer f.Close()
			wantOpen(t, r, whole(sealed(t, f, eespPlain(text))), text)
			// In -03, with the same keys, the option is unknown.
			x.c.Draft = 3
			n := eespGroup(t, x.c, stream("root", 32))
			wantOpen(t, newReceiver(t, ReceiverConfig{}, n), whole(b), text)
			wantStatus(t, newReceiver(t, ReceiverConfig{}, n), whole(sealed(t, f, eespPlain(text))), status.ErrOption)
		})
	}
}

// Next Header 59 (section 4.5.4.1): if the ICV is right, the sequence number counts as
// received, and nothing is delivered. So it is with a packet whose body is malformed.
func TestEESPDummy(t *testing.T) {
	for _, c := range []GroupConfig{{Draft: 2}, {Encap: EncapIPTFS}, {Encap: EncapTunnel, MaxCOffset: 4}} {
		c.Profile, c.Mode, c.Domain = ProfileEESP, SSKDFSHA256, freshSPI()
		g := eespGroup(t, c, stream("root", 32))
		s, r := newSender(t, g, SenderConfig{ID: 1}), newReceiver(t, ReceiverConfig{ReplayWindow: 64}, g)
		text := ipPacket(4, 41)
		make1 := func(next uint8, payload []byte) []byte {
			p := eespPlain(payload)
			p.NextHeader = next
			return sealed(t, s, p)
		}
		dummy, good := make1(59, stream("dummy", 41)), make1(4, text)
		forged := whole(dummy)
		forged.Buf[len(dummy)-1] ^= 1
		wantStatus(t, r, forged, status.ErrAuth)
		// Among others, in place and elsewhere: the plaintext is wiped.
		pkts := []Packet{whole(good), whole(dummy), whole(make1(59, nil)), whole(make1(4, text)), whole(make1(59, stream("dummy", 41)))}
		pkts[4].Dst = bytes.Repeat([]byte{7}, 60)
		if n := r.Open(pkts); n != 2 || pkts[0].Status != status.OK || pkts[3].Status != status.OK {
			t.Fatalf("%d, %v, %v", n, pkts[0].Status, pkts[3].Status)
		}
		for _, i := range []int{1, 2, 4} {
			p := pkts[i]
			if p.Status != status.ErrDummy || p.Out != nil {
				t.Fatalf("packet %d: %v", i, p.Status)
			}
			if x := append(bytes.Clone(p.Buf), p.Dst...); bytes.Contains(x, stream("dummy", 41)[:8]) {
				t.Fatalf("packet %d: what was decrypted is left", i)
			}
		}
		wantStatus(t, r, whole(dummy), status.ErrReplay)
		if got := r.Stats().Packets[status.ErrDummy]; got != 3 {
			t.Fatalf("%d dummies counted", got)
		}
		// A proxy does not forward it.
		p := NewProxy(newReceiver(t, ReceiverConfig{}, g), newSender(t, g, SenderConfig{ID: 2}))
		q := []Packet{{Buf: append(bytes.Clone(dummy), make([]byte, 8)...), Len: len(dummy)}}
		if p.Forward(q) != 0 || q[0].Status != status.ErrDummy {
			t.Fatal(q[0].Status)
		}
	}
	// A malformed body: one of -02's optimized format, to an SA with the full format.
	c := GroupConfig{Profile: ProfileEESP, Mode: SSKDFSHA256, Domain: freshSPI(), Encap: EncapTunnel}
	in, full := eespGroup(t, c, stream("root", 32)), c
	full.Encap = EncapBEET
	out := eespGroup(t, full, stream("root", 32))
	r := newReceiver(t, ReceiverConfig{ReplayWindow: 64}, out)
	b := sealed(t, newSender(t, in, SenderConfig{}), eespPlain(ipPacket(4, 40)))
	wantStatus(t, r, whole(b), status.ErrPayload)
	wantStatus(t, r, whole(b), status.ErrReplay)
}

// Payloads that the SA of a tunnel does not seal, in both formats: octets that are no IP
// packet, or one without a length.
func TestEESPTunnelPayloads(t *testing.T) {
	jumbo := ipPacket(6, 140)
	copy(jumbo[4:], []byte{0, 0, 6})
	hop := bytes.Clone(jumbo)
	hop[6] = 0
	big := ipPacket(4, 140)
	copy(big[2:], []byte{0, 0})
	none := ipPacket(6, 40)
	none[6] = 59
	for _, most := range []uint8{0, 9} {
		g := eespGroup(t, GroupConfig{Profile: ProfileEESP, Mode: SSKDFSHA256, Domain: freshSPI(), Encap: EncapTunnel, MaxCOffset: most}, stream("root", 32))
		s, r := newSender(t, g, SenderConfig{ID: 1}), newReceiver(t, ReceiverConfig{}, g)
		for name, x := range map[string]struct {
			b    []byte
			next uint8
			want status.Code
		}{
			"IPv4":                     {ipPacket(4, 77), 4, status.OK},
			"IPv6":                     {ipPacket(6, 77), 41, status.OK},
			"IPv6 and nothing else":    {none, 41, status.OK},
			"TCP":                      {stream("tcp", 60), 6, status.ErrArgument},
			"nothing":                  {nil, 4, status.ErrArgument},
			"one octet more":           {append(ipPacket(4, 77), 0), 4, status.ErrArgument},
			"one less":                 {ipPacket(6, 77)[:76], 41, status.ErrArgument},
			"BIG TCP over IPv6":        {jumbo, 41, status.ErrArgument},
			"BIG TCP, with the option": {hop, 41, status.ErrArgument},
			"BIG TCP over IPv4":        {big, 4, status.ErrArgument},
		} {
			p := eespPlain(x.b)
			p.NextHeader = x.next
			q := []Packet{p}
			if s.Seal(q); q[0].Status != x.want {
				t.Errorf("maximum %d, %s: %v", most, name, q[0].Status)
			}
			if x.want == status.OK {
				wantOpen(t, r, whole(q[0].Out), x.b)
			}
			if p.NextHeader ^= 45; most != 0 { // 4 for 41, and the other way round
				if q[0] = p; s.Seal(q) != 0 || q[0].Status != status.ErrArgument {
					t.Errorf("%s, other Next Header: %v", name, q[0].Status)
				}
			}
		}
	}
}

// An SA without Sub SAs, with key and salt from a key exchange (RFC 4106, RFC 8750), against
// AES-GCM of the standard library.
func TestEESPWithoutSubSAs(t *testing.T) {
	for i, aead := range []AEAD{AES128GCM, AES256GCM} {
		c := GroupConfig{Profile: ProfileEESP, AEAD: aead, Mode: SSKDFNone, Domain: freshSPI()}
		n := 16 + 16*i
		keymat := stream(fmt.Sprint("keymat", c.Domain), n+4)
		g := eespGroup(t, c, keymat)
		text := []byte("key and salt as they are.")
		s, r := must(NewSender(g, SenderConfig{Counter: CounterExplicit})), newReceiver(t, ReceiverConfig{ReplayWindow: 64}, g)
		defer s.Close()
		p := eespPlain(text)
		p.NextHeader = 17
		b := sealed(t, s, p)
		header := append(binary.BigEndian.AppendUint32([]byte{0x80, 0, 0, 0}, c.Domain), 0, 0, 0, 0, 0, 0, 0, 1)
		gcm := must(cipher.NewGCM(must(aes.NewCipher(keymat[:n]))))
		nonce := append(bytes.Clone(keymat[n:]), header[8:]...)
		inner := slices.Concat([]byte{0, 0, 17, 3}, text, make([]byte, 3))
		wantOctets(t, "packet", b, gcm.Seal(bytes.Clone(header), nonce, inner, header))
		wantOpen(t, r, whole(b), text)
		wantStatus(t, r, whole(b), status.ErrReplay)
		// It has only one Session ID.
		other := whole(b)
		other.Buf[3] = 1
		wantStatus(t, r, other, status.ErrSession)
		if _, err := NewSender(g, SenderConfig{ID: 1}); !errors.Is(err, status.ErrArgument) {
			t.Error(err)
		}
		out := make([]byte, g.KeyLen())
		if err := g.DeriveKeys([]Context{{}}, out); err != nil || !bytes.Equal(out, keymat) {
			t.Errorf("%x, %v", out, err)
		}
		k := must(g.ExportDataKey(Context{}, false))
		kr := must(NewReceiverWithKey(k, ReceiverConfig{}))
		defer kr.Close()
		wantOpen(t, kr, whole(b), text)
		if _, err := NewSenderWithKey(k, SenderConfig{Counter: CounterExplicit, Start: 1 << 40}); !errors.Is(err, status.ErrExists) {
			t.Errorf("a second owner of the counters: %v", err)
		}
		for _, l := range []int{0, n, n + 3, n + 5, 32 + n} {
			if err := g.SetKey(0, make([]byte, l)); !errors.Is(err, status.ErrRootKey) {
				t.Errorf("%d octets: %v", l, err)
			}
		}
		// Under another SPI its nonces would repeat.
		c.Domain = freshSPI()
		twin := eespGroup(t, c, keymat)
		q := []Packet{eespPlain(text)}
		ts := must(NewSender(twin, SenderConfig{Counter: CounterExplicit}))
		defer ts.Close()
		if ts.Seal(q); q[0].Status != status.ErrRootKey {
			t.Errorf("one key, two SPIs: %v", q[0].Status)
		}
		if err := g.RemoveKey(0); err != nil {
			t.Fatal(err)
		}
		wantStatus(t, r, whole(b), status.ErrNoKey)
	}
}
