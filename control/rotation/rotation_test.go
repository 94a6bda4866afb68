package rotation

import (
	"errors"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"libeesp/control/record"
)

func set(ns ...uint32) (s Set) {
	for _, n := range ns {
		s.Add(n)
	}
	return s
}

func TestSet(t *testing.T) {
	a := set(0, 7, 8, 100)
	if a.Len() != 4 || !a.Has(100) || a.Has(101) || a.Has(5000) {
		t.Errorf("%x", a)
	}
	if l := a.Minus(set(7, 8)); !reflect.DeepEqual(l, []uint32{0, 100}) {
		t.Errorf("minus: %v", l)
	}
	// A member that acknowledged to two servers is one member.
	b := set(1)
	b.Or(set(1))
	if b.Covers(set(1, 2)) || !a.Covers(set(7, 100)) || !Set(nil).Covers(nil) || Set(nil).Covers(set(3)) {
		t.Error("covers")
	}
	a.Del(100)
	a.Del(9999)
	if a.Has(100) {
		t.Error("deleted")
	}
}

func fresh() record.Ring {
	r, e := Create(record.ID{1}, record.Zone, record.ClassLevel, "r", record.Policy{PathDelay: 1000, MinInterval: 60, Period: 600}, 1000)
	if !e.Draw || e.KEK != KEKNew {
		panic("create")
	}
	r.Term, r.Serial = 1, 1
	return r
}

func gens(r record.Ring) (l [][2]uint64) {
	for _, g := range r.Gens {
		l = append(l, [2]uint64{g.Gen, uint64(g.Role)})
	}
	return l
}

func TestPass(t *testing.T) {
	r := fresh()
	b := set(1, 2)
	r, e, err := Prepare(&r, "hand", 1100)
	if err != nil || !e.Draw || e.KEK != KEKKeep || !reflect.DeepEqual(gens(r), [][2]uint64{{1, 2}, {2, 3}}) || r.Step != 2 {
		t.Fatalf("prepare: %+v %+v %v", r, e, err)
	}
	if _, _, err := Activate(&r, b, set(1)); !errors.Is(err, ErrGuard) {
		t.Errorf("activated without a member: %v", err)
	}
	if _, _, err := Prepare(&r, "", 0); !errors.Is(err, ErrGuard) {
		t.Errorf("prepared twice: %v", err)
	}
	r, e, err = Activate(&r, b, b)
	if err != nil || e.Draw || !reflect.DeepEqual(gens(r), [][2]uint64{{1, 1}, {2, 2}}) {
		t.Fatalf("activate: %+v %+v %v", r, e, err)
	}
	if _, _, err := Abort(&r, ""); !errors.Is(err, ErrGuard) {
		t.Errorf("aborted behind ACTIVATE: %v", err)
	}
	if _, _, err := Retire(&r, b, b, 999*time.Millisecond); !errors.Is(err, ErrGuard) {
		t.Errorf("retired early: %v", err)
	}
	if _, _, err := Retire(&r, b, set(1), time.Hour); !errors.Is(err, ErrGuard) {
		t.Errorf("retired without a member: %v", err)
	}
	r, e, err = Retire(&r, b, b, time.Second)
	if err != nil || e.KEK != KEKStep || r.KEKStep != 1 || r.Floor != 2 || !reflect.DeepEqual(gens(r), [][2]uint64{{2, 2}}) {
		t.Fatalf("retire: %+v %+v %v", r, e, err)
	}
}

func TestAbortBurns(t *testing.T) {
	r := fresh()
	r, _, _ = Prepare(&r, "", 0)
	r, e, err := Abort(&r, "no")
	if err != nil || e.Old != 2 || r.Of(record.Current) != 1 || r.Last != 2 {
		t.Fatalf("%+v %v", r, err)
	}
	r, e, err = Prepare(&r, "", 0)
	if err != nil || e.New != 3 {
		t.Fatalf("the next after an abort is %d, %v", e.New, err)
	}
}

