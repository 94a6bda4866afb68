// Package status holds the one list of outcomes that a call or a packet may
// have. The numbers are part of the C ABI (include/eesp.h): append only.
package status

// Code is the outcome of a call or of one packet. Zero is success.
type Code int32

// The codes, in the order of include/eesp.h.
const (
	OK             Code = 0
	ErrArgument    Code = -1  // an argument is NULL, out of range or contradictory
	ErrAuth        Code = -2  // the ICV is wrong
	ErrReplay      Code = -3  // seen before, or older than the replay window
	ErrNoKey       Code = -4  // no root key matches the packet's options
	ErrShort       Code = -5  // the packet ends before its header or ICV does
	ErrVersion     Code = -6  // header field Version
	ErrV           Code = -7  // header field V
	ErrReserved    Code = -8  // header field Reserve is not zero
	ErrHeaderLen   Code = -9  // header field HL
	ErrOffset      Code = -10 // header fields COffset, IOffset
	ErrOption      Code = -11 // an option is unknown, repeated, out of order or malformed
	ErrRoom        Code = -12 // headroom, tailroom or destination too small
	ErrTooLong     Code = -13 // longer than MaxLen
	ErrOverlap     Code = -14 // source and destination overlap in part
	ErrExhausted   Code = -15 // no counter left in this epoch
	ErrClock       Code = -16 // the wall clock stepped back, or has run no further than the counters
	ErrState       Code = -17 // the counter file cannot be read or written
	ErrReflected   Code = -18 // the packet carries an ID that this receiver sends with
	ErrContext     Code = -19 // the packet is not of the context that this data key is for
	ErrForked      Code = -20 // called in a forked child
	ErrSelfTest    Code = -21 // a known-answer test failed
	ErrBackend     Code = -22 // unknown backend, or the CPU lacks it
	ErrMemory      Code = -23 // memory cannot be had or locked
	ErrRootKey     Code = -24 // a root key's DER or fields are not valid
	ErrExists      Code = -25 // there is one already
	ErrNotFound    Code = -26 // there is none
	ErrUnsupported Code = -27 // not offered by this profile or version
	ErrInternal    Code = -28 // a bug in the library; nothing was output
	ErrSegments    Code = -29 // the segments of a chained packet do not fit the rules
	ErrEpoch       Code = -30 // the epoch is too far behind the group's
	ErrSession     Code = -31 // the Session ID is not one of this SA's
	ErrSequence    Code = -32 // the sequence number is 0
	ErrPayload     Code = -33 // authentic, but Payload Info Header or padding is malformed
	ErrWindows     Code = -34 // no replay window is left for this context
	ErrEncap       Code = -35 // the outer IP or UDP header is not as expected
	ErrDummy       Code = -36 // authentic, and of Next Header 59: nothing is in it
	ErrLatched     Code = -37 // too many packets of the domain were not authentic
	ErrStale       Code = -38 // older than packets may be, or its time was passed meanwhile
	ErrEarly       Code = -39 // further ahead of the clock than packets may be
	ErrFull        Code = -40 // no place for one more packet of its time

	// Count is one more than the number of error codes.
	Count = 41
)

var text = [Count]string{
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
	"older than packets may be",
	"ahead of the clock",
	"no place left for packets of that time",
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
