package main

import (
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// General registers. Every kernel has the first four in the same places.
var (
	jobsPtr    = reg.RDI // the current job, or the first of the current group
	keysPtr    = reg.RSI // raw keys, or rows of expanded ones
	scratchPtr = reg.RDX // scratch memory
	packets    = reg.RCX // how many: that are left, or (long kernels) in all

	// Hold a value for some instructions only.
	tempA = reg.RAX
	tempB = reg.R12
	tempC = reg.R13
	tempD = reg.R14
	tempE = reg.R15
)

// Of kernels for short packets, a lane each.
var (
	chunkAt     = reg.RBX // offset of the current chunk
	roundKeys   = reg.R8  // rows of the group's round keys
	longest     = reg.R9  // octets of its longest packet
	pendingAt   = reg.R10 // offset of the pending chunk
	pendingJobs = reg.R11 // its jobs
	secondJob   = reg.R10 // two lanes only: lane 1's job; jobsPtr is lane 0's
)

// Of kernels for long packets.
var (
	longIndex  = reg.RBX // number of the packet
	longLeft   = reg.R9  // its octets that are left
	tailPowers = reg.R8  // longPowersAt+256 from there is the power for the first block in longPending
	sixtyFour  = reg.R10
	allOnes    = reg.R11
)

// Of kernels for single packets.
var (
	oneAllOnes = reg.R10
	oneWindows = reg.R11 // how many windows are left
)

// job is a field of a lane's job.
func job(lane, field int) Mem { return at(jobsPtr, lane*jobSize+field) }

// jobs is the same field of four jobs.
func jobs(base reg.GPPhysical, field int) []Mem {
	var m []Mem
	for i := range 4 {
		m = append(m, at(base, i*jobSize+field))
	}
	return m
}
