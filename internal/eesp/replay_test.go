package eesp

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"libeesp/internal/status"
	"libeesp/internal/testrun"
)

// format is a packet format to test a receiver's replay protection with.
type format struct {
	name  string
	group func(t testing.TB) *Group // the same keys every time
	c     SenderConfig
}

var formats = []format{
	{"stateless", func(t testing.TB) *Group { return newGroup(t, "a", GroupConfig{}, Zone) }, SenderConfig{}},
	{"stateless, 256 bits, options", func(t testing.TB) *Group {
		return newGroup(t, "a", GroupConfig{AEAD: AES256GCM}, Zone, User)
	}, SenderConfig{V: VLongIDSrcDst, Options: true}},
	{"psp", pspDevice, SenderConfig{}},
	{"eesp", eespSame, SenderConfig{}},
}

var sameSPI = freshSPI()

func eespSame(t testing.TB) *Group {
	return eespGroup(t, GroupConfig{Profile: ProfileEESP, Mode: SSKDFSHA256, Domain: sameSPI, MaxCOffset: 40}, stream("eesp root", 32))
}

func pspDevice(t testing.TB) *Group {
	g := newGroup(t, "", GroupConfig{Profile: ProfilePSP})
	for slot := range 2 {
		if err := g.SetKey(slot, stream(fmt.Sprint("psp key ", slot), 32)); err != nil {
			t.Fatal(err)
		}
	}
	return g
}

// sealedRun seals n packets with counters one after the other; payload i is numbered(i).
func sealedRun(t testing.TB, s *Sender, n int) (run [][]byte) {
	t.Helper()
	for i := range n {
		run = append(run, sealed(t, s, plain(numbered(i))))
	}
	return run
}

func numbered(i int) []byte { return stream(fmt.Sprint("packet ", i), 40) }

// wantReplayStats compares all fields but Most.
func wantReplayStats(t testing.TB, r *Receiver, want ReplayStats) {
	t.Helper()
	got := r.ReplayStats()
	want.Most = got.Most
	if got != want {
		t.Fatalf("replay stats %+v, want %+v", got, want)
	}
}

func TestReplayInOneBurst(t *testing.T) {
	for _, f := range formats {
		for _, dst := range []bool{false, true} {
			for _, coffset := range []uint8{0, 2} {
				t.Run(fmt.Sprintf("%s, dst %v, coffset %d", f.name, dst, coffset), func(t *testing.T) {
					g := f.group(t)
					s, r := newSender(t, g, f.c), newReceiver(t, ReceiverConfig{ReplayWindow: 64}, g)
					var run [][]byte
					for i := range 3 {
						p := plain(numbered(i))
						p.COffset = coffset
						run = append(run, sealed(t, s, p))
					}
					order := []int{1, 0, 1, 2, 2, 0, 1}
					var pkts []Packet
					for _, i := range order {
						p := whole(run[i])
						if dst {
							p.Dst = make([]byte, 40)
						}
						pkts = append(pkts, p)
					}
					if n := r.Open(pkts); n != 3 {
						t.Fatalf("opened %d", n)
					}
					first := map[int]bool{}
					for at, i := range order {
						p := &pkts[at]
						if !first[i] {
							first[i] = true
							if p.Status != status.OK || !bytes.Equal(p.Out, numbered(i)) {
								t.Fatalf("the first of packet %d: %v", i, p.Status)
							}
							continue
						}
						if p.Status != status.ErrReplay || p.Out != nil {
							t.Fatalf("packet %d again: %v", i, p.Status)
						}
						text := p.Dst
						if !dst {
							text = p.Buf[s.HeaderLen() : len(p.Buf)-ICVLen]
						}
						if !allZero(text[4*int(coffset):]) {
							t.Fatalf("packet %d again left %x", i, text)
						}
					}
					if n := r.Stats().Packets; n[status.OK] != 3 || n[status.ErrReplay] != 4 || len(n) != 2 {
						t.Fatal(n)
					}
					wantReplayStats(t, r, ReplayStats{Windows: 1, Made: 1, Duplicates: 4})
				})
			}
		}
	}
}

// A duplicate in a later burst is not decrypted; its octets do not change.
func TestReplayAcrossBursts(t *testing.T) {
	for _, f := range formats {
		t.Run(f.name, func(t *testing.T) {
			g := f.group(t)
			s, r := newSender(t, g, f.c), newReceiver(t, ReceiverConfig{ReplayWindow: 1024}, g)
			run := sealedRun(t, s, 100)
			for i, b := range run {
				wantOpen(t, r, whole(b), numbered(i))
			}
			for _, dst := range []bool{false, true} {
				var pkts []Packet
				for _, b := range run {
					p := whole(b)
					if dst {
						p.Dst = bytes.Repeat([]byte{0x77}, 40)
					}
					pkts = append(pkts, p)
				}
				if n := r.Open(pkts); n != 0 {
					t.Fatalf("opened %d", n)
				}
				for i, p := range pkts {
					if p.Status != status.ErrReplay || p.Out != nil || !bytes.Equal(p.Buf, run[i]) || len(bytes.Trim(p.Dst, "\x77")) != 0 {
						t.Fatalf("packet %d: %v", i, p.Status)
					}
				}
			}
			wantReplayStats(t, r, ReplayStats{Windows: 1, Made: 1, Duplicates: 200})
		})
	}
}

