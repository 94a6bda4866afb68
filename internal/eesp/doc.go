// Package eesp is the implementation of the root package and of the C library:
// groups, senders, receivers, proxies, and following an agent.
//
// The root package has the same functions and types, and calls these. Functions
// without a comment here have it there. Functions that are exported only here are
// for the C library, which passes bursts to internal/burst with its own workers.
//
// Tests of one profile are in files that begin with its name (stateless_, psp_, tss_,
// eesp_); the other files test what all profiles share.
package eesp
