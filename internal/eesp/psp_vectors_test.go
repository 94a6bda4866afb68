package eesp

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"

	"libeesp/internal/burst"
	"libeesp/internal/profile"
	"libeesp/internal/status"
)

type pspVector struct {
	Name, Reason, Decision string
	DeviceKeys             [2]octets `json:"device_keys"`
	DeviceKey              octets    `json:"device_key"`
	Version                uint8
	Versions               []int
	SPI                    uint32
	IV                     uint64
	Extension              octets
	HasVC                  bool `json:"has_vc"`
	FromIV                 bool `json:"from_iv"`
	COffset                uint8
	NextHeader             uint8 `json:"next_header"`
	PayloadLen             int   `json:"payload_len"`
	Payload                octets
	PayloadSeed            octets `json:"payload_seed"`
	DataKey                octets `json:"data_key"`
	Packet                 octets
}

type pspVectors struct{ Seal, Accepted, Refused, Derive []pspVector }

func loadPSP(t *testing.T) *pspVectors {
	t.Helper()
	v := new(pspVectors)
	if err := json.Unmarshal(must(os.ReadFile("../../testdata/vectors/psp.json")), v); err != nil {
		t.Fatal(err)
	}
	return v
}

func (v *pspVector) payload(t *testing.T) []byte {
	return vectorPayload(t, v.Payload, v.PayloadSeed, v.PayloadLen)
}

func (v *pspVector) keys() [2][]byte { return [2][]byte{v.DeviceKeys[0], v.DeviceKeys[1]} }

func (v *pspVector) set() (versions uint8) {
	for _, x := range v.Versions {
		versions |= 1 << x
	}
	return versions
}

// Every packet of the vectors is sealed and opened in place, elsewhere, and in
// segments; opened without its extension, and with it.
func TestPSPVectorsSeal(t *testing.T) {
	vs := loadPSP(t).Seal
	enough(t, len(vs), 847)
	w := must(burst.NewWorker())
	defer w.Close()
	eachBackend(t, func(t *testing.T) {
		for i := range vs {
			v := &vs[i]
			text := v.payload(t)
			h := len(v.Packet) - len(text) - ICVLen
			g := pspGroup(t, 1<<v.Version, v.DeviceKeys[0], v.DeviceKeys[1])
			r := newReceiver(t, ReceiverConfig{}, g)
			s := must(NewSender(g, SenderConfig{ID: uint64(v.SPI), V: v.Version, Extra: v.Extension, NoVC: !v.HasVC, OffsetFromIV: v.FromIV, Counter: CounterExplicit}))
			if n := s.HeaderLen(); n != h {
				t.Fatalf("%s: header of %d octets", v.Name, n)
			}
			for placement := range placements {
				random := rand.New(rand.NewPCG(uint64(i), uint64(placement)))
				ownCounters(s, uint16(v.IV>>48), v.IV&(1<<48-1))
				d := profile.Desc{Headroom: uint32(h), Tailroom: ICVLen, COffset: v.COffset, NextHeader: v.NextHeader}
				mem := lay(random, &d, text, placement, -h, h+len(text)+ICVLen)
				one(func(p []profile.Desc) int { return w.Seal(s.Burst(), p) }, &d)
				if d.Status != status.OK || d.ID != uint64(v.SPI) || d.TSC != v.IV {
					t.Fatalf("%s, placement %d: %v, SPI %#x, IV %#x", v.Name, placement, d.Status, d.ID, d.TSC)
				}
				wantOctets(t, v.Name, mem.written(t, &d, -h, 0, h+len(text)+ICVLen), v.Packet)
				pspOpenBoth(t, w, r, random, v.Name, v.Packet, placement, v.Extension, text)
			}
			s.Close()
			r.Close()
			g.Close()
		}
	})
}