func TestReplayOrder(t *testing.T) {
	for _, f := range formats {
		t.Run(f.name, func(t *testing.T) {
			const width = 128
			g := f.group(t)
			s, r := newSender(t, g, f.c), newReceiver(t, ReceiverConfig{ReplayWindow: width}, g)
			run := sealedRun(t, s, 3*width)
			const top = 2 * width
			wantOpen(t, r, whole(run[top]), numbered(top))
			for i := top - 1; i > top-width; i -= 3 { // backwards, to the window's end
				wantOpen(t, r, whole(run[i]), numbered(i))
			}
			wantStatus(t, r, whole(run[top-width]), status.ErrReplay)
			wantStatus(t, r, whole(run[0]), status.ErrReplay)
			wantReplayStats(t, r, ReplayStats{Windows: 1, Made: 1, Old: 2})
			wantOpen(t, r, whole(run[top-width+2]), numbered(top-width+2))
			wantOpen(t, r, whole(run[top+2]), numbered(top+2))
			wantStatus(t, r, whole(run[top-width+2]), status.ErrReplay) // outside of the window now
			wantStatus(t, r, whole(run[top]), status.ErrReplay)
			wantReplayStats(t, r, ReplayStats{Windows: 1, Made: 1, Old: 3, Duplicates: 1})

			// In one burst the second packet moves the window beyond the others, which open still.
			pkts := []Packet{whole(run[top+3]), whole(run[3*width-1]), whole(run[top+4])}
			if n := r.Open(pkts); n != 3 {
				t.Fatal(n, pkts[2].Status)
			}
		})
	}
}

// Every packet has the model's status, for random orders, senders and bursts.
func TestReplayModel(t *testing.T) {
	for _, f := range formats {
		t.Run(f.name, func(t *testing.T) {
			const width, each, senders = 192, 600, 3
			g := f.group(t)
			r := newReceiver(t, ReceiverConfig{ReplayWindow: width}, g)
			type packet struct{ sender, i int }
			var runs [][][]byte
			for range senders {
				runs = append(runs, sealedRun(t, newSender(t, g, f.c), each))
			}
			var top [senders]int
			seen := map[packet]bool{}
			rnd := rand.New(rand.NewPCG(1, uint64(len(f.name))))
			at := 0
			for at < each {
				var pkts []Packet
				var are []packet
				var forged []bool
				for range 1 + rnd.IntN(70) {
					x := packet{rnd.IntN(senders), min(each-1, max(0, at+rnd.IntN(60)-20-rnd.IntN(2)*rnd.IntN(300)))}
					p := whole(runs[x.sender][x.i])
					bad := rnd.IntN(8) == 0
					if bad {
						p.Buf[rnd.IntN(ICVLen)+p.Len-ICVLen] ^= 4
					}
					if rnd.IntN(3) == 0 {
						p.Dst = make([]byte, 40)
					}
					pkts, are, forged = append(pkts, p), append(are, x), append(forged, bad)
				}
				at += rnd.IntN(12)
				r.Open(pkts)
				for k, p := range pkts {
					x := are[k]
					old, dup := top[x.sender]-x.i >= width, seen[x]
					switch {
					case forged[k]:
						if p.Status != status.ErrAuth && (p.Status != status.ErrReplay || !old && !dup) {
							t.Fatalf("forged %v: %v", x, p.Status)
						}
					case old || dup:
						if p.Status != status.ErrReplay {
							t.Fatalf("%v (old %v, seen %v): %v", x, old, dup, p.Status)
						}
					default:
						if p.Status != status.OK || !bytes.Equal(p.Out, numbered(x.i)) {
							t.Fatalf("%v, top %d: %v", x, top[x.sender], p.Status)
						}
						seen[x] = true
						top[x.sender] = max(top[x.sender], x.i)
					}
				}
			}
			if s := r.ReplayStats(); s.Windows != senders || s.Made != senders || s.Duplicates == 0 || s.Old == 0 || s.NoRoom+s.GivenUp != 0 {
				t.Fatalf("%+v", s)
			}
		})
	}
}

// Threads share a receiver: each packet opens in one of them.
func TestReplayBetweenThreads(t *testing.T) {
	for _, f := range formats {
		t.Run(f.name, func(t *testing.T) {
			const threads, n, senders = 4, 400, 3
			g := f.group(t)
			r := newReceiver(t, ReceiverConfig{ReplayWindow: 4096}, g)
			var all [][]byte
			for range senders {
				all = append(all, sealedRun(t, newSender(t, g, f.c), n)...)
			}
			opened := make([]atomic.Int32, len(all))
			var wg sync.WaitGroup
			for thread := range threads {
				wg.Go(func() {
					rnd := rand.New(rand.NewPCG(7, uint64(thread)))
					for at := 0; at < len(all); {
						k := min(1+rnd.IntN(90), len(all)-at)
						pkts := make([]Packet, k)
						for i := range pkts {
							pkts[i] = whole(all[at+i])
						}
						good := r.Open(pkts)
						for i, p := range pkts {
							switch {
							case p.Status == status.OK && bytes.Equal(p.Out, numbered((at+i)%n)):
								opened[at+i].Add(1)
								good--
							case p.Status != status.ErrReplay || p.Out != nil:
								t.Errorf("packet %d: %v", at+i, p.Status)
							case bytes.Contains(p.Buf, numbered((at + i) % n)[:8]):
								t.Errorf("packet %d: plaintext was left", at+i)
							}
						}
						if good != 0 {
							t.Errorf("count and statuses differ by %d", good)
						}
						at += k
					}
				})
			}
			wg.Wait()
			for i := range opened {
				if k := opened[i].Load(); k != 1 {
					t.Fatalf("packet %d was opened %d times", i, k)
				}
			}
			wantReplayStats(t, r, ReplayStats{Windows: senders, Made: senders, Duplicates: (threads - 1) * n * senders})
		})
	}
}

