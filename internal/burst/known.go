package burst

import (
	"strings"
	"unsafe"

	"libeesp/internal/counter"
	"libeesp/internal/kernel"
	"libeesp/internal/keys"
	"libeesp/internal/profile"
	"libeesp/internal/say"
	"libeesp/internal/sha2"
	"libeesp/internal/status"
	"libeesp/internal/wire"
)

// KnownCount is the number of packets with known octets (libeesp/known.c makes them).
const KnownCount = 33

// knowns are configurations with the SHA-256 of their sealed packets, one behind the other.
var knowns = [...]struct {
	params keys.Params
	seal   profile.SenderConfig
	epoch  uint16
	sum    string
}{
	{
		params: keys.Params{KeyLen: 16},
		seal:   profile.SenderConfig{V: 1, ID: 5, Levels: 1, Options: true},
		epoch:  3,
		sum:    "241f0cad88893f8b97ea4fffc381d08ac5f674119c99e9577dc2a07ad034984e",
	}, {
		params: keys.Params{Profile: 1, KeyLen: 16, Versions: 1},
		seal:   profile.SenderConfig{ID: 5},
		sum:    "66e72b86c3249d13717790159798ff9c7f9395faadc90dfaecff6c1c133dbb6f",
	}, {
		params: keys.Params{Profile: 2, KeyLen: 32, Domain: 5},
		seal:   profile.SenderConfig{V: profile.TSSSSI, ID: 5},
		epoch:  3,
		sum:    "5fdc9c413a1a1afb06e4552f96d58849a22fde11888e09bf2691ca3d3d454485",
	}, {
		params: keys.Params{Profile: 3, KeyLen: 16, Domain: 0x500, Mode: 1, Align: 4, EESP: wire.EESPFormat{Seq: true, Full: true, SubSAs: 8}},
		seal:   profile.SenderConfig{ID: 5},
		sum:    "7b45ef750163236b0626d0a2ca39ebf293a0dd7c5f756890e03f1c76080e2bd0",
	},
}

// Known is a sender with known keys, and a receiver of its packets.
type Known struct {
	s      Sender
	r      Receiver
	number int
	name   string
}

// Knowns is the number of configurations.
const Knowns = len(knowns)

// NewKnown makes the objects of a configuration.
func NewKnown(be *kernel.Backend, number int) (*Known, error) {
	c := &knowns[number]
	params := c.params
	p, err := profile.ByNumber(params.Profile)
	if err != nil {
		return nil, err
	}
	if err := p.Prepare(&params); err != nil {
		return nil, err
	}
	seal, err := p.Sealing(&params, &c.seal)
	if err != nil {
		return nil, err
	}
	open, err := p.Opening(&params, &profile.ReceiverConfig{Replay: number != 0})
	if err != nil {
		return nil, err
	}
	g, err := keys.NewGroup(params)
	if err != nil {
		return nil, err
	}
	var value [3][keys.ValueLen]byte
	for i := range value {
		for j := range value[i] {
			value[i][j] = byte(number<<6 | i<<5 | j)
		}
	}
	if params.Slots != 0 {
		err = g.SetKey(0, value[0][:32])
	} else {
		var k *keys.RootKey
		if k, err = keys.NewRootKey(make([]byte, 16), [3]uint64{1, 2, 3}, &value); err == nil {
			err = g.Set(0, k)
		}
	}
	var o *counter.Owner
	if err == nil {
		o, err = counter.New(counter.Config{Mode: counter.Explicit, FixedEpoch: seal.Epochs(), Epoch: c.epoch, Start: 1})
	}
	var w *Windows
	if err == nil && number != 0 { // stateless: each packet has a key of its own, and would need a window
		w, err = NewWindows(64, 4)
	}
	if err != nil {
		g.Release()
		return nil, err
	}
	return &Known{
		s:      Sender{Backend: be, Group: g, Counter: o, Sealing: seal},
		r:      Receiver{Backend: be, Groups: []*keys.Group{g}, Opening: open, Windows: w},
		number: number,
		name:   p.Name(),
	}, nil
}

// Plan publishes the plans, after a first packet has taken the general path, which makes a key
// and a window.
func (k *Known) Plan(w *Worker, seal, open *uintptr, direct uintptr) error {
	var buf [256]byte
	p := []profile.Desc{{Data: unsafe.Pointer(&buf[128]), Len: 64, Headroom: 128, Tailroom: 64}}
	if w.Seal(&k.s, p) != 1 {
		return k.Failed("seal in Go")
	}
	prefix := uint32(0)
	if k.r.Groups[0].Params().State != nil { // tss
		prefix = wire.TSSPrefix4
	}
	p[0] = profile.Desc{Data: unsafe.Add(unsafe.Pointer(&buf), p[0].Out-uintptr(unsafe.Pointer(&buf))), Len: p[0].OutLen, Headroom: prefix}
	if w.Open(&k.r, p) != 1 {
		return k.Failed("open in Go")
	}
	k.s.Plan(seal, direct)
	k.r.Plan(open, direct)
	return nil
}

// Check compares what C has sealed with the known octets.
func (k *Known) Check(sealed []byte) error {
	if sum := sha2.Sum256(sealed); string(sum[:]) != unhex(knowns[k.number].sum) {
		return k.Failed("seal")
	}
	return nil
}

// Failed returns an ErrSelfTest.
func (k *Known) Failed(what string) error {
	return say.Errorf("%w: fast path, backend %s, profile %s: %s", status.ErrSelfTest, k.s.Backend.Name, k.name, what)
}

// Close ends the plans' use.
func (k *Known) Close() {
	k.s.Unplan()
	k.r.Unplan()
	k.r.Windows.Close()
	k.r.Groups[0].Release()
}

func unhex(s string) string {
	const digits = "0123456789abcdef"
	b := make([]byte, len(s)/2)
	for i := range s {
		b[i/2] = b[i/2]<<4 | byte(strings.IndexByte(digits, s[i]))
	}
	return string(b)
}
