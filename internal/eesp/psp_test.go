package eesp

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
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

// pspKeys are the device keys of tests; the second is that of the known answers.
var pspKeys = [2][]byte{stream("device key 0", 32), must(hex.DecodeString("563952565d3a78ae773ec1b779f2f2d99f4a7f53a6fbb9b07d5b71f39364d739"))}

const pspEvery = 0xF // all versions

// pspGroup makes a group of those device keys that are not empty.
func pspGroup(t testing.TB, versions uint8, keys ...[]byte) *Group {
	t.Helper()
	g := newGroup(t, "", GroupConfig{Profile: ProfilePSP, Versions: versions})
	for slot, k := range keys {
		if len(k) == 0 {
			continue
		}
		if err := g.SetKey(slot, k); err != nil {
			t.Fatal(err)
		}
	}
	return g
}

// pspOpened is what a packet holds.
type pspOpened struct {
	ext, payload []byte
	hidden       int // encrypted octets, at the end of the extension
	clear        int // octets at the start of the payload in clear
	coffset      uint8
}

// pspModel returns the status and the content that opening a packet must give.
func pspModel(b []byte, versions uint8, keys [2][]byte) (c status.Code, o pspOpened) {
	if len(b) < 16+16 {
		return status.ErrShort, o
	}
	version, vc, end := b[3]>>2&15, b[3]>>1&1, len(b)-16
	h, offset := 8+8*int(b[1]), 16+4*int(b[2]&63)
	gmac := version > 1
	switch {
	case version > 3:
		return status.ErrVersion, o
	case b[3]&1 == 0:
		return status.ErrReserved, o
	case b[1] == 0, b[1] == 1 && vc == 1:
		return status.ErrHeaderLen, o
	case h > end:
		return status.ErrShort, o
	case offset > end:
		return status.ErrOffset, o
	case versions>>version&1 == 0:
		return status.ErrVersion, o
	case b[4]&0x7F == 0 && b[5]|b[6]|b[7] == 0, len(keys[b[4]>>7]) == 0:
		return status.ErrNoKey, o
	}
	if gmac {
		offset = end
	}
	o.hidden, o.clear = max(0, h-offset), max(0, offset-h)
	if !gmac {
		o.coffset = uint8(o.clear / 4)
	}
	plain, err := pspAEAD(keys[b[4]>>7], version, b[4:8]).Open(nil, b[4:16], b[offset:], b[:offset])
	if err != nil {
		return status.ErrAuth, o
	}
	plain = append(bytes.Clone(b[16:offset]), plain...)
	o.ext, o.payload = plain[:h-16], plain[h-16:]
	return status.OK, o
}

func pspDataKey(device []byte, version uint8, spi []byte) (key []byte) {
	bits := []byte{128, 0}[version&1]
	for i := range 1 + version&1 {
		k := must(kerneltest.CMAC(device, append(append([]byte{0, 0, 0, 1 + i, 'P', 'v', '0' + version, 0}, spi...), 0, 0, version&1, bits)))
		key = append(key, k[:]...)
	}
	return key
}

func pspAEAD(device []byte, version uint8, spi []byte) cipher.AEAD {
	return must(cipher.NewGCM(must(aes.NewCipher(pspDataKey(device, version, spi)))))
}

// pspSeal returns the packet that a sender makes; an empty vc stands for none.
func pspSeal(keys [2][]byte, version uint8, spi uint32, iv uint64, nextHeader uint8, vc []byte, coffset uint8, payload []byte) []byte {
	if version < 2 {
		coffset += uint8(len(vc) / 4)
	}
	return pspSealAt(keys, version, spi, iv, nextHeader, vc, len(vc) != 0, coffset, payload)
}

// pspSealAt returns a packet with any extension and with any crypt offset in its header.
func pspSealAt(keys [2][]byte, version uint8, spi uint32, iv uint64, nextHeader uint8, ext []byte, vc bool, offset uint8, payload []byte) []byte {
	b := []byte{nextHeader, 1 + uint8(len(ext)/8), offset, version<<2 | 1}
	if vc {
		b[3] |= 2
	}
	b = binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(b, spi), iv)
	text := append(bytes.Clone(ext), payload...)
	clear := 4 * int(offset)
	if version > 1 {
		clear = len(text)
	}
	b = append(b, text[:clear]...)
	return pspAEAD(keys[spi>>31], version, b[4:8]).Seal(b, b[4:16], text[clear:], b)
}

// A packet that ends within the extension that its header announces is too short, even if it is authentic and
// matches the pattern of the packet before.
func TestPSPWithoutItsExtension(t *testing.T) {
	r := newReceiver(t, ReceiverConfig{}, pspGroup(t, pspEvery, pspKeys[0], pspKeys[1]))
	good := pspSealAt(pspKeys, 0, 5, 9, 6, stream("ext", 24), false, 0, stream("payload", 45))
	bad := append(append([]byte(nil), good[:15]...), 10)
	bad = pspAEAD(pspKeys[0], 0, bad[4:8]).Seal(bad, bad[4:16], stream("ext", 23), bad)
	w := eespWorker(t)
	for i, c := range []status.Code{status.OK, status.ErrShort} {
		b := bytes.Clone([][]byte{good, bad}[i])
		d := profile.Desc{Data: unsafe.Pointer(&b[0]), Len: uint32(len(b)), Flags: profile.FlagExtension}
		if one(func(p []profile.Desc) int { return w.Open(&r.r, p) }, &d); d.Status != c {
			t.Errorf("packet %d: %v, want %v", i, d.Status, c)
		}
	}
}

// one runs f for a burst of one descriptor.
func one(f func([]profile.Desc) int, d *profile.Desc) {
	p := []profile.Desc{*d}
	f(p)
	*d = p[0]
}

// pspOpenBoth opens a packet without its extension and with it, and checks the memory that
// was written.
func pspOpenBoth(t *testing.T, w *burst.Worker, r *Receiver, random *rand.Rand, name string, packet []byte, placement int, ext, text []byte) {
	t.Helper()
	h := 16 + len(ext)
	offset := int(packet[2] & 63)
	for _, with := range []bool{false, true} {
		var d profile.Desc
		at, out, written, coffset := h, text, 0, max(0, offset-len(ext)/4)
		if with {
			d.Flags, at, out, coffset = profile.FlagExtension, 16, append(bytes.Clone(ext), text...), offset
		} else if placement != elsewhere { // the extension is decrypted in place
			written = max(0, len(ext)-4*offset)
		}
		if packet[3]>>2&15 > 1 {
			written, coffset = 0, 0
		}
		mem := lay(random, &d, packet, placement, h, len(out))
		if placement == onTheSpot {
			d.Dst = unsafe.Add(d.Data, at)
		}
		one(func(p []profile.Desc) int { return w.Open(&r.r, p) }, &d)
		if d.Status != status.OK || d.ID != uint64(binary.BigEndian.Uint32(packet[4:])) || d.TSC != binary.BigEndian.Uint64(packet[8:]) || int(d.COffset) != coffset || d.IOffset != 0 || d.NextHeader != packet[0] || int(d.OutLen) != len(out) {
			t.Fatalf("%s, placement %d, %v: %+v", name, placement, with, d)
		}
		wantOctets(t, name, mem.also(h-written, written), ext[len(ext)-written:])
		wantOctets(t, name, mem.written(t, &d, at, 0, len(out)), out)
	}
}

