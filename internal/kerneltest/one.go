package kerneltest

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"testing"
	"unsafe"

	"libeesp/internal/kernel"
)

// single is the memory whose addresses a kernel gets. It is on the heap, since kept refers to it.
type single struct {
	jobs      [1]kernel.Job
	msgs      [9 * 16]byte
	sub       [16]byte
	aad       [64]byte
	text, out [600]byte
	tag       [16]byte
}

var kept *single

// derived calls the kernel for single packets as C does, so that it derives keys and what
// is added to nonces. Packets are as with values that the reference CMAC derives.
func (s *suite) derived(t *testing.T) {
	d := s.rig.be.Direct
	if d == nil || d.OneLimit == 0 {
		t.Skip("there is none")
	}
	kept = new(single)
	src := newSource(t, maxText)
	scratch := s.rig.scratch.at(kernel.ScratchBytes, atEnd).pointer()
	for round := range 400 {
		size, blocks, masked := round&1, 1+round/2%max(1, int(d.OneBlocks)), d.OneBlocks != 0 && src.IntN(2) == 0
		master := src.key()
		c, err := newCMAC(master[:])
		if err != nil {
			t.Fatal(err)
		}
		m, orSub := s.rig.newMaster(&master), &c.k1
		if src.IntN(2) == 0 {
			orSub = &c.k2
		}
		kept.sub = *orSub
		copy(kept.msgs[:], src.octets(len(kept.msgs)))
		var out []byte
		for i := range 3 {
			x := c.mac(kept.msgs[i*blocks*16:][:blocks*16], orSub)
			out = append(out, x[:]...)
		}
		key, more := out[:16<<size], out[16<<size:]
		aad, text, given := src.octets(src.IntN(min(int(d.OneAAD), len(kept.aad))+1)), src.octets(src.IntN(len(kept.text))), [12]byte(src.octets(12))
		nonce, n := given, uintptr(blocks)
		if masked {
			n |= 4
			for i := range nonce {
				nonce[i] ^= more[i]
			}
		}
		block, err := aes.NewCipher(key)
		if err != nil {
			t.Fatal(err)
		}
		gcm, err := cipher.NewGCM(block)
		if err != nil {
			t.Fatal(err)
		}
		sealed := gcm.Seal(nil, nonce[:], text, aad)
		for seal := range 2 {
			from, want := sealed[:len(text)], text
			if seal == 1 {
				from, want = want, from
			}
			copy(kept.aad[:], aad)
			copy(kept.text[:], from)
			copy(kept.tag[:], sealed[len(text):])
			if seal == 1 {
				kept.tag = [16]byte{}
			}
			kept.jobs[0] = kernel.Job{AAD: unsafe.Pointer(&kept.aad), Src: unsafe.Pointer(&kept.text), Dst: unsafe.Pointer(&kept.out), Tag: unsafe.Pointer(&kept.tag),
				AADLen: uint32(len(aad)), Len: uint32(len(text)), Nonce: given}
			s.rig.clean(t, "one", d.One[size][seal], [6]uintptr{uintptr(unsafe.Pointer(&kept.msgs)), uintptr(unsafe.Pointer(&kept.jobs)), n,
				uintptr(scratch), uintptr(unsafe.Pointer(&m.RK)), uintptr(unsafe.Pointer(&kept.sub))})
			if !bytes.Equal(kept.out[:len(text)], want) || !bytes.Equal(kept.tag[:], sealed[len(text):]) || seal == 0 && kept.jobs[0].OK != 1 {
				t.Fatalf("seal %d, AES-%d, %d blocks, masked %v, %d octets, %d of AAD: not what AES-GCM makes", seal, 128<<size, blocks, masked, len(text), len(aad))
			}
		}
	}
}