// Keys rotate while threads open packets, so that windows are made and freed. No packet opens
// twice, and none is lost whose key is there.
func TestReplayWhileKeysRotate(t *testing.T) {
	const threads, each = 3, 30
	g := newGroup(t, "a", GroupConfig{}, Zone)
	s := newSender(t, g, SenderConfig{Options: true, V: VIDSrc})
	r := newReceiver(t, ReceiverConfig{ReplayWindow: 2048, ReplayContexts: 64}, g)
	rotations := testrun.Rounds(15, 60, 60)
	for round := range uint64(rotations) {
		run := sealedRun(t, s, each)
		opened := make([]atomic.Int32, each)
		var wg sync.WaitGroup
		for range threads {
			wg.Go(func() {
				pkts := make([]Packet, each)
				for i := range pkts {
					pkts[i] = whole(run[i])
				}
				r.Open(pkts)
				for i, p := range pkts {
					if p.Status == status.OK {
						opened[i].Add(1)
					} else if p.Status != status.ErrReplay {
						t.Errorf("packet %d: %v", i, p.Status)
					}
				}
			})
		}
		if err := g.Rotate(Zone, 4+round, nil); err != nil {
			t.Fatal(err)
		}
		wg.Wait()
		for i := range opened {
			if k := opened[i].Load(); k != 1 {
				t.Fatalf("round %d: packet %d was opened %d times", round, i, k)
			}
		}
	}
	wantWiped(t)
	open1(r, Packet{}) // frees windows of keys that are gone
	n := r.ReplayStats()
	if n.Made != uint64(rotations) || n.GivenUp < uint64(rotations)-3 || n.Windows > 3 || n.NoRoom != 0 {
		t.Fatalf("%+v", n)
	}
}

// A packet that is not authentic does not change a window, even if its counter is far ahead.
func TestReplayOfForgedPackets(t *testing.T) {
	for _, f := range formats {
		t.Run(f.name, func(t *testing.T) {
			g := f.group(t)
			s, r := newSender(t, g, f.c), newReceiver(t, ReceiverConfig{ReplayWindow: 64, ReplayContexts: 2}, g)
			run := sealedRun(t, s, 40)
			ahead := func(i int) Packet {
				p := whole(run[i])
				copy(p.Buf[s.HeaderLen()-6:], "\xFF\xFF\xFF\xFF\xFF\xFF")
				if f.name == "psp" {
					copy(p.Buf[8:16], "\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF")
				}
				return p
			}
			wantStatus(t, r, ahead(0), status.ErrAuth)
			wantReplayStats(t, r, ReplayStats{}) // nor has it made a window
			for i := range 20 {
				pkts := []Packet{ahead(i), whole(run[i]), ahead(i)}
				if r.Open(pkts); pkts[0].Status != status.ErrAuth || pkts[1].Status != status.OK || pkts[2].Status != status.ErrAuth {
					t.Fatal(i, pkts[0].Status, pkts[1].Status, pkts[2].Status)
				}
			}
			for i := 20; i < 40; i++ { // a damaged copy first
				p := whole(run[i])
				p.Buf[len(p.Buf)-1] ^= 1
				wantStatus(t, r, p, status.ErrAuth)
				wantOpen(t, r, whole(run[i]), numbered(i))
				p = whole(run[i])
				p.Buf[len(p.Buf)-1] ^= 1
				wantStatus(t, r, p, status.ErrReplay)
			}
			// Forged IDs take no windows.
			for i := range 100 {
				p, want := whole(run[0]), status.ErrAuth
				if p.Buf[7] ^= byte(i + 1); f.name == "eesp" { // another SA's
					want = status.ErrNoKey
				}
				wantStatus(t, r, p, want)
			}
			wantReplayStats(t, r, ReplayStats{Windows: 1, Made: 1, Duplicates: 20})
		})
	}
}