// A revocation in each state: the next generation is one that was never sealed
// under a KEK that the revoked member has.
func TestUrge(t *testing.T) {
	states := map[string]func(r record.Ring) record.Ring{
		"steady":   func(r record.Ring) record.Ring { return r },
		"prepared": func(r record.Ring) record.Ring { r, _, _ = Prepare(&r, "", 0); return r },
		"active": func(r record.Ring) record.Ring {
			r, _, _ = Prepare(&r, "", 0)
			r, _, _ = Activate(&r, nil, nil)
			return r
		},
	}
	for name, make := range states {
		r := make(fresh())
		known, epoch := r.Last, r.KEKEpoch
		r = Urge(&r, false, "revoked")
		var done []record.Change
		for range 10 {
			p := Next(&r, World{Covered: time.Minute, Turn: true})
			var e Effect
			var err error
			switch p.Do {
			case record.ChangePrepare:
				r, e, err = Prepare(&r, p.Reason, 0)
				if e.New <= known || e.KEK != KEKNew || r.KEKEpoch != epoch+1 {
					t.Errorf("%s: %+v", name, e)
				}
			case record.ChangeActivate:
				r, _, err = Activate(&r, nil, nil)
			case record.ChangeAbort:
				r, _, err = Abort(&r, "")
			case record.ChangeRetire:
				r, _, err = Retire(&r, nil, nil, time.Minute)
			}
			if err != nil {
				t.Fatalf("%s: %v: %v", name, p.Do, err)
			}
			done = append(done, p.Do)
			if p.Do == record.ChangeRetire && r.Flags == 0 {
				break
			}
		}
		want := map[string][]record.Change{
			"steady":   {record.ChangePrepare, record.ChangeActivate, record.ChangeRetire},
			"prepared": {record.ChangeAbort, record.ChangePrepare, record.ChangeActivate, record.ChangeRetire},
			"active":   {record.ChangeRetire, record.ChangePrepare, record.ChangeActivate, record.ChangeRetire},
		}[name]
		if !reflect.DeepEqual(done, want) {
			t.Errorf("%s: %v, not %v", name, done, want)
		}
	}
}

func TestNext(t *testing.T) {
	steady := fresh()
	prepared, _, _ := Prepare(&steady, "", 1000)
	active, _, _ := Activate(&prepared, nil, nil)
	urgent := Urge(&steady, false, "")
	urgentP, _, _ := Prepare(&urgent, "", 1000)
	urgentA, _, _ := Activate(&urgentP, nil, nil)
	b := set(1, 2, 3)
	for name, c := range map[string]struct {
		r    record.Ring
		w    World
		want record.Change
		who  []uint32
	}{
		"nothing due":                        {steady, World{Need: b, Ready: b, Wall: 1100, Turn: true}, 0, nil},
		"period":                             {steady, World{Need: b, Ready: b, Wall: 1600, Turn: true}, record.ChangePrepare, nil},
		"asked, frozen":                      {steady, World{Need: b, Ready: b, Wall: 1600, Turn: true, Asked: "x", Freeze: "night"}, 0, nil},
		"period, frozen":                     {steady, World{Need: b, Ready: b, Wall: 1600, Turn: true, Freeze: "night"}, 0, nil},
		"period, other level":                {steady, World{Need: b, Ready: b, Wall: 1600}, 0, nil},
		"asked":                              {steady, World{Need: b, Ready: b, Wall: 1001, Asked: "hand", Turn: true}, record.ChangePrepare, nil},
		"prepared, all ready":                {prepared, World{Need: b, Ready: b}, record.ChangeActivate, nil},
		"prepared, one not":                  {prepared, World{Need: b, Ready: set(1, 3), InStep: time.Hour}, 0, nil},
		"prepared, one absent":               {prepared, World{Need: b, Ready: set(1, 3), Absent: set(2)}, record.ChangeExclude, []uint32{2}},
		"prepared, ready and absent":         {prepared, World{Need: b, Ready: b, Absent: set(2)}, record.ChangeActivate, nil},
		"active, packets in flight":          {active, World{Need: b, Ready: b, Covered: 500 * time.Millisecond}, 0, nil},
		"active, done":                       {active, World{Need: b, Ready: b, Covered: time.Second}, record.ChangeRetire, nil},
		"active, one not":                    {active, World{Need: b, Ready: set(1, 2), Covered: time.Hour}, 0, nil},
		"emergency before its deadline":      {urgentP, World{Need: b, Ready: set(1, 2), InStep: EmergencyPrepared - 1}, 0, nil},
		"emergency behind its deadline":      {urgentP, World{Need: b, Ready: set(1, 2), InStep: EmergencyPrepared}, record.ChangeExclude, []uint32{3}},
		"emergency, active, behind deadline": {urgentA, World{Need: b, Ready: set(1, 2), InStep: EmergencyActive}, record.ChangeExclude, []uint32{3}},
	} {
		p := Next(&c.r, c.w)
		if p.Do != c.want || !reflect.DeepEqual(p.Exclude, c.who) {
			t.Errorf("%s: %+v", name, p)
		}
	}
}

