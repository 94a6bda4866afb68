package server

import (
	"encoding/hex"
	"slices"
	"strings"
	"time"

	"libeesp/control/record"
)

// Status is the state of a server, for people and scripts.
type Status struct {
	Cluster string        `json:"cluster"`
	Server  string        `json:"server"`
	Streams int           `json:"streams"`
	Frozen  string        `json:"frozen,omitempty"`
	Levels  []LevelStatus `json:"levels"`
	// Servers are those that the levels' delegations name.
	Servers []ServerStatus `json:"servers"`
}

// ServerStatus is the state of one server.
type ServerStatus struct {
	Name   string   `json:"name"`
	Addr   string   `json:"addr,omitempty"` // the address that it announced
	Levels []string `json:"levels"`
}

// LevelStatus is the state of one level.
type LevelStatus struct {
	Level    string         `json:"level"`
	Term     uint32         `json:"term"`
	Serial   uint64         `json:"serial"`
	Head     string         `json:"head"`
	ReadOnly string         `json:"read_only,omitempty"`
	Members  map[string]int `json:"members"`
	Rings    []RingStatus   `json:"rings"`
	Groups   []GroupStatus  `json:"groups"`
}

// RingStatus is the state of one ring.
type RingStatus struct {
	ID        string          `json:"id"`
	Name      string          `json:"name"`
	State     string          `json:"state"`
	Step      uint64          `json:"step"`
	Current   uint64          `json:"current"`
	Previous  uint64          `json:"previous,omitempty"`
	Next      uint64          `json:"next,omitempty"`
	Last      uint64          `json:"last"`
	KEKEpoch  uint32          `json:"kek_epoch"`
	Emergency bool            `json:"emergency,omitempty"`
	Since     int64           `json:"since"`
	InStep    float64         `json:"in_step_seconds"`
	Barrier   int             `json:"barrier"`
	Ready     int             `json:"ready"`
	Waiting   []WaitingStatus `json:"waiting"`
	Why       string          `json:"why,omitempty"`
	Reason    string          `json:"reason,omitempty"`
	Usage     uint64          `json:"keys_derived"`
	UsageOf   float64         `json:"usage_of_limit,omitempty"` // keys derived, as a part of max_usage
	Destroyed bool            `json:"destroyed"`                // all hosts have wiped the generation that this step dropped
	Policy    record.Policy   `json:"policy"`
}

// WaitingStatus is a member that a step waits for, and why.
type WaitingStatus struct {
	Member string `json:"member"`
	Why    string `json:"why"`
}

// GroupStatus is the state of one group.
type GroupStatus struct {
	ID      string `json:"id"`
	Name    string `json:"name"`
	Profile uint8  `json:"profile"`
	AEAD    uint8  `json:"aead"`
}

// MemberStatus is the state of a member at one level.
type MemberStatus struct {
	ID        string  `json:"id"`
	Level     string  `json:"level"`
	Number    uint32  `json:"number"`
	Name      string  `json:"name"`
	State     string  `json:"state"`
	Key       string  `json:"key"`
	Granter   bool    `json:"granter,omitempty"`
	Connected bool    `json:"connected"`
	Session   string  `json:"session,omitempty"`
	Agent     string  `json:"agent,omitempty"`
	Since     float64 `json:"connected_seconds,omitempty"`
	Reason    string  `json:"reason,omitempty"`
	// Incident says that another machine had the member's identity, as this server saw it.
	Incident string `json:"incident,omitempty"`
}

