// SPDX-License-Identifier: BSD-3-Clause

// Command gotable measures the root package beside crypto/aes and
// crypto/cipher, both in Go, at the same work: a key for each packet, derived
// from a root key and the packet's context, and AES-GCM with the header as AAD.
// It prints a table and, with -out, leaves it in DIR/go.md.
package main

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	eesp "libeesp"
	"libeesp/bench/heap"
)

const (
	burst     = 32
	headerLen = 16 // Security Header with a DeviceID and without options
	senderID  = 7
)

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "gotable:", err)
		os.Exit(1)
	}
}

// standard is the same format with the standard library alone: profile
// stateless, V = 1, and the combiner xor with one level, where the master key is
// the root key's value.
type standard struct {
	master cipher.Block
	k1     [16]byte
	keyLen int
}

func newStandard(root []byte, keyLen int) *standard {
	b, err := aes.NewCipher(root)
	check(err)
	s := &standard{master: b, keyLen: keyLen}
	var l [16]byte
	b.Encrypt(l[:], l[:])
	for i := range l { // RFC 4493: K1 is E(0) doubled
		s.k1[i] = l[i] << 1
		if i < 15 {
			s.k1[i] |= l[i+1] >> 7
		}
	}
	if l[0]>>7 != 0 {
		s.k1[15] ^= 0x87
	}
	return s
}

// key derives and expands the key of a packet with this header and source address.
func (s *standard) key(header []byte, src *[16]byte) cipher.AEAD {
	var in [32]byte
	in[1], in[2] = 0x45, header[1]>>4
	copy(in[8:12], header[4:8])
	copy(in[12:14], header[8:10])
	copy(in[14:30], src[:])
	binary.BigEndian.PutUint16(in[30:], uint16(8*s.keyLen))
	var key [32]byte
	for i := range s.keyLen / 16 {
		in[0] = byte(i + 1)
		x := key[16*i : 16*i+16]
		s.master.Encrypt(x, in[:16])
		for j := range x {
			x[j] ^= in[16+j] ^ s.k1[j]
		}
		s.master.Encrypt(x, x)
	}
	b, err := aes.NewCipher(key[:s.keyLen])
	check(err)
	a, err := cipher.NewGCM(b)
	check(err)
	return a
}

func nonce(header []byte) (n [12]byte) {
	copy(n[:4], header[4:8])
	copy(n[4:], header[8:16])
	return n
}

// work is one burst, as both see it.
type work struct {
	size   int
	plain  [][]byte
	addrs  []netip.Addr
	src    [][16]byte
	sealed []eesp.Packet // by the root package
	ours   []eesp.Packet // to open again
	theirs [][]byte
	std    *standard
	sender *eesp.Sender
	recv   *eesp.Receiver
}

func newWork(aead eesp.AEAD, keyLen, size int) *work {
	root := bytes.Repeat([]byte{0x5a}, 32)
	group, err := eesp.NewGroup(eesp.GroupConfig{AEAD: aead, Combiner: eesp.CombinerXOR})
	check(err)
	values := [3][eesp.RootKeyLen]byte{{1}, [32]byte(root), {3}}
	check(group.SetRootKey(eesp.Zone, make([]byte, 16), [3]uint64{1, 2, 3}, &values))
	w := &work{size: size, std: newStandard(root, keyLen)}
	w.sender, err = eesp.NewSender(group, eesp.SenderConfig{ID: senderID, V: eesp.VIDSrc})
	check(err)
	w.recv, err = eesp.NewReceiver(eesp.ReceiverConfig{}, group)
	check(err)
	for i := range burst {
		plain := bytes.Repeat([]byte{byte(i)}, size)
		addr := netip.AddrFrom4([4]byte{10, 0, 0, byte(i)})
		w.plain, w.addrs, w.src = append(w.plain, plain), append(w.addrs, addr), append(w.src, addr.As16())
		w.sealed = append(w.sealed, eesp.Packet{Buf: plain, Len: size, Dst: make([]byte, headerLen+size+eesp.ICVLen), SrcIP: addr})
		w.theirs = append(w.theirs, make([]byte, headerLen+size+eesp.ICVLen))
	}
	w.seal()
	for i := range burst {
		out := bytes.Clone(w.sealed[i].Out)
		w.ours = append(w.ours, eesp.Packet{Buf: out, Len: len(out), Dst: make([]byte, size), SrcIP: w.addrs[i]})
	}
	return w
}