// All packets that are accepted or refused, in bursts, each with its own status.
func TestPSPVectorsOpen(t *testing.T) {
	vs := loadPSP(t)
	enough(t, len(vs.Accepted), 454)
	enough(t, len(vs.Refused), 3227)
	reasons := map[string]status.Code{"": status.OK, "short": status.ErrShort, "version": status.ErrVersion, "reserved": status.ErrReserved,
		"header_len": status.ErrHeaderLen, "offset": status.ErrOffset, "no_key": status.ErrNoKey, "auth": status.ErrAuth}
	by := map[string][]*pspVector{}
	for _, part := range [][]pspVector{vs.Accepted, vs.Refused} {
		for i := range part {
			v := &part[i]
			if _, known := reasons[v.Reason]; !known {
				t.Fatal(v.Reason)
			}
			name := fmt.Sprint(v.DeviceKeys, v.Versions)
			by[name] = append(by[name], v)
		}
	}
	eachBackend(t, func(t *testing.T) {
		for _, vs := range by {
			keys := vs[0].keys()
			r := newReceiver(t, ReceiverConfig{}, pspGroup(t, vs[0].set(), keys[0], keys[1]))
			for _, dst := range []bool{false, true} {
				pkts := make([]Packet, len(vs))
				for i, v := range vs {
					if pkts[i] = whole(v.Packet); dst {
						pkts[i].Dst = make([]byte, len(v.Packet))
					}
				}
				r.Open(pkts)
				for i, v := range vs {
					p, want := pkts[i], reasons[v.Reason]
					c, o := pspModel(v.Packet, v.set(), keys)
					if p.Status != want || c != want {
						t.Fatalf("%s: %v, model %v, want %v", v.Name, p.Status, c, want)
					}
					switch want {
					case status.OK:
						if p.ID != uint64(v.SPI) || p.TSC != v.IV || p.COffset != v.COffset || p.NextHeader != v.NextHeader || !bytes.Equal(o.payload, v.Payload) || !bytes.Equal(o.ext, v.Extension) {
							t.Fatalf("%s: %+v", v.Name, p)
						}
						if !dst {
							wantOctets(t, v.Name, p.Buf[16:16+len(o.ext)], v.Extension)
						}
						wantOctets(t, v.Name, p.Out, v.Payload)
					case status.ErrAuth:
						left := bytes.Clone(v.Packet)
						h := 8 + 8*int(left[1])
						if dst {
							left = make([]byte, len(left))
							wantOctets(t, v.Name, p.Dst, left)
							wantOctets(t, v.Name, p.Buf, v.Packet)
						} else {
							clear(left[h+o.clear-o.hidden : len(left)-ICVLen])
							wantOctets(t, v.Name, p.Buf, left)
						}
					default:
						if p.Out != nil || !bytes.Equal(p.Buf, v.Packet) || !allZero(p.Dst) {
							t.Fatalf("%s: written to", v.Name)
						}
					}
				}
			}
		}
	})
}

func TestPSPVectorsDerive(t *testing.T) {
	vs := loadPSP(t).Derive
	enough(t, len(vs), 28)
	vs = append(vs,
		pspVector{Name: "known, version 0", DeviceKey: pspKeys[1], SPI: 0x9a345678, DataKey: must(hex.DecodeString("3946da2554eae46ad1ef77a64372edc4"))},
		pspVector{Name: "known, version 1", DeviceKey: pspKeys[1], Version: 1, SPI: 0x9a345678, DataKey: must(hex.DecodeString("fa00f609df6020289a1c93d6027081a637ad45b24a5576b36e6f49dd43114d80"))})
	eachBackend(t, func(t *testing.T) {
		for _, v := range vs {
			g := newGroup(t, "", GroupConfig{Profile: ProfilePSP, Versions: pspEvery, AEAD: AEAD(v.Version & 1)})
			if err := g.SetKey(int(v.SPI>>31), v.DeviceKey); err != nil {
				t.Fatal(err)
			}
			out := make([]byte, 3*g.KeyLen())
			c := Context{ID: uint64(v.SPI), V: v.Version}
			if err := g.DeriveKeys([]Context{c, {ID: uint64(v.SPI ^ 4), V: v.Version}, c}, out); err != nil {
				t.Fatal(v.Name, err)
			}
			wantOctets(t, v.Name, out[:g.KeyLen()], v.DataKey)
			wantOctets(t, v.Name, out[2*g.KeyLen():], v.DataKey)
			k := must(g.ExportDataKey(c, false))
			wantOctets(t, v.Name, k.Key[:k.KeyLen], v.DataKey)
			if !allZero(k.Key[k.KeyLen:]) || k.ID != c.ID || k.V != c.V || k.Profile != uint8(ProfilePSP) {
				t.Fatalf("%s: %+v", v.Name, k)
			}
			g.Close()
		}
	})
}
