package kerneltest

import (
	"crypto/aes"
	"crypto/cipher"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"slices"
	"sync"
	"testing"
	"unsafe"

	"libeesp/internal/generic"
	"libeesp/internal/kernel"
)

const (
	maxText   = 9100 // octets, in the rig of most tests
	maxAAD    = 1280
	maxDerive = 1024 * 3 * 16
)

// A layout is the places of a packet's parts.
type layout struct {
	aad, src, dst, tag where
	joined             bool // AAD, dst and tag lie one behind the other, at dst
	inPlace            bool // src is dst
}

func (l layout) String() string {
	s := fmt.Sprintf("AAD %v, dst %v, tag %v", l.aad, l.dst, l.tag)
	if l.joined {
		s = fmt.Sprintf("AAD, dst and tag joined %v", l.dst)
	}
	if l.inPlace {
		return s + ", in place"
	}
	return s + fmt.Sprintf(", src %v", l.src)
}

// The part of a packet that a forger changes before Open.
type part int

const (
	nothing part = iota
	tagPart
	textPart
	aadPart
	noncePart
	keyPart // of the slot, so of all jobs that use it
)

func (p part) String() string {
	return [...]string{"nothing", "tag", "ciphertext", "AAD", "nonce", "key"}[p]
}

type packet struct {
	key       int // slot; mode OneShot: ignored
	nonce     [12]byte
	aad, text []byte
	layout    layout

	// sealed is the expected ciphertext and tag: given, or from crypto/cipher.
	sealed []byte
	given  bool
	reject bool // sealed is not authentic: Open must refuse it

	forged part
	bit    int
}

// A burst is the packets of one call.
type burst struct {
	keyLen  int
	mode    kernel.Mode
	keys    [][32]byte // mode OneShot: of packets[i], after they are in order
	packets []packet
	edge    where // for area, keys and jobs
}

func (b *burst) slot(i int) int {
	if b.mode == kernel.OneShot {
		return i
	}
	return b.packets[i].key
}

// order puts packets in order of length, in which kernels take jobs.
func (b *burst) order() {
	slices.SortStableFunc(b.packets, func(x, y packet) int { return len(x.text) - len(y.text) })
}

// reference computes the expected result of Seal, where it is not given.
func (b *burst) reference() error {
	var aead [kernel.Chunk]cipher.AEAD
	for i := range b.packets {
		p := &b.packets[i]
		if p.given {
			continue
		}
		s := b.slot(i)
		if aead[s] == nil {
			block, err := aes.NewCipher(b.keys[s][:b.keyLen])
			if err != nil {
				return err
			}
			if aead[s], err = cipher.NewGCM(block); err != nil {
				return err
			}
		}
		p.sealed = aead[s].Seal(p.sealed[:0], p.nonce[:], p.text, p.aad)
	}
	return nil
}

// A rig is a backend with the memory to run it in.
type rig struct {
	be *kernel.Backend

	scratch, area, keys, jobs, msgs, out, master cell
	aad, src, dst, tag                           []cell

	slots  span // in area
	spans  [kernel.Chunk]spans
	before [kernel.Chunk]kernel.Job
	saved  []byte
}

type spans struct {
	aad, src, dst, tag span
	fences             [4]span
}

// free has rigs that no test uses now, by number of packets, octets of text and of key areas. Their memory stays
// mapped, because of old job records that point to it, and the number of mappings of a process is limited: so
// further tests and runs (-count) use it again.
var free struct {
	sync.Mutex
	rigs map[[3]int][]*rig
}

// rigFor returns a rig for one test.
func rigFor(t *testing.T, be *kernel.Backend, packets, text int) *rig {
	t.Helper()
	free.Lock()
	defer free.Unlock()
	size := [3]int{packets, text, be.KeyBytes}
	l := free.rigs[size]
	var r *rig
	if n := len(l); n > 0 {
		r, free.rigs[size] = l[n-1], l[:n-1]
		r.be = be
	} else {
		var err error
		if r, err = newRig(be, packets, text); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		free.Lock()
		defer free.Unlock()
		if free.rigs == nil {
			free.rigs = map[[3]int][]*rig{}
		}
		free.rigs[size] = append(free.rigs[size], r)
	})
	return r
}

