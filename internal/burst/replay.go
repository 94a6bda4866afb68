package burst

import (
	"libeesp/internal/profile"
	"libeesp/internal/status"
)

// check is for a packet that is not decrypted yet; commit for one that is
// authentic. Both are OK where there is no replay protection.
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
