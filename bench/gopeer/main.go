// SPDX-License-Identifier: BSD-3-Clause

// Command gopeer is Go's crypto/cipher as a peer of the benchmark. It takes
// the inputs on standard input, so that they are the same as everyone's, and
// does one round of work at a time, when asked. See peer_go.c.
package main

import (
	"bufio"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"sync"
	"time"

	"libeesp/bench/heap"
)

// The works, numbered as in bench.h.
const (
	derive = iota
	rekeySeal
	rekeyOpen
	cachedSeal
)

const tagLen = 16

type header struct {
	Work, KeyLen, N, Burst, NKeys, Threads, AADLen uint32
}

// set is what one thread works on.
type set struct {
	header
	k1       [16]byte
	kdf      cipher.Block
	contexts []byte // 16 octets for each packet
	fresh    []uint32
	nfresh   []uint32
	which    []uint32
	key      []uint32
	nonces   []byte
	aads     []byte
	in, out  [][]byte
	keys     []byte        // of the burst
	aeads    []cipher.AEAD // of the burst; cached: of each context
	keysOut  []byte
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "gopeer:", err)
		os.Exit(1)
	}
}

func gcm(key []byte) cipher.AEAD {
	b, err := aes.NewCipher(key)
	check(err)
	a, err := cipher.NewGCM(b)
	check(err)
	return a
}

func (s *set) derive(packet uint32, out []byte) {
	var x [16]byte
	c := s.contexts[16*packet:][:16]
	for b := uint32(0); b < s.KeyLen/16; b++ {
		for i := range x {
			x[i] = c[i] ^ s.k1[i]
		}
		x[0] = byte(b+1) ^ s.k1[0]
		s.kdf.Encrypt(out[16*b:][:16], x[:])
	}
}

func (s *set) pass() {
	for begin := uint32(0); begin < s.N; begin += s.Burst {
		if s.Work == derive {
			for i := begin; i < begin+s.Burst; i++ {
				s.derive(i, s.keysOut[i*s.KeyLen:])
			}
			continue
		}
		if s.Work != cachedSeal {
			for u := range s.nfresh[begin/s.Burst] {
				k := s.keys[u*s.KeyLen:][:s.KeyLen]
				s.derive(s.fresh[begin+u], k)
				s.aeads[u] = gcm(k)
			}
		}
		for i := begin; i < begin+s.Burst; i++ {
			nonce, aad := s.nonces[12*i:][:12], s.aads[s.AADLen*i:][:s.AADLen]
			switch s.Work {
			case cachedSeal:
				s.out[i] = s.aeads[s.key[i]].Seal(s.out[i][:0], nonce, s.in[i], aad)
			case rekeySeal:
				s.out[i] = s.aeads[s.which[i]].Seal(s.out[i][:0], nonce, s.in[i], aad)
			case rekeyOpen:
				out, err := s.aeads[s.which[i]].Open(s.out[i][:0], nonce, s.in[i], aad)
				check(err)
				s.out[i] = out
			}
		}
	}
}

func read(r io.Reader, v any) { check(binary.Read(r, binary.LittleEndian, v)) }

func readSets(r io.Reader) []*set {
	var h header
	read(r, &h)
	sets := make([]*set, h.Threads)
	s := &set{header: h}
	var kdfKey [32]byte
	read(r, &kdfKey)
	read(r, &s.k1)
	kdf, err := aes.NewCipher(kdfKey[:])
	check(err)
	s.kdf = kdf
	contextKeys := make([]byte, h.NKeys*h.KeyLen)
	s.contexts, s.nonces, s.aads = make([]byte, 16*h.N), make([]byte, 12*h.N), make([]byte, h.AADLen*h.N)
	s.fresh, s.nfresh, s.which, s.key = make([]uint32, h.N), make([]uint32, h.N), make([]uint32, h.N), make([]uint32, h.N)
	lens := make([]uint32, h.N)
	for _, v := range []any{contextKeys, s.contexts, s.nonces, s.fresh, s.nfresh, s.which, s.key, lens} {
		read(r, v)
	}
	for i, n := range lens {
		read(r, s.aads[h.AADLen*uint32(i):][:h.AADLen])
		if h.Work == rekeyOpen {
			n += tagLen
		}
		in := make([]byte, n)
		read(r, in)
		s.in = append(s.in, in)
	}
	for t := range sets {
		c := *s
		c.keysOut = make([]byte, h.N*h.KeyLen)
		c.keys = make([]byte, h.Burst*h.KeyLen)
		c.aeads = make([]cipher.AEAD, h.Burst)
		if h.Work == cachedSeal {
			c.aeads = make([]cipher.AEAD, h.NKeys)
			for k := range c.aeads {
				c.aeads[k] = gcm(contextKeys[uint32(k)*h.KeyLen:][:h.KeyLen])
			}
		}
		c.out = make([][]byte, h.N)
		for i := range c.out {
			c.out[i] = make([]byte, 0, lens[i]+tagLen)
		}
		sets[t] = &c
	}
	return sets
}

// round runs all sets side by side and returns the time that took.
func round(sets []*set, passes uint32) time.Duration {
	var ready, done sync.WaitGroup
	start := make(chan struct{})
	for _, s := range sets[1:] {
		ready.Add(1)
		done.Go(func() {
			s.pass()
			ready.Done()
			<-start
			for range passes {
				s.pass()
			}
		})
	}
	sets[0].pass()
	ready.Wait()
	begin := time.Now()
	close(start)
	for range passes {
		sets[0].pass()
	}
	done.Wait()
	return time.Since(begin)
}

func main() {
	runtime.LockOSThread()
	// Fresh keys are garbage: 400 was the fastest of 50, 100, 400 and off.
	debug.SetGCPercent(400)
	r, w := bufio.NewReaderSize(os.Stdin, 1<<20), bufio.NewWriterSize(os.Stdout, 1<<20)
	fmt.Fprintf(w, "%-32s", runtime.Version())
	check(w.Flush())
	var sets []*set
	for {
		command, err := r.ReadByte()
		if err == io.EOF {
			return
		}
		check(err)
		switch command {
		case 'S': // set up
			sets = nil
			runtime.GC()
			sets = readSets(r)
			heap.Grow(sets[0].pass, 100*time.Millisecond)
		case 'O': // one pass, and show the output
			sets[0].pass()
			if sets[0].Work == derive {
				w.Write(sets[0].keysOut)
			} else {
				for _, o := range sets[0].out {
					w.Write(o)
				}
			}
		case 'R': // one round
			var passes uint32
			read(r, &passes)
			check(binary.Write(w, binary.LittleEndian, uint64(round(sets, passes))))
		default:
			check(fmt.Errorf("command %q", command))
		}
		check(w.Flush())
	}
}
