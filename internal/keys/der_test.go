package keys

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// The reader accepts exactly what cryptobyte accepts: every tag, every form of a length with any number of
// octets behind it, and mutations of whole rings.
func TestDERBesideCryptobyte(t *testing.T) {
	same := func(in []byte) {
		t.Helper()
		for _, tag := range []byte{derInteger, derOctets, derSequence} {
			mine, theirs := in, cryptobyte.String(in)
			var want cryptobyte.String
			ok := theirs.ReadASN1(&want, asn1.Tag(tag))
			got, is := take(&mine, tag)
			if is != ok || is && (!bytes.Equal(got, want) || !bytes.Equal(mine, theirs)) {
				t.Fatalf("%x as %#x: %v %x, cryptobyte: %v %x", in[:min(len(in), 16)], tag, is, got, ok, want)
			}
		}
		var x int64
		s := cryptobyte.String(in)
		if want := s.ReadASN1Integer(&x) && x >= 0; len(in) > 0 && in[0] == derInteger {
			mine := in
			b, ok := take(&mine, derInteger)
			got, is := number(b)
			if is = is && ok; is != want || is && got != uint64(x) {
				t.Fatalf("%x: %v %d, cryptobyte: %v %d", in, is, got, want, x)
			}
		}
	}
	long := make([]byte, 1<<16+8)
	for tag := range 256 {
		for first := range 256 {
			for _, n := range []int{0, 1, 2, 3, 127, 128, 129, 255, 256, 65536} {
				for _, more := range [][]byte{nil, {0}, {1}, {0x7f}, {0x80}, {0xff}, {0, 0x80}, {1, 0}, {0, 1, 0}, {1, 0, 0}, {0, 0, 0, 1}, {0xff, 0xff, 0xff, 0xff}} {
					if tag > 0x31 && n > 3 || len(more) > 0 && first < 0x80 {
						continue
					}
					in := append(append(long[:0:len(long)], byte(tag), byte(first)), more...)
					same(in[:len(in)+min(n, len(long)-len(in))])
				}
			}
		}
	}
	for a := range 256 {
		for b := range 256 {
			for n := 1; n <= 10; n++ {
				in := append(append([]byte{derInteger, byte(n)}, byte(a), byte(b)), make([]byte, 8)...)
				same(in[:2+n])
			}
		}
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 20000 {
		in := make([]byte, r.IntN(12))
		for i := range in {
			in[i] = []byte{0, 1, 2, 4, 0x30, 0x7f, 0x80, 0x81, 0x82, 0x84, 0x85, 0xff}[r.IntN(12)]
		}
		same(in)
	}
}

// The writer writes the same octets as cryptobyte, and refuses a buffer that is one octet too short.
func TestDERWritten(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 2000 {
		id := make([]byte, 16+r.IntN(17))
		for i := range id {
			id[i] = byte(r.Uint32())
		}
		var value [3][ValueLen]byte
		for i := range value {
			value[i][0], value[i][31] = byte(i+1), byte(r.Uint32())
		}
		x := r.Uint64() >> (1 + r.IntN(60)) &^ 3
		index := [3]uint64{x, x + 1, x + 2}
		if x+2 >= 1<<63 {
			continue
		}
		k, err := NewRootKey(id, index, &value)
		if err != nil {
			t.Fatal(err)
		}
		b := cryptobyte.NewBuilder(nil)
		b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1OctetString(k.ID)
			b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
				for _, x := range k.Index {
					b.AddASN1Uint64(x)
				}
			})
			b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
				for i := range k.Value {
					b.AddASN1OctetString(k.Value[i][:])
				}
			})
		})
		want := b.BytesOrPanic()
		var got [DERLen]byte
		n, err := k.MarshalDER(got[:len(want)])
		if err != nil || !bytes.Equal(got[:n], want) {
			t.Fatalf("%v\n%x\n%x", err, got[:n], want)
		}
		if n, err := k.MarshalDER(got[:len(want)-1]); err == nil {
			t.Fatalf("%d octets in room for %d", n, len(want)-1)
		}
		k.Free()
	}
}
