// Package eesp seals and opens packets without keeping a session for any of
// them: a sender and a receiver share a few root keys, and for every packet a
// data key is derived from them and from the context in the packet's own
// header. Packets are sealed with AES-GCM, in bursts.
//
// The format is profile "stateless" of
// draft-xia-ipsecme-eesp-stateless-encryption-02. A Group holds root keys; a
// Sender seals with them under one ID and owns that ID's nonce counters; a
// Receiver opens packets of one or more groups; a Proxy opens with a receiver
// and seals with a sender. SelectBackend, or EESP_BACKEND in the environment,
// chooses an implementation of the kernels; the default is the fastest.
//
// Every function and method may be called by any goroutine at any time, except
// Close, during and after which the object must not be used. Keys live in
// memory that is locked, left out of core dumps, and wiped when freed;
// RLIMIT_MEMLOCK bounds it. The runtime's preemption signals save registers,
// and keys in them, outside of it: GODEBUG=asyncpreemptoff=1 in the environment
// turns them off.
//
// An ID names one sender and one direction: two ends that send under one ID
// repeat nonces. Receivers refuse packets that come again if ReplayWindow is
// set. SECURITY.md has the conditions under which counters do not repeat after
// a restart.
package eesp
