package eesp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"libeesp/internal/burst"
	"libeesp/internal/kerneltest"
	"libeesp/internal/profile"
	"libeesp/internal/status"
	"libeesp/internal/testrun"
)

var (
	tssClient4, tssServer4 = netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("198.51.100.1")
	tssClient6, tssServer6 = netip.MustParseAddr("2001:db8::7"), netip.MustParseAddr("2001:db8::1")
)

// tssPrefix returns the prefix of a packet.
func tssPrefix(src, dst netip.Addr) []byte {
	return slices.Concat(src.AsSlice(), dst.AsSlice(), []byte{0xE0, 0xE1, 0xE2, 0xE3})
}

// tssFlip returns the prefix of packets in the other direction.
func tssFlip(prefix []byte) []byte {
	n := (len(prefix) - 4) / 2
	return slices.Concat(prefix[n:2*n], prefix[:n], prefix[2*n:])
}

var (
	tssUp4, tssUp6     = tssPrefix(tssClient4, tssServer4), tssPrefix(tssClient6, tssServer6)
	tssDown4, tssDown6 = tssFlip(tssUp4), tssFlip(tssUp6)
)

// tssPass seals a payload, opens it, and returns the packet.
func tssPass(t testing.TB, s *Sender, r *Receiver, prefix, payload []byte) []byte {
	t.Helper()
	b := sealed(t, s, tssPlain(prefix, s.HeaderLen(), payload))
	wantOpen(t, r, tssWhole(prefix, b), payload)
	return b
}

// tssSSI returns an SSI that no vector has.
func tssSSI() uint64 { return 0x55000000 + freshID() }

func tssHolder(t testing.TB, k *DataKey, c ReceiverConfig) *Receiver {
	t.Helper()
	r := must(NewReceiverWithKey(k, c))
	t.Cleanup(r.Close)
	return r
}

func TestTSSConfigRefused(t *testing.T) {
	ok := GroupConfig{Profile: ProfileTSS, AEAD: AES256GCM}
	group := func(want status.Code, f func(c *GroupConfig)) {
		t.Helper()
		c := ok
		f(&c)
		g, err := NewGroup(c)
		if err == nil {
			g.Close()
		}
		if want == status.OK {
			if err != nil {
				t.Error(err)
			}
			return
		}
		wantErr(t, err, want)
	}
	group(status.OK, func(c *GroupConfig) {})
	group(status.OK, func(c *GroupConfig) { c.Domain = 1<<24 - 1 })
	group(status.OK, func(c *GroupConfig) { c.RekeyMask, c.RekeyShift = 1<<48-1, 16 })
	group(status.OK, func(c *GroupConfig) { c.RekeyShift = 47 })
	for _, f := range []func(c *GroupConfig){
		func(c *GroupConfig) { c.AEAD = AES128GCM },
		func(c *GroupConfig) { c.Domain = 1 << 24 },
		func(c *GroupConfig) { c.Mode = TSSDirect + 1 },
		func(c *GroupConfig) { c.RekeyMask, c.RekeyShift = 1<<48, 17 },
		func(c *GroupConfig) { c.RekeyMask, c.RekeyShift = 1<<48-1, 15 },
		func(c *GroupConfig) { c.RekeyMask = 1 << 32 },
		func(c *GroupConfig) { c.RekeyShift = 48 },
		func(c *GroupConfig) { c.Mode, c.RekeyMask = TSSServer, 1 },
		func(c *GroupConfig) { c.Mode, c.RekeyShift = TSSDirect, 1 },
		func(c *GroupConfig) { c.Combiner = CombinerXOR },
		func(c *GroupConfig) { c.Versions = 1 },
		func(c *GroupConfig) { c.IV = true },
		func(c *GroupConfig) { c.CryptOffset = 12 },
		func(c *GroupConfig) { c.CryptOffset = 18 },
		func(c *GroupConfig) { c.CryptOffset = 1036 },
		func(c *GroupConfig) { c.EpochAge = 1 << 15 },
		func(c *GroupConfig) { c.CounterLimit = 1<<48 + 1 },
		func(c *GroupConfig) { c.NoDirectionBit = true },
		func(c *GroupConfig) { c.Mode, c.NoDirectionBit = TSSDirect, true },
	} {
		group(status.ErrArgument, f)
	}
	group(status.OK, func(c *GroupConfig) {
		c.CryptOffset, c.EpochAge, c.CounterLimit, c.AuthFailureLimit = 1032, 1<<15-1, 1<<48, 1<<32-1
	})
	group(status.OK, func(c *GroupConfig) { c.Mode, c.NoDirectionBit, c.CryptOffset = TSSServer, true, 16 })
	for _, f := range []func(c *GroupConfig){
		func(c *GroupConfig) { c.CryptOffset = 16 },
		func(c *GroupConfig) { c.EpochAge = 1 },
		func(c *GroupConfig) { c.CounterLimit = 1 },
		func(c *GroupConfig) { c.AuthFailureLimit = 1 },
		func(c *GroupConfig) { c.NoDirectionBit = true },
	} { // refused with other profiles
		c := GroupConfig{Profile: ProfilePSP}
		f(&c)
		_, err := NewGroup(c)
		wantErr(t, err, status.ErrArgument)
	}
	psp := pspGroup(t, 0, pspKeys[0])
	wantErr(t, psp.SetEpoch(1), status.ErrUnsupported)
	wantErr(t, psp.ResetLatch(), status.ErrUnsupported)
	_, err := psp.DomainStats()
	wantErr(t, err, status.ErrUnsupported)

	g, server, direct := newTSS(t, GroupConfig{}), newTSS(t, GroupConfig{Mode: TSSServer}), newTSS(t, GroupConfig{Mode: TSSDirect})
	for _, x := range []struct {
		g    *Group
		want status.Code
		c    SenderConfig
	}{
		{g, status.ErrArgument, SenderConfig{V: 4}},
		{g, status.ErrArgument, SenderConfig{V: VTSSSSIIPv6, ID: 1 << 32}},
		{g, status.ErrArgument, SenderConfig{V: VTSSSSI, ID: 1 << 32}},
		{g, status.ErrArgument, SenderConfig{V: VTSSAddr, ID: 1}},
		{g, status.ErrArgument, SenderConfig{V: VTSSAddrIPv6, ID: 1}},
		{g, status.ErrArgument, SenderConfig{V: VTSSSSI, Extra: []byte{1}}},
		{g, status.ErrArgument, SenderConfig{V: VTSSSSI, Options: true}},
		{g, status.ErrArgument, SenderConfig{V: VTSSSSI, Levels: 1}},
		{direct, status.ErrUnsupported, SenderConfig{V: VTSSAddrIPv6}},
		{server, status.ErrArgument, SenderConfig{V: VTSSSSI, Counter: CounterExplicit, EngineBits: 16}},
		{server, status.ErrArgument, SenderConfig{V: VTSSSSI, Counter: CounterExplicit, Engine: 1}},
		{server, status.ErrArgument, SenderConfig{V: VTSSSSI, Counter: CounterExplicit, EngineBits: 255}},
		{server, status.ErrArgument, SenderConfig{V: VTSSSSI, Counter: CounterExplicit, EngineBits: 15, Engine: 1 << 15}},
		{server, status.ErrArgument, SenderConfig{V: VTSSSSI, Counter: CounterExplicit, Start: 1 << 47}},
	} {
		if s, err := NewSender(x.g, x.c); err == nil {
			s.Close()
			t.Errorf("%+v was accepted", x.c)
		} else {
			wantErr(t, err, x.want)
		}
	}
	for _, c := range []ReceiverConfig{{TryPrevious: true}, {OwnIDs: []uint64{1}}} {
		_, err := NewReceiver(c, server)
		wantErr(t, err, status.ErrArgument)
	}
	wantErr(t, g.SetKey(2, make([]byte, 32)), status.ErrArgument)
	wantErr(t, g.SetKey(0, make([]byte, 31)), status.ErrRootKey)
	wantErr(t, g.GenerateRootKey(Zone, make([]byte, 16)), status.ErrUnsupported)
}

