#include "textflag.h"

// func callThen(f uintptr, args *[6]uintptr, wide int, to *registers)
TEXT ·callThen(SB), NOSPLIT, $56-32
	MOVD args+8(FP), R0
	LDP  0(R0), (R1, R2)
	STP  (R1, R2), 8(RSP)
	LDP  16(R0), (R1, R2)
	STP  (R1, R2), 24(RSP)
	LDP  32(R0), (R1, R2)
	STP  (R1, R2), 40(RSP)
	MOVD f+0(FP), R0
	BL   (R0)
	MOVD to+24(FP), R0
	BL   save<>(SB)
	RET

// func readRegisters(wide int, to *registers)
TEXT ·readRegisters(SB), NOSPLIT, $0-16
	MOVD to+8(FP), R0
	B    save<>(SB)

// R0 says where the registers go.
TEXT save<>(SB), NOSPLIT, $0-0
	FMOVQ F0, 0(R0)
	FMOVQ F1, 64(R0)
	FMOVQ F2, 128(R0)
	FMOVQ F3, 192(R0)
	FMOVQ F4, 256(R0)
	FMOVQ F5, 320(R0)
	FMOVQ F6, 384(R0)
	FMOVQ F7, 448(R0)
	FMOVQ F8, 512(R0)
	FMOVQ F9, 576(R0)
	FMOVQ F10, 640(R0)
	FMOVQ F11, 704(R0)
	FMOVQ F12, 768(R0)
	FMOVQ F13, 832(R0)
	FMOVQ F14, 896(R0)
	FMOVQ F15, 960(R0)
	FMOVQ F16, 1024(R0)
	FMOVQ F17, 1088(R0)
	FMOVQ F18, 1152(R0)
	FMOVQ F19, 1216(R0)
	FMOVQ F20, 1280(R0)
	FMOVQ F21, 1344(R0)
	FMOVQ F22, 1408(R0)
	FMOVQ F23, 1472(R0)
	FMOVQ F24, 1536(R0)
	FMOVQ F25, 1600(R0)
	FMOVQ F26, 1664(R0)
	FMOVQ F27, 1728(R0)
	FMOVQ F28, 1792(R0)
	FMOVQ F29, 1856(R0)
	FMOVQ F30, 1920(R0)
	FMOVQ F31, 1984(R0)
	RET

// func belowStack(to *[belowBytes]byte)
TEXT ·belowStack(SB), NOSPLIT, $0-8
	MOVD to+0(FP), R0
	MOVD RSP, R1
	SUB  $6144, R1
	MOVD $768, R2

more:
	MOVD.P 8(R1), R3
	MOVD.P R3, 8(R0)
	SUBS $1, R2
	BNE  more
	RET
