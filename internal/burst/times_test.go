package burst

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"libeesp/internal/fresh"
	"libeesp/internal/profile"
	"libeesp/internal/replay"
	"libeesp/internal/status"
)

const (
	ms   = uint64(1<<fresh.TickBits) / 1000
	sec  = uint64(1 << fresh.TickBits)
	hour = 3600 * sec
)

// machine is a machine with a receiver, whose clocks the test sets, and an attacker who
// keeps all packets and sends them again.
type machine struct {
	t        *testing.T
	w        *Worker
	c        fresh.Config
	mark     string
	times    *Times
	now      uint64 // the wall clock
	true     uint64 // the senders' clock
	up       int64  // ns since the machine was booted, sleep counted
	all      []uint64
	accepted map[uint64]bool
}

func newMachine(t *testing.T, mark string) *machine {
	w, err := NewWorker()
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{t: t, w: w, mark: mark, c: fresh.Config{MaxRate: 100_000}, accepted: map[uint64]bool{}}
	m.now = 1_796_000_000 * sec
	m.true = m.now
	oldClock, oldSteady := clock, steady
	clock, steady = func() uint64 { return m.now }, func() int64 { return m.up }
	t.Cleanup(func() {
		m.times.Close()
		w.Close()
		clock, steady = oldClock, oldSteady
	})
	m.start()
	return m
}

func (m *machine) start() {
	m.t.Helper()
	var err error
	if m.times, err = NewTimes(m.c, m.mark); err != nil {
		m.t.Fatal(err)
	}
}

// crash ends the receiver without writing its file.
func (m *machine) crash() {
	var kept []byte
	if m.mark != "" {
		kept, _ = os.ReadFile(m.mark)
	}
	m.times.Close()
	if m.mark != "" {
		os.WriteFile(m.mark, kept, 0o600)
	}
}

// pass lets time pass on all clocks.
func (m *machine) pass(ticks uint64) {
	m.now += ticks
	m.true += ticks
	m.up += int64(ticks / sec * 1e9)
	m.up += int64(ticks % sec * 1e9 / sec)
}

// burst opens packets of one sender; the TSC is the time.
func (m *machine) burst(tscs ...uint64) (codes []status.Code) {
	m.t.Helper()
	m.w.enter()
	defer m.w.leave()
	sole := m.times.begin(m.w)
	defer m.times.end(m.w, sole)
	for _, tsc := range tscs {
		l := profile.Lane{Pkt: &profile.Desc{TSC: tsc}, Flow: replay.Key{ID: 7}, Time: tsc}
		c := m.times.check(m.w, &l)
		if c == status.OK {
			c = m.times.commit(m.w, &l)
		}
		if c == status.OK {
			if m.accepted[tsc] {
				m.t.Fatalf("a packet was opened twice, %d ms after it was sealed", int64(m.true-tsc)/int64(ms))
			}
			m.accepted[tsc] = true
			m.all = append(m.all, tsc)
		}
		codes = append(codes, c)
	}
	return codes
}

func (m *machine) want(tsc uint64, want status.Code, what string) {
	m.t.Helper()
	if c := m.burst(tsc)[0]; c != want {
		m.t.Fatalf("%s: %v, want %v", what, c, want)
	}
}

// replayed sends all packets again. burst fails the test if one opens twice.
func (m *machine) replayed() {
	m.t.Helper()
	for at := 0; at < len(m.all); at += 64 {
		m.burst(m.all[at:min(at+64, len(m.all))]...)
	}
}

// traffic sends some packets, which must open, and all packets again.
func (m *machine) traffic(packets int) {
	m.t.Helper()
	for range packets {
		m.pass(ms / 2)
		m.want(m.true, status.OK, "a packet of now")
	}
	m.replayed()
}

// refused tests a wrong clock: packets with the right time get status c, and no packet
// opens twice.
func (m *machine) refused(c status.Code, what string) {
	m.t.Helper()
	m.want(m.true, c, what)
	m.replayed()
}

// The machine is suspended. Its clock may stop meanwhile, and be set right later.
func TestTimesSuspend(t *testing.T) {
	m := newMachine(t, "")
	m.pass(sec)
	m.traffic(200)
	m.pass(8 * hour) // the clock is right when it wakes
	m.replayed()
	m.traffic(50)
	if s := m.times.table.Stats(); s.Resets != 0 {
		t.Fatalf("%+v", s)
	}
	stands := m.now
	m.pass(8 * hour)
	m.now = stands // all packets are ahead of it
	m.refused(status.ErrEarly, "the clock stood still")
	m.pass(sec)
	m.refused(status.ErrEarly, "the clock stood still, a second ago")
	m.now = m.true
	m.traffic(50)
	// It is suspended again while the clock is wrong: the reset uses the clock that is
	// never set.
	m.now += hour
	m.burst(m.true)
	m.now = m.true
	m.refused(status.ErrStale, "the clock was ahead")
	m.pass(hour / 2)
	m.burst(m.true) // begins the reset
	m.pass(ms)
	m.traffic(50)
	if s := m.times.table.Stats(); s.Resets != 1 {
		t.Fatalf("%+v", s)
	}
}