func wantError(t *testing.T, err error, want status.Code) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("%v, want %v", err, want)
	}
}

func TestPSPConfig(t *testing.T) {
	for _, c := range []GroupConfig{{Versions: 0x10}, {Versions: 0x81}, {Domain: 1}, {Mode: 1}, {Combiner: CombinerXOR}, {RekeyShift: 1}, {IV: true}} {
		c.Profile = ProfilePSP
		_, err := NewGroup(c)
		wantError(t, err, status.ErrArgument)
	}
	g := pspGroup(t, 0b1101, pspKeys[0])
	for _, c := range []SenderConfig{{V: 1}, {V: 4}, {V: 8}, {ID: 1 << 32}, {Levels: 1}, {Options: true}, {Extra: make([]byte, 7)}, {Extra: make([]byte, 12)}, {Extra: make([]byte, 120)}} {
		c.ID |= freshID()
		_, err := NewSender(g, c)
		wantError(t, err, status.ErrArgument)
	}
	for _, spi := range []uint64{0, 1 << 31} { // not valid as SPIs
		_, err := NewSender(g, SenderConfig{ID: spi})
		wantError(t, err, status.ErrArgument)
	}
	for _, c := range []SenderConfig{{NoVC: true}, {OffsetFromIV: true}} { // settings that only psp has
		_, err := NewSender(newGroup(t, "a", GroupConfig{}, Zone), c)
		wantError(t, err, status.ErrArgument)
	}
	_, err := NewReceiver(ReceiverConfig{TryPrevious: true}, g)
	wantError(t, err, status.ErrArgument)
	_, err = NewReceiver(ReceiverConfig{}, g, newGroup(t, "a", GroupConfig{}, Zone))
	wantError(t, err, status.ErrArgument)
	wantError(t, g.SetKey(2, pspKeys[1]), status.ErrArgument)
	wantError(t, g.SetKey(1, pspKeys[1][:16]), status.ErrRootKey)
	wantError(t, g.SetKey(1, pspKeys[0]), status.ErrRootKey) // the other slot has this key
	wantError(t, g.UseKey(1), status.ErrNotFound)
	wantError(t, setRing(g, "a", Zone), status.ErrUnsupported)

	// By default there is one version: GCM with keys as the AEAD says.
	for aead, v := range map[AEAD]uint8{AES128GCM: 0, AES256GCM: 1} {
		g := newGroup(t, "", GroupConfig{Profile: ProfilePSP, AEAD: aead})
		if _, err := NewSender(g, SenderConfig{V: v ^ 1, ID: freshID()}); !errors.Is(err, status.ErrArgument) {
			t.Fatal(err)
		}
		newSender(t, g, SenderConfig{V: v})
	}
}

func TestPSPContexts(t *testing.T) {
	g := pspGroup(t, 0b0101, pspKeys[0])
	for _, x := range []struct {
		c    Context
		want status.Code
	}{
		{Context{ID: 1, V: 1}, status.ErrV},
		{Context{ID: 1, V: 4}, status.ErrV},
		{Context{ID: 1<<31 | 1}, status.ErrNoKey},
		{Context{ID: 0}, status.ErrArgument},
		{Context{ID: 1 << 31}, status.ErrArgument},
		{Context{ID: 1 << 32}, status.ErrArgument},
		{Context{ID: 1, Epoch: 1}, status.ErrArgument},
		{Context{ID: 1, Levels: 1}, status.ErrArgument},
		{Context{ID: 1, Generation: 1}, status.ErrArgument},
		{Context{ID: 1, Addr: Addr{Dst: [16]byte{15: 1}}}, status.ErrArgument},
	} {
		_, err := g.ExportDataKey(x.c, false)
		wantError(t, err, x.want)
		out := bytes.Repeat([]byte{1}, 32)
		wantError(t, g.DeriveKeys([]Context{{ID: 2}, x.c}, out), x.want)
		if !allZero(out) {
			t.Fatal("keys were left")
		}
	}
	_, err := g.ExportDataKey(Context{ID: 1}, true) // psp has no options that name keys
	wantError(t, err, status.ErrArgument)
	// Keys of another length than the AEAD's can only be exported.
	g = pspGroup(t, pspEvery, pspKeys[0])
	wantError(t, g.DeriveKeys([]Context{{ID: 1, V: 1}}, make([]byte, 16)), status.ErrArgument)
	if k := must(g.ExportDataKey(Context{ID: 1, V: 3}, false)); k.KeyLen != 32 {
		t.Fatal(k.KeyLen)
	}
}

