// Package eesp seals and opens packets without a session for each peer. Both
// ends hold a few root keys. For each packet a data key is derived from a root
// key and from fields of the packet's header, and AES-GCM is applied with it.
// Packets are sealed and opened in bursts.
//
// A Group holds root keys. A Sender seals with them under one ID and owns that
// ID's nonce counters. A Receiver opens packets of one or more groups. A Proxy
// opens with a receiver and seals with a sender. Packet formats are called
// profiles: stateless, psp, tss and eesp (ProfileID); docs/profiles.md describes
// them.
//
// Any goroutine may call any function and method at any time. The exception is
// Close: no other call on the object may be running, and none may follow. Keys
// are in memory that is locked, left out of core dumps, and wiped when freed;
// RLIMIT_MEMLOCK limits it. The runtime's preemption signals save registers, and
// keys in them, outside that memory: set GODEBUG=asyncpreemptoff=1 in the
// environment to turn them off.
//
// An ID belongs to one sender and one direction: two ends that send under one
// ID repeat nonces. Receivers refuse repeated packets if ReplayWindow is set or
// Replay is ReplayTime. SECURITY.md has the conditions under which counters do
// not repeat after a restart.
//
// SelectBackend, or EESP_BACKEND in the environment, chooses an implementation
// of the cryptographic kernels. The default is the fastest.
package eesp