// Each context has a window of its own.
func TestReplayContexts(t *testing.T) {
	g := newGroup(t, "a", GroupConfig{}, Zone)
	text := numbered(0)
	counters := func(s *Sender, epoch uint16, start uint64) *Sender { ownCounters(s, epoch, start); return s }
	t.Run("IDs and epochs", func(t *testing.T) {
		r := newReceiver(t, ReceiverConfig{ReplayWindow: 64}, g)
		made := 0
		for _, v := range []uint8{VID, VLongID} {
			for range 3 {
				s := newSender(t, g, SenderConfig{V: v})
				for _, epoch := range []uint16{5, 9, 0, 65535} {
					counters(s, epoch, 1000-uint64(epoch%10)*100) // in falling order
					b := sealed(t, s, plain(text))
					wantOpen(t, r, whole(b), text)
					wantStatus(t, r, whole(b), status.ErrReplay)
					made++
				}
			}
		}
		wantReplayStats(t, r, ReplayStats{Windows: made, Made: uint64(made), Duplicates: uint64(made)})
	})
	t.Run("addresses", func(t *testing.T) {
		for _, v := range allV {
			r := newReceiver(t, ReceiverConfig{ReplayWindow: 64}, g)
			s := newSender(t, g, SenderConfig{V: v})
			windows := map[string]bool{}
			for i := range 4 {
				counters(s, 1, 500)
				p := plain(text)
				p.SrcIP, p.DstIP = v4, v6
				if i&1 != 0 {
					p.SrcIP = v4b
				}
				if i&2 != 0 {
					p.DstIP = v6b
				}
				name := ""
				if v&7 > 0 {
					name += p.SrcIP.String()
				}
				if v&7 > 1 {
					name += p.DstIP.String()
				}
				q := whole(sealed(t, s, p))
				q.SrcIP, q.DstIP = p.SrcIP, p.DstIP
				if windows[name] {
					wantStatus(t, r, q, status.ErrReplay)
				} else {
					wantOpen(t, r, q, text)
				}
				windows[name] = true
			}
			if n := r.ReplayStats().Windows; n != len(windows) || n != 1<<(v&7) {
				t.Fatalf("V %#x: %d windows", v, n)
			}
			// With another address that is not in the context it is the same packet.
			if v&7 == 0 {
				b := sealed(t, s, plain(text))
				wantOpen(t, r, whole(b), text)
				q := whole(b)
				q.SrcIP = v6
				wantStatus(t, r, q, status.ErrReplay)
			}
		}
	})
	t.Run("engines", func(t *testing.T) {
		const bits = 4
		for _, f := range formats {
			if f.name == "eesp" {
				continue // eesp has no engines
			}
			id := freshID()
			g := f.group(t)
			var runs [3][][]byte
			for e := range runs {
				c := f.c
				c.ID, c.EngineBits, c.Engine, c.Start = id, bits, uint32(e*7), 10
				runs[e] = sealedRun(t, newSender(t, g, c), 5)
			}
			r, one := newReceiver(t, ReceiverConfig{ReplayWindow: 64, EngineBits: bits}, g), newReceiver(t, ReceiverConfig{ReplayWindow: 64}, g)
			for _, e := range []int{2, 0, 1} {
				for i, b := range runs[e] {
					wantOpen(t, r, whole(b), numbered(i))
					wantStatus(t, r, whole(b), status.ErrReplay)
				}
			}
			wantReplayStats(t, r, ReplayStats{Windows: 3, Made: 3, Duplicates: 15})
			wantOpen(t, one, whole(runs[1][4]), numbered(4))
			wantStatus(t, one, whole(runs[0][0]), status.ErrReplay) // without engine bits all share a window
			wantReplayStats(t, one, ReplayStats{Windows: 1, Made: 1, Old: 1})
		}
	})
	t.Run("levels", func(t *testing.T) {
		g := newGroup(t, "a", GroupConfig{}, Zone, User)
		r := newReceiver(t, ReceiverConfig{ReplayWindow: 64}, g)
		id := freshID()
		for _, levels := range []Levels{Set(Zone), Set(User), Set(Zone, User)} {
			s := newSender(t, g, SenderConfig{ID: id, Levels: levels, Options: true})
			counters(s, 1, 77)
			b := sealed(t, s, plain(text))
			wantOpen(t, r, whole(b), text)
			wantStatus(t, r, whole(b), status.ErrReplay)
		}
		wantReplayStats(t, r, ReplayStats{Windows: 3, Made: 3, Duplicates: 3})
	})
	t.Run("the next epoch", func(t *testing.T) { // counters go on from one epoch to the next
		s, r := newSender(t, g, SenderConfig{}), newReceiver(t, ReceiverConfig{ReplayWindow: 64}, g)
		counters(s, 7, 1<<48-3)
		run := sealedRun(t, s, 3)
		counters(s, 8, 0)
		run = append(run, sealedRun(t, s, 3)...)
		for i, b := range run {
			wantOpen(t, r, whole(b), numbered(i%3))
		}
		for _, b := range run {
			wantStatus(t, r, whole(b), status.ErrReplay)
		}
		wantReplayStats(t, r, ReplayStats{Windows: 2, Made: 2, Duplicates: 6})
	})
}

func TestReplayWithDataKey(t *testing.T) {
	for _, profile := range []ProfileID{ProfileStateless, ProfilePSP} {
		g := newGroup(t, "a", GroupConfig{}, Zone)
		if profile == ProfilePSP {
			g = pspDevice(t)
		}
		k := must(g.ExportDataKey(Context{ID: freshID()}, false))
		s, r := must(NewSenderWithKey(k, SenderConfig{Counter: CounterExplicit})), must(NewReceiverWithKey(k, ReceiverConfig{ReplayWindow: 64}))
		defer s.Close()
		defer r.Close()
		run := sealedRun(t, s, 200)
		for i, b := range run {
			pkts := []Packet{whole(b), whole(b)}
			if r.Open(pkts); pkts[0].Status != status.OK || pkts[1].Status != status.ErrReplay || !bytes.Equal(pkts[0].Out, numbered(i)) {
				t.Fatal(i, pkts[0].Status, pkts[1].Status)
			}
		}
		for _, b := range run {
			wantStatus(t, r, whole(b), status.ErrReplay)
		}
		wantReplayStats(t, r, ReplayStats{Windows: 1, Made: 1, Duplicates: 200 + 64, Old: 136})
	}
}