// IPv4 and IPv6 with every V: each V refuses the family that it does not allow.
func TestTSSFamilies(t *testing.T) {
	for mode := range uint8(3) {
		g := newTSS(t, GroupConfig{Mode: mode, Domain: 9}, tssKey("families"))
		for v := range uint8(4) {
			if mode == TSSDirect && v == VTSSAddrIPv6 {
				continue
			}
			c := SenderConfig{V: v}
			if v == VTSSSSI || v == VTSSSSIIPv6 {
				c.ID = freshID()
			}
			six := v == VTSSAddrIPv6 || v == VTSSSSIIPv6
			s := tssSender(t, g, nil, c, 5, 1)
			for _, prefix := range [][]byte{tssDown4, tssDown6} {
				p := tssPlain(prefix, s.HeaderLen(), []byte("payload"))
				q := p
				q.Dst = bytes.Clone(p.Buf)
				want := status.OK
				if v == VTSSAddr && p.IPv6 || six && !p.IPv6 {
					want = status.ErrArgument
				}
				pkts := []Packet{p, q}
				s.Seal(pkts)
				for _, p := range pkts {
					if p.Status != want {
						t.Fatalf("mode %d V %d IPv6 %v: %v, want %v", mode, v, p.IPv6, p.Status, want)
					}
				}
			}
			// A burst of both families.
			pkts := make([]Packet, 70)
			prefixes := make([][]byte, len(pkts))
			for i := range pkts {
				prefixes[i] = tssDown4
				if six || v == VTSSSSI && i%3 == 0 {
					prefixes[i] = tssDown6
				}
				pkts[i] = tssPlain(prefixes[i], s.HeaderLen(), []byte(fmt.Sprint("payload ", i)))
			}
			if n := s.Seal(pkts); n != len(pkts) {
				t.Fatalf("%d sealed: %v", n, pkts[0].Status)
			}
			if mode == TSSServer {
				continue // only the clients' keys open these
			}
			r := newReceiver(t, ReceiverConfig{}, g)
			for i := range pkts {
				pkts[i] = tssWhole(prefixes[i], pkts[i].Out)
			}
			if n := r.Open(pkts); n != len(pkts) {
				t.Fatalf("mode %d V %d: %d opened: %v", mode, v, n, pkts[0].Status)
			}
			for i := range pkts {
				wantOctets(t, "payload", pkts[i].Out, []byte(fmt.Sprint("payload ", i)))
			}
		}
	}
}

func TestTSSSealStatuses(t *testing.T) {
	g := newTSS(t, GroupConfig{}, tssKey("statuses"))
	s := tssSender(t, g, nil, SenderConfig{}, 1, 1)
	good := func() Packet { return tssPlain(tssUp4, s.HeaderLen(), stream("payload", 40)) }
	for name, x := range map[string]struct {
		want status.Code
		f    func(p *Packet)
	}{
		"good":                {status.OK, func(p *Packet) {}},
		"empty":               {status.OK, func(p *Packet) { p.Len = 0 }},
		"COffset":             {status.ErrOffset, func(p *Packet) { p.COffset = 1 }},
		"IOffset":             {status.ErrOffset, func(p *Packet) { p.IOffset = 1 }},
		"no room for prefix":  {status.ErrRoom, func(p *Packet) { p.Buf, p.Off = p.Buf[1:], p.Off-1 }},
		"no room for ICV":     {status.ErrRoom, func(p *Packet) { p.Buf = p.Buf[:len(p.Buf)-1] }},
		"no room elsewhere":   {status.ErrRoom, func(p *Packet) { p.Dst = make([]byte, 12+12+40+15) }},
		"just room elsewhere": {status.OK, func(p *Packet) { p.Dst = append(bytes.Clone(tssUp4), make([]byte, 12+40+16)...) }},
		"IPv6":                {status.ErrArgument, func(p *Packet) { p.IPv6 = true }},
		"no key":              {status.ErrNoKey, func(p *Packet) { g.RemoveKey(0) }},
	} {
		if err := g.SetKey(0, []byte(tssKey("statuses"))); err != nil {
			t.Fatal(err)
		}
		pkts := []Packet{good(), good(), good()}
		x.f(&pkts[1])
		s.Seal(pkts)
		if pkts[1].Status != x.want {
			t.Errorf("%s: %v, want %v", name, pkts[1].Status, x.want)
		}
		if x.want != status.OK && (pkts[1].TSC != 0 || pkts[1].Out != nil) {
			t.Errorf("%s: there is output", name)
		}
		if x.want != status.ErrNoKey && (pkts[0].Status != status.OK || pkts[2].Status != status.OK) {
			t.Errorf("%s: neighbours %v, %v", name, pkts[0].Status, pkts[2].Status)
		}
	}
}

func TestTSSOpenStatuses(t *testing.T) {
	g := newTSS(t, GroupConfig{Domain: 5}, tssKey("open"), tssKey("open 1"))
	ssi := freshID()
	s := tssSender(t, g, nil, SenderConfig{V: VTSSSSI, ID: ssi}, 40, 1)
	r := newReceiver(t, ReceiverConfig{OwnIDs: []uint64{3, ssi + 1<<20}}, g)
	b := tssPass(t, s, r, tssUp4, []byte("payload"))
	mine := tssSender(t, g, nil, SenderConfig{V: VTSSSSI, ID: ssi + 1<<20}, 40, 1)
	own := sealed(t, mine, tssPlain(tssUp4, 16, nil))
	short := tssWhole(tssUp4, b)
	short.Buf, short.Off = short.Buf[1:], short.Off-1
	wantStatus(t, r, short, status.ErrRoom)
	wantStatus(t, r, tssWhole(tssUp4, own), status.ErrReflected)
}

// Each key of a group has an epoch. Packets of an epoch further behind than EpochAge are refused,
// and no packet moves the epoch.
func TestTSSEpochs(t *testing.T) {
	for _, age := range []uint16{0, 3} {
		g := newTSS(t, GroupConfig{Domain: 5, EpochAge: age}, tssKey("epochs"), tssKey("epochs 1"))
		r := newReceiver(t, ReceiverConfig{}, g)
		s := tssSender(t, g, nil, SenderConfig{V: VTSSSSI, ID: freshID()}, 1, 1)
		if age == 0 {
			age = 16
		}
		in := func(epoch uint16) []byte {
			setCounters(s, tssCounters(s, epoch, 7))
			return sealed(t, s, tssPlain(tssUp4, 16, []byte("payload")))
		}
		for _, now := range []uint16{0, 1, 20, 40, 32768, 65535} {
			if err := g.SetEpoch(now); err != nil {
				t.Fatal(err)
			}
			if st, err := g.DomainStats(); err != nil || st.Epoch != now {
				t.Fatal(st, err)
			}
			// A packet of an epoch far ahead opens, and those of this one do still.
			wantOpen(t, r, tssWhole(tssUp4, in(now+20000)), []byte("payload"))
			for _, back := range []uint16{0, 1, age} {
				wantOpen(t, r, tssWhole(tssUp4, in(now-back)), []byte("payload"))
			}
			for _, back := range []uint16{age + 1, 1000, 1<<15 - 1} {
				b := in(now - back)
				wantStatus(t, r, tssWhole(tssUp4, b), status.ErrEpoch)
				b[20] ^= 1 // the epoch is checked before the ICV
				wantStatus(t, r, tssWhole(tssUp4, b), status.ErrEpoch)
			}
			// In a burst, among packets of one pattern.
			late, good := in(now-age-1), in(now)
			pkts := make([]Packet, 140)
			for i := range pkts {
				if pkts[i] = tssWhole(tssUp4, good); i%50 == 33 {
					pkts[i] = tssWhole(tssUp4, late)
				}
			}
			r.Open(pkts)
			for i := range pkts {
				if want := map[bool]status.Code{true: status.ErrEpoch}[i%50 == 33]; pkts[i].Status != want {
					t.Fatal(i, pkts[i].Status)
				}
			}
			// The other key has an epoch of its own.
			if err := g.UseKey(1); err != nil {
				t.Fatal(err)
			}
			if st, _ := g.DomainStats(); st.Epoch != 0 {
				t.Fatal(st)
			}
			wantOpen(t, r, tssWhole(tssUp4, in(0)), []byte("payload"))
			wantStatus(t, r, tssWhole(tssUp4, in(1<<16-1-age)), status.ErrEpoch)
			if err := g.UseKey(0); err != nil {
				t.Fatal(err)
			}
		}
	}
	// The epoch can be set before there is a key. A slot's next key begins at epoch 0.
	g := newTSS(t, GroupConfig{})
	epoch := func() uint16 { return must(g.DomainStats()).Epoch }
	if err := errors.Join(g.SetEpoch(9), g.SetKey(1, []byte(tssKey("first")))); err != nil || epoch() != 9 {
		t.Fatal(err, epoch())
	}
	if err := g.SetKey(1, []byte(tssKey("first"))); err != nil || epoch() != 9 {
		t.Fatal(err, epoch())
	}
	if err := g.SetKey(1, []byte(tssKey("second"))); err != nil || epoch() != 0 {
		t.Fatal(err, epoch())
	}
}