// Random life of a ring, among members that crash, are late, are excluded and
// come back: I1, I2, I3 and the KEK's step hold after each event.
func TestProperties(t *testing.T) {
	rounds := 300
	if testing.Short() {
		rounds = 60
	}
	type member struct {
		cached, inst record.Ring // inst.Step 0: down
		acked        uint64
		inB          bool
		pkt          uint64
	}
	for seed := range uint64(rounds) {
		rnd := rand.New(rand.NewPCG(seed, 17))
		ring := fresh()
		ms := make([]member, 4)
		for i := range ms {
			ms[i] = member{cached: ring, inst: ring, inB: true}
		}
		given := map[uint64]bool{1: true}
		waited := false
		commit := func(n record.Ring, e Effect, err error) {
			if err != nil {
				return
			}
			if n.Step != ring.Step+1 || n.KEKEpoch < ring.KEKEpoch || n.Floor < ring.Floor || n.Last < ring.Last {
				t.Fatalf("seed %d: %v goes back: %+v after %+v", seed, e.Change, n, ring)
			}
			if e.Draw {
				if given[e.New] {
					t.Fatalf("seed %d: generation %d twice", seed, e.New)
				}
				given[e.New] = true
			}
			n.Serial++
			if _, err := record.Sign(&n, record.ID{}, testKey); err != nil {
				t.Fatalf("seed %d: %v: %v", seed, e.Change, err)
			}
			ring, waited = n, false
		}
		sets := func() (need, ready Set) {
			for i := range ms {
				if ms[i].inB {
					need.Add(uint32(i))
				}
				if ms[i].acked >= ring.Step {
					ready.Add(uint32(i))
				}
			}
			return
		}
		quiet := func() bool {
			for i := range ms {
				if p := ms[i].pkt; p != 0 && p == ring.Of(record.Previous) {
					return false
				}
			}
			return true
		}
		for range 2000 {
			m := &ms[rnd.IntN(len(ms))]
			need, ready := sets()
			switch rnd.IntN(14) {
			case 0:
				if ring.State == record.Steady {
					commit(Prepare(&ring, "", 0))
				}
			case 1:
				commit(Activate(&ring, need, ready))
			case 2:
				covered := time.Duration(0)
				if waited {
					covered = time.Hour
				}
				commit(Retire(&ring, need, ready, covered))
			case 3:
				if rnd.IntN(4) == 0 {
					commit(Abort(&ring, ""))
				}
			case 4:
				if ready.Covers(need) && quiet() {
					waited = true
				}
			case 5, 6: // fetch and persist
				if m.inst.Step != 0 {
					m.cached = ring
				}
			case 7, 8: // install, acknowledge
				if m.inst.Step != 0 {
					m.inst, m.acked = m.cached, m.cached.Step
				}
			case 9: // crash
				if rnd.IntN(4) == 0 {
					m.inst, m.acked, waited = record.Ring{}, 0, false
				}
			case 10:
				if m.inst.Step == 0 {
					m.inst = m.cached
				}
			case 11:
				if i := indexOf(ms, m); m.inB && !ready.Has(uint32(i)) && need.Len() > 1 && rnd.IntN(4) == 0 {
					m.inB, m.pkt = false, 0
				}
			case 12:
				if !m.inB && m.inst.Step == ring.Step && m.acked == ring.Step {
					m.inB, m.pkt, waited = true, 0, false
				}
			case 13:
				if m.pkt == 0 && m.inB && m.inst.Step != 0 {
					m.pkt = m.inst.Of(record.Current)
				} else if m.pkt != 0 {
					for i := range ms {
						if o := &ms[i]; o.inB && o.inst.Step != 0 && o.inst.Find(m.pkt) == nil {
							t.Fatalf("seed %d: a packet of generation %d, and member %d has %v", seed, m.pkt, i, gens(o.inst))
						}
					}
					m.pkt = 0
				}
			}
		}
		if ring.Last < 5 {
			t.Fatalf("seed %d: only %d generations", seed, ring.Last)
		}
	}
}

func indexOf[T any](s []T, p *T) int {
	for i := range s {
		if &s[i] == p {
			return i
		}
	}
	return -1
}

// 300 rotations: the index on the wire wraps, KEKs are replaced.
func TestLong(t *testing.T) {
	r := fresh()
	epochs := map[uint32]int{}
	for i := range 300 {
		var err error
		for _, f := range []func() (record.Ring, Effect, error){
			func() (record.Ring, Effect, error) { return Prepare(&r, "", 0) },
			func() (record.Ring, Effect, error) { return Activate(&r, nil, nil) },
			func() (record.Ring, Effect, error) { return Retire(&r, nil, nil, time.Hour) },
		} {
			if r, _, err = f(); err != nil {
				t.Fatal(i, err)
			}
			if _, err := record.Sign(&r, record.ID{}, testKey); err != nil {
				t.Fatal(i, err)
			}
		}
		epochs[r.KEKEpoch]++
	}
	if r.Of(record.Current) != 301 || len(epochs) != 10 || epochs[2] != 31 {
		t.Errorf("generation %d, KEK epochs %v", r.Of(record.Current), epochs)
	}
	// 256 aborts: the next index would be the current one's.
	cur := r.Of(record.Current)
	for range 600 {
		var e Effect
		var err error
		if r, e, err = Prepare(&r, "", 0); err != nil {
			t.Fatal(err)
		}
		if (e.New-cur)%256 == 0 {
			t.Fatalf("%d and %d have one index", cur, e.New)
		}
		if _, err := record.Sign(&r, record.ID{}, testKey); err != nil {
			t.Fatal(err)
		}
		r, _, _ = Abort(&r, "")
	}
}