// The holder of a data key of an address opens packets from this address only. A replay with
// another address must not get another window.
func TestReplayWithDataKeyFromElsewhere(t *testing.T) {
	g := newGroup(t, "a", GroupConfig{}, Zone)
	for _, v := range []uint8{VIDSrc, VLongIDSrcDst} {
		k := must(g.ExportDataKey(Context{ID: freshID(), V: v, Addr: Addr{Src: v4.As16(), Dst: v6.As16()}}, false))
		s, r := must(NewSenderWithKey(k, SenderConfig{Counter: CounterExplicit})), must(NewReceiverWithKey(k, ReceiverConfig{ReplayWindow: 64}))
		defer s.Close()
		defer r.Close()
		b := sealed(t, s, plain(numbered(0)))
		from := func(src netip.Addr) Packet {
			p := whole(b)
			p.SrcIP, p.DstIP = src, v6
			return p
		}
		wantStatus(t, r, from(v4b), status.ErrContext)
		wantOpen(t, r, from(v4), numbered(0))
		wantStatus(t, r, from(v4), status.ErrReplay)
		wantStatus(t, r, from(v4b), status.ErrContext)
		wantReplayStats(t, r, ReplayStats{Windows: 1, Made: 1, Duplicates: 1})
	}
}

// Windows are freed when their key is gone, and not before.
func TestReplayAndRotation(t *testing.T) {
	near, far := newGroup(t, "a", GroupConfig{}, Zone), newGroup(t, "a", GroupConfig{}, Zone)
	s, r := newSender(t, near, SenderConfig{Options: true}), newReceiver(t, ReceiverConfig{ReplayWindow: 64}, far)
	old := sealedRun(t, s, 10)
	for i := range 5 {
		wantOpen(t, r, whole(old[i]), numbered(i))
	}
	rotate(t, near, "a", Zone, 4)
	ahead := sealedRun(t, s, 10) // with the receiver's next key
	wantOpen(t, r, whole(ahead[0]), numbered(0))
	rotate(t, far, "a", Zone, 4)
	for i := range 5 {
		wantStatus(t, r, whole(old[i]), status.ErrReplay)
	}
	wantOpen(t, r, whole(old[5]), numbered(5)) // arrives after the rotation
	wantStatus(t, r, whole(ahead[0]), status.ErrReplay)
	wantOpen(t, r, whole(ahead[1]), numbered(1))
	wantReplayStats(t, r, ReplayStats{Windows: 2, Made: 2, Duplicates: 6})
	// Other changes of the group free no window.
	if err := far.SetDefaultLevels(0); err != nil {
		t.Fatal(err)
	}
	if err := setRing(far, "b", User); err != nil {
		t.Fatal(err)
	}
	wantStatus(t, r, whole(old[5]), status.ErrReplay)
	wantStatus(t, r, whole(ahead[1]), status.ErrReplay)
	wantReplayStats(t, r, ReplayStats{Windows: 2, Made: 2, Duplicates: 8})
	rotate(t, far, "a", Zone, 5)
	wantStatus(t, r, whole(old[6]), status.ErrNoKey)
	wantWiped(t)
	wantReplayStats(t, r, ReplayStats{Windows: 1, Made: 2, Duplicates: 8, GivenUp: 1})
	wantOpen(t, r, whole(ahead[2]), numbered(2))
	wantStatus(t, r, whole(ahead[2]), status.ErrReplay)
	if err := far.RemoveRootKey(Zone); err != nil {
		t.Fatal(err)
	}
	wantStatus(t, r, whole(ahead[3]), status.ErrNoKey)
	wantReplayStats(t, r, ReplayStats{Made: 2, Duplicates: 9, GivenUp: 2})

	// Slots, in profiles without levels.
	g := pspDevice(t)
	ps := [2]*Sender{newSender(t, g, SenderConfig{}), newSender(t, g, SenderConfig{ID: freshID() | 1<<31})}
	pr := newReceiver(t, ReceiverConfig{ReplayWindow: 64}, g)
	runs := [2][][]byte{sealedRun(t, ps[0], 3), sealedRun(t, ps[1], 3)}
	for _, run := range runs {
		wantOpen(t, pr, whole(run[0]), numbered(0))
	}
	if err := g.UseKey(1); err != nil {
		t.Fatal(err)
	}
	wantStatus(t, pr, whole(runs[0][0]), status.ErrReplay)
	wantReplayStats(t, pr, ReplayStats{Windows: 2, Made: 2, Duplicates: 1})
	if _, err := g.RotateKey(nil); err != nil { // slot 0 gets another key
		t.Fatal(err)
	}
	wantStatus(t, pr, whole(runs[0][1]), status.ErrAuth)
	wantStatus(t, pr, whole(runs[1][0]), status.ErrReplay)
	wantOpen(t, pr, whole(runs[1][1]), numbered(1))
	wantWiped(t)
	wantReplayStats(t, pr, ReplayStats{Windows: 1, Made: 2, Duplicates: 2, GivenUp: 1})
	if err := g.RemoveKey(1); err != nil {
		t.Fatal(err)
	}
	wantStatus(t, pr, whole(runs[1][2]), status.ErrNoKey)
	wantReplayStats(t, pr, ReplayStats{Made: 2, Duplicates: 2, GivenUp: 2})
}