// A sender refuses the bad packets of a burst and seals the others.
func TestPSPSealStatuses(t *testing.T) {
	text := stream("payload", 300)
	for version := range uint8(4) {
		for _, vc := range [][]byte{nil, stream("vc", 8)} {
			g := pspGroup(t, pspEvery, pspKeys[0])
			s, r := newSender(t, g, SenderConfig{V: version, Extra: vc}), newReceiver(t, ReceiverConfig{}, g)
			h, most := 16+len(vc), uint8(63-len(vc)/4)
			offset := status.OK // the status with a crypt offset that is not too great
			if version > 1 {
				offset = status.ErrOffset
			}
			room := func(front, behind int) Packet {
				b := make([]byte, front+len(text)+behind)
				copy(b[front:], text)
				return Packet{Buf: b, Off: front, Len: len(text)}
			}
			offsets := func(coffset, ioffset uint8, n int) Packet {
				p := plain(text[:n])
				p.COffset, p.IOffset = coffset, ioffset
				return p
			}
			ipv6 := plain(text)
			ipv6.IPv6 = true
			elsewhere := func(n int) Packet { p := plain(text); p.Dst = make([]byte, n); return p }
			for i, x := range []struct {
				p    Packet
				want status.Code
			}{
				{offsets(1, 0, 4), offset},
				{offsets(most, 0, 300), offset},
				{offsets(most, 0, 4*int(most)), offset},
				{offsets(most+1, 0, 300), status.ErrOffset},
				{offsets(255, 0, 300), status.ErrOffset},
				{offsets(1, 0, 3), status.ErrOffset},
				{offsets(1, 0, 0), status.ErrOffset},
				{offsets(2, 1, 300), status.ErrOffset},
				{offsets(0, 1, 300), status.ErrOffset},
				{ipv6, status.ErrArgument},
				{room(h, ICVLen), status.OK},
				{room(h-1, ICVLen), status.ErrRoom},
				{room(h, ICVLen-1), status.ErrRoom},
				{elsewhere(h + 300 + ICVLen), status.OK},
				{elsewhere(h + 300 + ICVLen - 1), status.ErrRoom},
				{Packet{Buf: make([]byte, MaxLen+64), Off: 32, Len: MaxLen + 1}, status.ErrTooLong},
			} {
				pkts := []Packet{plain(text), x.p, plain(text)}
				before := bytes.Clone(x.p.Buf)
				s.Seal(pkts)
				if p := pkts[1]; p.Status != x.want || x.want != status.OK && (p.Out != nil || p.ID != 0 || p.TSC != 0 || !bytes.Equal(p.Buf, before) || !allZero(p.Dst)) {
					t.Fatalf("version %d, case %d: %v, want %v", version, i, p.Status, x.want)
				}
				for j, p := range pkts {
					if j == 1 && x.want != status.OK {
						continue
					}
					q := open1(r, whole(p.Out))
					if q.Status != status.OK || q.COffset != p.COffset || !bytes.Equal(q.Out, text[:len(q.Out)]) || len(q.Out) != p.Len {
						t.Fatalf("version %d, case %d, packet %d: %v", version, i, j, q.Status)
					}
				}
			}
		}
	}
	// The group lacks keys.
	g := pspGroup(t, 0)
	low, high := newSender(t, g, SenderConfig{}), newSender(t, g, SenderConfig{ID: freshID() | 1<<31})
	sealed := func(s *Sender) status.Code { p := []Packet{plain(text)}; s.Seal(p); return p[0].Status }
	want := func(a, b status.Code) {
		t.Helper()
		if x, y := sealed(low), sealed(high); x != a || y != b {
			t.Fatal(x, y)
		}
	}
	want(status.ErrNoKey, status.ErrNoKey)
	if low.HeaderLen() != 0 {
		t.Fatal("a header without a key")
	}
	if err := g.SetKey(1, pspKeys[1]); err != nil {
		t.Fatal(err)
	}
	want(status.ErrNoKey, status.OK) // the SPI selects the key, not UseKey
	if err := g.SetKey(0, pspKeys[0]); err != nil {
		t.Fatal(err)
	}
	want(status.OK, status.OK)
	if err := g.RemoveKey(1); err != nil {
		t.Fatal(err)
	}
	want(status.OK, status.ErrNoKey)
}

