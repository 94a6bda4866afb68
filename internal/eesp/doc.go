// Package eesp is the implementation of the root package and of the C library:
// groups, senders, receivers, proxies, and following an agent.
//
// The root package has the same functions and types, and calls these. What has no
// comment here has it there. What is exported only here is for the C library,
// which hands bursts to internal/burst with workers of its own.
//
// Tests of one profile are in files that begin with its name (stateless_, psp_, tss_,
// eesp_); the other files test what all profiles share.
package eesp