// A key that two groups of a receiver hold has one window, until both lose it.
func TestReplayWithSharedKeys(t *testing.T) {
	a, b := newGroup(t, "a", GroupConfig{}, Zone), newGroup(t, "a", GroupConfig{}, Zone)
	s, r := newSender(t, a, SenderConfig{Options: true}), newReceiver(t, ReceiverConfig{ReplayWindow: 64}, a, b)
	run := sealedRun(t, s, 2)
	wantOpen(t, r, whole(run[0]), numbered(0))
	if err := a.RemoveRootKey(Zone); err != nil {
		t.Fatal(err)
	}
	wantStatus(t, r, whole(run[0]), status.ErrReplay)
	wantOpen(t, r, whole(run[1]), numbered(1))
	wantReplayStats(t, r, ReplayStats{Windows: 1, Made: 1, Duplicates: 1})
	if err := b.RemoveRootKey(Zone); err != nil {
		t.Fatal(err)
	}
	wantStatus(t, r, whole(run[0]), status.ErrNoKey)
	wantReplayStats(t, r, ReplayStats{Made: 1, Duplicates: 1, GivenUp: 1})
}

// Without options, previous keys are tried, too. A packet that was opened when its key was the
// current one is a replay then.
func TestReplayOfPreviousKeys(t *testing.T) {
	near, far := newGroup(t, "a", GroupConfig{}, Zone), newGroup(t, "a", GroupConfig{}, Zone)
	s, r := newSender(t, near, SenderConfig{}), newReceiver(t, ReceiverConfig{ReplayWindow: 64, TryPrevious: true}, far)
	seal := func(n int) (run [][]byte) {
		for i := range n {
			p := plain(numbered(i))
			p.COffset = uint8(i % 3)
			run = append(run, sealed(t, s, p))
		}
		return run
	}
	old := seal(20)
	for i := range 5 {
		wantOpen(t, r, whole(old[i]), numbered(i))
	}
	for _, g := range []*Group{near, far} {
		rotate(t, g, "a", Zone, 4)
	}
	for i := range 5 {
		p := whole(old[i])
		wantStatus(t, r, p, status.ErrReplay)
		if bytes.Contains(p.Buf, numbered(i)[8:16]) {
			t.Fatal("plaintext was left")
		}
	}
	for i := 5; i < 10; i++ {
		wantOpen(t, r, whole(old[i]), numbered(i))
	}
	seal(500)
	fresh := seal(10) // these counters are far ahead
	for i := range fresh {
		pkts := []Packet{whole(fresh[i]), whole(old[10+i]), whole(fresh[i]), whole(old[10+i]), whole(old[i])}
		pkts[3].Dst = make([]byte, 40)
		if n := r.Open(pkts); n != 2 || !bytes.Equal(pkts[0].Out, numbered(i)) || !bytes.Equal(pkts[1].Out, numbered(10+i)) {
			t.Fatal(n, pkts[0].Status, pkts[1].Status)
		}
		for k := 2; k < 5; k++ {
			if pkts[k].Status != status.ErrReplay || pkts[k].Out != nil {
				t.Fatalf("packet %d: %v", k, pkts[k].Status)
			}
		}
		if !allZero(pkts[3].Dst[4*int(pkts[3].COffset):]) {
			t.Fatal("plaintext was left")
		}
	}
	forged := whole(old[0])
	forged.Buf[3] ^= 0x10
	wantStatus(t, r, forged, status.ErrReplay)
	n := r.ReplayStats()
	if n.Windows != 2 || n.Made != 2 || n.Duplicates+n.Old != 5+3*10+1 || n.NoRoom != 0 {
		t.Fatalf("%+v", n)
	}
}