// Random bursts of all kinds give the octets and the statuses of the model.
func TestPSPLikeTheModel(t *testing.T) {
	runs := uint64(testrun.Rounds(4, 6, 16))
	pool := stream("differential", 1<<20)
	w := must(burst.NewWorker())
	defer w.Close()
	type packet struct {
		b     []byte
		alike bool // differs from others in SPI, IV and length only
	}
	eachBackend(t, func(t *testing.T) {
		for run := range runs {
			x := rand.New(rand.NewPCG(run, 1))
			some := func(n int) []byte { return pool[x.IntN(len(pool)-n):][:n] }
			g := pspGroup(t, pspEvery, pspKeys[0], pspKeys[1])
			var packets []packet
			for n := range 24 {
				version, ext := uint8(n%4), some(8)
				switch x.IntN(4) {
				case 0, 1:
					ext = nil
				case 2:
					ext = some(8 * (1 + x.IntN(14)))
				}
				vc, fromIV := len(ext) != 0 && x.IntN(3) != 0, x.IntN(2) == 0
				spi := uint32(freshID()) | uint32(x.IntN(2))<<31
				s := newSender(t, g, SenderConfig{ID: uint64(spi), V: version, Extra: ext, NoVC: !vc, OffsetFromIV: fromIV})
				iv := uint64(x.IntN(1<<16-1))<<48 | (1<<48 - 1 - x.Uint64N(40))
				ownCounters(s, uint16(iv>>48), iv&(1<<48-1))
				leaveEpoch(s, 1<<20) // the epoch may end in the middle of a burst
				plain, fixed, h := x.IntN(2) == 0, x.IntN(3) == 0, s.HeaderLen()
				d := make([]profile.Desc, 1+x.IntN(70))
				mem, texts := make([]*laid, len(d)), make([][]byte, len(d))
				for i := range d {
					k := []int{0, x.IntN(200), x.IntN(2000), x.IntN(9000)}[x.IntN(4)]
					if x.IntN(300) == 0 {
						k = 130<<10 + x.IntN(70<<10)
					}
					if fixed {
						k = 777
					}
					d[i] = profile.Desc{Headroom: uint32(h), Tailroom: ICVLen, NextHeader: 4}
					placement := inPlace
					if !plain {
						placement, d[i].NextHeader = x.IntN(placements), byte(x.IntN(3))
						if version < 2 && x.IntN(2) == 0 {
							if fromIV {
								d[i].COffset = uint8(x.IntN(min(63, (len(ext)+k)/4) + 1))
							} else {
								d[i].COffset = uint8(x.IntN(min(63-len(ext)/4, k/4) + 1))
							}
						}
					}
					texts[i] = some(k)
					mem[i] = lay(x, &d[i], texts[i], placement, -h, h+k+ICVLen)
				}
				w.Seal(s.Burst(), d)
				for i := range d {
					d := &d[i]
					if d.Status != status.OK || d.ID != uint64(spi) || d.TSC != iv+uint64(i) {
						t.Fatalf("packet %d: %v, SPI %#x, IV %#x", i, d.Status, d.ID, d.TSC)
					}
					b := mem[i].written(t, d, -h, 0, h+len(texts[i])+ICVLen)
					offset := d.COffset
					if !fromIV && version < 2 {
						offset += uint8(len(ext) / 4)
					}
					if want := pspSealAt(pspKeys, version, spi, d.TSC, d.NextHeader, ext, vc, offset, texts[i]); !bytes.Equal(b, want) {
						t.Fatalf("packet %d, version %d, %d octets: %.80x, want %.80x", i, version, len(texts[i]), b, want)
					}
					packets = append(packets, packet{b, len(ext) == 0 && version < 2 && d.COffset == 0})
				}
				s.Close()
			}
			for _, keys := range [][2][]byte{pspKeys, {pspKeys[0], nil}} {
				versions := uint8(pspEvery)
				if x.IntN(4) == 0 {
					versions = 1 + uint8(x.IntN(15))
				}
				r := newReceiver(t, ReceiverConfig{}, pspGroup(t, versions, keys[0], keys[1]))
				rows, forge := x.IntN(2) == 0, 4
				order := slices.Clone(packets)
				if rows {
					forge = 30
					slices.SortStableFunc(order, func(a, b packet) int { return bytes.Compare(a.b[:4], b.b[:4]) })
				} else {
					x.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
				}
				d, mem, sent := make([]profile.Desc, len(order)), make([]*laid, len(order)), make([][]byte, len(order))
				good := 0
				for i, p := range order {
					b := bytes.Clone(p.b)
					if x.IntN(forge) == 0 {
						switch x.IntN(4) {
						case 0:
							b[x.IntN(4)] ^= 1 << x.IntN(8)
						case 1:
							b[x.IntN(16)] = byte(x.IntN(256))
						case 2:
							b = b[:x.IntN(len(b)+1)]
						case 3:
							b[x.IntN(len(b))] ^= 1 << x.IntN(8)
						}
					}
					sent[i] = b
					c, o := pspModel(b, versions, keys)
					if c == status.OK {
						good++
					}
					placement := x.IntN(placements)
					if rows && x.IntN(30) != 0 {
						placement = x.IntN(chained)
					}
					h, from := 16, 16
					if len(b) > 1 {
						h = 8 + 8*int(b[1])
						from = h
					}
					room := len(b)
					if c == status.OK {
						room = len(o.payload)
					}
					if x.IntN(3) == 0 {
						d[i].Flags, from, room = profile.FlagExtension, 16, len(b)
					}
					mem[i] = lay(x, &d[i], b, placement, min(h, len(b)), room)
					if placement == onTheSpot {
						d[i].Dst = unsafe.Add(d[i].Data, min(from, len(b)))
					}
				}
				if n := w.Open(&r.r, d); n != good {
					t.Errorf("opened %d, want %d", n, good)
				}
				for i, b := range sent {
					d := &d[i]
					c, o := pspModel(b, versions, keys)
					if d.Status != c && !(len(b) == 0 && d.Status == status.ErrShort) {
						t.Fatalf("packet %d of %d octets: %v, want %v", i, len(b), d.Status, c)
					}
					h := 16
					if len(b) > 1 {
						h = 8 + 8*int(b[1])
					}
					text, before := o.payload, o.hidden // octets before the payload that are written, too
					if mem[i].dst != nil {
						before = 0
					}
					if d.Flags != 0 {
						o.clear, h, before = o.clear+h-16-o.hidden, 16, 0
						text = append(bytes.Clone(o.ext), text...)
					}
					switch c {
					case status.OK:
						if !bytes.Equal(mem[i].also(h-before, before), o.ext[len(o.ext)-before:]) {
							t.Fatalf("packet %d: another extension", i)
						}
						if got := mem[i].written(t, d, h, 0, len(text)); !bytes.Equal(got, text) {
							t.Fatalf("packet %d: another payload", i)
						}
						if d.ID != uint64(binary.BigEndian.Uint32(b[4:])) || d.TSC != binary.BigEndian.Uint64(b[8:]) || d.NextHeader != b[0] || d.IOffset != 0 || int(d.OutLen) != len(text) {
							t.Fatalf("packet %d: %+v", i, d)
						}
						if d.Flags == 0 && d.COffset != o.coffset || d.Flags != 0 && b[3]>>2&15 < 2 && d.COffset != b[2]&63 {
							t.Fatalf("packet %d: offset %d", i, d.COffset)
						}
					case status.ErrAuth:
						if !allZero(mem[i].also(h-before, before)) {
							t.Fatalf("packet %d: forged, and its extension not zeroed", i)
						}
						if got := mem[i].written(t, d, h, o.clear, len(b)-h-ICVLen-o.clear); !allZero(got) {
							t.Fatalf("packet %d: forged, and not zeroed", i)
						}
					default:
						mem[i].written(t, d, 0, 0, 0)
					}
				}
				r.Close()
			}
			if t.Failed() {
				t.Fatalf("in run %d", run)
			}
			g.Close()
		}
	})
}

// Packets with the longest payload; GMAC encrypts nothing of it.
func TestPSPLongest(t *testing.T) {
	text := stream("payload", MaxLen)
	eachBackend(t, func(t *testing.T) {
		g := pspGroup(t, pspEvery, pspKeys[0], pspKeys[1])
		r := newReceiver(t, ReceiverConfig{}, g)
		for version := range uint8(4) {
			s := newSender(t, g, SenderConfig{V: version, ID: freshID() | 1<<31, Extra: stream("vc", 8)})
			b := sealed(t, s, plain(text))
			wantOctets(t, "packet", b[len(b)-ICVLen:], pspSeal(pspKeys, version, uint32(s.ID()), binary.BigEndian.Uint64(b[8:]), 0, stream("vc", 8), 0, text)[len(b)-ICVLen:])
			wantOpen(t, r, whole(b), text)
			b[1000] ^= 1
			wantStatus(t, r, whole(b), status.ErrAuth)
		}
	})
}

// Packets that differ only in SPI, IV and length match a pattern. Of them one with an SPI of the
// other device key is refused, and no other.
func TestPSPRuns(t *testing.T) {
	text := stream("payload", 50)
	g := pspGroup(t, pspEvery, pspKeys[0], pspKeys[1])
	eachBackend(t, func(t *testing.T) {
		for n := range 8 {
			version, vc := uint8(n%4), stream("vc", 8)[:n/4*8]
			r := newReceiver(t, ReceiverConfig{}, g)
			spi := uint32(freshID())
			var all [][]byte
			for i := range uint32(205) { // the last payload is empty
				all = append(all, pspSeal(pspKeys, version, spi+i%5|i/41<<31, uint64(i), 6, vc, 0, text[:i%51]))
			}
			for _, bad := range []int{-1, 0, 31, 32, 33, 64, 100, 204} {
				pkts := make([]Packet, len(all))
				for i, b := range all {
					if pkts[i] = whole(b); i == bad {
						pkts[i].Buf[4] ^= 0x80 // an SPI of the other key
					}
				}
				for range 2 { // the pattern is known the second time
					good := r.Open(pkts)
					for i, p := range pkts {
						if want := i != bad; want != (p.Status == status.OK) || want && (!bytes.Equal(p.Out, text[:i%51]) || p.NextHeader != 6 || p.ID != uint64(spi+uint32(i)%5|uint32(i)/41<<31) || p.TSC != uint64(i)) {
							t.Fatalf("version %d, packet %d: %+v", version, i, p)
						}
						pkts[i] = whole(all[i])
						if i == bad {
							pkts[i].Buf[4] ^= 0x80
						}
					}
					if want := len(all) - min(1, bad+1); good != want {
						t.Fatalf("%d good, want %d", good, want)
					}
				}
			}
		}
	})
}

