package asm

import (
	"bytes"
	"strings"
	"unsafe"

	"libeesp/internal/generic"
	"libeesp/internal/kernel"
	"libeesp/internal/say"
	"libeesp/internal/secmem"
	"libeesp/internal/status"
)

type testMemory struct {
	master  kernel.Master
	area    [kernel.Chunk * kernel.MaxKeyBytes]byte
	keys    [kernel.Chunk * 32]byte
	msgs    [kernel.Chunk * 32]byte
	scratch [kernel.ScratchBytes]byte
	text    [kernel.Chunk][320]byte
}

// Known answers: AES-256-CMAC of the one-block message in NIST SP 800-38B, example D.3, and
// test cases 4 and 16 of the GCM specification, which have AAD and a partial last block.
const (
	katCMACKey = "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4"
	katCMACMsg = "6bc1bee22e409f96e93d7e117393172a"
	katCMAC    = "28a7023f452e8f82bd4bf28d8c37c35c"
	katKey     = "feffe9928665731c6d6a8f9467308308"
	katNonce   = "cafebabefacedbaddecaf888"
	katAAD     = "feedfacedeadbeeffeedfacedeadbeefabaddad2"
	katPlain   = "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39"
	kat128     = "42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e21d514b25466931c7d8f6a5aac84aa051ba30b396a0aac973d58e091"
	kat128Tag  = "5bc94fbc3221a5db94fae95ae7121a47"
	kat256     = "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662"
	kat256Tag  = "76fc6ece0f4e1768cddf8853bb2d551b"
)

func unhex(s string) []byte {
	b := make([]byte, len(s)/2)
	for i := range s {
		const digits = "0123456789abcdef"
		b[i/2] = b[i/2]<<4 | byte(strings.IndexByte(digits, s[i]))
	}
	return b
}

// SelfTest compares a backend with the known answers, for several packets and for single
// ones, and checks that a wrong ICV is refused. The error is ErrSelfTest or ErrMemory.
func SelfTest(b *kernel.Backend) error {
	m, err := secmem.New[testMemory]()
	if err != nil {
		return err
	}
	defer secmem.Delete(m)
	var jobs [kernel.Chunk]kernel.Job // on the heap: the collector must see their pointers
	bad := func(what string) error {
		return say.Errorf("%w: backend %s: %s", status.ErrSelfTest, b.Name, what)
	}
	scratch := unsafe.Pointer(&m.scratch)
	generic.ExpandMaster(&m.master, (*[32]byte)(unhex(katCMACKey)), scratch)
	const n = 7 // neither a multiple of a vector's lanes nor a single packet
	for i := range n {
		copy(m.msgs[i*16:], unhex(katCMACMsg))
	}
	b.Derive(unsafe.Pointer(&m.keys), unsafe.Pointer(&m.msgs), n, 1, &m.master, &m.master.K1, scratch)
	for i := range n {
		if !bytes.Equal(m.keys[i*16:][:16], unhex(katCMAC)) {
			return bad("CMAC")
		}
	}
	nonce, aad, plain := unhex(katNonce), unhex(katAAD), unhex(katPlain)
	for _, c := range []struct {
		key, text, tag string
	}{{katKey, kat128, kat128Tag}, {katKey + katKey, kat256, kat256Tag}} {
		key, text, tag := unhex(c.key), unhex(c.text), unhex(c.tag)
		for _, mode := range []kernel.Mode{kernel.OneShot, kernel.Shared} {
			for i := range n {
				copy(m.keys[i*len(key):], key)
			}
			area := unsafe.Pointer(&m.keys)
			if mode == kernel.Shared {
				area = unsafe.Pointer(&m.area)
				b.Expand(area, unsafe.Pointer(&m.keys), n, len(key), scratch)
			}
			for i := range n {
				copy(m.text[i][:], plain)
				j := &jobs[i]
				p := unsafe.Pointer(&m.text[i])
				*j = kernel.Job{AAD: unsafe.Pointer(&aad[0]), AADLen: uint32(len(aad)), Src: p, Dst: p, Len: uint32(len(plain)),
					Tag: unsafe.Add(p, len(plain)), Key: uint32(i)}
				copy(j.Nonce[:], nonce)
			}
			b.Seal(area, &jobs[0], n, len(key), mode, scratch)
			for i := range n {
				if !bytes.Equal(m.text[i][:len(text)], text) || !bytes.Equal(m.text[i][len(text):][:16], tag) {
					return bad("GCM seal")
				}
			}
			m.text[2][len(text)+15] ^= 1 // one wrong ICV, one wrong ciphertext
			m.text[4][0] ^= 0x80
			b.Open(area, &jobs[0], n, len(key), mode, scratch)
			for i := range n {
				if good := i != 2 && i != 4; good != (jobs[i].OK == 1) {
					return bad("GCM open: verification")
				} else if good && !bytes.Equal(m.text[i][:len(plain)], plain) {
					return bad("GCM open")
				}
			}
		}
	}
	return nil
}