func TestReplayWithoutRoom(t *testing.T) {
	for _, f := range formats {
		t.Run(f.name, func(t *testing.T) {
			const most = 3
			g := f.group(t)
			r := newReceiver(t, ReceiverConfig{ReplayWindow: 64, ReplayContexts: most}, g)
			var runs [most + 2][][]byte
			for i := range runs {
				runs[i] = sealedRun(t, newSender(t, g, f.c), 4)
			}
			for i := range most - 1 {
				wantOpen(t, r, whole(runs[i][0]), numbered(0))
			}
			// There is one more window, and three senders need one: the first gets it.
			pkts := []Packet{whole(runs[most-1][0]), whole(runs[most][0]), whole(runs[most+1][0]), whole(runs[most-1][1]), whole(runs[most][0])}
			if r.Open(pkts); pkts[0].Status != status.OK || pkts[1].Status != status.ErrWindows || pkts[2].Status != status.ErrWindows || pkts[3].Status != status.OK || pkts[4].Status != status.ErrWindows {
				t.Fatal(pkts[0].Status, pkts[1].Status, pkts[2].Status, pkts[3].Status)
			}
			for _, p := range pkts[1:3] {
				if p.Out != nil || !allZero(p.Buf[len(p.Buf)-ICVLen-40:len(p.Buf)-ICVLen]) {
					t.Fatalf("%x", p.Buf)
				}
			}
			wantReplayStats(t, r, ReplayStats{Windows: most, Made: most, NoRoom: 3})
			for range 3 {
				p := whole(runs[most][0])
				wantStatus(t, r, p, status.ErrWindows)
				wantOctets(t, "a packet that was not decrypted", p.Buf, runs[most][0])
				forged := whole(runs[most][1])
				forged.Buf[forged.Len-1] ^= 1
				wantStatus(t, r, forged, status.ErrWindows)
			}
			for i := range most {
				wantStatus(t, r, whole(runs[i][0]), status.ErrReplay)
				wantOpen(t, r, whole(runs[i][2]), numbered(2))
				wantStatus(t, r, whole(runs[i][2]), status.ErrReplay)
			}
			n := r.ReplayStats()
			if n.Windows != most || n.Most != most || n.Made != most || n.NoRoom != 9 || n.Duplicates != 6 || n.GivenUp != 0 {
				t.Fatalf("%+v", n)
			}
			if st := r.Stats().Packets; st[status.ErrWindows] != 9 || st[status.ErrReplay] != 6 {
				t.Fatal(st)
			}
		})
	}
	// A rotation frees windows, but only for the burst after the one that notices it.
	g := newGroup(t, "a", GroupConfig{}, Zone)
	r := newReceiver(t, ReceiverConfig{ReplayWindow: 64, ReplayContexts: 1}, g)
	for i := range uint64(5) {
		s := newSender(t, g, SenderConfig{Options: true})
		run := sealedRun(t, s, 2)
		if i > 0 {
			open1(r, Packet{})
		}
		wantOpen(t, r, whole(run[0]), numbered(0))
		wantStatus(t, r, whole(run[0]), status.ErrReplay)
		other := newSender(t, g, SenderConfig{Options: true})
		wantStatus(t, r, whole(sealed(t, other, plain(nil))), status.ErrWindows)
		if err := g.RemoveRootKey(Zone); err != nil {
			t.Fatal(err)
		}
		if err := setRing(g, fmt.Sprint(i), Zone); err != nil {
			t.Fatal(err)
		}
		wantWiped(t)
	}
}

func TestReplayAndReflection(t *testing.T) {
	g := newGroup(t, "a", GroupConfig{}, Zone)
	own, other := newSender(t, g, SenderConfig{}), newSender(t, g, SenderConfig{})
	r := newReceiver(t, ReceiverConfig{ReplayWindow: 64, OwnIDs: []uint64{own.ID()}}, g)
	mine, run := sealedRun(t, own, 1)[0], sealedRun(t, other, 1)[0]
	wantStatus(t, r, whole(mine), status.ErrReflected)
	wantReplayStats(t, r, ReplayStats{})
	wantOpen(t, r, whole(run), numbered(0))
	wantStatus(t, r, whole(run), status.ErrReplay)
	wantStatus(t, r, whole(mine), status.ErrReflected)
}

func TestReplayConfig(t *testing.T) {
	g := newGroup(t, "a", GroupConfig{}, Zone)
	k := must(g.ExportDataKey(Context{ID: freshID()}, false))
	for _, c := range []ReceiverConfig{
		{ReplayWindow: 1}, {ReplayWindow: 63}, {ReplayWindow: 65537}, {ReplayWindow: 1 << 31},
		{ReplayContexts: 1}, {ReplayWindow: 64, ReplayContexts: 1<<22 + 1}, {ReplayWindow: 65536, ReplayContexts: 1 << 22},
		{EngineBits: 17}, {EngineBits: 17, ReplayWindow: 64},
	} {
		_, err := NewReceiver(c, g)
		wantErr(t, err, status.ErrArgument)
		_, err = NewReceiverWithKey(k, c)
		wantErr(t, err, status.ErrArgument)
	}
	for _, c := range []ReceiverConfig{{ReplayWindow: 64}, {ReplayWindow: 65536, ReplayContexts: 7, EngineBits: 16}, {ReplayWindow: 65}} {
		r := newReceiver(t, c, g)
		want := 4096
		if c.ReplayContexts != 0 {
			want = int(c.ReplayContexts)
		}
		if s := r.ReplayStats(); s != (ReplayStats{Most: want}) {
			t.Fatalf("%+v", s)
		}
	}
	r := newReceiver(t, ReceiverConfig{}, g)
	b := sealed(t, newSender(t, g, SenderConfig{}), plain(numbered(0)))
	wantOpen(t, r, whole(b), numbered(0))
	wantOpen(t, r, whole(b), numbered(0)) // there is no protection
	if s := r.ReplayStats(); s != (ReplayStats{}) {
		t.Fatalf("%+v", s)
	}
}

// mapped returns how much address space the process has, in KiB.
func mapped(t testing.TB) (n int) {
	for _, l := range strings.Split(string(must(os.ReadFile("/proc/self/status"))), "\n") {
		if strings.HasPrefix(l, "VmSize:") {
			must(fmt.Sscanf(l, "VmSize: %d kB", &n))
		}
	}
	return n
}

