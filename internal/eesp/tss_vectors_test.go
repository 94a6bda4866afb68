package eesp

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"os"
	"slices"
	"testing"
	"unsafe"

	"libeesp/internal/burst"
	"libeesp/internal/counter"
	"libeesp/internal/profile"
	"libeesp/internal/status"
)

type tssVector struct {
	Name, Reason, Mode, Decision string
	ToClient                     bool `json:"to_client"`
	FromServer                   bool `json:"from_server"`
	Keys                         []octets
	Key                          octets // derive
	AN                           int
	SDI                          uint32
	SP                           bool
	SSI                          uint32
	IPv6                         bool
	Lead                         octets
	Epoch                        uint16
	Counter                      uint64
	Rekey                        uint64
	RekeyMask                    uint64 `json:"rekey_mask"`
	RekeyShift                   uint8  `json:"rekey_shift"`
	PayloadLen                   int    `json:"payload_len"`
	PayloadSeed                  octets `json:"payload_seed"`
	CurrentEpoch                 uint16 `json:"current_epoch"`
	EpochAge                     uint16 `json:"epoch_age"`
	CryptOffset                  uint16 `json:"crypt_offset"`
	DirectionBit                 bool   `json:"direction_bit"`
	DataKey                      octets `json:"data_key"`
	Mask, Payload, Packet        octets
	KDFInputs                    []octets `json:"kdf_inputs"`
}

