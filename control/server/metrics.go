package server

import (
	"github.com/prometheus/client_golang/prometheus"

	"libeesp/control/record"
)

// metrics are for operators. They have no fingerprints, IDs, addresses or names of members.
type metrics struct {
	reg                         *prometheus.Registry
	fenced, forks, grants, shed prometheus.Counter
}

func newMetrics(s *Server) *metrics {
	c := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "eespd_" + name, Help: help})
	}
	m := &metrics{reg: prometheus.NewRegistry(), fenced: c("sessions_fenced_total", "Sessions ended because another of their identity was live."),
		forks: c("forks_seen_total", "Members that know another chain than this server."), grants: c("kek_grants_total", "Keys of rings handed to sessions."), shed: c("shed_total", "Hosts that were told to come later.")}
	m.reg.MustRegister(m.fenced, m.forks, m.grants, m.shed, collector{s})
	return m
}

// collector reads the server's state for each request.
type collector struct{ s *Server }

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("eespd_"+name, help, labels, nil)
}

var (
	descSerial  = desc("head_serial", "Serial of a level's newest entry.", "level")
	descBroken  = desc("read_only", "1: this server does not write to a level.", "level")
	descMembers = desc("members", "Members of a level.", "level", "state")
	descStreams = desc("streams", "Agents connected to this server.")
	descState   = desc("ring_state", "1 for the state that a ring is in.", "level", "ring", "state")
	descGen     = desc("ring_generation", "Current generation of a ring.", "level", "ring")
	descWaiting = desc("ring_waiting_members", "Members that a ring's step waits for.", "level", "ring")
	descStep    = desc("ring_step_seconds", "How long this server has seen a ring in its step.", "level", "ring")
	descUsage   = desc("ring_usage_ratio", "Keys derived with a ring's current generation, of the limit that starts a rotation.", "level", "ring")
	descAge     = desc("ring_rotation_age_seconds", "Since a ring's last rotation began.", "level", "ring")
)

func (c collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descSerial, descBroken, descMembers, descStreams, descState, descGen, descWaiting, descStep, descUsage, descAge} {
		ch <- d
	}
}

func (c collector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	st := c.s.Status()
	gauge(descStreams, float64(st.Streams))
	for _, l := range st.Levels {
		gauge(descSerial, float64(l.Serial), l.Level)
		broken := 0.0
		if l.ReadOnly != "" {
			broken = 1
		}
		gauge(descBroken, broken, l.Level)
		for s := record.Invited; s <= record.Revoked; s++ {
			gauge(descMembers, float64(l.Members[s.String()]), l.Level, s.String())
		}
		for _, r := range l.Rings {
			for s := record.Steady; s <= record.Active; s++ {
				v := 0.0
				if r.State == s.String() {
					v = 1
				}
				gauge(descState, v, l.Level, r.Name, s.String())
			}
			gauge(descGen, float64(r.Current), l.Level, r.Name)
			gauge(descWaiting, float64(len(r.Waiting)), l.Level, r.Name)
			gauge(descStep, r.InStep, l.Level, r.Name)
			gauge(descUsage, r.UsageOf, l.Level, r.Name)
			gauge(descAge, float64(c.s.Now().Unix()-r.Since), l.Level, r.Name)
		}
	}
}
