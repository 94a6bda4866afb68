package eesp

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"os"
	"slices"
	"testing"

	"libeesp/internal/burst"
	"libeesp/internal/profile"
	"libeesp/internal/status"
)

// The vectors of testdata/vectors/eesp.json; testdata/reference/README.md
// describes them.
type eespVectors struct {
	Seal, Accepted, Refused, Derive []eespVector
}

type eespVector struct {
	Name, Reason, AEAD string
	SSKDF              uint8
	Root               octets
	SPI                uint32
	Seq, IV, Full      bool
	MaxCOffset         uint8 `json:"max_coffset"`
	Align8             bool
	SubSAs             uint32 `json:"sub_sas"`
	Draft              uint8
	Encap              string
	Session            uint16
	FlowID             octets `json:"flow_id"`
	Sequence           uint64
	COffset            uint8
	NextHeader         uint8 `json:"next_header"`
	PayloadLen         int   `json:"payload_len"`
	Payload            octets
	PayloadSeed        octets `json:"payload_seed"`
	Text               octets
	KDFInputs          []octets `json:"kdf_inputs"`
	DataKey            octets   `json:"data_key"`
	Mask, Packet       octets
}

func loadEESP(t *testing.T) *eespVectors {
	t.Helper()
	v := new(eespVectors)
	if err := json.Unmarshal(must(os.ReadFile("../../testdata/vectors/eesp.json")), v); err != nil {
		t.Fatal(err)
	}
	return v
}

func (v *eespVector) config() GroupConfig {
	c := GroupConfig{Profile: ProfileEESP, AEAD: map[string]AEAD{"aes-128-gcm": AES128GCM, "aes-256-gcm": AES256GCM}[v.AEAD],
		Mode: v.SSKDF, Domain: v.SPI, NoSequence: !v.Seq, IV: v.IV, MaxCOffset: v.MaxCOffset, Align8: v.Align8, SubSAs: v.SubSAs, Draft: v.Draft}
	if c.Mode == 0 { // as the draft has it
		c.Mode = SSKDFNone
	}
	if v.Draft == 2 {
		c.Optimized = !v.Full
	} else { // the mode says which format
		c.Encap = map[string]uint8{"transport": EncapTransport, "tunnel": EncapTunnel, "beet": EncapBEET, "ip-tfs": EncapIPTFS}[v.Encap]
	}
	return c
}

func (v *eespVector) payload(t *testing.T) []byte {
	return vectorPayload(t, v.Payload, v.PayloadSeed, v.PayloadLen)
}

// nextHeader is the protocol that opening reports.
func (v *eespVector) nextHeader(payload []byte) uint8 {
	if v.Full {
		return v.NextHeader
	}
	return map[byte]uint8{4: 4, 6: 41}[payload[0]>>4]
}

func TestEESPVectorsSeal(t *testing.T) {
	vs := loadEESP(t).Seal
	enough(t, len(vs), 1060)
	eachBackend(t, func(t *testing.T) {
		w, made := eespWorker(t), 0
		for i := range vs {
			if !skipped(i) {
				t.Run(vs[i].Name, func(t *testing.T) { made += vs[i].run(t, w) })
			}
		}
		if !testing.Short() {
			enough(t, made, 900)
		}
	})
}

// run reports how often the packet was made.
func (v *eespVector) run(t *testing.T, w *burst.Worker) (made int) {
	g := eespGroup(t, v.config(), v.Root)
	payload := v.payload(t)
	v.checkKeys(t, g)
	key := must(g.ExportDataKey(Context{ID: uint64(v.Session)}, false))
	c := v.config()
	format := c.format()

	coffset := v.COffset - 1
	if v.COffset == 0 {
		coffset = 0
	}
	// Our senders do not make packets with only the info header in clear, or with long Flow
	// Identifiers. Receivers accept them.
	if v.COffset != 1 && len(v.FlowID) <= profile.MaxFlow {
		made = 1
		ofGroup := func() *Sender {
			return must(NewSender(g, SenderConfig{ID: uint64(v.Session), Extra: v.FlowID}))
		}
		holder := func() *Sender {
			return must(NewSenderWithKey(key, SenderConfig{Extra: v.FlowID, Counter: CounterExplicit, FixedEpoch: true, Epoch: 1<<16 - 1, Start: 1<<48 - 2}))
		}
		for _, f := range []func() *Sender{ofGroup, holder} {
			s := f()
			defer s.Close()
			ownCounters(s, 0, 1)
			if n := len(v.Packet) - ICVLen - len(v.Text) + format.InfoLen(); s.HeaderLen() != n {
				t.Fatalf("header length %d, want %d", s.HeaderLen(), n)
			}
			eespSeal(t, w, s, v.Sequence, payload, coffset, v.NextHeader, v.Packet)
			if v.Sequence == 1<<64-1 { // which was the last one
				p := []Packet{eespPlain(payload)}
				if s.Seal(p); p[0].Status != status.ErrExhausted {
					t.Fatalf("seal: %v", p[0].Status)
				}
			}
		}
	}
	for _, r := range []*Receiver{newReceiver(t, ReceiverConfig{}, g), must(NewReceiverWithKey(key, ReceiverConfig{}))} {
		defer r.Close()
		d := eespOpen(t, w, r, format, v.Packet, status.OK, payload)
		if d.ID != uint64(v.Session) || d.TSC != v.Sequence || d.COffset != coffset || d.IOffset != 0 || d.NextHeader != v.nextHeader(payload) {
			t.Fatalf("ID %d TSC %d COffset %d IOffset %d next header %d", d.ID, d.TSC, d.COffset, d.IOffset, d.NextHeader)
		}
	}
	return made
}

