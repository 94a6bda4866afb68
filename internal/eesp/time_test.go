package eesp

import (
	"bytes"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"libeesp/internal/status"
)

// byTime returns c with replay protection by time, which works here even without a trusted clock.
func byTime(c ReceiverConfig) ReceiverConfig {
	c.Replay, c.ClockTrusted = ReplayTime, c.MarkPath == ""
	if c.Heir != nil {
		c.ClockTrusted = false
	}
	if c.MaxAge == 0 { // tests may be stopped for a while
		c.MaxAge = 5 * time.Second
	}
	if c.MaxRate == 0 {
		c.MaxRate = 20_000
	}
	return c
}

func timeSender(t *testing.T, g *Group, c SenderConfig) *Sender {
	t.Helper()
	s := must(NewSender(g, c))
	t.Cleanup(s.Close)
	return s
}

// timed is a format whose counters may be times, with a group's constructor and a sender's
// configuration.
type timed struct {
	name  string
	group func(t *testing.T) *Group
	c     SenderConfig
}

func timedFormats() []timed {
	id := freshID()
	return []timed{
		{"stateless", func(t *testing.T) *Group { return newGroup(t, "a", GroupConfig{Time: true}, Zone) }, SenderConfig{ID: id, Options: true}},
		{"psp", func(t *testing.T) *Group {
			g := must(NewGroup(GroupConfig{Profile: ProfilePSP, Time: true}))
			t.Cleanup(g.Close)
			if err := g.SetKey(0, stream("time", 32)); err != nil {
				t.Fatal(err)
			}
			return g
		}, SenderConfig{ID: id & 0x7fffffff}},
	}
}