// A domain's crypt offset counts from the header's first octet. The octets before it are in clear
// and authenticated.
func TestTSSCryptOffset(t *testing.T) {
	text := stream("payload", 300)
	for _, offset := range []uint16{16, 20, 64, 1032} {
		g := newTSS(t, GroupConfig{Mode: TSSServer, Domain: 3, CryptOffset: offset}, tssKey("crypt offset"))
		ssi := freshID()
		k := must(g.ExportDataKey(Context{V: VTSSSSI, ID: ssi}, false))
		s, r := tssSender(t, nil, k, SenderConfig{}, 0, 0), newReceiver(t, ReceiverConfig{}, g)
		for n := range len(text) {
			clear := int(offset) - 16
			p := tssPlain(tssUp4, 16, text[:n])
			p.COffset = uint8(clear / 4 * (n % 2)) // the domain's offset, or none
			pkts := []Packet{p}
			if s.Seal(pkts); n < clear {
				if pkts[0].Status != status.ErrOffset {
					t.Fatal(pkts[0].Status)
				}
				continue
			}
			b := pkts[0].Out
			wantOctets(t, "clear part", b[16:][:clear], text[:clear])
			if n >= clear+16 && bytes.Equal(b[16+clear:][:16], text[clear:][:16]) {
				t.Fatal("not encrypted")
			}
			q := open1(r, tssWhole(tssUp4, b))
			if q.Status != status.OK || int(q.COffset)*4 != clear || !bytes.Equal(q.Out, text[:n]) {
				t.Fatal(q.Status, q.COffset)
			}
			if clear != 0 {
				b[16] ^= 1
				wantStatus(t, r, tssWhole(tssUp4, b), status.ErrAuth)
			}
		}
		for _, p := range []Packet{{COffset: 1}, {COffset: 200}, {IOffset: 1}} {
			q := tssPlain(tssUp4, 16, text)
			q.COffset, q.IOffset = p.COffset, p.IOffset
			if pkts := []Packet{q}; s.Seal(pkts) != 0 || pkts[0].Status != status.ErrOffset {
				if offset != 20 || p.COffset != 1 {
					t.Fatal(offset, pkts[0].Status)
				}
			}
		}
	}
}

// Without a direction bit both ends have the same counters, and a packet opens at the end that
// sent it. The bit prevents that.
func TestTSSNoDirectionBit(t *testing.T) {
	g := newTSS(t, GroupConfig{Mode: TSSServer, Domain: 3, NoDirectionBit: true}, tssKey("no direction"))
	ssi := freshID()
	k := must(g.ExportDataKey(Context{V: VTSSSSI, ID: ssi}, false))
	if k.Params[0] != 6 {
		t.Fatal(k.Params)
	}
	server, client := newReceiver(t, ReceiverConfig{ReplayWindow: 64}, g), tssHolder(t, k, ReceiverConfig{ReplayWindow: 64})
	cs := tssSender(t, nil, k, SenderConfig{}, 0, 5)
	up := tssPass(t, cs, server, tssUp4, []byte("up"))
	if tsc := cs.NextTSC(); tsc != 6 {
		t.Fatalf("%#x", tsc)
	}
	wantOpen(t, client, tssWhole(tssUp4, up), []byte("up"))
	wantStatus(t, server, tssWhole(tssUp4, up), status.ErrReplay)
	cs.Close()
	for _, start := range []uint64{5, 1<<48 - 3} {
		ss := tssSender(t, g, nil, SenderConfig{V: VTSSSSI, ID: ssi + 1 + start%7}, 0, start)
		if tsc := ss.NextTSC(); tsc != start {
			t.Fatalf("%#x", tsc)
		}
		h := tssHolder(t, must(g.ExportDataKey(Context{V: VTSSSSI, ID: ssi + 1 + start%7}, false)), ReceiverConfig{})
		tssPass(t, ss, h, tssDown4, []byte("down"))
	}
}

// After too many packets that were not authentic, a domain drops all packets until its latch
// is reset. Another domain of the same receiver goes on.
func TestTSSLatch(t *testing.T) {
	eachBackend(t, func(t *testing.T) {
		const limit = 5
		g := newTSS(t, GroupConfig{Domain: 1, AuthFailureLimit: limit}, tssKey("latch"))
		other := newTSS(t, GroupConfig{Domain: 2}, tssKey("no latch"))
		r := newReceiver(t, ReceiverConfig{}, other, g)
		s, so := tssSender(t, g, nil, SenderConfig{V: VTSSSSI, ID: freshID()}, 0, 0), tssSender(t, other, nil, SenderConfig{V: VTSSSSI, ID: freshID()}, 0, 0)
		good, apart := sealed(t, s, tssPlain(tssUp4, 16, []byte("x"))), sealed(t, so, tssPlain(tssUp4, 16, []byte("x")))
		bad := bytes.Clone(good)
		bad[len(bad)-1] ^= 1
		burst := func(b []byte, n int) (last status.Code) {
			pkts := make([]Packet, n)
			for i := range pkts {
				pkts[i] = tssWhole(tssUp4, b)
			}
			r.Open(pkts)
			return pkts[n-1].Status
		}
		for round := range 3 {
			burst(good, 40) // makes the pattern known, which the bad packets match
			for i := range limit - 1 {
				if c := burst(bad, 1); c != status.ErrAuth {
					t.Fatal(i, c)
				}
			}
			wantStats := func(latched bool, failures uint64) {
				t.Helper()
				st := must(g.DomainStats())
				if st.Latched != latched || st.Failures != failures || st.AuthFailures != uint64(round)*limit+failures {
					t.Fatalf("%+v", st)
				}
			}
			wantStats(false, limit-1)
			if c := burst(good, 3); c != status.OK {
				t.Fatal(c)
			}
			burst(bad, 1)
			wantStats(true, limit)
			for _, b := range [][]byte{good, bad} {
				if c := burst(b, 70); c != status.ErrLatched {
					t.Fatal(c)
				}
			}
			if c := burst(apart, 70); c != status.OK {
				t.Fatal(c)
			}
			wantStats(true, limit)
			sealed(t, s, tssPlain(tssUp4, 16, []byte("x"))) // the latch does not stop senders
			if err := g.ResetLatch(); err != nil {
				t.Fatal(err)
			}
			wantStats2 := must(g.DomainStats())
			if wantStats2.Latched || wantStats2.Failures != 0 || burst(good, 3) != status.OK {
				t.Fatalf("%+v", wantStats2)
			}
		}
		// A domain without a limit has no latch.
		bad = bytes.Clone(apart)
		bad[len(bad)-1] ^= 1
		burst(bad, 300)
		if st := must(other.DomainStats()); st.Latched || st.AuthFailures != 300 || st.Failures != 0 || burst(apart, 1) != status.OK {
			t.Fatalf("%+v", st)
		}
	})
}

