package generic

import (
	"encoding/binary"
	"math/bits"
)

// A slice is four AES blocks in bit-sliced form: word i holds bit i of all 64 octets.
// Block b has the 16 bits from 16*b on; bit j of these belongs to octet j (FIPS-197 order:
// row j%4, column j/4). So a round key takes eight 16-bit words, and blocks with different
// keys can be processed side by side.
type slice [8]uint64

// fields repeats a pattern of 16 bits for all four blocks.
const fields = 0x0001000100010001

// swap exchanges the bits of b under mask m with the bits of a that lie n higher.
func swap(a, b uint64, m uint64, n uint) (uint64, uint64) {
	t := (a>>n ^ b) & m
	return a ^ t<<n, b ^ t
}

// within transposes each word as 8 by 8 bits.
func (q *slice) within() {
	for i, x := range q {
		t := (x ^ x>>7) & 0x00AA00AA00AA00AA
		x ^= t ^ t<<7
		t = (x ^ x>>14) & 0x0000CCCC0000CCCC
		x ^= t ^ t<<14
		t = (x ^ x>>28) & 0x00000000F0F0F0F0
		q[i] = x ^ t ^ t<<28
	}
}

// across transposes the words as 8 by 8 octets.
func (q *slice) across() {
	for i := 0; i < 8; i += 2 {
		q[i], q[i+1] = swap(q[i], q[i+1], 0x00FF00FF00FF00FF, 8)
	}
	for _, i := range [4]int{0, 1, 4, 5} {
		q[i], q[i+2] = swap(q[i], q[i+2], 0x0000FFFF0000FFFF, 16)
	}
	for i := range 4 {
		q[i], q[i+4] = swap(q[i], q[i+4], 0x00000000FFFFFFFF, 32)
	}
}

// pack reads four blocks.
func (q *slice) pack(b *[64]byte) {
	for i := range q {
		q[i] = binary.LittleEndian.Uint64(b[8*i:])
	}
	q.within()
	q.across()
}

// unpack writes four blocks and destroys q.
func (q *slice) unpack(b *[64]byte) {
	q.across()
	q.within()
	for i, x := range q {
		binary.LittleEndian.PutUint64(b[8*i:], x)
	}
}

func (q *slice) add(k *slice) {
	for i := range q {
		q[i] ^= k[i]
	}
}

// sub is SubBytes: the circuit of Boyar and Peralta, "A depth-16 circuit for
// the AES S-box" (2011), x0 being the most significant bit.
func (q *slice) sub() {
	x0, x1, x2, x3, x4, x5, x6, x7 := q[7], q[6], q[5], q[4], q[3], q[2], q[1], q[0]

	y14 := x3 ^ x5
	y13 := x0 ^ x6
	y9 := x0 ^ x3
	y8 := x0 ^ x5
	t0 := x1 ^ x2
	y1 := t0 ^ x7
	y4 := y1 ^ x3
	y12 := y13 ^ y14
	y2 := y1 ^ x0
	y5 := y1 ^ x6
	y3 := y5 ^ y8
	t1 := x4 ^ y12
	y15 := t1 ^ x5
	y20 := t1 ^ x1
	y6 := y15 ^ x7
	y10 := y15 ^ t0
	y11 := y20 ^ y9
	y7 := x7 ^ y11
	y17 := y10 ^ y11
	y19 := y10 ^ y8
	y16 := t0 ^ y11
	y21 := y13 ^ y16
	y18 := x0 ^ y16

	t2 := y12 & y15
	t4 := y3&y6 ^ t2
	t6 := y4&x7 ^ t2
	t7 := y13 & y16
	t9 := y5&y1 ^ t7
	t11 := y2&y7 ^ t7
	t12 := y9 & y11
	t14 := y14&y17 ^ t12
	t16 := y8&y10 ^ t12
	t21 := t4 ^ t14 ^ y20
	t22 := t6 ^ t16 ^ y19
	t23 := t9 ^ t14 ^ y21
	t24 := t11 ^ t16 ^ y18
	t25 := t21 ^ t22
	t26 := t21 & t23
	t27 := t24 ^ t26
	t29 := t25&t27 ^ t22
	t30 := t23 ^ t24
	t31 := t22 ^ t26
	t33 := t31&t30 ^ t24
	t34 := t23 ^ t33
	t35 := t27 ^ t33
	t36 := t24 & t35
	t37 := t36 ^ t34
	t38 := t27 ^ t36
	t40 := t25 ^ t29&t38
	t41 := t40 ^ t37
	t42 := t29 ^ t33
	t43 := t29 ^ t40
	t44 := t33 ^ t37
	t45 := t42 ^ t41

	z0 := t44 & y15
	z1 := t37 & y6
	z2 := t33 & x7
	z3 := t43 & y16
	z4 := t40 & y1
	z5 := t29 & y7
	z6 := t42 & y11
	z7 := t45 & y17
	z8 := t41 & y10
	z9 := t44 & y12
	z10 := t37 & y3
	z11 := t33 & y4
	z12 := t43 & y13
	z13 := t40 & y5
	z14 := t29 & y2
	z15 := t42 & y9
	z16 := t45 & y14
	z17 := t41 & y8

	t46 := z15 ^ z16
	t47 := z10 ^ z11
	t48 := z5 ^ z13
	t49 := z9 ^ z10
	t50 := z2 ^ z12
	t51 := z2 ^ z5
	t52 := z7 ^ z8
	t53 := z0 ^ z3
	t54 := z6 ^ z7
	t55 := z16 ^ z17
	t56 := z12 ^ t48
	t57 := t50 ^ t53
	t58 := z4 ^ t46
	t59 := z3 ^ t54
	t60 := t46 ^ t57
	t61 := z14 ^ t57
	t62 := t52 ^ t58
	t63 := t49 ^ t58
	t64 := z4 ^ t59
	t65 := t61 ^ t62
	t66 := z1 ^ t63
	t67 := t64 ^ t65
	s3 := t53 ^ t66
	q[7] = t59 ^ t63
	q[6] = t64 ^ ^s3
	q[5] = t55 ^ ^t67
	q[4] = s3
	q[3] = t51 ^ t66
	q[2] = t47 ^ t65
	q[1] = t56 ^ ^t62
	q[0] = t48 ^ ^t60
}

