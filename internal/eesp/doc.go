// Package eesp is the implementation of the root package and of the C library:
// groups, senders, receivers, proxies, and following an agent.
//
// The root package has the same functions and types, and calls these. Functions
// without a comment here are documented there. Functions that are exported only here
// are for the C library, which passes bursts to internal/burst with its own workers.
// The C library is built with the tag eesp_c, which leaves out the Go API's packets and
// with them net/netip.
//
// Tests of one profile are in files that begin with its name (stateless_, psp_, tss_,
// eesp_); the other files test what all profiles share.
package eesp

import (
	"libeesp/internal/burst"
	"libeesp/internal/profile"
)

const (
	ICVLen    = 16
	MaxHeader = 128
	MaxLen    = profile.MaxLen
	MaxGroups = burst.MaxGroups
)

const (
	VID           = 0x0
	VIDSrc        = 0x1
	VIDSrcDst     = 0x2
	VLongID       = 0x8
	VLongIDSrc    = 0x9
	VLongIDSrcDst = 0xA
)

const (
	VTSSAddr     = profile.TSSAddr
	VTSSSSI      = profile.TSSSSI
	VTSSAddrIPv6 = profile.TSSAddr6
	VTSSSSIIPv6  = profile.TSSSSI6
)

// addresses says which a packet must have.
type addresses uint8

// The first two are as V has them.
const (
	needSrc addresses = VIDSrc
	needDst addresses = VIDSrcDst
	ofProxy addresses = 4 // those for sealing, where there are any
)