func newRig(be *kernel.Backend, packets, text int) (*rig, error) {
	r := &rig{be: be}
	var errs []error
	many := func(count, size int) []cell {
		c, err := cells(count, size)
		errs = append(errs, err)
		return c
	}
	room := func(c *cell, size int) {
		if x := many(1, size); x != nil {
			*c = x[0]
		}
	}
	room(&r.area, kernel.Chunk*be.KeyBytes)
	room(&r.keys, kernel.Chunk*32)
	room(&r.jobs, kernel.Chunk*int(unsafe.Sizeof(kernel.Job{})))
	room(&r.msgs, maxDerive)
	room(&r.out, maxDerive)
	room(&r.master, int(unsafe.Sizeof(kernel.Master{})))
	room(&r.scratch, kernel.ScratchBytes)
	r.aad = many(packets, maxAAD)
	r.src = many(packets, text)
	r.dst = many(packets, text+maxAAD+kernel.TagSize)
	r.tag = many(packets, kernel.TagSize)
	return r, errors.Join(errs...)
}

// poison is the content of scratch memory before a call.
var poison = func() []byte {
	p := make([]byte, kernel.ScratchBytes)
	for i := range p {
		p[i] = byte(i>>8 ^ i*37 ^ 0xA5)
	}
	return p
}()

// call runs a kernel. It returns an error if scratch memory is not as it must be after the
// call, or if the kernel accessed a guard page.
func (r *rig) call(name string, n int, kernelFunc func(scratch unsafe.Pointer)) (err error) {
	s := r.scratch.at(kernel.ScratchBytes, atEnd)
	s.fence()
	copy(s.bytes(), poison)
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if e := recover(); e != nil {
			err = fmt.Errorf("%s: %v", name, e)
			if a, ok := e.(interface{ Addr() uintptr }); ok {
				err = fmt.Errorf("%s touched %#x: %s", name, a.Addr(), r.locate(a.Addr()))
			}
		}
	}()
	kernelFunc(s.pointer())
	for i, x := range s.bytes() {
		if x != 0 && x != poison[i] {
			return fmt.Errorf("%s with %d: scratch octet %d was left behind", name, n, i)
		}
	}
	if err := s.intact(); err != nil {
		return fmt.Errorf("%s: scratch: %w", name, err)
	}
	return nil
}

// locate names the memory that is closest to an address.
func (r *rig) locate(addr uintptr) string {
	all := []struct {
		name  string
		cells []cell
	}{{"scratch", []cell{r.scratch}}, {"area", []cell{r.area}}, {"keys", []cell{r.keys}}, {"jobs", []cell{r.jobs}}, {"msgs", []cell{r.msgs}},
		{"out", []cell{r.out}}, {"master", []cell{r.master}}, {"AAD", r.aad}, {"src", r.src}, {"dst", r.dst}, {"tag", r.tag}}
	found, nearest := "nowhere near anything it was given", uintptr(os.Getpagesize())
	for _, x := range all {
		for i, c := range x.cells {
			from := uintptr(unsafe.Pointer(unsafe.SliceData(c)))
			to := from + uintptr(len(c))
			if d := from - addr; addr < from && d < nearest {
				found, nearest = fmt.Sprintf("%d octets before the room for %s %d", d, x.name, i), d
			}
			if d := addr - to; addr >= to && d < nearest {
				found, nearest = fmt.Sprintf("octet %d after the room for %s %d", d, x.name, i), d
			}
		}
	}
	return found
}

// newMaster puts a master key next to a guard page.
func (r *rig) newMaster(key *[32]byte) *kernel.Master {
	s := r.master.aligned(int(unsafe.Sizeof(kernel.Master{})), atEnd)
	m := (*kernel.Master)(s.pointer())
	*m = kernel.Master{}
	generic.ExpandMaster(m, key, r.scratch.at(kernel.ScratchBytes, atEnd).pointer())
	return m
}

// expand makes the area: in mode Shared it runs Expand, in mode OneShot it copies the keys.
// With forge they are the forgers' keys.
func (r *rig) expand(b *burst, forge bool) error {
	n := len(b.keys)
	keys := r.keys.aligned(n*b.keyLen, b.edge)
	r.slots = keys
	if b.mode == kernel.Shared {
		r.slots = r.area.aligned((n+3)&^3*r.be.KeyBytes, b.edge)
	}
	keys.fence()
	r.slots.fence()
	fill := func(i int) []byte { return keys.bytes()[i*b.keyLen:][:b.keyLen] }
	for i := range b.keys {
		copy(fill(i), b.keys[i][:])
	}
	if forge {
		for i := range b.packets {
			if p := &b.packets[i]; p.forged == keyPart {
				flip(fill(b.slot(i)), p.bit)
			}
		}
	}
	if b.mode == kernel.OneShot {
		return nil
	}
	r.saved = append(r.saved[:0], keys.bytes()...)
	err := r.call("Expand", n, func(scratch unsafe.Pointer) {
		r.be.Expand(r.slots.pointer(), keys.pointer(), n, b.keyLen, scratch)
	})
	if err != nil {
		return err
	}
	if err := keys.intact(); err != nil {
		return fmt.Errorf("expand: keys: %w", err)
	}
	if differ(keys.bytes(), r.saved) >= 0 {
		return errors.New("expand changed the keys")
	}
	if err := r.slots.intact(); err != nil {
		return fmt.Errorf("expand: area: %w", err)
	}
	return nil
}