// shiftRows rotates row r of each block left by r columns of four bits.
func (q *slice) shiftRows() {
	for i, x := range q {
		q[i] = x&(0x1111*fields) |
			x>>4&(0x0222*fields) | x<<12&(0x2000*fields) |
			x>>8&(0x0044*fields) | x<<8&(0x4400*fields) |
			x>>12&(0x0008*fields) | x<<4&(0x8880*fields)
	}
}

// rows1 and rows2 rotate each column by one and two rows.
func rows1(x uint64) uint64 { return x>>1&0x7777777777777777 | x<<3&0x8888888888888888 }
func rows2(x uint64) uint64 { return x>>2&0x3333333333333333 | x<<2&0xCCCCCCCCCCCCCCCC }

// mixColumns computes 2*(a+b) + b + (c+d) of neighbours a, b, c, d in a column.
func (q *slice) mixColumns() {
	var s, t slice
	for i, x := range q {
		s[i] = rows1(x)
		t[i] = x ^ s[i]
	}
	for i := range q {
		double := t[(i+7)%8]
		if i == 1 || i == 3 || i == 4 { // x^8 = x^4 + x^3 + x + 1
			double ^= t[7]
		}
		q[i] = double ^ s[i] ^ rows2(t[i])
	}
}

// encrypt runs AES over the four blocks of q with rounds+1 round keys.
func (q *slice) encrypt(k []slice) {
	last := len(k) - 1
	q.add(&k[0])
	for r := 1; r < last; r++ {
		q.sub()
		q.shiftRows()
		q.mixColumns()
		q.add(&k[r])
	}
	q.sub()
	q.shiftRows()
	q.add(&k[last])
}

// atOnce is how many keys the key schedule processes side by side: SubWord of each takes
// four octets of a slice.
const atOnce = 16

// schedule is FIPS-197's KeyExpansion for up to atOnce keys, whose first
// keyLen/4 words (little-endian) are in w.
func schedule(w *[atOnce][60]uint32, keyLen int, q *slice) {
	nk := keyLen / 4
	total := 4 * (keyLen/4 + 7)
	rcon := uint32(1)
	for i := nk; i < total; i++ {
		if i%nk != 0 && (nk != 8 || i%nk != 4) {
			for j := range w {
				w[j][i] = w[j][i-1] ^ w[j][i-nk]
			}
			continue
		}
		for j := range q {
			q[j] = uint64(w[2*j][i-1]) | uint64(w[2*j+1][i-1])<<32
		}
		q.within() // the planes' order of octets does not matter here
		q.across()
		q.sub()
		q.across()
		q.within()
		for j := range w {
			t := uint32(q[j/2] >> (j % 2 * 32))
			if i%nk == 0 {
				t = bits.RotateLeft32(t, -8) ^ rcon
			}
			w[j][i] = t ^ w[j][i-nk]
		}
		if i%nk == 0 {
			rcon = rcon<<1 ^ rcon>>7*0x11B
		}
	}
}