// A domain's statistics count for all its senders and receivers.
func TestTSSDomainStats(t *testing.T) {
	g, other := newTSS(t, GroupConfig{Domain: 1}, tssKey("stats")), newTSS(t, GroupConfig{Domain: 2}, tssKey("stats 2"))
	own := freshID()
	s, mine := tssSender(t, g, nil, SenderConfig{V: VTSSSSI, ID: freshID()}, 0, 0), tssSender(t, g, nil, SenderConfig{V: VTSSSSI, ID: own}, 0, 1<<48-1)
	b := sealed(t, s, tssPlain(tssUp4, 16, []byte("payload")))
	reflected := sealed(t, mine, tssPlain(tssUp4, 16, nil))
	pkts := []Packet{tssPlain(tssUp4, 16, nil), tssPlain(tssUp4, 16, nil)}
	if mine.Seal(pkts); pkts[0].Status != status.ErrExhausted {
		t.Fatal(pkts[0].Status)
	}
	setCounters(s, tssCounters(s, 1<<15+1, 1))
	late := sealed(t, s, tssPlain(tssUp4, 16, nil))
	with := func(at int, x byte) []byte { c := bytes.Clone(b); c[at] ^= x; return c }
	for _, groups := range [][]*Group{{g}, {g, other}, {other, g}} {
		before, beside := must(g.DomainStats()), must(other.DomainStats())
		r := newReceiver(t, ReceiverConfig{OwnIDs: []uint64{own}, ReplayWindow: 64}, groups...)
		var opens []Packet
		for _, c := range [][]byte{b, b, with(20, 1), with(21, 1), late, with(0, 8), with(0, 2), reflected, with(1, 9), b[:20]} {
			opens = append(opens, tssWhole(tssUp4, c))
		}
		room := tssWhole(tssUp4, b)
		room.Off, room.Buf = room.Off-1, room.Buf[1:]
		r.Open(append(opens, room)) // a mistake of the caller is not counted
		now, besides := must(g.DomainStats()), must(other.DomainStats())
		want := DomainStats{Sealed: before.Sealed, Exhausted: before.Exhausted, Opened: before.Opened + 1, Invalid: before.Invalid + 3,
			AuthFailures: before.AuthFailures + 2, LateEpoch: before.LateEpoch + 1, WrongSSI: before.WrongSSI + 1,
			Clear: before.Clear + 1, UnknownSA: before.UnknownSA}
		if groups[0] == g {
			want.UnknownSA++
		} else {
			beside.UnknownSA++
		}
		if now != want || besides != beside || now.Sealed != 3 || now.Exhausted != 2 {
			t.Fatalf("%+v\nwant %+v\nbeside it %+v\nwant %+v", now, want, besides, beside)
		}
	}
}

func TestTSSRotation(t *testing.T) {
	eachBackend(t, func(t *testing.T) {
		g := newTSS(t, GroupConfig{Domain: 6, RekeyMask: 0xFF00, RekeyShift: 8}, tssKey("rotation"))
		s := tssSender(t, g, nil, SenderConfig{V: VTSSSSI, ID: freshID()}, 1, 250)
		r := newReceiver(t, ReceiverConfig{ReplayWindow: 128}, g)
		payload := []byte("payload")
		var before [][]byte
		for i := range 6 {
			for range 20 {
				b := tssPass(t, s, r, tssUp4, payload)
				if int(b[0]&1) != i%2 {
					t.Fatalf("AN %d", b[0]&1)
				}
				wantStatus(t, r, tssWhole(tssUp4, b), status.ErrReplay)
			}
			late := sealed(t, s, tssPlain(tssUp4, 16, payload))
			before = append(before, late)
			slot := must(g.RotateKey(nil))
			if slot != 1-i%2 {
				t.Fatalf("slot %d", slot)
			}
			// Packets of the key before open, older ones do not.
			wantOpen(t, r, tssWhole(tssUp4, late), payload)
			if i > 0 {
				wantStatus(t, r, tssWhole(tssUp4, before[i-1]), status.ErrAuth)
			}
		}
		if err := g.RemoveKey(1); err != nil {
			t.Fatal(err)
		}
		wantStatus(t, r, tssWhole(tssUp4, before[5]), status.ErrNoKey)
	})
}

func TestTSSRotationUnderLoad(t *testing.T) {
	g := newTSS(t, GroupConfig{Domain: 8, RekeyMask: 0xFF00, RekeyShift: 8}, tssKey("load"))
	r := newReceiver(t, ReceiverConfig{ReplayWindow: 65536}, g)
	var wg sync.WaitGroup
	done := make(chan bool)
	var rounds [3]atomic.Int64
	// ahead reports whether a sender is so far ahead of another that this one's
	// packets might be too old for the window.
	ahead := func(me int) bool {
		for i := range rounds {
			if rounds[me].Load() > rounds[i].Load()+200 {
				return true
			}
		}
		return false
	}
	ssi := tssSSI()
	var mu sync.Mutex
	seen := map[string]bool{}
	for me := range rounds {
		s, err := NewSender(g, SenderConfig{V: VTSSSSI, ID: ssi, Counter: CounterExplicit})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		wg.Go(func() {
			pkts := make([]Packet, 40)
			for {
				select {
				case <-done:
					return
				default:
				}
				if ahead(me) {
					time.Sleep(50 * time.Microsecond)
					continue
				}
				for i := range pkts {
					pkts[i] = tssPlain(tssUp4, 16, []byte("payload"))
				}
				if s.Seal(pkts) != len(pkts) {
					t.Error(pkts[0].Status)
				}
				mu.Lock()
				for i := range pkts {
					// Counters start again with each key. All payloads are equal, so a nonce that
					// repeats under a key would make an equal packet.
					k := string(pkts[i].Out)
					if seen[k] {
						t.Error("a nonce repeats")
					}
					seen[k] = true
					pkts[i] = tssWhole(tssUp4, pkts[i].Out)
				}
				mu.Unlock()
				r.Open(pkts)
				for i := range pkts {
					if c := pkts[i].Status; c != status.OK {
						t.Error(c)
					}
				}
				rounds[me].Add(1)
			}
		})
	}
	// A burst must not see two rotations, since its key would then be gone.
	for range testrun.Rounds(15, 25, 50) {
		must(g.RotateKey(nil))
		for me := range rounds {
			for before := rounds[me].Load(); rounds[me].Load() < before+2 && !t.Failed(); {
				time.Sleep(50 * time.Microsecond)
			}
		}
	}
	close(done)
	wg.Wait()
}

// A server opens what its clients seal, and a client what the server seals for it.
func TestTSSServer(t *testing.T) {
	eachBackend(t, func(t *testing.T) {
		g := newTSS(t, GroupConfig{Mode: TSSServer, Domain: 4}, tssKey("server"), tssKey("server 1"))
		if err := g.UseKey(1); err != nil {
			t.Fatal(err)
		}
		server := newReceiver(t, ReceiverConfig{ReplayWindow: 64}, g)
		for v, up := range [][]byte{tssUp4, tssUp4, tssUp6, tssUp6} {
			down := tssFlip(up)
			c, conf := Context{V: uint8(v), Epoch: 77, Generation: 1}, SenderConfig{V: uint8(v)}
			if v == VTSSSSI || v == VTSSSSIIPv6 {
				c.ID = freshID()
				conf.ID = c.ID
			}
			if v == VTSSSSIIPv6 { // with tssUp6 the key would be that of VTSSAddrIPv6
				up = tssPrefix(tssServer6, tssClient6)
				down = tssFlip(up)
			}
			if v != VTSSSSI {
				c.Addr.Src = tssSrc(up)
			}
			k := must(g.ExportDataKey(c, false))
			if k.Params != [2]uint8{3} || k.Domain != 4 || k.OptionsLen != 12 || k.Addr.Src != c.Addr.Src {
				t.Fatalf("%+v", k)
			}
			client := tssHolder(t, k, ReceiverConfig{ReplayWindow: 64})
			cs, ss := tssSender(t, nil, k, SenderConfig{}, 77, 9), tssSender(t, g, nil, conf, 77, 9)
			asked := tssPass(t, cs, server, up, []byte("question"))
			told := tssPass(t, ss, client, down, []byte("answer"))
			if cs.NextTSC() != 77<<48|10 || ss.NextTSC() != 77<<48|1<<47|10 {
				t.Fatalf("%#x %#x", cs.NextTSC(), ss.NextTSC())
			}
			// Neither end opens its own packets, whatever addresses the prefix has.
			for _, prefix := range [][]byte{up, down} {
				wantStatus(t, client, tssWhole(prefix, asked), status.ErrReflected)
				wantStatus(t, server, tssWhole(prefix, told), status.ErrReflected)
			}
			wantStatus(t, server, tssWhole(up, asked), status.ErrReplay)
			wantStatus(t, client, tssWhole(down, told), status.ErrReplay)

			// Packets of another epoch, key, address or SDI than the client's.
			setCounters(ss, tssCounters(ss, 78, 1))
			wantStatus(t, client, tssWhole(down, sealed(t, ss, tssPlain(down, ss.HeaderLen(), nil))), status.ErrContext)
			setCounters(ss, tssCounters(ss, 77, 100))
			if err := g.UseKey(0); err != nil {
				t.Fatal(err)
			}
			wantStatus(t, client, tssWhole(down, sealed(t, ss, tssPlain(down, ss.HeaderLen(), nil))), status.ErrContext)
			if err := g.UseKey(1); err != nil {
				t.Fatal(err)
			}
			elsewhere := bytes.Clone(down)
			elsewhere[len(down)-5] ^= 1 // another client's address
			b := sealed(t, ss, tssPlain(elsewhere, ss.HeaderLen(), nil))
			if want := status.ErrContext; v != VTSSSSI {
				wantStatus(t, client, tssWhole(elsewhere, b), want)
				// The client does not seal from another address either.
				from := tssPlain(elsewhere, cs.HeaderLen(), nil)
				pkts := []Packet{from, tssPlain(up, cs.HeaderLen(), nil)}
				if cs.Seal(pkts); pkts[0].Status != status.ErrContext || pkts[1].Status != status.OK {
					t.Fatal(pkts[0].Status, pkts[1].Status)
				}
			} else {
				wantOpen(t, client, tssWhole(elsewhere, b), nil)
			}
			b[1]++ // SDI
			wantStatus(t, client, tssWhole(elsewhere, b), status.ErrContext)
		}
	})
}

