// SHA-256 with the CPU's own instructions, which Intel and AMD have had since 2017.

#include "textflag.h"

// func cpu() bool
// Leaf 7 has SHA, leaf 1 SSSE3 and SSE4.1.
TEXT ·cpu(SB), NOSPLIT, $0-1
	MOVB $0, ret+0(FP)
	XORL AX, AX
	CPUID
	CMPL AX, $7
	JLT  no
	MOVL $1, AX
	XORL CX, CX
	CPUID
	ANDL $0x80200, CX
	CMPL CX, $0x80200
	JNE  no
	MOVL $7, AX
	XORL CX, CX
	CPUID
	SHRL $29, BX
	ANDL $1, BX
	MOVB BX, ret+0(FP)
no:
	RET

// Four rounds with the words in m and their constants. X1 has the state's A, B, E and F, X2 the others.
#define ROUNDS(m, i) \
	MOVOU        (16*i)(DX), X0; \
	PADDD        m, X0; \
	SHA256RNDS2  X0, X1, X2; \
	PSHUFD       $0x0e, X0, X0; \
	SHA256RNDS2  X0, X2, X1

#define LOAD(m, i) \
	MOVOU  (16*i)(SI), m; \
	PSHUFB X9, m

// The words after m, before and two more, in next, for which SHA256MSG1 was done.
#define NEXT(before, m, next) \
	MOVO       m, X3; \
	PALIGNR    $4, before, X3; \
	PADDD      X3, next; \
	SHA256MSG2 m, next

DATA flip<>+0(SB)/8, $0x0405060700010203
DATA flip<>+8(SB)/8, $0x0c0d0e0f08090a0b
GLOBL flip<>(SB), RODATA|NOPTR, $16

// func blocks256(h *[8]uint32, k *[64]uint32, p []byte)
TEXT ·blocks256(SB), NOSPLIT, $0-40
	MOVQ    h+0(FP), DI
	MOVQ    k+8(FP), DX
	MOVQ    p_base+16(FP), SI
	MOVQ    p_len+24(FP), CX
	MOVOU   flip<>(SB), X9
	MOVOU   (DI), X3
	MOVOU   16(DI), X2
	PSHUFD  $0xb1, X3, X3
	PSHUFD  $0x1b, X2, X2
	MOVO    X3, X1
	PALIGNR $8, X2, X1
	PBLENDW $0xf0, X3, X2
	SHRQ    $6, CX
	JZ      end
block:
	MOVO X1, X10
	MOVO X2, X11
	LOAD(X4, 0)
	ROUNDS(X4, 0)
	LOAD(X5, 1)
	ROUNDS(X5, 1)
	SHA256MSG1 X5, X4
	LOAD(X6, 2)
	ROUNDS(X6, 2)
	SHA256MSG1 X6, X5
	LOAD(X7, 3)
	ROUNDS(X7, 3)
	NEXT(X6, X7, X4)
	SHA256MSG1 X7, X6
	ROUNDS(X4, 4)
	NEXT(X7, X4, X5)
	SHA256MSG1 X4, X7
	ROUNDS(X5, 5)
	NEXT(X4, X5, X6)
	SHA256MSG1 X5, X4
	ROUNDS(X6, 6)
	NEXT(X5, X6, X7)
	SHA256MSG1 X6, X5
	ROUNDS(X7, 7)
	NEXT(X6, X7, X4)
	SHA256MSG1 X7, X6
	ROUNDS(X4, 8)
	NEXT(X7, X4, X5)
	SHA256MSG1 X4, X7
	ROUNDS(X5, 9)
	NEXT(X4, X5, X6)
	SHA256MSG1 X5, X4
	ROUNDS(X6, 10)
	NEXT(X5, X6, X7)
	SHA256MSG1 X6, X5
	ROUNDS(X7, 11)
	NEXT(X6, X7, X4)
	SHA256MSG1 X7, X6
	ROUNDS(X4, 12)
	NEXT(X7, X4, X5)
	SHA256MSG1 X4, X7
	ROUNDS(X5, 13)
	NEXT(X4, X5, X6)
	ROUNDS(X6, 14)
	NEXT(X5, X6, X7)
	ROUNDS(X7, 15)
	PADDD X10, X1
	PADDD X11, X2
	ADDQ  $64, SI
	DECQ  CX
	JNZ   block
end:
	PSHUFD  $0x1b, X1, X3
	PSHUFD  $0xb1, X2, X2
	MOVO    X3, X1
	PBLENDW $0xf0, X2, X1
	PALIGNR $8, X3, X2
	MOVOU   X1, (DI)
	MOVOU   X2, 16(DI)
	PXOR X0, X0
	PXOR X1, X1
	PXOR X2, X2
	PXOR X3, X3
	PXOR X4, X4
	PXOR X5, X5
	PXOR X6, X6
	PXOR X7, X7
	PXOR X10, X10
	PXOR X11, X11
	RET