func tssVectors(t *testing.T) (v struct{ Seal, Accepted, Refused, Derive []tssVector }) {
	t.Helper()
	if err := json.Unmarshal(must(os.ReadFile("../../testdata/vectors/tss.json")), &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// newTSS makes a group; "" is a slot without key.
func newTSS(t testing.TB, c GroupConfig, keys ...string) *Group {
	t.Helper()
	c.Profile, c.AEAD = ProfileTSS, AES256GCM
	g := must(NewGroup(c))
	t.Cleanup(g.Close)
	for slot, k := range keys {
		if k != "" {
			if err := g.SetKey(slot, []byte(k)); err != nil {
				t.Fatal(err)
			}
		}
	}
	return g
}

// tssKey is a key that follows from a seed.
func tssKey(seed string) string { return string(stream("tss/"+seed, 32)) }

var tssModes = map[string]uint8{"cluster": TSSCluster, "server": TSSServer, "direct": TSSDirect}

func (v *tssVector) group(t *testing.T) *Group {
	c := GroupConfig{Mode: tssModes[v.Mode], Domain: v.SDI, RekeyMask: v.RekeyMask, RekeyShift: v.RekeyShift,
		CryptOffset: v.CryptOffset, EpochAge: v.EpochAge, NoDirectionBit: !v.DirectionBit}
	if v.Decision == "rekey_without_effect" {
		c.Profile, c.AEAD = ProfileTSS, AES256GCM
		_, err := NewGroup(c) // refused here
		wantErr(t, err, status.ErrArgument)
		c.RekeyMask, c.RekeyShift = 0, 0
	}
	keys := make([]string, 2)
	for i, k := range v.Keys {
		keys[i] = string(k)
	}
	return newTSS(t, c, keys...)
}

// v is V of senders and contexts.
func (v *tssVector) v() uint8 { return tssV(v.SP, v.IPv6) }

func tssV(sp, ipv6 bool) uint8 {
	switch {
	case sp && ipv6:
		return VTSSSSIIPv6
	case sp:
		return VTSSSSI
	case ipv6:
		return VTSSAddrIPv6
	}
	return VTSSAddr
}

// tssUnits is the offset that opening reports.
func tssUnits(v *tssVector) uint8 {
	header := uint16(12)
	if v.SP {
		header = 16
	}
	return uint8((max(v.CryptOffset, header) - header) / 4)
}

// tssSrc, tssDst are the addresses of a prefix, as descriptors have them.
func tssSrc(prefix []byte) [16]byte { return as16(octets(prefix[:(len(prefix)-4)/2]).addr()) }
func tssDst(prefix []byte) [16]byte {
	return as16(octets(prefix[(len(prefix)-4)/2 : len(prefix)-4]).addr())
}

func (v *tssVector) context() Context {
	c := Context{ID: uint64(v.SSI), Epoch: v.Epoch, V: v.v(), Generation: uint8(v.AN)}
	switch {
	case v.SP && !v.IPv6:
	case v.ToClient || v.FromServer:
		c.Addr.Src = tssDst(v.Lead)
	default:
		c.Addr.Src = tssSrc(v.Lead)
	}
	return c
}

// tssPlain describes a payload with a prefix in front of the room for a header.
func tssPlain(prefix []byte, header int, payload []byte) Packet {
	off := len(prefix) + header
	b := make([]byte, off+len(payload)+ICVLen)
	copy(b, prefix)
	copy(b[off:], payload)
	return Packet{Buf: b, Off: off, Len: len(payload), IPv6: len(prefix) == 36}
}

// tssWhole describes a copy of a sealed packet behind its prefix.
func tssWhole(prefix, sealed []byte) Packet {
	return Packet{Buf: append(bytes.Clone(prefix), sealed...), Off: len(prefix), Len: len(sealed), IPv6: len(prefix) == 36}
}

// tssSender makes a sender of a group or a data key with counters of its own.
func tssSender(t testing.TB, g *Group, k *DataKey, c SenderConfig, epoch uint16, counts uint64) *Sender {
	t.Helper()
	c.Counter, c.Start = CounterExplicit, 1<<47-1
	var s *Sender
	var err error
	if k != nil {
		s, err = NewSenderWithKey(k, c)
	} else {
		c.Epoch, c.FixedEpoch = 1<<16-1, true
		s, err = NewSender(g, c)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	setCounters(s, tssCounters(s, epoch, counts))
	return s
}

// tssCounters are those from epoch and counter on.
func tssCounters(s *Sender, epoch uint16, counts uint64) counter.Config {
	c := counter.Config{Mode: CounterExplicit, FixedEpoch: true, Epoch: epoch}
	c.Start = counts
	if has, bit := s.now.Load().s.Sealing.(profile.Directed).Direction(); has {
		c.Direction = counter.TopClear + counter.Direction(bit)
		c.Start &= 1<<47 - 1
	}
	return c
}

func TestTSSVectorsSeal(t *testing.T) {
	vs := tssVectors(t).Seal
	enough(t, len(vs), 1233)
	eachBackend(t, func(t *testing.T) {
		for i := range vs {
			if !skipped(i) {
				t.Run(vs[i].Name, func(t *testing.T) { vs[i].seal(t) })
			}
		}
	})
}

func (v *tssVector) seal(t *testing.T) {
	payload := vectorPayload(t, v.Payload, v.PayloadSeed, v.PayloadLen)
	g := v.group(t)
	c := v.context()
	c.ID |= v.Rekey << 32
	derived := make([]byte, g.KeyLen())
	if err := g.DeriveKeys([]Context{c}, derived); err != nil {
		t.Fatal(err)
	}
	wantOctets(t, "data key and mask", derived, append(bytes.Clone(v.DataKey), v.Mask...))

	key, err := g.ExportDataKey(c, false)
	if v.Mode == "direct" || v.RekeyMask != 0 && v.Mode == "cluster" {
		wantErr(t, err, status.ErrUnsupported)
		key = nil
	} else if err != nil {
		t.Fatal(err)
	} else {
		wantOctets(t, "exported key and mask", append(bytes.Clone(key.Key[:]), key.Options[:key.OptionsLen]...), derived)
	}

	if g.UseKey(v.AN) != nil || g.SetEpoch(v.Epoch) != nil {
		t.Fatal("no key of this AN")
	}
	// Not both at a time: one SSI's counters have one owner.
	if v.Mode != "server" || v.ToClient {
		for _, kind := range []uint8{v.v(), VTSSSSI} { // which does for both families
			if !v.SP && kind == VTSSSSI {
				continue
			}
			s := tssSender(t, g, nil, SenderConfig{V: kind, ID: uint64(v.SSI)}, v.Epoch, v.Counter)
			s.sealLike(t, v, payload)
			s.Close()
		}
	}
	if key != nil && !v.ToClient {
		s := tssSender(t, nil, key, SenderConfig{}, v.Epoch, v.Counter)
		s.sealLike(t, v, payload)
		s.Close()
	}

	var receivers []*Receiver
	if !v.ToClient {
		receivers = append(receivers, newReceiver(t, ReceiverConfig{}, g))
	}
	if key != nil && (v.Mode != "server" || v.ToClient) {
		r := must(NewReceiverWithKey(key, ReceiverConfig{}))
		t.Cleanup(r.Close)
		receivers = append(receivers, r)
	}
	if len(receivers) == 0 {
		t.Fatal("no receiver")
	}
	for _, r := range receivers {
		pkts := make([]Packet, 4)
		for j := range pkts {
			pkts[j] = tssWhole(v.Lead, v.Packet)
		}
		pkts[2].Dst = make([]byte, v.PayloadLen)
		for range 2 { // the second time, as packets like one before
			for j := range pkts {
				copy(pkts[j].Buf[pkts[j].Off:], v.Packet)
			}
			pkts[0].Buf[len(pkts[0].Buf)-1] ^= 1
			if n := r.Open(pkts); n != 3 || pkts[0].Status != status.ErrAuth {
				t.Fatalf("open: %d good, %v %v %v", n, pkts[0].Status, pkts[1].Status, pkts[2].Status)
			}
			for _, p := range pkts[1:] {
				wantOctets(t, "payload", p.Out, payload)
				if p.ID != uint64(v.SSI) || p.TSC != uint64(v.Epoch)<<48|v.Counter || p.COffset != tssUnits(v) {
					t.Fatalf("ID %#x TSC %#x offset %d", p.ID, p.TSC, p.COffset)
				}
			}
		}
		v.openChained(t, r, payload)
	}
}

// sealLike seals in place, elsewhere and chained.
func (s *Sender) sealLike(t *testing.T, v *tssVector, payload []byte) {
	t.Helper()
	again := tssCounters(s, v.Epoch, v.Counter)
	if s.NextTSC() != uint64(v.Epoch)<<48|v.Counter {
		t.Fatalf("next TSC %#x", s.NextTSC())
	}
	h := s.HeaderLen()
	wantOctets(t, "packet", sealed(t, s, tssPlain(v.Lead, h, payload)), v.Packet)

	setCounters(s, again)
	p := tssPlain(v.Lead, h, payload)
	p.Dst = append(bytes.Clone(v.Lead), make([]byte, len(v.Packet))...)
	p.Buf, p.Off = p.Buf[p.Off:][:p.Len], 0
	wantOctets(t, "packet elsewhere", sealed(t, s, p), v.Packet)

	setCounters(s, again)
	w := must(burst.NewWorker())
	defer w.Close()
	cut := len(payload) / 3
	first := slices.Concat(v.Lead, make([]byte, h), payload[:cut], []byte{0})
	first = first[:len(first)-1]
	last := slices.Concat(payload[cut:], make([]byte, ICVLen))
	d := tssChain(v.IPv6, len(v.Lead)+h, first[len(v.Lead)+h:], last[:len(payload)-cut])
	d[0].Tailroom = ICVLen
	if w.Seal(s.Burst(), d) != 1 {
		t.Fatalf("chained: %v", d[0].Status)
	}
	wantOctets(t, "chained packet", append(first[len(v.Lead):], last...), v.Packet)
}

func (v *tssVector) openChained(t *testing.T, r *Receiver, payload []byte) {
	t.Helper()
	w := must(burst.NewWorker())
	defer w.Close()
	h := len(v.Packet) - len(payload) - ICVLen
	cut := h + len(payload)/2
	first := append(bytes.Clone(v.Lead), v.Packet[:cut]...)
	last := bytes.Clone(v.Packet[cut:])
	d := tssChain(v.IPv6, len(v.Lead), first[len(v.Lead):], last)
	if w.Open(&r.r, d) != 1 {
		t.Fatalf("chained: %v", d[0].Status)
	}
	wantOctets(t, "chained payload", append(first[len(v.Lead)+h:], last...)[:len(payload)], payload)
}

func tssChain(ipv6 bool, headroom int, segs ...[]byte) []profile.Desc {
	iov := make([]profile.IOV, len(segs))
	for i, s := range segs {
		if cap(s) == 0 { // Go would not point there
			panic("a segment without capacity")
		}
		iov[i] = profile.IOV{Base: unsafe.Pointer(unsafe.SliceData(s)), Len: uintptr(len(s))}
	}
	d := []profile.Desc{{IOV: unsafe.Pointer(&iov[0]), IOVCount: uint16(len(iov)), Headroom: uint32(headroom)}}
	if ipv6 {
		d[0].Flags = profile.FlagIPv6
	}
	return d
}

// receiver returns the receiver for a vector's packet: of a group, or of a client with the
// key of the packet's context; nil if there can be no key.
func (v *tssVector) receiver(t *testing.T) *Receiver {
	g := v.group(t)
	if b := v.Packet; len(b) >= 16 {
		v.SP, v.AN = b[0]&4 != 0, int(b[0]&1)
		if v.SP {
			v.SSI = binary.BigEndian.Uint32(b[4:])
			b = b[4:]
		}
		v.Epoch = binary.BigEndian.Uint16(b[4:])
	}
	if !v.FromServer {
		if v.AN < 2 && g.UseKey(v.AN) == nil {
			if err := g.SetEpoch(v.CurrentEpoch); err != nil {
				t.Fatal(err)
			}
		}
		return newReceiver(t, ReceiverConfig{}, g)
	}
	k, err := g.ExportDataKey(v.context(), false)
	if err != nil {
		wantErr(t, err, status.ErrNoKey)
		return nil
	}
	r := must(NewReceiverWithKey(k, ReceiverConfig{}))
	t.Cleanup(r.Close)
	return r
}

func TestTSSVectorsAccepted(t *testing.T) {
	vs := tssVectors(t).Accepted
	enough(t, len(vs), 529)
	eachBackend(t, func(t *testing.T) {
		for _, v := range vs {
			t.Run(v.Name, func(t *testing.T) {
				p := tssWhole(v.Lead, v.Packet)
				p = open1(v.receiver(t), p)
				if want := tssUnits(&v); p.COffset != want {
					t.Fatalf("offset %d, want %d", p.COffset, want)
				}
				if p.Status != status.OK || p.ID != uint64(v.SSI) || p.TSC != uint64(v.Epoch)<<48|v.Counter {
					t.Fatalf("%v, ID %#x, TSC %#x", p.Status, p.ID, p.TSC)
				}
				wantOctets(t, "payload", p.Out, v.Payload)
			})
		}
	})
}

func TestTSSVectorsRefused(t *testing.T) {
	vs := tssVectors(t).Refused
	enough(t, len(vs), 4368)
	reasons := map[string]status.Code{"short": status.ErrShort, "version": status.ErrVersion, "reserved": status.ErrReserved, "no_key": status.ErrNoKey,
		"unsupported": status.ErrUnsupported, "reflected": status.ErrReflected, "epoch": status.ErrEpoch, "offset": status.ErrOffset, "auth": status.ErrAuth}
	seen := map[string]int{}
	for i := range vs {
		seen[vs[i].Reason]++
	}
	for reason := range reasons {
		if seen[reason] == 0 {
			t.Errorf("no vector with reason %s", reason)
		}
	}
	eachBackend(t, func(t *testing.T) {
		for i, v := range vs {
			if skipped(i) {
				continue
			}
			t.Run(v.Name, func(t *testing.T) {
				want, ok := reasons[v.Reason]
				if !ok {
					t.Fatalf("reason %s", v.Reason)
				}
				r := v.receiver(t)
				if r == nil {
					if want != status.ErrNoKey {
						t.Fatal("no data key")
					}
					return
				}
				if v.FromServer && want == status.ErrNoKey {
					want = status.ErrContext // of another SDI: who holds a data key knows of no other
				}
				p := tssWhole(v.Lead, v.Packet)
				before := bytes.Clone(p.Buf)
				wantStatus(t, r, p, want)
				if want != status.ErrAuth {
					wantOctets(t, "buffer of a packet that was not decrypted", p.Buf, before)
				}
			})
		}
	})
}

func TestTSSVectorsDerive(t *testing.T) {
	vs := tssVectors(t).Derive
	enough(t, len(vs), 60)
	eachBackend(t, func(t *testing.T) {
		for _, v := range vs {
			t.Run(v.Name, func(t *testing.T) {
				gc := GroupConfig{Mode: tssModes[v.Mode]}
				if v.Mode == "cluster" {
					gc.RekeyMask = 1<<32 - 1
				}
				g := newTSS(t, gc, string(v.Key))
				c := v.context()
				c.ID |= v.Rekey << 32
				other := c
				other.Epoch++
				out := make([]byte, 3*g.KeyLen())
				if err := g.DeriveKeys([]Context{c, other, c}, out); err != nil {
					t.Fatal(err)
				}
				want := append(bytes.Clone(v.DataKey), v.Mask...)
				wantOctets(t, "first", out[:44], want)
				wantOctets(t, "third", out[88:], want)
				if bytes.Equal(out[44:88], want) {
					t.Fatal("another epoch has the same key")
				}
			})
		}
	})
}
