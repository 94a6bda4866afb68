package burst

import (
	"libeesp/internal/profile"
	"libeesp/internal/status"
)

// check is called before a packet is decrypted, commit once it is authentic. Both
// return OK where there is no replay protection.
func (w *Worker) check(r *Receiver, l *profile.Lane) status.Code {
	switch {
	case r.Windows != nil:
		return r.Windows.check(l)
	case r.Times != nil:
		return r.Times.check(w, l)
	}
	return status.OK
}

func (w *Worker) commit(r *Receiver, l *profile.Lane) status.Code {
	switch {
	case r.Windows != nil:
		return r.Windows.commit(l)
	case r.Times != nil:
		return r.Times.commit(w, l)
	}
	return status.OK
}