func flip(b []byte, bit int) { b[bit/8] ^= 1 << (bit % 8) }

// lay puts a packet in the places of its layout. in and tag may be shorter than those of the
// packet. Memory that kernels write is filled with other octets before.
func (r *rig) lay(i int, p *packet, in, tag []byte) *spans {
	s := &r.spans[i]
	l := p.layout
	if l.joined {
		whole := r.dst[i].at(len(p.aad)+len(p.text)+kernel.TagSize, l.dst)
		s.aad = whole.sub(0, len(p.aad))
		s.dst = whole.sub(len(p.aad), len(p.text))
		s.tag = whole.sub(len(p.aad)+len(p.text), kernel.TagSize)
		s.fences = [4]span{whole, whole, whole}
	} else {
		s.aad = r.aad[i].at(len(p.aad), l.aad)
		s.dst = r.dst[i].at(len(p.text), l.dst)
		s.tag = r.tag[i].at(kernel.TagSize, l.tag)
		s.fences = [4]span{s.aad, s.dst, s.tag}
	}
	if l.inPlace {
		s.src = s.dst
		s.fences[3] = s.fences[1]
	} else {
		s.src = r.src[i].at(len(p.text), l.src)
		s.fences[3] = s.src
	}
	for _, f := range s.fences {
		f.fence()
	}
	junk(s.dst.bytes())
	junk(s.tag.bytes())
	copy(s.aad.bytes(), p.aad)
	copy(s.src.bytes(), in)
	copy(s.tag.bytes(), tag)
	return s
}

func junk(b []byte) {
	for len(b) > 0 {
		b = b[copy(b, poison):]
	}
}

// job fills a job record.
func (r *rig) job(i int, b *burst, s *spans) kernel.Job {
	p := &b.packets[i]
	j := kernel.Job{AAD: s.aad.pointer(), Src: s.src.pointer(), Dst: s.dst.pointer(), Tag: s.tag.pointer(),
		AADLen: uint32(len(p.aad)), Len: uint32(len(p.text)), Key: uint32(b.slot(i)), OK: 0xDEADBEEF, Nonce: p.nonce}
	if len(p.aad) == 0 && i%2 == 0 {
		j.AAD = nil
	}
	return j
}

type cryptKernel func(area unsafe.Pointer, jobs *kernel.Job, n, keyLen int, mode kernel.Mode, scratch unsafe.Pointer)

// run calls Seal or Open with the jobs of a burst, and checks all memory that the call must
// not change.
func (r *rig) run(name string, f cryptKernel, b *burst) ([]kernel.Job, error) {
	n := len(b.packets)
	edge := b.edge
	if edge > 0 {
		edge &^= 7 // the alignment of an array of jobs in Go and C
	}
	js := r.jobs.at(n*int(unsafe.Sizeof(kernel.Job{})), edge)
	js.fence()
	jobs := unsafe.Slice((*kernel.Job)(js.pointer()), n)
	for i := range b.packets {
		r.before[i] = r.job(i, b, &r.spans[i])
		if p := &b.packets[i]; p.forged == noncePart && name == "Open" {
			flip(r.before[i].Nonce[:], p.bit)
		}
		jobs[i] = r.before[i]
	}
	r.saved = append(r.saved[:0], r.slots.bytes()...)
	err := r.call(name, n, func(scratch unsafe.Pointer) {
		f(r.slots.pointer(), &jobs[0], n, b.keyLen, b.mode, scratch)
	})
	if err != nil {
		return nil, err
	}
	for i := range jobs {
		was := r.before[i]
		was.OK = jobs[i].OK
		if jobs[i] != was {
			return nil, b.failed(name, i, "the job record was changed")
		}
		s := &r.spans[i]
		for k, f := range s.fences {
			if err := f.intact(); err != nil {
				return nil, b.failed(name, i, "%s: %v", [...]string{"AAD", "dst", "tag", "src"}[k], err)
			}
		}
	}
	if err := js.intact(); err != nil {
		return nil, fmt.Errorf("%s: jobs: %w", name, err)
	}
	if err := r.slots.intact(); err != nil {
		return nil, fmt.Errorf("%s: area: %w", name, err)
	}
	// Workers share areas, so Seal and Open must not write to them.
	if differ(r.slots.bytes(), r.saved) >= 0 {
		return nil, fmt.Errorf("%s: the area was written", name)
	}
	return jobs, nil
}

