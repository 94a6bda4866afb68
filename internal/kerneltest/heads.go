package kerneltest

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"testing"
	"unsafe"

	"libeesp/internal/kernel"
)

// heads tests bodies whose first four octets are in the job (kernel.Direct's HeadLeast). They are
// sealed and opened as one body, and the octets in front of the others are neither read nor written.
func (s *suite) heads(t *testing.T) {
	r := s.rig
	if r.be.Direct == nil || r.be.Direct.HeadLeast == 0 {
		t.Skip("no kernel takes them")
	}
	const head, most = 4, 3
	src := newSource(t, maxText)
	for round := range 2000 {
		least := int(r.be.Direct.HeadLeast)
		keyLen, n := 16<<(round&1), 1+src.IntN(most)
		jobs := unsafe.Slice((*kernel.Job)(r.jobs.at(n*int(unsafe.Sizeof(kernel.Job{})), atEnd).pointer()), n)
		key := src.key()
		keys, area := r.keys.at(keyLen, atEnd), r.area.aligned(4*r.be.KeyBytes, atEnd)
		copy(keys.bytes(), key[:])
		block, err := aes.NewCipher(key[:keyLen])
		if err != nil {
			t.Fatal(err)
		}
		gcm, err := cipher.NewGCM(block)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.call("Expand", 1, func(x unsafe.Pointer) { r.be.Expand(area.pointer(), keys.pointer(), 1, keyLen, x) }); err != nil {
			t.Fatal(err)
		}
		var text, sealed [most][]byte
		var whole, rest [most]span // bodies with their heads, and without
		size := least + src.IntN(600)
		for i := range n {
			j := &jobs[i]
			aad := src.octets(src.IntN(100))
			apart := src.IntN(4) != 0 // false: there is no head
			body := append([]byte{0, 0, byte(src.Uint32()), byte(src.Uint32())}, src.octets(size-head)...)
			nonce := [12]byte(src.octets(12))
			text[i], sealed[i] = body, gcm.Seal(nil, nonce[:], body, aad)
			from := 0
			if apart {
				from = head
			}
			whole[i], rest[i] = r.dst[i].at(size+kernel.TagSize, src.place()), r.src[i].at(size-from, src.place())
			whole[i].fence()
			rest[i].fence()
			copy(rest[i].bytes(), body[from:])
			at := r.aad[i].at(len(aad), atEnd)
			copy(at.bytes(), aad)
			*j = kernel.Job{AAD: at.pointer(), Src: unsafe.Add(rest[i].pointer(), -from), Dst: whole[i].pointer(), Tag: whole[i].sub(size, kernel.TagSize).pointer(),
				AADLen: uint32(len(aad)), Len: uint32(size), Nonce: nonce}
			if apart {
				*(*[head]byte)(unsafe.Pointer(&j.Reserved)) = [head]byte{15, 0, body[2], body[3]}
			}
			size += src.IntN(300)
		}
		if err := r.call("Seal", n, func(x unsafe.Pointer) { r.be.Seal(area.pointer(), &jobs[0], n, keyLen, kernel.Shared, x) }); err != nil {
			t.Fatal(err)
		}
		for i := range n {
			if !bytes.Equal(whole[i].bytes(), sealed[i]) {
				t.Fatalf("packet %d of %d, %d octets, head %#x: not sealed as one text", i, n, len(text[i]), jobs[i].Reserved)
			}
			jobs[i].Src, jobs[i].Dst = jobs[i].Dst, jobs[i].Src // opened to where it came from
			clear(rest[i].bytes())
		}
		var forged [most]bool
		for i := range n {
			if forged[i] = src.IntN(8) == 0; forged[i] {
				whole[i].bytes()[src.IntN(len(text[i])+kernel.TagSize)] ^= 0x10
			}
		}
		if err := r.call("Open", n, func(x unsafe.Pointer) { r.be.Open(area.pointer(), &jobs[0], n, keyLen, kernel.Shared, x) }); err != nil {
			t.Fatal(err)
		}
		for i := range n {
			j, from := &jobs[i], len(text[i])-len(rest[i].bytes())
			for _, x := range []span{whole[i], rest[i]} {
				if err := x.intact(); err != nil {
					t.Fatal(err)
				}
			}
			if (j.OK == 1) == forged[i] {
				t.Fatalf("forged %t, OK %d", forged[i], j.OK)
			}
			if forged[i] {
				continue
			}
			got := append([]byte(nil), rest[i].bytes()...)
			if from == head {
				got = append((*[head]byte)(unsafe.Pointer(&j.Reserved))[:], got...)
			} else if j.Reserved != 0 {
				t.Fatalf("Reserved is %#x", j.Reserved)
			}
			if !bytes.Equal(got, text[i]) {
				t.Fatalf("packet %d of %d, %d octets, head %d: not opened as one text", i, n, len(text[i]), from)
			}
		}
	}
}
