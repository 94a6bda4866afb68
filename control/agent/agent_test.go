package agent

import (
	"strings"
	"testing"

	"libeesp/control/record"
)

// What a record may not do to what is in force: give a generation another value, bring
// back what is below the floor, have the floor or an epoch fall.
func TestCheck(t *testing.T) {
	inForce := func() *ring {
		return &ring{rec: record.Ring{Floor: 5, Gens: []record.Generation{{Gen: 5, Fingerprint: record.Fingerprint{1}, TSSEpoch: 3}, {Gen: 6, Fingerprint: record.Fingerprint{2}}}}}
	}
	for _, x := range []struct {
		change func(r *record.Ring)
		code   record.Code
		text   string
	}{
		{func(*record.Ring) {}, record.CodeNone, ""},
		{func(r *record.Ring) { r.Gens = r.Gens[1:]; r.Floor = 6 }, record.CodeNone, ""},
		{func(r *record.Ring) { r.Gens[1].Fingerprint[0]++ }, record.CodeFingerprint, "generation 6 has another value"},
		{func(r *record.Ring) { r.Gens[0].Gen = 4 }, record.CodeFloor, "generation 4 is below the floor 5"},
		{func(r *record.Ring) { r.Floor = 4 }, record.CodeFloor, "the floor falls from 5 to 4"},
		{func(r *record.Ring) { r.Gens[0].TSSEpoch = 2 }, record.CodeFloor, "the epoch of generation 5 falls from 3 to 2"},
	} {
		r := inForce()
		x.change(&r.rec)
		code, err := (&Agent{}).check(inForce(), r)
		if code != x.code || err == nil != (x.text == "") || err != nil && !strings.Contains(err.Error(), x.text) {
			t.Errorf("%q: %v, %v", x.text, code, err)
		}
	}
	if code, err := (&Agent{}).check(nil, inForce()); code != record.CodeNone || err != nil {
		t.Errorf("a host that has nothing yet: %v, %v", code, err)
	}
}
