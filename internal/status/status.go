// Package status holds the one list of outcomes that a call or a packet may
// have. The numbers are part of the C ABI (include/eesp.h): append only.
package status

// Code is the outcome of a call or of one packet. Zero is success.
type Code int32

// The codes. To add one, append a line to statuses.txt and run `make generate`.
const (
	// statuses: begin
	OK             Code = 0   // success
	ErrArgument    Code = -1  // NULL, out of range, or contradictory
	ErrAuth        Code = -2  // the ICV is wrong: forged or damaged packet
	ErrReplay      Code = -3  // seen before, or older than the replay window
	ErrNoKey       Code = -4  // no key here for the packet: root key, slot, SDI or SPI
	ErrShort       Code = -5  // the packet ends before its header or ICV does
	ErrVersion     Code = -6  // header field Version
	ErrV           Code = -7  // header field V
	ErrReserved    Code = -8  // header field Reserve, or a reserved bit, is not zero
	ErrHeaderLen   Code = -9  // header field HL (psp: Hdr Ext Len; eesp: Opt Len)
	ErrOffset      Code = -10 // an offset (COffset, IOffset, crypt offset) out of range
	ErrOption      Code = -11 // option unknown, repeated, out of order, malformed
	ErrRoom        Code = -12 // headroom, tailroom or destination too small
	ErrTooLong     Code = -13 // longer than EESP_MAX_LEN
	ErrOverlap     Code = -14 // source and destination overlap in part
	ErrExhausted   Code = -15 // no counter left in this epoch
	ErrClock       Code = -16 // wall clock stepped back, or slower than the sender
	ErrState       Code = -17 // counter state file cannot be used
	ErrReflected   Code = -18 // packet carries an ID that this end sends with
	ErrContext     Code = -19 // packet is not of this data key's context
	ErrForked      Code = -20 // called in a forked child
	ErrSelfTest    Code = -21 // a known-answer test failed
	ErrBackend     Code = -22 // backend unknown, or this CPU lacks it
	ErrMemory      Code = -23 // memory cannot be allocated or locked
	ErrRootKey     Code = -24 // root key not valid
	ErrExists      Code = -25 // there is one already
	ErrNotFound    Code = -26 // there is none: root key, key, group
	ErrUnsupported Code = -27 // not offered by this profile or version
	ErrInternal    Code = -28 // a bug in the library; nothing was output
	ErrSegments    Code = -29 // segments of a chained packet do not fit the rules
	ErrEpoch       Code = -30 // tss: epoch further behind the group's than epoch_age
	ErrSession     Code = -31 // eesp: no Sub SA of this SA has that Session ID
	ErrSequence    Code = -32 // eesp: sequence number 0
	ErrPayload     Code = -33 // eesp: authentic, but Payload Info Header or padding is malformed
	ErrWindows     Code = -34 // no replay window is left for a packet of a new context
	ErrEncap       Code = -35 // outer IP or UDP header is not as expected
	ErrDummy       Code = -36 // eesp: authentic, but a dummy packet (Next Header 59): discarded
	ErrLatched     Code = -37 // tss: the group drops packets: too many were not authentic
	ErrStale       Code = -38 // time: older than max_age_us
	ErrEarly       Code = -39 // time: further ahead of the clock than max_early_us
	ErrFull        Code = -40 // time: more packets than max_rate
	ErrFenced      Code = -41 // another machine has this one's IDs: nothing is sealed
	ErrOutOfTouch  Code = -42 // agent or servers were silent for too long: nothing is sealed
	ErrAgent       Code = -43 // no agent to follow, or it refuses
	ErrTimeout     Code = -44 // not done within the timeout
	ErrFlooded     Code = -45 // eesp: not checked: a new Sub SA, while too many such packets are forged
	// statuses: end
)

// status count: begin

// Count is one more than the number of error codes.
const Count = 46

// status count: end

var text = [Count]string{
	// texts: begin
	"success",
	"invalid argument",
	"authentication failed: wrong ICV",
	"replayed or too old packet",
	"no key for this packet",
	"packet too short",
	"header: unsupported Version",
	"header: unsupported V",
	"header: Reserved bits are not zero",
	"header: wrong length field",
	"header: offset out of range",
	"header: bad option",
	"not enough headroom, tailroom or destination space",
	"packet too long",
	"source and destination overlap",
	"counter space of this epoch is exhausted",
	"wall clock stepped back or too slow for this rate",
	"counter state file cannot be used",
	"reflected packet: own sending ID",
	"packet is not of this data key's context",
	"called in a forked child process",
	"self-test failed",
	"backend unknown or not supported by this CPU",
	"memory cannot be allocated or locked",
	"invalid root key",
	"exists already",
	"not found",
	"not supported",
	"internal error",
	"segments of a chained packet not usable",
	"epoch too old",
	"Session ID is not one of this SA's",
	"sequence number 0",
	"authentic packet with malformed Payload Info Header or padding",
	"no replay window left for this context",
	"outer IP or UDP header not as expected",
	"authentic dummy packet, discarded",
	"domain drops packets: too many were not authentic",
	"packet too old for the clock",
	"ahead of the clock",
	"no space left for packets of that time",
	"fenced: another machine has these IDs",
	"out of touch for too long to seal",
	"no agent, or the agent refuses",
	"timed out",
	"new Sub SA, while many such packets are forged",
	// texts: end
}

// String is a short sentence without a final full stop.
func (c Code) String() string {
	if c <= 0 && c > -Count {
		return text[-c]
	}
	return "unknown status"
}

// Error makes Code an error. OK must not be returned as an error.
func (c Code) Error() string { return "eesp: " + c.String() }