// checkKeys compares the values between root key and cipher.
func (v *eespVector) checkKeys(t *testing.T, g *Group) {
	t.Helper()
	c := Context{ID: uint64(v.Session)}
	out := make([]byte, 3*g.KeyLen())
	if err := g.DeriveKeys([]Context{{ID: c.ID ^ 1}, c, c}, out); v.SubSAs != 1 && c.ID^1 < uint64(max(v.SubSAs, 1)) && err != nil {
		t.Fatal(err)
	} else if err != nil {
		if !errors.Is(err, status.ErrArgument) || !allZero(out) {
			t.Fatal(err)
		}
		if err := g.DeriveKeys([]Context{c, c, c}, out); err != nil {
			t.Fatal(err)
		}
	}
	want := slices.Concat(v.DataKey, v.Mask)
	wantOctets(t, "derived key", out[g.KeyLen():], slices.Concat(want, want))
	k := must(g.ExportDataKey(c, false))
	wantOctets(t, "exported key", k.Key[:k.KeyLen], v.DataKey)
	wantOctets(t, "salt", k.Mask(), v.Mask)
	var x profile.Context
	if code := must(profile.ByNumber(uint8(ProfileEESP))).Resolve(g.g.Snapshot(), &c, &x); code != status.OK {
		t.Fatal(code)
	}
	if v.SSKDF == 0 {
		if x.Master != nil || x.Root != nil || len(v.KDFInputs) != 0 {
			t.Fatal("derived")
		}
		wantOctets(t, "key and salt", x.Raw[:len(v.Root)], v.Root)
		return
	}
	if v.SSKDF != SSKDFCMAC {
		if x.Master != nil || len(v.KDFInputs) != 0 || binary.BigEndian.Uint16(x.Msg[:]) != v.Session {
			t.Fatal("not HKDF")
		}
		return
	}
	if x.Per() != len(v.KDFInputs) {
		t.Fatalf("%d KDF inputs, not %d", x.Per(), len(v.KDFInputs))
	}
	for i, b := range v.KDFInputs {
		if i != 0 {
			x.Msg[x.Counter] = byte(i + 1)
		}
		wantOctets(t, "KDF input", x.Msg[:], append(append(slices.Clone(b), 0x80), make([]byte, 32)...))
	}
}

func TestEESPVectorsAccepted(t *testing.T) {
	vs := loadEESP(t).Accepted
	enough(t, len(vs), 430)
	eachBackend(t, func(t *testing.T) {
		w := eespWorker(t)
		for i := range vs {
			v := &vs[i]
			t.Run(v.Name, func(t *testing.T) {
				c := v.config()
				r := newReceiver(t, ReceiverConfig{}, eespGroup(t, c, v.Root))
				d := eespOpen(t, w, r, c.format(), v.Packet, status.OK, v.Payload)
				if d.ID != uint64(v.Session) || d.TSC != v.Sequence || d.COffset != max(v.COffset, 1)-1 || d.NextHeader != v.nextHeader(v.Payload) {
					t.Fatalf("ID %d TSC %d COffset %d next header %d", d.ID, d.TSC, d.COffset, d.NextHeader)
				}
			})
		}
	})
}

var eespReasons = map[string]status.Code{
	"version": status.ErrVersion, "reserved": status.ErrReserved, "header_len": status.ErrHeaderLen, "short": status.ErrShort, "option": status.ErrOption,
	"offset": status.ErrOffset, "no_key": status.ErrNoKey, "auth": status.ErrAuth, "session": status.ErrSession, "sequence": status.ErrSequence, "payload": status.ErrPayload,
	"dummy": status.ErrDummy,
}

func TestEESPVectorsRefused(t *testing.T) {
	vs := loadEESP(t).Refused
	enough(t, len(vs), 3700)
	eachBackend(t, func(t *testing.T) {
		seen, w := map[string]int{}, eespWorker(t)
		for i := range vs {
			v := &vs[i]
			if seen[v.Reason]++; skipped(i) {
				continue
			}
			t.Run(v.Name, func(t *testing.T) {
				c := v.config()
				g := eespGroup(t, c, v.Root)
				want := eespReasons[v.Reason]
				if want == status.OK {
					t.Fatalf("reason %q", v.Reason)
				}
				eespOpen(t, w, newReceiver(t, ReceiverConfig{}, g), c.format(), v.Packet, want, nil)
			})
		}
		for reason := range eespReasons {
			if seen[reason] == 0 {
				t.Errorf("no vector with reason %s", reason)
			}
		}
	})
}

func TestEESPVectorsDerive(t *testing.T) {
	vs := loadEESP(t).Derive
	enough(t, len(vs), 48)
	eachBackend(t, func(t *testing.T) {
		for i := range vs {
			v := &vs[i]
			v.Seq, v.Full, v.Draft = true, true, 2
			t.Run(v.Name, func(t *testing.T) { v.checkKeys(t, eespGroup(t, v.config(), v.Root)) })
		}
	})
}
