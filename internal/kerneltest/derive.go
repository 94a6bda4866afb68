package kerneltest

import (
	"crypto/aes"
	"crypto/cipher"
	"errors"
	"fmt"
	"unsafe"
)

// cmac is AES-CMAC with crypto/aes, of whole messages.
type cmac struct {
	block  cipher.Block
	k1, k2 [16]byte
}

func newCMAC(key []byte) (*cmac, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	c := &cmac{block: block}
	block.Encrypt(c.k1[:], c.k1[:])
	c.k1 = double(c.k1)
	c.k2 = double(c.k1)
	return c, nil
}

// double is the subkey step of RFC 4493, bit by bit.
func double(in [16]byte) (out [16]byte) {
	for i := range out {
		out[i] = in[i] << 1
		if i < 15 {
			out[i] |= in[i+1] >> 7
		}
	}
	if in[0]&0x80 != 0 {
		out[15] ^= 0x87
	}
	return out
}

// mac is CBC-MAC over whole blocks, with sub in the last.
func (c *cmac) mac(msg []byte, sub *[16]byte) (x [16]byte) {
	for at := 0; at < len(msg); at += 16 {
		for j := range x {
			x[j] ^= msg[at+j]
			if at+16 == len(msg) {
				x[j] ^= sub[j]
			}
		}
		c.block.Encrypt(x[:], x[:])
	}
	return x
}

// pad makes whole blocks of a message and says whether it was padded, that is
// whether K2 is to be used.
func pad(msg []byte) ([]byte, bool) {
	if len(msg) > 0 && len(msg)%16 == 0 {
		return msg, false
	}
	p := append([]byte(nil), msg...)
	p = append(p, 0x80)
	for len(p)%16 != 0 {
		p = append(p, 0)
	}
	return p, true
}

// CMAC is AES-CMAC of a message, with crypto/aes.
func CMAC(key, msg []byte) ([16]byte, error) {
	c, err := newCMAC(key)
	if err != nil {
		return [16]byte{}, err
	}
	blocks, padded := pad(msg)
	if padded {
		return c.mac(blocks, &c.k2), nil
	}
	return c.mac(blocks, &c.k1), nil
}

// A derivation is one call of Derive.
type derivation struct {
	key       [32]byte
	n, blocks int
	padded    bool   // K2
	msgs      []byte // n*blocks*16 octets
	in, out   where
	inPlace   bool
	want      []byte // n*16 octets; nil: computed with crypto/aes
}

func (d *derivation) failed(format string, a ...any) error {
	return fmt.Errorf("derive: n %d, blocks %d, K2 %v, msgs %v, out %v, in place %v: %s",
		d.n, d.blocks, d.padded, d.in, d.out, d.inPlace, fmt.Sprintf(format, a...))
}

func (r *rig) derive(d *derivation) error {
	oracle, err := newCMAC(d.key[:])
	if err != nil {
		return err
	}
	m := r.newMaster(&d.key)
	if m.K1 != oracle.k1 || m.K2 != oracle.k2 {
		return errors.New("ExpandMaster: wrong subkeys")
	}
	sub, orSub := &m.K1, &oracle.k1
	if d.padded {
		sub, orSub = &m.K2, &oracle.k2
	}
	size := d.blocks * 16
	want := d.want
	if want == nil {
		for i := range d.n {
			x := oracle.mac(d.msgs[i*size:][:size], orSub)
			want = append(want, x[:]...)
		}
	}
	msgs, out := r.msgs.at(d.n*size, d.in), r.out.at(d.n*16, d.out)
	if d.inPlace {
		out = msgs
	}
	msgs.fence()
	out.fence()
	junk(out.bytes())
	copy(msgs.bytes(), d.msgs)
	was := *m
	err = r.call("Derive", d.n, func(scratch unsafe.Pointer) {
		r.be.Derive(out.pointer(), msgs.pointer(), d.n, d.blocks, m, sub, scratch)
	})
	if err != nil {
		return d.failed("%v", err)
	}
	if at := differ(out.bytes(), want); at >= 0 {
		return d.failed("result %d is %x, want %x", at/16, out.bytes()[at&^15:][:16], want[at&^15:][:16])
	}
	if err := out.intact(); err != nil {
		return d.failed("out: %v", err)
	}
	if err := msgs.intact(); err != nil {
		return d.failed("msgs: %v", err)
	}
	if !d.inPlace && differ(msgs.bytes(), d.msgs) >= 0 {
		return d.failed("msgs were changed")
	}
	if *m != was {
		return d.failed("the master key was changed")
	}
	return nil
}