func TestTSSEngines(t *testing.T) {
	g := newTSS(t, GroupConfig{Mode: TSSServer, Domain: 4}, tssKey("engines"))
	ssi := tssSSI()
	k := must(g.ExportDataKey(Context{V: VTSSSSI, ID: ssi, Epoch: 3}, false))
	client := tssHolder(t, k, ReceiverConfig{ReplayWindow: 64, EngineBits: 2})
	for engine := range uint32(4) {
		s, err := NewSender(g, SenderConfig{V: VTSSSSI, ID: ssi, Counter: CounterExplicit, Epoch: 3, FixedEpoch: true, EngineBits: 2, Engine: engine})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if tsc := s.NextTSC(); tsc != 3<<48|1<<47|uint64(engine) {
			t.Fatalf("%#x", tsc)
		}
		b := tssPass(t, s, client, tssDown4, []byte("x"))
		wantStatus(t, client, tssWhole(tssDown4, b), status.ErrReplay)
		for range 100 { // each engine has a window of its own
			tssPass(t, s, client, tssDown4, []byte("x"))
		}
	}
	if st := client.ReplayStats(); st.Windows != 4 {
		t.Fatalf("%+v", st)
	}
}

func TestTSSExportErrors(t *testing.T) {
	cluster := newTSS(t, GroupConfig{}, tssKey("export"))
	rekeys := newTSS(t, GroupConfig{RekeyMask: 0xFF00, RekeyShift: 8}, tssKey("export"))
	server := newTSS(t, GroupConfig{Mode: TSSServer}, tssKey("export"))
	direct := newTSS(t, GroupConfig{Mode: TSSDirect}, tssKey("export"))
	a4, a6 := Addr{Src: tssClient4.As16()}, Addr{Src: tssClient6.As16()}
	for i, x := range []struct {
		g       *Group
		c       Context
		options bool
		want    status.Code
	}{
		{cluster, Context{V: VTSSSSI, ID: 1<<32 - 1}, false, status.OK},
		{cluster, Context{V: VTSSAddr, Addr: a4}, false, status.OK},
		{cluster, Context{V: VTSSAddrIPv6, Addr: a6}, false, status.OK},
		{cluster, Context{V: VTSSAddrIPv6, Addr: a4}, false, status.OK},
		{cluster, Context{V: VTSSSSI}, true, status.ErrArgument},
		{cluster, Context{V: VTSSSSIIPv6, ID: 9, Addr: a6}, false, status.OK},
		{cluster, Context{V: VTSSSSIIPv6, ID: 1 << 32, Addr: a6}, false, status.ErrArgument},
		{cluster, Context{V: 4}, false, status.ErrV},
		{cluster, Context{V: VTSSSSI, ID: 1 << 32}, false, status.ErrArgument},
		{cluster, Context{V: VTSSSSI, Addr: a4}, false, status.ErrArgument},
		{cluster, Context{V: VTSSAddr, ID: 1, Addr: a4}, false, status.ErrArgument},
		{cluster, Context{V: VTSSAddr, Addr: a6}, false, status.ErrArgument},
		{cluster, Context{V: VTSSAddr}, false, status.ErrArgument},
		{cluster, Context{V: VTSSAddr, Addr: Addr{Src: a4.Src, Dst: a4.Src}}, false, status.ErrArgument},
		{cluster, Context{V: VTSSSSI, Levels: 1}, false, status.ErrArgument},
		{cluster, Context{V: VTSSSSI, Generation: 2}, false, status.ErrArgument},
		{cluster, Context{V: VTSSSSI, Generation: 1}, false, status.ErrNoKey},
		{server, Context{V: VTSSSSI, ID: 7}, false, status.OK},
		{server, Context{V: VTSSSSI, ID: 7 | 1<<32}, false, status.ErrArgument},
		{rekeys, Context{V: VTSSSSI, ID: 7}, false, status.ErrUnsupported},
		{rekeys, Context{V: VTSSSSI, ID: 7 | 0xFF<<32}, false, status.ErrUnsupported},
		{rekeys, Context{V: VTSSSSI, ID: 7 | 0x100<<32}, false, status.ErrArgument},
		{direct, Context{V: VTSSSSI, ID: 7}, false, status.ErrUnsupported},
		{direct, Context{V: VTSSAddrIPv6, Addr: a6}, false, status.ErrUnsupported},
	} {
		k, err := x.g.ExportDataKey(x.c, x.options)
		if x.want == status.OK {
			if err != nil {
				t.Errorf("%d: %v", i, err)
			}
			continue
		}
		if !errors.Is(err, x.want) {
			t.Errorf("%d: %v, want %v", i, err, x.want)
		}
		if k != nil && !allZero(k.Key[:]) {
			t.Errorf("%d: a key was output", i)
		}
	}
	out := make([]byte, direct.KeyLen())
	if err := direct.DeriveKeys([]Context{{V: VTSSSSI, ID: 7}}, out); err != nil || string(out) != tssKey("export") {
		t.Error(err, out)
	}

	k := must(cluster.ExportDataKey(Context{V: VTSSAddr, Addr: a4}, false))
	for i, x := range []struct {
		f    func(k *DataKey)
		want status.Code
	}{
		{func(k *DataKey) {}, status.OK},
		{func(k *DataKey) { k.V = 4 }, status.ErrV},
		{func(k *DataKey) { k.ID = 1 }, status.ErrArgument},
		{func(k *DataKey) { k.V, k.Addr.Src, k.ID = VTSSSSI, [16]byte{}, 1<<32 }, status.ErrArgument},
		{func(k *DataKey) { k.V = VTSSSSI }, status.ErrArgument},
		{func(k *DataKey) { k.KeyLen = 16 }, status.ErrArgument},
		{func(k *DataKey) { k.OptionsLen = 11 }, status.ErrArgument},
		{func(k *DataKey) { k.OptionsLen = 13 }, status.ErrArgument},
		{func(k *DataKey) { k.Params[0] = 4 }, status.ErrArgument}, // no direction bit, but not of server mode
		{func(k *DataKey) { k.Params[0] = 8 }, status.ErrArgument},
		{func(k *DataKey) { k.Params[0] = 6 }, status.OK},
		{func(k *DataKey) { k.Params[1] = 255 }, status.OK}, // a crypt offset
		{func(k *DataKey) { k.Domain = 1 << 24 }, status.ErrArgument},
		{func(k *DataKey) { k.Addr.Src = a6.Src }, status.ErrArgument},
		{func(k *DataKey) { k.Addr.Dst[3] = 1 }, status.ErrArgument},
	} {
		c := *k
		x.f(&c)
		r, err := NewReceiverWithKey(&c, ReceiverConfig{})
		if err == nil {
			r.Close()
		}
		if x.want == status.OK && err != nil || x.want != status.OK && !errors.Is(err, x.want) {
			t.Errorf("%d: %v, want %v", i, err, x.want)
		}
	}
}