// A device key is replaced, removed and set while bursts run. Packets of the other device
// key always open. Its own packets open, are not authentic, or have no key.
func TestPSPRotationUnderLoad(t *testing.T) {
	g := pspGroup(t, pspEvery, pspKeys[0])
	r := newReceiver(t, ReceiverConfig{}, g)
	var (
		wg     sync.WaitGroup
		done   atomic.Bool
		opened [4]atomic.Int64
	)
	text := stream("payload", 90)
	for i := range opened {
		s := newSender(t, g, SenderConfig{ID: freshID() | uint64(i&1)<<31, V: uint8(i)})
		wg.Go(func() {
			pkts := make([]Packet, 40)
			for !done.Load() && !t.Failed() {
				for j := range pkts {
					pkts[j] = plain(text)
				}
				s.Seal(pkts)
				for j, p := range pkts {
					if p.Status == status.OK {
						pkts[j] = Packet{Buf: p.Out, Len: len(p.Out)}
					} else if pkts[j] = (Packet{}); p.Status != status.ErrNoKey || i&1 == 0 {
						t.Errorf("sender %d: %v", i, p.Status)
					}
				}
				r.Open(pkts)
				for _, p := range pkts {
					switch {
					case p.Status == status.OK && bytes.Equal(p.Out, text):
						opened[i].Add(1)
					case i&1 == 0 || p.Status != status.ErrAuth && p.Status != status.ErrNoKey && p.Status != status.ErrArgument:
						t.Errorf("sender %d: open: %v", i, p.Status)
					}
				}
			}
		})
	}
	for i := range testrun.Rounds(24, 48, 100) {
		var err error
		switch i % 4 {
		case 0:
			if err = g.UseKey(0); err == nil {
				var slot int
				if slot, err = g.RotateKey(nil); slot != 1 {
					t.Fatal(slot)
				}
			}
		case 1, 3:
			err = g.SetKey(1, stream(fmt.Sprint("device key ", i), 32))
		case 2:
			err = g.RemoveKey(1)
		}
		if err != nil {
			t.Fatal(err)
		}
		for at := opened[0].Load(); opened[0].Load() < at+40 && !t.Failed(); {
			time.Sleep(50 * time.Microsecond)
		}
	}
	for i := range opened { // now that both keys stay
		for opened[i].Load() == 0 && !t.Failed() {
			time.Sleep(50 * time.Microsecond)
		}
	}
	done.Store(true)
	wg.Wait()
	wantWiped(t)
}

// Rotation gives new peers new keys; old ones keep theirs until the next one.
func TestPSPRotation(t *testing.T) {
	eachBackend(t, func(t *testing.T) {
		text := stream("payload", 60)
		g := pspGroup(t, 0, pspKeys[0])
		r := newReceiver(t, ReceiverConfig{}, g)
		start := uint64(0)
		send := func(spi uint32) []byte {
			k := must(g.ExportDataKey(Context{ID: uint64(spi)}, false))
			start++
			s := must(NewSenderWithKey(k, SenderConfig{Counter: CounterExplicit, Start: start}))
			defer s.Close()
			return sealed(t, s, plain(text))
		}
		alloc := func(slot uint32) uint32 {
			t.Helper()
			spi := must(g.AllocSPI(uint32(freshID()) << 8))
			if spi>>31 != slot {
				t.Fatalf("SPI %#x", spi)
			}
			return spi
		}
		rotate := func(key []byte, want int) {
			t.Helper()
			if slot := must(g.RotateKey(key)); slot != want {
				t.Fatal(slot)
			}
		}
		first := alloc(0)
		a := send(first)
		rotate(nil, 1)
		second := alloc(1)
		b, c := send(second), send(first)
		for _, p := range [][]byte{a, b, c} {
			wantOpen(t, r, whole(p), text)
		}
		rotate(pspKeys[1], 0)
		wantStatus(t, r, whole(a), status.ErrAuth)
		wantOpen(t, r, whole(b), text)
		if third := alloc(0); third == first {
			t.Fatal("an SPI of the key before")
		}
		if err := g.RemoveKey(1); err != nil {
			t.Fatal(err)
		}
		wantStatus(t, r, whole(b), status.ErrNoKey)
		_, err := g.ExportDataKey(Context{ID: uint64(second)}, false)
		wantError(t, err, status.ErrNoKey)
	})
}

// The holder of a data key opens what its group seals, and the group what the holder seals.
func TestPSPDataKey(t *testing.T) {
	eachBackend(t, func(t *testing.T) {
		text := stream("payload", 70)
		g := pspGroup(t, pspEvery, pspKeys[0], pspKeys[1])
		gr := newReceiver(t, ReceiverConfig{}, g)
		for version := range uint8(4) {
			spi := freshID() | uint64(version>>1)<<31
			k := must(g.ExportDataKey(Context{ID: spi, V: version}, false))
			vc := stream("vc", 8)
			s := must(NewSenderWithKey(k, SenderConfig{Counter: CounterExplicit, Extra: vc, Epoch: 0x8001, FixedEpoch: true, Start: 5}))
			defer s.Close()
			r := must(NewReceiverWithKey(k, ReceiverConfig{}))
			defer r.Close()
			pkts := make([]Packet, 70)
			for i := range pkts {
				pkts[i] = plain(text[:i])
				pkts[i].NextHeader = byte(i)
			}
			if n := s.Seal(pkts); n != len(pkts) {
				t.Fatal(pkts[0].Status)
			}
			opens := make([]Packet, len(pkts))
			for i, p := range pkts {
				want := pspSeal(pspKeys, version, uint32(spi), 0x8001<<48|5+uint64(i), byte(i), vc, 0, text[:i])
				wantOctets(t, "packet", p.Out, want)
				if opens[i] = whole(p.Out); i%10 == 9 {
					opens[i].Buf[8] ^= 1
				}
				wantOpen(t, gr, whole(p.Out), text[:i])
			}
			if n := r.Open(opens); n != 63 {
				t.Fatal(n, opens[0].Status)
			}
			for i, p := range opens {
				if bad := i%10 == 9; bad != (p.Status == status.ErrAuth) || !bad && (!bytes.Equal(p.Out, text[:i]) || p.NextHeader != byte(i)) {
					t.Fatal(i, p.Status)
				}
			}
			wantStatus(t, r, whole(pspSeal(pspKeys, version, uint32(spi)^1, 1, 0, nil, 0, text)), status.ErrContext)
			wantStatus(t, r, whole(pspSeal(pspKeys, version^2, uint32(spi), 1, 0, nil, 0, text)), status.ErrContext)
			wantStatus(t, r, whole(pspSeal(pspKeys, version^1, uint32(spi), 1, 0, nil, 0, text)), status.ErrContext)

			// Settings that come with the key are refused, and so are invalid keys.
			for _, c := range []SenderConfig{{ID: 1}, {V: 1}, {Levels: 1}, {Options: true}, {Extra: vc[:4]}, {Epoch: 1}} {
				_, err := NewSenderWithKey(k, c)
				wantError(t, err, status.ErrArgument)
			}
			for i, f := range []func(k *DataKey){
				func(k *DataKey) { k.KeyLen ^= 16 ^ 32 },
				func(k *DataKey) { k.ID |= 1 << 32 },
				func(k *DataKey) { k.ID &= 1 << 31 },
				func(k *DataKey) { k.Epoch = 1 },
				func(k *DataKey) { k.OptionsLen = 12 },
				func(k *DataKey) { k.Params[1] = 1 },
				func(k *DataKey) { k.Domain = 1 },
				func(k *DataKey) { k.Addr.Src[0] = 1 },
				func(k *DataKey) { k.V = 4 },
			} {
				x, want := *k, status.ErrArgument
				if f(&x); x.V == 4 {
					want = status.ErrV
				}
				_, err := NewSenderWithKey(&x, SenderConfig{Counter: CounterExplicit})
				if !errors.Is(err, want) {
					t.Fatal(i, err)
				}
				_, err = NewReceiverWithKey(&x, ReceiverConfig{})
				wantError(t, err, want)
			}
		}
	})
}

