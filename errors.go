package eesp

import "libeesp/internal/status"

// Status is the outcome of a call or of one packet. Every error that this
// package returns wraps one: errors.Is(err, eesp.ErrAuth) works.
type Status = status.Code

// The outcomes. They have the numbers of enum eesp_status in include/eesp.h.
const (
	// statuses: begin
	OK             = status.OK             // success
	ErrArgument    = status.ErrArgument    // NULL, out of range, or contradictory
	ErrAuth        = status.ErrAuth        // the ICV is wrong: forged or damaged packet
	ErrReplay      = status.ErrReplay      // seen before, or older than the replay window
	ErrNoKey       = status.ErrNoKey       // no key here for the packet: root key, slot, SDI or SPI
	ErrShort       = status.ErrShort       // the packet ends before its header or ICV does
	ErrVersion     = status.ErrVersion     // header field Version
	ErrV           = status.ErrV           // header field V
	ErrReserved    = status.ErrReserved    // header field Reserve, or a reserved bit, is not zero
	ErrHeaderLen   = status.ErrHeaderLen   // header field HL (psp: Hdr Ext Len; eesp: Opt Len)
	ErrOffset      = status.ErrOffset      // an offset (COffset, IOffset, crypt offset) out of range
	ErrOption      = status.ErrOption      // option unknown, repeated, out of order, malformed
	ErrRoom        = status.ErrRoom        // headroom, tailroom or destination too small
	ErrTooLong     = status.ErrTooLong     // longer than EESP_MAX_LEN
	ErrOverlap     = status.ErrOverlap     // source and destination overlap in part
	ErrExhausted   = status.ErrExhausted   // no counter left in this epoch
	ErrClock       = status.ErrClock       // wall clock stepped back, or slower than the sender
	ErrState       = status.ErrState       // counter state file cannot be used
	ErrReflected   = status.ErrReflected   // packet carries an ID that this end sends with
	ErrContext     = status.ErrContext     // packet is not of this data key's context
	ErrForked      = status.ErrForked      // called in a forked child
	ErrSelfTest    = status.ErrSelfTest    // a known-answer test failed
	ErrBackend     = status.ErrBackend     // backend unknown, or this CPU lacks it
	ErrMemory      = status.ErrMemory      // memory cannot be allocated or locked
	ErrRootKey     = status.ErrRootKey     // root key not valid
	ErrExists      = status.ErrExists      // there is one already
	ErrNotFound    = status.ErrNotFound    // there is none: root key, key, group
	ErrUnsupported = status.ErrUnsupported // not offered by this profile or version
	ErrInternal    = status.ErrInternal    // a bug in the library; nothing was output
	ErrSegments    = status.ErrSegments    // segments of a chained packet do not fit the rules
	ErrEpoch       = status.ErrEpoch       // tss: epoch further behind the group's than epoch_age
	ErrSession     = status.ErrSession     // eesp: no Sub SA of this SA has that Session ID
	ErrSequence    = status.ErrSequence    // eesp: sequence number 0
	ErrPayload     = status.ErrPayload     // eesp: authentic, but Payload Info Header or padding is malformed
	ErrWindows     = status.ErrWindows     // no replay window is left for a packet of a new context
	ErrEncap       = status.ErrEncap       // outer IP or UDP header is not as expected
	ErrDummy       = status.ErrDummy       // eesp: authentic, but a dummy packet (Next Header 59): discarded
	ErrLatched     = status.ErrLatched     // tss: the group drops packets: too many were not authentic
	ErrStale       = status.ErrStale       // time: older than max_age_us
	ErrEarly       = status.ErrEarly       // time: further ahead of the clock than max_early_us
	ErrFull        = status.ErrFull        // time: more packets than max_rate
	ErrFenced      = status.ErrFenced      // another machine has this one's IDs: nothing is sealed
	ErrOutOfTouch  = status.ErrOutOfTouch  // agent or servers were silent for too long: nothing is sealed
	ErrAgent       = status.ErrAgent       // no agent to follow, or it refuses
	ErrTimeout     = status.ErrTimeout     // not done within the timeout
	ErrFlooded     = status.ErrFlooded     // eesp: not checked: a new Sub SA, while too many such packets are forged
	// statuses: end
)