// The holder of a cluster's data key seals and opens as a member does.
func TestTSSClusterKey(t *testing.T) {
	g := newTSS(t, GroupConfig{Domain: 11}, tssKey("member"))
	r := newReceiver(t, ReceiverConfig{}, g)
	for v, prefix := range [][]byte{tssUp4, tssUp4, tssUp6, tssDown6} {
		c := Context{V: uint8(v), Epoch: 9}
		if v == VTSSSSI || v == VTSSSSIIPv6 {
			c.ID = freshID()
		}
		if v != VTSSSSI {
			c.Addr.Src = tssSrc(prefix)
		}
		k := must(g.ExportDataKey(c, false))
		s, h := tssSender(t, nil, k, SenderConfig{}, 9, 1), tssHolder(t, k, ReceiverConfig{ReplayWindow: 64})
		b := tssPass(t, s, r, prefix, []byte("payload"))
		wantOpen(t, h, tssWhole(prefix, b), []byte("payload"))
		wantStatus(t, h, tssWhole(prefix, b), status.ErrReplay)
		other := bytes.Clone(prefix)
		other[0] ^= 1
		if v == VTSSSSI {
			wantStatus(t, tssHolder(t, k, ReceiverConfig{}), tssWhole(other, b), status.ErrAuth)
			b[5]++
		}
		wantStatus(t, h, tssWhole(other, b), status.ErrContext)
	}
}

// Senders of one SSI share counters, whatever group they are of.
func TestTSSSendersOfOneSSI(t *testing.T) {
	ssi := tssSSI()
	c := SenderConfig{V: VTSSSSI, ID: ssi, Counter: CounterExplicit, Start: 70}
	var all []uint64
	for i := range 3 {
		// One key in groups of different SDI: the SDI is not in its nonces.
		s, err := NewSender(newTSS(t, GroupConfig{Domain: uint32(i)}, tssKey("shared")), c)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		for range 5 {
			pkts := []Packet{tssPlain(tssUp4, 16, nil), tssPlain(tssUp6, 16, nil)}
			if s.Seal(pkts) != 2 {
				t.Fatal(pkts[0].Status)
			}
			all = append(all, pkts[0].TSC, pkts[1].TSC)
		}
	}
	wantDistinct(t, all, 30)
	// A holder of this SSI's data key would repeat the counters.
	k := must(newTSS(t, GroupConfig{}, tssKey("shared")).ExportDataKey(Context{V: VTSSSSI, ID: ssi}, false))
	_, err := NewSenderWithKey(k, SenderConfig{Counter: CounterExplicit, Start: 1 << 40})
	wantErr(t, err, status.ErrExists)
	// An address with the octets of the SSI would have its key and its nonces.
	_, err = NewSender(newTSS(t, GroupConfig{}, tssKey("shared")), SenderConfig{V: VTSSAddr, Counter: CounterExplicit, Start: 1 << 40})
	wantErr(t, err, status.ErrExists)
}

func TestTSSProxy(t *testing.T) {
	in, out := newTSS(t, GroupConfig{Domain: 1}, tssKey("in")), newTSS(t, GroupConfig{Domain: 2, RekeyMask: 1, RekeyShift: 0}, tssKey("out"))
	for v := range uint8(4) {
		for _, elsewhere := range []bool{false, true} {
			c := SenderConfig{V: v}
			if v == VTSSSSI || v == VTSSSSIIPv6 {
				c.ID = freshID()
			}
			s := tssSender(t, in, nil, SenderConfig{V: VTSSSSI, ID: freshID()}, 1, 1)
			x := NewProxy(newReceiver(t, ReceiverConfig{}, in), tssSender(t, out, nil, c, 2, 0xFFFF))
			far := newReceiver(t, ReceiverConfig{}, out)
			for _, src := range []netip.Addr{tssClient4, tssClient6} {
				payload := []byte("through a proxy")
				p := tssWhole(tssUp4, sealed(t, s, tssPlain(tssUp4, 16, payload)))
				p.Buf, p.Off = append(make([]byte, 100), append(p.Buf, make([]byte, 40)...)...), p.Off+100
				p.OutSrc, p.OutDst = src, tssServer4
				if elsewhere {
					p.Dst = make([]byte, 200)
				}
				prefix := tssPrefix(src, tssServer4)
				if src == tssClient6 {
					prefix = slices.Concat(src.AsSlice(), as16s(tssServer4), prefix[20:])
				}
				copy(prefix[len(prefix)-4:], []byte{0, 0, 0, 0})
				pkts := []Packet{p}
				x.Forward(pkts)
				p = pkts[0]
				if fits := v == VTSSSSI || (v != VTSSAddr) == (src == tssClient6); !fits {
					if p.Status != status.ErrArgument {
						t.Fatal(p.Status)
					}
					continue
				}
				if p.Status != status.OK {
					t.Fatal(v, src, p.Status)
				}
				wantOpen(t, far, tssWhole(prefix, p.Out), payload)
				buf := p.Buf
				if elsewhere {
					buf = p.Dst
				}
				at := int(uintptr(unsafe.Pointer(&p.Out[0])) - uintptr(unsafe.Pointer(&buf[0])))
				wantOctets(t, "prefix", buf[at-len(prefix):at], prefix)
			}
		}
	}
}

// The prefix is read while a packet is opened: the payload must not be written there.
func TestTSSPrefixOverlaps(t *testing.T) {
	g := newTSS(t, GroupConfig{}, tssKey("overlap"))
	s := tssSender(t, g, nil, SenderConfig{V: VTSSSSI, ID: tssSSI()}, 1, 1)
	r := newReceiver(t, ReceiverConfig{}, g)
	payload := []byte("8 octets")
	for _, prefix := range [][]byte{tssUp4, tssUp6} {
		for range 3 { // the first one is parsed, the others match its pattern
			for at := range len(prefix) {
				p := tssWhole(prefix, sealed(t, s, tssPlain(prefix, s.HeaderLen(), payload)))
				p.Buf, p.Off = append(make([]byte, 8), p.Buf...), p.Off+8
				first := p.Off - len(prefix) // octet of the prefix
				p.Dst = p.Buf[first-8+at:][:len(payload)]
				before := bytes.Clone(p.Buf)
				if at == 0 {
					wantOpen(t, r, p, payload)
					continue
				}
				wantStatus(t, r, p, status.ErrOverlap)
				wantOctets(t, "refused packet", p.Buf, before)
			}
		}
	}
}

func as16s(a netip.Addr) []byte { b := a.As16(); return b[:] }

// tssWorld has groups of all modes and senders of every kind.
type tssWorld struct {
	*rand.Rand
	groups  []*Group
	senders []tssFrom
	r       *Receiver
}

type tssFrom struct {
	s      *Sender
	mode   uint8
	v      uint8
	groupN int
}