// Status returns the server's state.
func (s *Server) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := Status{Cluster: s.Cluster.String(), Server: s.Name, Streams: len(s.streams), Frozen: s.freeze, Servers: []ServerStatus{}}
	s.each(func(l *Level) error {
		l.mu.Lock()
		defer l.mu.Unlock()
		ls := LevelStatus{Level: l.Level.String(), ReadOnly: l.broken, Members: map[string]int{}, Rings: []RingStatus{}, Groups: []GroupStatus{}}
		if l.head != nil {
			ls.Term, ls.Serial, ls.Head = l.head.Term, l.head.Serial, l.head.hash.String()
		}
		for _, in := range l.deleg.rec.Instances {
			i := slices.IndexFunc(out.Servers, func(x ServerStatus) bool { return x.Name == in.Name })
			if i < 0 {
				i = len(out.Servers)
				out.Servers = append(out.Servers, ServerStatus{Name: in.Name, Addr: s.at[in.ID]})
			}
			out.Servers[i].Levels = append(out.Servers[i].Levels, l.Level.String())
		}
		byNumber := map[uint32]*record.Member{}
		for _, m := range l.members {
			ls.Members[m.rec.State.String()]++
			byNumber[m.rec.Number] = &m.rec
		}
		for id, r := range l.rings {
			w := s.watch(l, r)
			wd := s.world(l, r, w)
			rs := RingStatus{ID: id.String(), Name: r.rec.Name, State: r.rec.State.String(), Step: r.rec.Step, Current: r.rec.Of(record.Current), Previous: r.rec.Of(record.Previous), Next: r.rec.Of(record.Next),
				Last: r.rec.Last, KEKEpoch: r.rec.KEKEpoch, Emergency: r.rec.Flags&(record.RingEmergency|record.RingAgain) != 0, Since: r.rec.Since, InStep: time.Since(w.since).Seconds(),
				Barrier: wd.Need.Len(), Waiting: []WaitingStatus{}, Why: w.plan.Why, Reason: r.rec.Reason, Usage: wd.Usage, Destroyed: wd.Destroyed, Policy: r.rec.Policy}
			if most := r.rec.Policy.MaxUsage; most != 0 {
				rs.UsageOf = float64(wd.Usage) / float64(most)
			}
			for _, n := range wd.Need.Minus(wd.Ready) {
				m := byNumber[n]
				if m == nil {
					continue
				}
				why := w.nacks[n]
				if why == "" && s.streams[m.ID] == nil {
					why = "not connected to this server"
					for _, o := range l.older {
						if o.here.Has(n) && time.Since(o.at) <= presenceStale {
							why = "connected to server " + o.name + ", which is of an earlier version: upgrade it"
						}
					}
				} else if why == "" {
					why = "has not answered yet"
				}
				rs.Waiting = append(rs.Waiting, WaitingStatus{m.Name, why})
			}
			rs.Ready = rs.Barrier - len(rs.Waiting)
			ls.Rings = append(ls.Rings, rs)
		}
		for id, g := range l.groups {
			ls.Groups = append(ls.Groups, GroupStatus{id.String(), g.rec.Name, g.rec.Profile, g.rec.AEAD})
		}
		slices.SortFunc(ls.Rings, func(a, b RingStatus) int { return strings.Compare(a.Name, b.Name) })
		slices.SortFunc(ls.Groups, func(a, b GroupStatus) int { return strings.Compare(a.Name, b.Name) })
		out.Levels = append(out.Levels, ls)
		return nil
	})
	return out
}

// MembersStatus returns the members on the rosters.
func (s *Server) MembersStatus() []MemberStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := []MemberStatus{}
	s.each(func(l *Level) error {
		l.mu.Lock()
		defer l.mu.Unlock()
		for id, m := range l.members {
			ms := MemberStatus{ID: id.String(), Level: l.Level.String(), Number: m.rec.Number, Name: m.rec.Name, State: m.rec.State.String(), Key: hex.EncodeToString(m.rec.SPKI[:8]), Granter: m.rec.Granter, Reason: m.rec.Reason, Incident: s.incidents[id]}
			if st := s.streams[id]; st != nil {
				ms.Connected, ms.Session, ms.Agent, ms.Since = true, st.hello.Session.String(), st.hello.Agent, time.Since(st.began).Seconds()
			}
			out = append(out, ms)
		}
		return nil
	})
	slices.SortFunc(out, func(a, b MemberStatus) int {
		if c := strings.Compare(a.Level, b.Level); c != 0 {
			return c
		}
		return int(int64(a.Number) - int64(b.Number))
	})
	return out
}