// A data key holds in all epochs: counters of the clock are the time since 1970, and their high
// bits are the epoch.
func TestPSPDataKeyByTheClock(t *testing.T) {
	g := pspGroup(t, 0, pspKeys[0])
	k := must(g.ExportDataKey(Context{ID: freshID()}, false))
	s := must(NewSenderWithKey(k, SenderConfig{}))
	defer s.Close()
	now := uint64(time.Now().Unix()) << 28
	if tsc := s.NextTSC(); tsc < now || tsc > uint64(time.Now().Unix()+2)<<28 {
		t.Fatalf("%#x, made after %#x", tsc, now)
	}
	wantOpen(t, newReceiver(t, ReceiverConfig{}, g), whole(sealed(t, s, plain([]byte("x")))), []byte("x"))
	_, err := NewSenderWithKey(k, SenderConfig{FixedEpoch: true, Epoch: 3}) // without the epoch's start
	wantError(t, err, status.ErrArgument)
	_, err = NewSenderWithKey(k, SenderConfig{Counter: CounterExplicit})
	wantError(t, err, status.ErrExists)
}

// Senders of one SPI share counters, whichever group, version or VC they have: no nonce comes
// twice under a key.
func TestPSPSendersShareCounters(t *testing.T) {
	g, h := pspGroup(t, pspEvery, pspKeys[0]), pspGroup(t, pspEvery, pspKeys[0])
	spi := freshID()
	var (
		wg  sync.WaitGroup
		mu  sync.Mutex
		all []uint64
	)
	const bursts = 50
	for i, from := range []*Group{g, g, h, h} {
		s := newSender(t, from, SenderConfig{ID: spi, V: uint8(i % 2), Extra: stream("vc", 8)[:8*(i/2)]})
		wg.Go(func() {
			pkts := make([]Packet, 11)
			for range bursts {
				for i := range pkts {
					pkts[i] = plain([]byte("x"))
				}
				s.Seal(pkts)
				mu.Lock()
				for _, p := range pkts {
					all = append(all, binary.BigEndian.Uint64(p.Out[8:]))
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	wantDistinct(t, all, 4*11*bursts)

	// The SPI has senders: with other counter settings a holder of the key is refused, and so is the group.
	k := must(g.ExportDataKey(Context{ID: spi}, false))
	_, err := NewSenderWithKey(k, SenderConfig{Counter: CounterExplicit})
	wantError(t, err, status.ErrExists)
	_, err = NewSender(g, SenderConfig{ID: spi, Counter: CounterExplicit, Start: 1})
	wantError(t, err, status.ErrExists)
	// The same number under another device key is another SPI.
	newSender(t, g, SenderConfig{ID: spi | 1<<31})
	// Holders of one key share counters, too.
	k = must(g.ExportDataKey(Context{ID: freshID()}, false))
	a, b := must(NewSenderWithKey(k, SenderConfig{Counter: CounterExplicit})), must(NewSenderWithKey(k, SenderConfig{Counter: CounterExplicit}))
	if x, y := sealed(t, a, plain(nil)), sealed(t, b, plain(nil)); bytes.Equal(x[8:16], y[8:16]) {
		t.Fatal("one IV twice")
	}
	a.Close()
	b.Close()
	_, err = NewSenderWithKey(k, SenderConfig{Counter: CounterExplicit, Start: 1})
	wantError(t, err, status.ErrExists)
	c := must(NewSenderWithKey(k, SenderConfig{Counter: CounterExplicit, Start: 2}))
	c.Close()
	// After the last counter nothing is sealed.
	s := newSender(t, g, SenderConfig{V: 1})
	for _, n := range []int{3, 1} { // the last counter is the third of a burst, or the first
		ownCounters(s, 0xFFFF, 1<<48-uint64(n))
		var pkts []Packet
		for range n + 1 {
			pkts = append(pkts, plain(nil))
		}
		if got := s.Seal(pkts); got != n || pkts[n-1].TSC != 1<<64-1 || pkts[n].Status != status.ErrExhausted {
			t.Fatal(got, pkts[n-1].TSC, pkts[n].Status)
		}
		wantOpen(t, newReceiver(t, ReceiverConfig{ReplayWindow: 64}, g), whole(pkts[n-1].Out), nil)
		if s.Seal(pkts[:1]) != 0 || pkts[0].Status != status.ErrExhausted {
			t.Fatal("after the last counter")
		}
	}
}

func TestPSPReplay(t *testing.T) {
	text := stream("payload", 30)
	g := pspGroup(t, pspEvery, pspKeys[0], pspKeys[1])
	r := newReceiver(t, ReceiverConfig{ReplayWindow: 64, EngineBits: 1}, g)
	seal := func(version uint8, spi uint32, iv uint64) []byte {
		return pspSeal(pspKeys, version, spi, iv, 4, nil, 0, text)
	}
	for _, b := range [][]byte{
		seal(0, 1, 2000), seal(0, 1, 1998), seal(0, 1, 1874), // one window
		seal(0, 1, 1), seal(0, 1, 11), // each engine has its own
		seal(1, 1, 2000), seal(2, 1, 2000), seal(0, 2, 2000), seal(0, 1<<31|1, 2000), // and each key
		seal(0, 3, 1<<48-2), seal(0, 3, 1<<48), // a window goes on in the next epoch
	} {
		wantStatus(t, r, func() Packet { p := whole(b); p.Buf[20] ^= 1; return p }(), status.ErrAuth) // does not change the window
		wantOpen(t, r, whole(b), text)
		wantStatus(t, r, whole(b), status.ErrReplay)
	}
	wantStatus(t, r, whole(seal(0, 1, 1872)), status.ErrReplay)
	wantStatus(t, r, whole(seal(0, 3, 1<<48-128)), status.ErrReplay)
	if s := r.ReplayStats(); s.Windows != 7 {
		t.Fatalf("%+v", s)
	}
	if err := g.SetKey(0, stream("another device key", 32)); err != nil {
		t.Fatal(err)
	}
	keys := [2][]byte{stream("another device key", 32)}
	wantOpen(t, r, whole(pspSeal(keys, 0, 1, 1000, 4, nil, 0, text)), text) // another key: another window
	wantWiped(t)
	wantOpen(t, r, whole(pspSeal(keys, 0, 1, 1002, 4, nil, 0, text)), text)
	if s := r.ReplayStats(); s.GivenUp != 6 || s.Windows != 2 {
		t.Fatalf("%+v", s)
	}
	// A burst in which each packet comes twice.
	var pkts []Packet
	for i := range uint64(60) {
		pkts = append(pkts, whole(pspSeal(keys, 1, 9, i/2, 4, nil, 0, text)))
	}
	if n := r.Open(pkts); n != 30 {
		t.Fatal(n)
	}
	// A holder of a key.
	k := must(g.ExportDataKey(Context{ID: 1<<31 | 9}, false))
	kr := must(NewReceiverWithKey(k, ReceiverConfig{ReplayWindow: 64}))
	defer kr.Close()
	b := seal(0, 1<<31|9, 7)
	wantOpen(t, kr, whole(b), text)
	wantStatus(t, kr, whole(b), status.ErrReplay)
}

func TestPSPReflected(t *testing.T) {
	g := pspGroup(t, pspEvery, pspKeys[0], pspKeys[1])
	own, other := newSender(t, g, SenderConfig{V: 1}), newSender(t, g, SenderConfig{V: 1})
	r := newReceiver(t, ReceiverConfig{OwnIDs: []uint64{own.ID(), 7 << 31}}, g)
	for range 2 { // the second time the pattern is known
		var pkts []Packet
		for i := range 80 {
			s := other
			if i%3 == 0 {
				s = own
			}
			pkts = append(pkts, whole(sealed(t, s, plain([]byte("x")))))
		}
		r.Open(pkts)
		for i, p := range pkts {
			if want := map[bool]status.Code{true: status.ErrReflected}[i%3 == 0]; p.Status != want {
				t.Fatal(i, p.Status)
			}
		}
	}
}

// Proxies from stateless to psp and back.
func TestPSPProxy(t *testing.T) {
	a, z := newGroup(t, "a", GroupConfig{}, Zone), pspGroup(t, pspEvery, pspKeys[0])
	for version := range uint8(4) {
		s := newSender(t, z, SenderConfig{V: version, Extra: stream("vc", 8)})
		in, out := newSender(t, a, SenderConfig{}), newSender(t, a, SenderConfig{V: VLongID})
		to, from := NewProxy(newReceiver(t, ReceiverConfig{}, a), s), NewProxy(newReceiver(t, ReceiverConfig{}, z), out)
		end := newReceiver(t, ReceiverConfig{}, a)
		for n := range 40 {
			text := stream("payload", n)
			p := plain(text)
			if version < 2 {
				p.COffset = uint8(n / 8)
			}
			b := sealed(t, in, p)
			q := []Packet{{Buf: append(make([]byte, 8), b...), Off: 8, Len: len(b), NextHeader: 99}}
			if to.Forward(q) != 1 {
				t.Fatal(q[0].Status)
			}
			wantOctets(t, "packet", q[0].Out, pspSeal(pspKeys, version, uint32(s.ID()), binary.BigEndian.Uint64(q[0].Out[8:]), 0, stream("vc", 8), p.COffset, text))
			q = []Packet{whole(q[0].Out)}
			if n%2 == 0 {
				q[0].Dst = make([]byte, 24+n+ICVLen)
			}
			if from.Forward(q) != 1 {
				t.Fatal(q[0].Status)
			}
			x := open1(end, whole(q[0].Out))
			if x.Status != status.OK || !bytes.Equal(x.Out, text) || x.COffset != p.COffset {
				t.Fatal(x.Status)
			}
		}
	}
}

func TestPSPNoAllocation(t *testing.T) {
	g := pspGroup(t, pspEvery, pspKeys[0], pspKeys[1])
	for version := range uint8(4) {
		for _, vc := range [][]byte{nil, stream("vc", 8)} {
			s, r := newSender(t, g, SenderConfig{V: version, Extra: vc}), newReceiver(t, ReceiverConfig{ReplayWindow: 0}, g)
			x := NewProxy(r, newSender(t, g, SenderConfig{V: version ^ 1, Extra: vc}))
			k := must(g.ExportDataKey(Context{ID: freshID(), V: version}, false))
			ks, kr := must(NewSenderWithKey(k, SenderConfig{Counter: CounterExplicit, Extra: vc})), must(NewReceiverWithKey(k, ReceiverConfig{}))
			defer ks.Close()
			defer kr.Close()
			const n = 140
			pkts, bufs := make([]Packet, n), make([]byte, n*(MaxHeader+64+ICVLen))
			fill := func(off, size int) {
				for i := range pkts {
					b := bufs[i*(MaxHeader+64+ICVLen):][:MaxHeader+64+ICVLen]
					pkts[i] = Packet{Buf: b, Off: off, Len: size}
				}
			}
			round := func(s *Sender, f func([]Packet) int) func() {
				return func() {
					if fill(MaxHeader, 64); s.Seal(pkts) != n {
						t.Fatal(pkts[0].Status)
					}
					if fill(MaxHeader-16-len(vc), 16+len(vc)+64+ICVLen); f(pkts) != n {
						t.Fatal(pkts[0].Status)
					}
				}
			}
			for what, f := range map[string]func(){
				"seal and open": round(s, r.Open),
				"proxy":         round(s, x.Forward),
				"data key":      round(ks, kr.Open),
				"forged": func() {
					clear(bufs)
					fill(0, 100)
					if r.Open(pkts) != 0 {
						t.Fatal("forged packets were opened")
					}
				},
			} {
				if a := testing.AllocsPerRun(5, f); a != 0 {
					t.Errorf("version %d, %s: %v allocations", version, what, a)
				}
			}
		}
	}
}

func TestAllocSPI(t *testing.T) {
	g := pspGroup(t, 0)
	_, err := g.AllocSPI(0)
	wantError(t, err, status.ErrNoKey)
	if err := g.SetKey(1, pspKeys[1]); err != nil { // the first key is in use
		t.Fatal(err)
	}
	want := func(first, spi uint32) {
		t.Helper()
		if got, err := g.AllocSPI(first); err != nil || got != spi {
			t.Fatalf("%#x, %v; want %#x", got, err, spi)
		}
	}
	exhausted := func(first uint32) {
		t.Helper()
		_, err := g.AllocSPI(first)
		wantError(t, err, status.ErrExhausted)
	}
	want(0, 1<<31|1)
	want(0, 1<<31|2)
	want(100, 1<<31|100)
	want(3, 1<<31|101) // only above those that were given out
	want(101, 1<<31|102)
	want(1<<31|500, 1<<31|500) // only the low 31 bits count
	if slot := must(g.RotateKey(nil)); slot != 0 {
		t.Fatal(slot)
	}
	want(0, 1) // a new key: from the beginning
	want(1<<31|7, 7)
	if err := g.UseKey(1); err != nil {
		t.Fatal(err)
	}
	want(0, 1<<31|501) // the old key's go on
	want(1<<31-2, 1<<32-2)
	want(0, 1<<32-1)
	exhausted(0)
	exhausted(5)
	if err := g.UseKey(0); err != nil {
		t.Fatal(err)
	}
	want(1<<31-1, 1<<31-1)
	exhausted(0)
	// The same key, set again, has no SPIs left; another one has all.
	if err := g.SetKey(1, pspKeys[1]); err != nil {
		t.Fatal(err)
	}
	if err := g.UseKey(1); err != nil {
		t.Fatal(err)
	}
	exhausted(0)
	if err := g.SetKey(1, stream("another device key", 32)); err != nil {
		t.Fatal(err)
	}
	want(0, 1<<31|1)
	_, err = newGroup(t, "a", GroupConfig{}, Zone).AllocSPI(0)
	wantError(t, err, status.ErrUnsupported)

	// Several threads, during rotations: each SPI once for its key.
	g = pspGroup(t, 0, pspKeys[0])
	var (
		wg  sync.WaitGroup
		mu  sync.Mutex
		all = map[uint32]int{}
	)
	const threads, each, rotations = 6, 200, 4
	for range threads {
		wg.Go(func() {
			for range each {
				spi := must(g.AllocSPI(0))
				mu.Lock()
				all[spi]++
				mu.Unlock()
			}
		})
	}
	for range rotations {
		must(g.RotateKey(nil))
	}
	wg.Wait()
	total := 0
	for spi, n := range all {
		if total += n; n > 1+rotations/2 {
			t.Fatalf("SPI %#x %d times in %d rotations", spi, n, rotations)
		}
	}
	if total != threads*each {
		t.Fatal(total)
	}
	for spi, n := range all {
		delete(all, spi)
		_ = n
	}
	for range threads { // without rotation: never twice
		wg.Go(func() {
			for range each {
				spi := must(g.AllocSPI(0))
				mu.Lock()
				if all[spi]++; all[spi] != 1 {
					t.Errorf("SPI %#x twice", spi)
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
}

// FuzzPSPOpen opens any octets as the model does. Nothing outside them is touched, and no
// plaintext of a packet that is not authentic stays.
func FuzzPSPOpen(f *testing.F) {
	const versions = 0b1011
	keys := [2][]byte{nil, pspKeys[1]}
	receivers := []*Receiver{
		newReceiver(f, ReceiverConfig{}, pspGroup(f, pspEvery, pspKeys[0], pspKeys[1])),
		newReceiver(f, ReceiverConfig{}, pspGroup(f, versions, keys[0], keys[1])),
	}
	text, vc := stream("payload", 45), stream("vc", 8)
	for version := range uint8(4) {
		for _, vc := range [][]byte{nil, vc} {
			for _, spi := range []uint32{5, 1<<31 | 5} {
				b := pspSeal(pspKeys, version, spi, 9, 6, vc, 3*(1-version>>1), text)
				f.Add(b)
				f.Add(b[:len(b)-1])
				b = bytes.Clone(b)
				b[len(b)-20] ^= 1
				f.Add(b)
				b[2], b[3] = b[2]^0x40, b[3]^0xC0
				f.Add(b)
				for offset := range uint8(4) { // encrypted extensions
					f.Add(pspSealAt(pspKeys, version, spi, 10, 6, vc, len(vc) != 0, offset, text))
					f.Add(pspSealAt(pspKeys, version, spi, 11, 6, stream("ext", 24), offset&1 != 0, offset, text))
				}
			}
		}
	}
	f.Add(pspSealAt(pspKeys, 0, 1<<31, 10, 6, nil, false, 0, text)) // no SPI
	f.Add([]byte{})
	room, pattern := guarded(f, 8192), bytes.Repeat([]byte{0xA5}, 8192)
	f.Fuzz(func(t *testing.T, b []byte) {
		b = b[:min(len(b), 4096)]
		for i, r := range receivers {
			c, o := pspModel(b, [2]uint8{pspEvery, versions}[i], [2][2][]byte{pspKeys, keys}[i])
			for _, placement := range []struct{ atEnd, with bool }{{false, false}, {true, false}, {false, true}} {
				copy(room, pattern)
				buf, outside := room[:len(b):len(b)], room[len(b):]
				if placement.atEnd {
					outside, buf = room[:len(room)-len(b)], room[len(room)-len(b):]
				}
				copy(buf, b)
				p := open1(r, Packet{Buf: buf, Len: len(b), Extension: placement.with})
				if p.Status != c && (len(b) != 0 || p.Status == status.OK) {
					t.Fatalf("%v, want %v: %x", p.Status, c, b)
				}
				if !bytes.HasPrefix(pattern, outside) {
					t.Fatal("written outside the packet")
				}
				want := bytes.Clone(b)
				switch c {
				case status.OK:
					if all := append(o.ext, o.payload...); placement.with {
						wantOctets(t, "extension and payload", p.Out, all)
					} else {
						wantOctets(t, "payload", p.Out, o.payload)
					}
					copy(want[copy(want[16:], o.ext)+16:], o.payload)
				case status.ErrAuth:
					clear(want[8+8*int(b[1])+o.clear-o.hidden : len(b)-ICVLen])
				}
				wantOctets(t, "buffer", buf, want)
			}
		}
	})
}