func newTSSWorld(t testing.TB, seed uint64) *tssWorld {
	w := &tssWorld{Rand: rand.New(rand.NewPCG(seed, 1))}
	for mode := range uint8(3) {
		c := GroupConfig{Mode: mode, Domain: 0xABC000 + uint32(mode)}
		if mode == TSSCluster {
			c.RekeyMask, c.RekeyShift = 0x1E, 1
		}
		g := newTSS(t, c, tssKey(fmt.Sprint("world", mode)), tssKey(fmt.Sprint("world 1", mode)))
		w.groups = append(w.groups, g)
		for v := range uint8(4) {
			for slot := range 2 {
				k := Context{V: v, Epoch: 40, Generation: uint8(slot)}
				c := SenderConfig{V: v}
				if v == VTSSSSI || v == VTSSSSIIPv6 {
					c.ID = freshID()
					k.ID = c.ID
				}
				switch v {
				case VTSSAddr:
					k.Addr.Src = tssSrc(tssUp4)
				case VTSSAddrIPv6:
					k.Addr.Src = tssSrc(tssUp6)
				case VTSSSSIIPv6:
					k.Addr.Src = tssSrc(tssDown6)
				}
				switch {
				case mode == TSSServer:
					key := must(g.ExportDataKey(k, false))
					held := v
					if v == VTSSSSI {
						held = VTSSAddr // IPv4 only
					}
					w.senders = append(w.senders, tssFrom{tssSender(t, nil, key, SenderConfig{}, 40, uint64(slot)<<30), mode, held, int(mode)})
				case mode != TSSDirect || v != VTSSAddrIPv6:
					if slot == 1 {
						c.ID ^= uint64(v&1) << 31
					}
					w.senders = append(w.senders, tssFrom{tssSender(t, g, nil, c, 40, uint64(slot)<<30), mode, v, int(mode)})
				}
			}
		}
	}
	for _, g := range w.groups {
		for slot := range 2 {
			if err := errors.Join(g.UseKey(1-slot), g.SetEpoch(40)); err != nil {
				t.Fatal(err)
			}
		}
	}
	w.r = newReceiver(t, ReceiverConfig{}, w.groups...)
	return w
}

func (w *tssWorld) prefix(v uint8) []byte {
	switch {
	case v == VTSSSSIIPv6:
		return tssDown6
	case v == VTSSAddrIPv6 || v == VTSSSSI && w.IntN(2) == 0:
		return tssUp6
	}
	return tssUp4
}

// Good and bad packets of all kinds in one burst: each gets its own status.
func TestTSSMixedBursts(t *testing.T) {
	eachBackend(t, func(t *testing.T) {
		w := newTSSWorld(t, 7)
		const guard = 24
		first := true
		for round := range 60 {
			type one struct {
				text, was []byte
				want      status.Code
				at, n     int
			}
			ones := make([]one, 1+w.IntN(140))
			pkts := make([]Packet, len(ones))
			few := w.IntN(3) == 0 // most packets are of one sender
			for i := range ones {
				f := w.senders[w.IntN(len(w.senders))]
				if few && w.IntN(30) != 0 {
					f = w.senders[round%len(w.senders)]
				}
				prefix := w.prefix(f.v)
				o := &ones[i]
				o.text = make([]byte, w.IntN(200))
				for j := range o.text {
					o.text[j] = byte(w.Uint32())
				}
				b := sealed(t, f.s, tssPlain(prefix, f.s.HeaderLen(), o.text))
				h := f.s.HeaderLen()
				off := len(prefix)
				if w.IntN(4) == 0 {
					bad := w.IntN(9)
					switch {
					case bad == 0:
						b[len(b)-1-w.IntN(len(b)-h)] ^= 1 << w.IntN(8)
						o.want = status.ErrAuth
					case bad == 1:
						prefix = bytes.Clone(prefix)
						prefix[w.IntN(len(prefix))] ^= 1 << w.IntN(8)
						o.want = status.ErrAuth
					case bad == 2:
						b[0] ^= 8 << w.IntN(5)
						o.want = status.ErrVersion
					case bad == 3:
						b[0] ^= 2
						o.want = status.ErrReserved
					case bad == 4:
						b[1] ^= 1
						o.want = status.ErrNoKey
					case bad == 5:
						b = b[:w.IntN(h+16)]
						o.want = status.ErrShort
					case bad == 6 && f.mode == TSSServer:
						b[h-6] ^= 0x80
						o.want = status.ErrReflected
					case bad == 7 && !first:
						binary.BigEndian.PutUint16(b[h-8:], 23)
						o.want = status.ErrEpoch
					case bad == 8:
						off--
						o.want = status.ErrRoom
					}
				}
				p := Packet{Buf: slices.Concat(bytes.Repeat([]byte{0xA5}, guard), prefix, b, bytes.Repeat([]byte{0xA5}, guard)), IPv6: len(prefix) == 36}
				o.was, o.at = bytes.Clone(p.Buf), guard+len(prefix)
				// The guards are outside of the packet.
				p.Buf = p.Buf[guard+len(prefix)-off : len(p.Buf)-guard : len(p.Buf)-guard]
				p.Off, p.Len = off, len(b)
				o.n = len(o.text)
				if w.IntN(3) == 0 {
					p.Dst = bytes.Repeat([]byte{0xA5}, o.n+w.IntN(3))
				}
				pkts[i] = p
			}
			bufs := make([][]byte, len(pkts))
			for i := range pkts {
				b := pkts[i].Buf
				bufs[i] = unsafe.Slice((*byte)(unsafe.Add(unsafe.Pointer(&b[0]), -(ones[i].at-pkts[i].Off))), len(ones[i].was))
			}
			good := w.r.Open(pkts)
			first = first && good == 0
			for i, p := range pkts {
				o := &ones[i]
				if p.Status != o.want {
					t.Fatalf("round %d packet %d: %v, want %v", round, i, p.Status, o.want)
				}
				if o.want == status.OK {
					good--
					wantOctets(t, "payload", p.Out, o.text)
				}
				if o.want == status.ErrAuth && p.Dst != nil && !allZero(p.Dst[:o.n]) {
					t.Fatal("something was left")
				}
				// Only the payload may change, and only where the packet was opened or decrypted.
				h := 0
				if o.want == status.OK || o.want == status.ErrAuth {
					h = len(o.was) - guard - 16 - o.n
				}
				for j := range o.was {
					inside := h != 0 && p.Dst == nil && j >= h && j < h+o.n
					if !inside && bufs[i][j] != o.was[j] {
						t.Fatalf("%v: octet %d was written", p.Status, j)
					}
					if inside && o.want == status.ErrAuth && bufs[i][j] != 0 {
						t.Fatal("something was left")
					}
				}
				if p.Dst != nil && len(bytes.Trim(p.Dst[min(o.n, len(p.Dst)):], "\xA5")) != 0 {
					t.Fatal("written behind the payload")
				}
			}
			if good != 0 {
				t.Fatal("count and statuses disagree")
			}
		}
	})
}

// Sealing writes header, payload and ICV and nothing else.
func TestTSSSealStaysInside(t *testing.T) {
	eachBackend(t, func(t *testing.T) {
		w := newTSSWorld(t, 8)
		for range 40 {
			f := w.senders[w.IntN(len(w.senders))]
			h := f.s.HeaderLen()
			n := 1 + w.IntN(100)
			pkts, was, prefixes := make([]Packet, n), make([][]byte, n), make([][]byte, n)
			for i := range pkts {
				prefix := w.prefix(f.v)
				prefixes[i] = prefix
				p := tssPlain(prefix, h, stream(fmt.Sprint(i), w.IntN(100)))
				p.Buf = slices.Concat([]byte("guard"), p.Buf, []byte("guard"))
				p.Off += 5
				switch w.IntN(5) {
				case 0:
					p.COffset = 1
				case 1:
					p.Dst = slices.Concat(prefix, bytes.Repeat([]byte{0xA5}, h+p.Len+16+5))
				}
				pkts[i], was[i] = p, bytes.Clone(p.Buf)
			}
			f.s.Seal(pkts)
			for i, p := range pkts {
				if want := map[bool]status.Code{true: status.ErrOffset}[p.COffset != 0]; p.Status != want {
					t.Fatal(p.Status)
				}
				if p.Status != status.OK || p.Dst != nil {
					wantOctets(t, "buffer that is not written", p.Buf, was[i])
				}
				if p.Status != status.OK {
					continue
				}
				if p.Dst != nil {
					wantOctets(t, "prefix", p.Dst[:len(prefixes[i])], prefixes[i])
					if string(p.Dst[len(p.Dst)-5:]) != "\xA5\xA5\xA5\xA5\xA5" {
						t.Fatal("written behind")
					}
				} else if k := p.Off - h; !bytes.Equal(p.Buf[:k], was[i][:k]) || string(p.Buf[len(p.Buf)-5:]) != "guard" {
					t.Fatal("written beside")
				}
				wantOpen(t, w.r, tssWhole(prefixes[i], p.Out), was[i][p.Off:][:p.Len])
			}
		}
	})
}

