package eesp

import "libeesp/internal/status"

// Status is the outcome of a call or of one packet. Every error that this
// package returns wraps one: errors.Is(err, eesp.ErrAuth) works.
type Status = status.Code

// The outcomes. They have the numbers of enum eesp_status in include/eesp.h.
const (
	OK             = status.OK
	ErrArgument    = status.ErrArgument
	ErrAuth        = status.ErrAuth
	ErrReplay      = status.ErrReplay
	ErrNoKey       = status.ErrNoKey
	ErrShort       = status.ErrShort
	ErrVersion     = status.ErrVersion
	ErrV           = status.ErrV
	ErrReserved    = status.ErrReserved
	ErrHeaderLen   = status.ErrHeaderLen
	ErrOffset      = status.ErrOffset
	ErrOption      = status.ErrOption
	ErrRoom        = status.ErrRoom
	ErrTooLong     = status.ErrTooLong
	ErrOverlap     = status.ErrOverlap
	ErrExhausted   = status.ErrExhausted
	ErrClock       = status.ErrClock
	ErrState       = status.ErrState
	ErrReflected   = status.ErrReflected
	ErrContext     = status.ErrContext
	ErrForked      = status.ErrForked
	ErrSelfTest    = status.ErrSelfTest
	ErrBackend     = status.ErrBackend
	ErrMemory      = status.ErrMemory
	ErrRootKey     = status.ErrRootKey
	ErrExists      = status.ErrExists
	ErrNotFound    = status.ErrNotFound
	ErrUnsupported = status.ErrUnsupported
	ErrInternal    = status.ErrInternal
	ErrSegments    = status.ErrSegments
	ErrEpoch       = status.ErrEpoch
	ErrSession     = status.ErrSession
	ErrSequence    = status.ErrSequence
	ErrPayload     = status.ErrPayload
	ErrWindows     = status.ErrWindows
	ErrEncap       = status.ErrEncap
	ErrDummy       = status.ErrDummy
	ErrLatched     = status.ErrLatched
	ErrStale       = status.ErrStale
	ErrEarly       = status.ErrEarly
	ErrFull        = status.ErrFull
)
