package counter

import (
	"encoding/binary"
	"hash/maphash"
	mathbits "math/bits"
	"syscall"
	"unsafe"

	"libeesp/internal/say"
	"libeesp/internal/status"
)

// marks has, for each name that ever sealed, a mark above its used counters: 16 octets a
// name, in memory that the collector does not see. There may be millions of names, and
// none is forgotten. Names are known by 62 bits of a keyed hash. If two names had one
// hash, a start could be refused without need, nothing worse.
type marks struct {
	seed   maphash.Seed
	shards [shards]shard
}

const (
	shards       = 64 // each grows by itself, so that no growth takes long
	recordsBegin = 4096 / 16
)

type entry struct {
	name uint64 // 0: free; the lowest bit is hasParts
	mark uint64 // one more than the last Epoch || Counter given out
}

// hasParts says that parts of the name's space have marks of their own.
const hasParts = 1

type shard struct {
	records  []entry
	used     int // entries
	promised int // entries that put may still need
}

// name returns the hash of a name. It is not 0, and its bit hasParts is 0.
func (m *marks) name(kind byte, p part, names ...string) uint64 {
	var h maphash.Hash
	h.SetSeed(m.seed)
	var b [8]byte
	b[0], b[1], b[2] = kind, byte(p.dir), p.bits
	binary.LittleEndian.PutUint32(b[4:], p.engine)
	h.Write(b[:])
	for _, n := range names {
		h.WriteString(n)
		h.WriteByte(0)
	}
	return h.Sum64()&^hasParts | 2
}

func (m *marks) of(name uint64) *shard { return &m.shards[name>>(64-6)] }

// find returns the entry of a name, or the free one where it would be.
func (s *shard) find(name uint64) *entry {
	if len(s.records) == 0 {
		return nil
	}
	at, _ := mathbits.Mul64(name<<6, uint64(len(s.records)))
	for {
		x := &s.records[at]
		if x.name == 0 || x.name&^hasParts == name {
			return x
		}
		if at++; at == uint64(len(s.records)) {
			at = 0
		}
	}
}

// promise makes sure that put will have room for one more name.
func (m *marks) promise(name uint64) error {
	s := m.of(name)
	if n := len(s.records); (s.used+s.promised+1)*8 > n*7 {
		if err := s.grow(max(recordsBegin, n+(n/4+recordsBegin-1)/recordsBegin*recordsBegin)); err != nil {
			return err
		}
	}
	s.promised++
	return nil
}

func (s *shard) grow(n int) error {
	b, err := syscall.Mmap(-1, 0, n*int(unsafe.Sizeof(entry{})), syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANON)
	if err != nil {
		return say.Errorf("%w: cannot record which counters were used: %v", status.ErrMemory, err)
	}
	old := s.records
	s.records = unsafe.Slice((*entry)(unsafe.Pointer(&b[0])), n)
	for i := range old {
		if old[i].name != 0 {
			*s.find(old[i].name &^ hasParts) = old[i]
		}
	}
	if len(old) != 0 {
		syscall.Munmap(unsafe.Slice((*byte)(unsafe.Pointer(&old[0])), len(old)*int(unsafe.Sizeof(entry{}))))
	}
	return nil
}

// keep ends a promise.
func (m *marks) keep(name uint64) { m.of(name).promised-- }

// put notes that counters below mark were used. There must have been a promise.
func (m *marks) put(name, mark uint64, parts bool) {
	s := m.of(name)
	x := s.find(name)
	if x.name == 0 {
		x.name = name
		s.used++
	}
	if parts {
		x.name |= hasParts
	}
	x.mark = max(x.mark, mark)
}

func (m *marks) get(name uint64) (mark uint64, parts bool) {
	if x := m.of(name).find(name); x != nil {
		return x.mark, x.name&hasParts != 0
	}
	return 0, false
}

// part is a part of a name's counter space: that of one engine and direction.
type part struct {
	dir    Direction
	bits   uint8
	engine uint32
}

var whole = part{}

// shorter returns the part of all engines whose numbers have the same lowest n bits.
func (p part) shorter(n uint8) part { return part{p.dir, n, p.engine & (1<<n - 1)} }

// Kinds of entries.
const (
	ofAll  = iota << 4 // the highest mark of a name
	ofPart             // the mark of a part
	inPart             // the highest mark of the parts in a part
)

// A set is a set of names that must not use each other's counters: its kind, and what
// the names have in common.
type set struct {
	kind byte
	name string
}

// entries calls f with all the entries in which a part of a set is noted.
func (m *marks) entries(s set, p part, f func(name uint64, parts bool)) {
	f(m.name(s.kind|ofAll, whole, s.name), p != whole)
	if p == whole {
		return
	}
	f(m.name(s.kind|ofPart, whole, s.name), false) // see note
	f(m.name(s.kind|ofPart, p, s.name), false)
	for n := range p.bits {
		f(m.name(s.kind|inPart, p.shorter(n), s.name), false)
	}
}

// reserve promises room for note.
func (m *marks) reserve(s set, p part) (err error) {
	done := 0
	m.entries(s, p, func(name uint64, _ bool) {
		if err == nil {
			if err = m.promise(name); err == nil {
				done++
			}
		}
	})
	if err != nil {
		m.entries(s, p, func(name uint64, _ bool) {
			if done > 0 {
				m.keep(name)
				done--
			}
		})
	}
	return err
}

// note ends the promises of reserve and, if remember is set, notes the mark.
func (m *marks) note(s set, p part, mark uint64, remember bool) {
	first := true
	var before uint64
	m.entries(s, p, func(name uint64, parts bool) {
		m.keep(name)
		switch {
		case !remember:
		case first:
			had := false
			if before, had = m.get(name); had {
				before = 0 // the whole space has an entry of its own already
			}
			m.put(name, mark, parts)
			if p == whole && had {
				// This needs no promise: the first part made the entry.
				m.put(m.name(s.kind|ofPart, whole, s.name), mark, false)
			}
		case name == m.name(s.kind|ofPart, whole, s.name):
			m.put(name, before, false)
		default:
			m.put(name, mark, false)
		}
		first = false
	})
}

// highest returns the highest mark of a set among counters that are also the part's.
func (m *marks) highest(s set, p part) uint64 {
	mark, parts := m.get(m.name(s.kind|ofAll, whole, s.name))
	if !parts {
		return mark
	}
	mark = 0
	for _, d := range []Direction{NoDirection, TopClear, TopSet} {
		if p.dir != NoDirection && d != NoDirection && d != p.dir {
			continue
		}
		q := part{d, p.bits, p.engine}
		for n := range p.bits + 1 {
			x, _ := m.get(m.name(s.kind|ofPart, q.shorter(n), s.name))
			mark = max(mark, x)
		}
		x, _ := m.get(m.name(s.kind|inPart, q, s.name))
		mark = max(mark, x)
	}
	return mark
}

// has reports whether a set has any mark.
func (m *marks) has(s set) bool {
	name := m.name(s.kind|ofAll, whole, s.name)
	x := m.of(name).find(name)
	return x != nil && x.name != 0
}