func (w *work) seal() {
	if w.sender.Seal(w.sealed) != burst {
		check(fmt.Errorf("seal: %v", w.sealed[0].Status))
	}
}

func (w *work) open() {
	if w.recv.Open(w.ours) != burst {
		check(fmt.Errorf("open: %v", w.ours[0].Status))
	}
}

// sealStandard seals under the headers that the root package wrote.
func (w *work) sealStandard() {
	for i := range burst {
		header := w.sealed[i].Out[:headerLen]
		n := nonce(header)
		copy(w.theirs[i], header)
		w.std.key(header, &w.src[i]).Seal(w.theirs[i][:headerLen], n[:], w.plain[i], header)
	}
}

func (w *work) openStandard() {
	for i := range burst {
		p := w.ours[i].Buf
		n := nonce(p)
		_, err := w.std.key(p[:headerLen], &w.src[i]).Open(w.ours[i].Dst[:0], n[:], p[headerLen:], p[:headerLen])
		check(err)
	}
}

// verify compares: both seal to the same octets, and open what was sealed.
func (w *work) verify() {
	w.seal()
	w.sealStandard()
	for _, open := range []func(){w.open, w.openStandard} {
		for i := range burst {
			clear(w.ours[i].Dst)
		}
		open()
		for i := range burst {
			if !bytes.Equal(w.ours[i].Dst, w.plain[i]) || !bytes.Equal(w.sealed[i].Out, w.theirs[i]) {
				check(fmt.Errorf("packet %d of %d octets: the results differ", i, w.size))
			}
		}
	}
}

// medians measures f's in turns: nanoseconds a packet.
func medians(rounds int, target time.Duration, fs ...func()) []float64 {
	ns := make([][]float64, len(fs))
	passes := make([]int, len(fs))
	for i, f := range fs {
		f()
		begin := time.Now()
		f()
		passes[i] = max(1, int(target/max(time.Since(begin), 1)))
	}
	for range rounds {
		for i, f := range fs {
			f()
			begin := time.Now()
			for range passes[i] {
				f()
			}
			ns[i] = append(ns[i], float64(time.Since(begin))/float64(passes[i]*burst))
		}
	}
	out := make([]float64, len(fs))
	for i := range ns {
		slices.Sort(ns[i])
		out[i] = ns[i][rounds/2]
	}
	return out
}

func main() {
	smoke := flag.Bool("smoke", false, "too short to be meant as a measurement")
	quick := flag.Bool("quick", false, "AES-128 only")
	dir := flag.String("out", "", "directory for go.md")
	flag.Parse()
	if flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	runtime.LockOSThread()
	debug.SetGCPercent(400) // the fastest for crypto/cipher, whose keys are garbage
	rounds, target := 21, 1500*time.Microsecond
	if *smoke {
		rounds, target = 3, 50*time.Microsecond
	}
	backend, err := eesp.Backend()
	check(err)
	var t strings.Builder
	fmt.Fprintf(&t, "**In Go: package eesp (backend %s) beside crypto/aes and crypto/cipher, %s.** A key for each packet, derived, expanded,\n"+
		"used; profile stateless, V = 1, bursts of %d, one thread; ns per packet, medians.\n\n", backend, runtime.Version(), burst)
	fmt.Fprintf(&t, "| | octets | crypto/cipher | eesp | ratio |\n|:-----|---:|---:|---:|---:|\n")
	for _, a := range []struct {
		name   string
		aead   eesp.AEAD
		keyLen int
	}{{"AES-128", eesp.AES128GCM, 16}, {"AES-256", eesp.AES256GCM, 32}} {
		if *quick && a.keyLen != 16 {
			continue
		}
		for _, size := range []int{64, 256, 1420, 8942} {
			w := newWork(a.aead, a.keyLen, size)
			w.verify()
			if !*smoke {
				heap.Grow(w.sealStandard, 10*time.Second)
			}
			m := medians(rounds, target, w.sealStandard, w.seal, w.openStandard, w.open)
			w.verify()
			fmt.Fprintf(&t, "| seal %s | %d | %.0f | %.1f | %.1fx |\n", a.name, size, m[0], m[1], m[0]/m[1])
			fmt.Fprintf(&t, "| open %s | %d | %.0f | %.1f | %.1fx |\n", a.name, size, m[2], m[3], m[2]/m[3])
		}
	}
	fmt.Print(t.String())
	if *dir != "" {
		check(os.WriteFile(filepath.Join(*dir, "go.md"), []byte(t.String()), 0o666))
	}
}