// waitOpen seals and opens packets until one opens. All before are stale, since they were sealed
// before the receiver's start or too soon after it.
func waitOpen(t *testing.T, r *Receiver, seal func() Packet) Packet {
	t.Helper()
	for range 2000 {
		p := []Packet{seal()}
		b := bytes.Clone(p[0].Buf)
		if r.Open(p) == 1 {
			p[0].Buf = b
			return p[0]
		}
		if p[0].Status != status.ErrStale {
			t.Fatal(p[0].Status)
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatal("nothing was opened within 2 s")
	return Packet{}
}

// In each format, packets open once, and counters are the time of sealing.
func TestTime(t *testing.T) {
	for _, f := range timedFormats() {
		t.Run(f.name, func(t *testing.T) {
			g := f.group(t)
			s := timeSender(t, g, f.c)
			r := must(NewReceiver(byTime(ReceiverConfig{}), g))
			defer r.Close()
			seal := func() Packet {
				before := uint64(time.Now().UnixNano())
				p := Packet{Buf: make([]byte, 300), Off: 128, Len: 40}
				q := []Packet{p}
				if s.Seal(q) != 1 {
					t.Fatal(q[0].Status)
				}
				ns := func(ns uint64) uint64 { return ns/1e9<<28 + ns%1e9<<28/1e9 }
				after := uint64(time.Now().UnixNano())
				if q[0].TSC < ns(before) || q[0].TSC > ns(after+2e6) {
					t.Fatalf("TSC %#x, not between %#x and %#x", q[0].TSC, ns(before), ns(after+2e6))
				}
				return Packet{Buf: q[0].Buf, Off: 128 - s.HeaderLen(), Len: s.HeaderLen() + 40 + ICVLen}
			}
			first := waitOpen(t, r, seal)
			again := func(p Packet) Packet { p.Buf = bytes.Clone(p.Buf); return p }
			wantStatus(t, r, again(first), status.ErrReplay)
			// Bursts of copies, forged ones among them.
			for range 20 {
				one := seal()
				var pkts []Packet
				for i := range 40 {
					p := one
					p.Buf = bytes.Clone(one.Buf)
					if i%5 == 0 {
						p.Buf[one.Off+one.Len-1] ^= 1
					}
					pkts = append(pkts, p)
				}
				if n := r.Open(pkts); n != 1 {
					t.Fatalf("%d copies were opened", n)
				}
				for i, p := range pkts {
					if p.Status == status.OK && i != 1 || i%5 == 0 && p.Status != status.ErrAuth && p.Status != status.ErrReplay || p.Status != status.OK && !bytes.Equal(p.Buf[168-40:168], make([]byte, 40)) && p.Out != nil {
						t.Fatal(i, p.Status)
					}
				}
			}
			if st := r.ReplayStats(); st.Duplicates < 20*31 || st.Memory == 0 || st.NoRoom != 0 {
				t.Fatalf("%+v", st)
			}
			// The heir opens none that the receiver has opened, and the reverse.
			heir := must(NewReceiver(byTime(ReceiverConfig{Heir: r}), g))
			wantStatus(t, heir, again(first), status.ErrReplay)
			last := seal()
			wantOK(t, heir, again(last))
			wantStatus(t, r, again(last), status.ErrReplay)
			r.Close()
			wantStatus(t, heir, again(last), status.ErrReplay)
			heir.Close()
		})
	}
}

func wantOK(t *testing.T, r *Receiver, p Packet) {
	t.Helper()
	q := []Packet{p}
	if r.Open(q) != 1 {
		t.Fatal(q[0].Status)
	}
}

// Constructors refuse settings that do not fit together.
func TestTimeRefused(t *testing.T) {
	timedGroup, plainGroup := newGroup(t, "a", GroupConfig{Time: true}, Zone), newGroup(t, "a", GroupConfig{}, Zone)
	for _, c := range []GroupConfig{{Profile: ProfileEESP, Mode: SSKDFCMAC, Domain: 300}, {Profile: ProfileTSS, Domain: 300}} {
		c.Time = true
		_, err := NewGroup(c)
		wantErr(t, err, status.ErrArgument)
	}
	k := must(newTSS(t, GroupConfig{Domain: 301}, tssKey("no times")).ExportDataKey(Context{V: VTSSSSI, ID: tssSSI()}, false))
	_, err := NewSenderWithKey(k, SenderConfig{Time: true})
	wantErr(t, err, status.ErrArgument)
	_, err = NewReceiverWithKey(k, byTime(ReceiverConfig{}))
	wantErr(t, err, status.ErrArgument)
	for name, c := range map[string]SenderConfig{
		"reserved": {Counter: CounterReserved, StatePath: t.TempDir() + "/mark"}, "explicit": {Counter: CounterExplicit}, "rate": {RateLog2: 20},
		"engine bits": {EngineBits: 11}, "epoch start": {FixedEpoch: true, Epoch: 5, EpochStart: time.Now()}, "time": {Time: true},
	} {
		c.ID = freshID()
		if _, err := NewSender(timedGroup, c); err == nil {
			t.Fatal(name)
		} else {
			wantErr(t, err, status.ErrArgument)
		}
	}
	for name, c := range map[string]ReceiverConfig{
		"window": {Replay: ReplayTime, ReplayWindow: 64}, "engines": {Replay: ReplayTime, EngineBits: 1}, "mode": {Replay: 2}, "age": {MaxAge: time.Second},
		"early": {MaxEarly: time.Second}, "rate": {MaxRate: 5}, "mark": {MarkPath: "x"}, "clock": {ClockTrusted: true},
		"long": {Replay: ReplayTime, ClockTrusted: true, MaxAge: time.Minute}, "much": {Replay: ReplayTime, ClockTrusted: true, MaxRate: 2e9},
		"heir": {Replay: ReplayTime, Heir: newReceiver(t, ReceiverConfig{}, plainGroup)},
	} {
		if _, err := NewReceiver(c, timedGroup); err == nil {
			t.Fatal(name)
		} else {
			wantErr(t, err, status.ErrArgument)
		}
	}
	_, err = NewReceiver(byTime(ReceiverConfig{}), timedGroup, plainGroup)
	wantErr(t, err, status.ErrArgument)
	r := must(NewReceiver(byTime(ReceiverConfig{}), timedGroup))
	defer r.Close()
	_, err = NewReceiver(byTime(ReceiverConfig{Heir: r, MaxRate: 30_000}), timedGroup)
	wantErr(t, err, status.ErrArgument)
	// If nothing synchronizes the clock, a receiver needs a mark.
	old := clockSynchronized
	defer func() { clockSynchronized = old }()
	clockSynchronized = func() bool { return false }
	_, err = NewReceiver(ReceiverConfig{Replay: ReplayTime}, timedGroup)
	wantErr(t, err, status.ErrClock)
	must(NewReceiver(ReceiverConfig{Replay: ReplayTime, MarkPath: t.TempDir() + "/mark"}, timedGroup)).Close()
	clockSynchronized = func() bool { return true }
	must(NewReceiver(ReceiverConfig{Replay: ReplayTime}, timedGroup)).Close()
}

// After restarts with and without a mark, none of the old packets opens again, and new ones
// open.
func TestTimeRestart(t *testing.T) {
	g := newGroup(t, "a", GroupConfig{Time: true}, Zone)
	s := timeSender(t, g, SenderConfig{ID: freshID(), EngineBits: 4, Engine: 9, Options: true})
	for _, mark := range []string{"", t.TempDir() + "/mark"} {
		c := byTime(ReceiverConfig{MarkPath: mark, MaxEarly: 3 * time.Millisecond})
		var all [][]byte
		for restart := range 3 {
			r := must(NewReceiver(c, g))
			for i := range all {
				wantStatus(t, r, whole(all[i]), status.ErrStale)
			}
			for range 20 {
				p := waitOpen(t, r, func() Packet { return whole(sealed(t, s, plain([]byte("x")))) })
				all = append(all, bytes.Clone(p.Buf))
			}
			for i := range all {
				if p := []Packet{whole(all[i])}; r.Open(p) != 0 {
					t.Fatalf("restart %d: packet %d was opened twice", restart, i)
				}
			}
			if restart == 1 && mark != "" { // a crash: the file has what it had before Close
				b := must(os.ReadFile(mark))
				r.Close()
				if err := os.WriteFile(mark, b, 0o600); err != nil {
					t.Fatal(err)
				}
				continue
			}
			r.Close()
		}
	}
}

// Threads share a receiver, and senders share a counter. Each packet opens once; none is lost.
func TestTimeThreads(t *testing.T) {
	g := newGroup(t, "a", GroupConfig{Time: true}, Zone)
	r := must(NewReceiver(byTime(ReceiverConfig{MaxRate: 200_000}), g))
	defer r.Close()
	id := freshID()
	s := timeSender(t, g, SenderConfig{ID: id, Options: true})
	waitOpen(t, r, func() Packet { return whole(sealed(t, s, plain(nil))) })
	const bursts, n = 100, 16
	var wg sync.WaitGroup
	var opened [4]atomic.Int64
	for w := range 4 {
		wg.Go(func() {
			mine := must(NewSender(g, SenderConfig{ID: id, Options: true}))
			defer mine.Close()
			for range bursts {
				pkts := make([]Packet, n)
				for i := range pkts {
					pkts[i] = plain([]byte(fmt.Sprint(w, i)))
				}
				if mine.Seal(pkts) != n {
					t.Error(pkts[0].Status)
					return
				}
				var inner sync.WaitGroup
				for range 2 {
					var q []Packet
					for _, p := range pkts {
						q = append(q, whole(bytes.Clone(p.Out)))
					}
					inner.Go(func() { opened[w].Add(int64(r.Open(q))) })
				}
				inner.Wait()
			}
		})
	}
	wg.Wait()
	for w := range opened {
		if k := opened[w].Load(); k != bursts*n {
			t.Errorf("%d packets were opened, of %d that came twice each", k, bursts*n)
		}
	}
}