func (b *burst) failed(name string, i int, format string, a ...any) error {
	p := &b.packets[i]
	mode := "OneShot"
	if b.mode == kernel.Shared {
		mode = "Shared"
	}
	return fmt.Errorf("%s, AES-%d, mode %s, n %d, edge %v, job %d (slot %d, Len %d, AADLen %d; %v; forged %v bit %d): %s",
		name, b.keyLen*8, mode, len(b.packets), b.edge, i, b.slot(i), len(p.text), len(p.aad), p.layout, p.forged, p.bit,
		fmt.Sprintf(format, a...))
}

// seal runs Seal and compares.
func (r *rig) seal(b *burst) error {
	for i := range b.packets {
		r.lay(i, &b.packets[i], b.packets[i].text, nil)
	}
	if _, err := r.run("Seal", r.be.Seal, b); err != nil {
		return err
	}
	for i := range b.packets {
		p, s := &b.packets[i], &r.spans[i]
		n := len(p.text)
		if at := differ(s.dst.bytes(), p.sealed[:n]); at >= 0 {
			return b.failed("Seal", i, "ciphertext differs from octet %d on", at)
		}
		if at := differ(s.tag.bytes(), p.sealed[n:]); at >= 0 {
			return b.failed("Seal", i, "tag is %x, want %x", s.tag.bytes(), p.sealed[n:])
		}
		if !p.layout.inPlace && differ(s.src.bytes(), p.text) >= 0 {
			return b.failed("Seal", i, "src was changed")
		}
		if differ(s.aad.bytes(), p.aad) >= 0 {
			return b.failed("Seal", i, "the AAD was changed")
		}
	}
	return nil
}

// open runs Open and compares.
func (r *rig) open(b *burst) error {
	forge := func(p *packet, s *spans) {
		switch p.forged {
		case tagPart:
			flip(s.tag.bytes(), p.bit)
		case textPart:
			flip(s.src.bytes(), p.bit)
		case aadPart:
			flip(s.aad.bytes(), p.bit)
		}
	}
	for i := range b.packets {
		p := &b.packets[i]
		n := len(p.text)
		forge(p, r.lay(i, p, p.sealed[:n], p.sealed[n:]))
	}
	jobs, err := r.run("Open", r.be.Open, b)
	if err != nil {
		return err
	}
	for i := range b.packets {
		p, s := &b.packets[i], &r.spans[i]
		n := len(p.text)
		good := uint32(1)
		if p.reject || p.forged != nothing {
			good = 0
		}
		if jobs[i].OK != good {
			return b.failed("Open", i, "OK is %d, want %d", jobs[i].OK, good)
		}
		if good == 1 {
			if at := differ(s.dst.bytes(), p.text); at >= 0 {
				return b.failed("Open", i, "plaintext differs from octet %d on", at)
			}
		}
		if !p.layout.inPlace || p.forged != textPart {
			forge(p, s) // a second time undoes it
		}
		if !p.layout.inPlace && differ(s.src.bytes(), p.sealed[:n]) >= 0 {
			return b.failed("Open", i, "src was changed")
		}
		if differ(s.tag.bytes(), p.sealed[n:]) >= 0 {
			return b.failed("Open", i, "the tag was changed")
		}
		if differ(s.aad.bytes(), p.aad) >= 0 {
			return b.failed("Open", i, "the AAD was changed")
		}
	}
	return nil
}

// roundTrip expands, seals and opens a burst.
func (r *rig) roundTrip(b *burst) error {
	b.order()
	if err := b.reference(); err != nil {
		return err
	}
	if err := r.expand(b, false); err != nil {
		return err
	}
	if err := r.seal(b); err != nil {
		return err
	}
	return r.reopen(b)
}

// reopen opens packets that crypto/cipher sealed, some of them forged. In mode OneShot the
// keys are expanded for each call; in mode Shared the area is used again.
func (r *rig) reopen(b *burst) error {
	stale := b.mode == kernel.OneShot || slices.ContainsFunc(b.packets, func(p packet) bool { return p.forged == keyPart })
	if stale {
		if err := r.expand(b, true); err != nil {
			return err
		}
	}
	return r.open(b)
}