func TestReplayMemoryComesBack(t *testing.T) {
	const least = 500 << 10 // KiB of 16,384 windows
	g := newGroup(t, "a", GroupConfig{}, Zone)
	s := newSender(t, g, SenderConfig{})
	c := ReceiverConfig{ReplayWindow: 65536, ReplayContexts: 1 << 14}
	for range 5 {
		before := mapped(t)
		r := must(NewReceiver(c, g))
		if mapped(t) < before+least {
			t.Fatal("no memory was taken")
		}
		wantOpen(t, r, whole(sealed(t, s, plain(numbered(0)))), numbered(0))
		r.Close()
		r.Close()
		wantWiped(t)
		if mapped(t) > before+least/2 {
			t.Fatal("memory was left")
		}
	}
	// Nor is any left if the constructor fails.
	closed := must(NewGroup(GroupConfig{}))
	closed.Close()
	before := mapped(t)
	_, err := NewReceiver(c, closed)
	wantErr(t, err, status.ErrArgument)
	if mapped(t) > before+least/2 {
		t.Fatal("memory was left")
	}
}

func TestReplayAllocatesNothing(t *testing.T) {
	for _, f := range formats {
		t.Run(f.name, func(t *testing.T) {
			g := f.group(t)
			s, r := newSender(t, g, f.c), newReceiver(t, ReceiverConfig{ReplayWindow: 4096}, g)
			x := NewProxy(r, newSender(t, newGroup(t, "b", GroupConfig{}, Zone), SenderConfig{}))
			const n = 70
			pkts, bufs := make([]Packet, n), make([][]byte, n)
			for i := range bufs {
				bufs[i] = make([]byte, MaxHeader+64+ICVLen)
			}
			seal := func() {
				for i := range pkts {
					pkts[i] = Packet{Buf: bufs[i], Off: MaxHeader, Len: 64, SrcIP: zeros, DstIP: zeros}
				}
				if s.Seal(pkts) != n {
					t.Fatal(pkts[0].Status)
				}
				for i := range pkts {
					h := s.HeaderLen()
					pkts[i].Off, pkts[i].Len = MaxHeader-h, h+64+ICVLen
				}
			}
			if a := testing.AllocsPerRun(10, func() {
				if seal(); r.Open(pkts) != n || r.Open(pkts) != 0 {
					t.Fatal(pkts[0].Status)
				}
				if seal(); x.Forward(pkts) != n {
					t.Fatal(pkts[0].Status)
				}
			}); a != 0 {
				t.Errorf("%v allocations", a)
			}
		})
	}
}

func TestReplayThroughProxy(t *testing.T) {
	a, b := newGroup(t, "a", GroupConfig{}, Zone), newGroup(t, "b", GroupConfig{AEAD: AES256GCM}, Zone)
	in, out := newSender(t, a, SenderConfig{V: VLongID}), newSender(t, b, SenderConfig{})
	r, end := newReceiver(t, ReceiverConfig{ReplayWindow: 64}, a), newReceiver(t, ReceiverConfig{ReplayWindow: 64}, b)
	x := NewProxy(r, out)
	for _, dst := range []bool{false, true} {
		run := sealedRun(t, in, 40)
		var pkts []Packet
		for i := range 80 {
			p := whole(run[i/2])
			if dst {
				p.Dst = make([]byte, 16+40+ICVLen)
			}
			pkts = append(pkts, p)
		}
		if n := x.Forward(pkts); n != 40 {
			t.Fatalf("forwarded %d", n)
		}
		for i, p := range pkts {
			if i%2 == 0 {
				wantOpen(t, end, whole(p.Out), numbered(i/2))
				wantStatus(t, end, whole(p.Out), status.ErrReplay)
			} else if p.Status != status.ErrReplay || p.Out != nil || bytes.Contains(p.Buf, numbered(i / 2)[:8]) || !allZero(p.Dst) {
				t.Fatalf("packet %d: %v", i, p.Status)
			}
		}
		for _, b := range run {
			p := []Packet{whole(b)}
			if x.Forward(p); p[0].Status != status.ErrReplay || !bytes.Equal(p[0].Buf, b) {
				t.Fatal(p[0].Status)
			}
		}
	}
	if n := out.Stats().Packets; n[status.OK] != 80 || len(n) != 1 {
		t.Fatal(n)
	}
}

// Windows belong to keys: while a key stays, changes of its ring leave its windows as they are.
func TestWindowsOutliveTheRing(t *testing.T) {
	g := newGroup(t, "a", GroupConfig{}, Zone)
	s, r := newSender(t, g, SenderConfig{Options: true}), newReceiver(t, ReceiverConfig{ReplayWindow: 64}, g)
	der := make([]byte, 300)
	write := func() []byte { return bytes.Clone(der[:must(g.WriteRootKeyDER(der, Zone))]) }
	before := write()
	run := sealedRun(t, s, 3)
	wantOpen(t, r, whole(run[0]), numbered(0))
	for i, change := range []func() error{
		func() error { return g.SetRootKeyDER(Zone, before) },
		func() error { return g.Rotate(Zone, 9, nil) }, // current becomes previous
		func() error { return g.SetRootKeyDER(Zone, write()) },
	} {
		if err := change(); err != nil {
			t.Fatal(err)
		}
		open1(r, Packet{}) // frees windows of keys that are gone
		wantStatus(t, r, whole(run[0]), status.ErrReplay)
		if i == 1 {
			wantOpen(t, r, whole(run[1]), numbered(1))
		}
	}
	wantStatus(t, r, whole(run[1]), status.ErrReplay)
	wantOpen(t, r, whole(run[2]), numbered(2))
	wantReplayStats(t, r, ReplayStats{Windows: 1, Made: 1, Duplicates: 4})
}