func TestTSSNoAllocation(t *testing.T) {
	for name, x := range map[string]struct {
		c GroupConfig
		v uint8
	}{
		"cluster, SSI":    {GroupConfig{}, VTSSSSI},
		"cluster, rekeys": {GroupConfig{RekeyMask: 0xFF00, RekeyShift: 8}, VTSSAddr},
		"cluster, fresh":  {GroupConfig{RekeyMask: 0xFFFF}, VTSSAddrIPv6},
		"direct":          {GroupConfig{Mode: TSSDirect}, VTSSAddr},
	} {
		t.Run(name, func(t *testing.T) {
			g := newTSS(t, x.c, tssKey("allocation"))
			c := SenderConfig{V: x.v}
			if x.v == VTSSSSI {
				c.ID = freshID()
			}
			s := tssSender(t, g, nil, c, 3, 1)
			plain, window := newReceiver(t, ReceiverConfig{}, g), newReceiver(t, ReceiverConfig{ReplayWindow: 4096}, g)
			prefix := tssUp4
			if x.v == VTSSAddrIPv6 {
				prefix = tssUp6
			}
			const n = 140
			pkts := make([]Packet, n)
			h := s.HeaderLen()
			for i := range pkts {
				pkts[i] = tssPlain(prefix, h, make([]byte, 64))
			}
			turn := func(off, size int) {
				for i := range pkts {
					pkts[i].Off, pkts[i].Len = len(prefix)+off, size
				}
			}
			for _, r := range []*Receiver{plain, window} {
				if a := testing.AllocsPerRun(5, func() {
					turn(h, 64)
					if s.Seal(pkts) != n {
						t.Fatal(pkts[0].Status)
					}
					turn(0, h+64+ICVLen)
					if r.Open(pkts) != n {
						t.Fatal(pkts[0].Status)
					}
				}); a != 0 {
					t.Errorf("%v allocations", a)
				}
			}
		})
	}
}

// FuzzTSSOpen opens any octets behind any prefix. Only sealed packets open, and nothing
// outside is touched.
func FuzzTSSOpen(f *testing.F) {
	w := newTSSWorld(f, 9)
	genuine := map[string]bool{}
	for i, x := range w.senders {
		prefix := w.prefix(x.v)
		b := sealed(f, x.s, tssPlain(prefix, x.s.HeaderLen(), stream("payload", i)))
		genuine[string(prefix)+string(b)] = true
		f.Add(len(prefix) == 36, slices.Concat(prefix, b))
		b[0] ^= 4
		f.Add(len(prefix) == 36, slices.Concat(prefix, b))
	}
	k := must(w.groups[TSSServer].ExportDataKey(Context{V: VTSSAddr, Epoch: 40, Addr: Addr{Src: tssSrc(tssUp4)}}, false))
	client := tssHolder(f, k, ReceiverConfig{ReplayWindow: 64})
	f.Add(false, tssUp4)
	f.Add(true, tssUp4[:3])
	f.Add(false, slices.Concat(tssUp4, []byte{8, 0xAB, 0xC0, 1, 0, 40, 0x80, 0, 0, 0, 0, 1}, make([]byte, 16)))
	room, pattern := guarded(f, 4096), bytes.Repeat([]byte{0xA5}, 4096)
	f.Fuzz(func(t *testing.T, ipv6 bool, b []byte) {
		b = b[:min(len(b), 3000)]
		n := 12
		if ipv6 {
			n = 36
		}
		n = min(n, len(b))
		for _, r := range []*Receiver{w.r, client} {
			for _, atEnd := range []bool{true, false} {
				copy(room, pattern)
				buf, outside := room[:len(b):len(b)], room[len(b):]
				if atEnd {
					buf, outside = room[len(room)-len(b):], room[:len(room)-len(b)]
				}
				copy(buf, b)
				p := open1(r, Packet{Buf: buf, Off: n, Len: len(b) - n, IPv6: ipv6})
				if p.Status == status.OK && (r == client || !genuine[string(b)]) {
					t.Fatalf("%x was opened", b)
				}
				if r != client && p.Status != status.OK && genuine[string(b)] && ipv6 == (b[0] == 0x20) {
					t.Fatalf("%v: %x", p.Status, b)
				}
				if !bytes.HasPrefix(pattern, outside) {
					t.Fatal("written outside the packet")
				}
				if p.Status != status.OK && p.Status != status.ErrAuth && !bytes.Equal(buf, b) {
					t.Fatalf("%v, but the packet was changed", p.Status)
				}
			}
		}
	})
}

func BenchmarkTSS(b *testing.B) {
	for _, x := range []struct {
		name string
		c    GroupConfig
		v    uint8
	}{
		{"rekey none", GroupConfig{}, VTSSSSI},
		{"rekey ff00-8", GroupConfig{RekeyMask: 0xFF00, RekeyShift: 8}, VTSSSSI},
		{"rekey each", GroupConfig{RekeyMask: 1<<32 - 1}, VTSSSSI},
		{"address", GroupConfig{}, VTSSAddr},
		{"IPv6 address", GroupConfig{}, VTSSAddrIPv6},
		{"direct", GroupConfig{Mode: TSSDirect}, VTSSAddr},
	} {
		g := newTSS(b, x.c, tssKey("benchmark"))
		c := SenderConfig{V: x.v}
		prefix, flags := tssUp4, uint16(0)
		switch x.v {
		case VTSSSSI:
			c.ID = freshID()
		case VTSSAddrIPv6:
			prefix, flags = tssUp6, profile.FlagIPv6
		}
		s, r := tssSender(b, g, nil, c, 3, 1), newReceiver(b, ReceiverConfig{}, g)
		w := must(burst.NewWorker())
		defer w.Close()
		const n, size, room = 32, 64, 256
		buf := make([]byte, n*room)
		var d [n]profile.Desc
		h := uint32(s.HeaderLen())
		for i := range d {
			copy(buf[i*room+64-int(h)-len(prefix):], prefix)
			d[i] = profile.Desc{Data: unsafe.Pointer(&buf[i*room+64]), Len: size, Headroom: 64, Tailroom: 64, Flags: flags}
		}
		kerneltest.Fastest(b, x.name+"/seal", n, func() {
			if w.Seal(s.Burst(), d[:]) != n {
				b.Fatal(d[0].Status)
			}
		})
		out := make([]byte, n*size)
		for i := range d {
			d[i] = profile.Desc{Data: unsafe.Pointer(&buf[i*room+64-int(h)]), Len: d[i].OutLen, Headroom: 64 - h, Flags: flags, Dst: unsafe.Pointer(&out[i*size]), DstSize: size}
		}
		kerneltest.Fastest(b, x.name+"/open", n, func() {
			if w.Open(&r.r, d[:]) != n {
				b.Fatal(d[0].Status)
			}
		})
	}
}

// Plans that cover no packet keep no memory pinned: the runtime ends a process that leaves
// memory pinned.
func TestPlanOfNothing(t *testing.T) {
	g, err := NewGroup(GroupConfig{Profile: ProfileTSS, AEAD: AES256GCM})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	for range 10 {
		r, err := NewReceiver(ReceiverConfig{}, g)
		if err != nil {
			t.Fatal(err)
		}
		cell := new(uintptr)
		r.Burst().Plan(cell, 1)
		if *cell != 0 {
			t.Fatal("there is a plan without keys")
		}
		r.Burst().Unplan()
		r.Close()
	}
	for range 3 {
		runtime.GC()
		time.Sleep(time.Millisecond)
	}
}

// TestEpochOrigin: docs/profiles.md and the header promise this moment. Another one would repeat nonces of keys in use.
func TestEpochOrigin(t *testing.T) {
	if want := time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC); !epochOrigin.Equal(want) {
		t.Errorf("tss counters begin at %s, want %s", epochOrigin.UTC(), want)
	}
}