// A machine boots with a wrong clock. With a mark no old packet opens at any time of the
// clock, and packets open once the clock is set.
func TestTimesBootWithoutClock(t *testing.T) {
	for _, crash := range []bool{false, true} {
		m := newMachine(t, filepath.Join(t.TempDir(), "mark"))
		m.pass(sec)
		m.traffic(200)
		for _, at := range []uint64{0, 946_684_800 * sec, m.true - 2*sec, m.true - 50*ms} { // 1970, 2000, and a little behind
			if crash {
				m.crash()
			} else {
				m.times.Close()
			}
			m.now = at
			m.start()
			for range 3 {
				m.pass(10 * ms)
				if c := m.burst(m.true)[0]; c == status.OK && at < m.true-sec {
					t.Fatal("a packet was opened with a clock that is wrong by years")
				}
				m.replayed()
			}
			m.now = m.true
			m.replayed()
			m.pass(3 * sec) // the mark of a crash is up to a second ahead
			m.traffic(50)
		}
	}
}

// Leap seconds. If the clock steps back by a second, packets are refused for that long; if
// it is slewed, none is. Senders whose clocks step seal nothing meanwhile: see TestTimed.
func TestTimesLeapSecond(t *testing.T) {
	m := newMachine(t, "")
	m.pass(sec)
	m.traffic(200)
	m.now -= sec
	for range 8 { // senders are where they were, or a second behind as well
		m.pass(100 * ms)
		m.refused(status.ErrEarly, "a sender that has not")
		m.want(m.now, status.ErrStale, "a sender that has stepped as well")
	}
	m.now = m.true // for the senders that stepped, a second passes at once
	m.pass(200 * ms)
	m.traffic(50)
	m.pass(hour)
	for range 200 { // 0.1 %: some microseconds each time
		m.pass(10 * ms)
		m.now -= ms / 100
		m.want(m.true, status.OK, "while the clock is slewed")
	}
	m.replayed()
}

// The clock is set forward and right again. Packets are refused for a second, then new ones
// open, and no packet opens twice.
func TestTimesForwardAndBack(t *testing.T) {
	for _, senders := range []bool{false, true} {
		m := newMachine(t, "")
		m.pass(sec)
		m.traffic(100)
		m.now += 10 * sec
		m.refused(status.ErrStale, "the clock is ahead")
		if senders { // some have jumped as well
			m.want(m.now, status.OK, "a sender that has jumped as well")
		}
		m.now = m.true
		for range 10 {
			m.refused(status.ErrStale, "the clock is right again")
			m.pass(100 * ms)
		}
		m.pass(10 * ms)
		m.burst(m.true) // begins the reset, which ends with this burst
		if s := m.times.table.Stats(); s.Resets != 1 {
			t.Fatalf("%+v", s)
		}
		if !senders {
			m.pass(ms)
			m.traffic(50)
			continue
		}
		m.refused(status.ErrStale, "packets of times to come were opened")
		m.pass(10*sec + 200*ms) // by then it is what it was
		m.burst(m.true)
		m.pass(2 * sec)
		m.burst(m.true)
		m.traffic(50)
	}
}

// Random events on a machine with a mark: no packet opens twice, and at the end new packets
// open.
func TestTimesWhateverBefalls(t *testing.T) {
	for seed := range uint64(2) {
		x := rand.New(rand.NewPCG(seed, 3))
		m := newMachine(t, filepath.Join(t.TempDir(), "mark"))
		opened := 0
		for range 120 { // each may write the file
			switch x.IntN(12) {
			case 0:
				m.now += x.Uint64N(20 * sec)
			case 1:
				m.now -= x.Uint64N(20 * sec)
			case 2:
				m.now = m.true
			case 3:
				m.pass(x.Uint64N(hour))
			case 4:
				m.crash()
				m.now = x.Uint64N(m.true)
				m.start()
			case 5:
				m.times.Close()
				m.start()
			}
			for range 5 {
				m.pass(x.Uint64N(300 * ms))
				for _, c := range m.burst(m.true, m.true-x.Uint64N(100*ms), m.now+x.Uint64N(20*ms)) {
					if c == status.OK {
						opened++
					}
				}
				if n := len(m.all); n > 0 {
					m.burst(m.all[x.IntN(n)], m.all[max(0, n-1-x.IntN(20))])
				}
			}
		}
		m.replayed()
		m.now = max(m.now, m.true, m.all[len(m.all)-1], m.times.marked) + sec
		m.true = m.now
		m.pass(3 * sec)
		m.burst(m.true)
		m.pass(3 * sec)
		m.burst(m.true)
		m.pass(ms)
		m.traffic(20)
		if opened < 50 {
			t.Fatal(opened)
		}
	}
}
