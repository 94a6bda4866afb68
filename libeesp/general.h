/* SPDX-License-Identifier: BSD-3-Clause */
/* For direct.c: announces a burst, so that its keys are not wiped, and hands packets to the general path in Go. */
#ifndef EESP_GENERAL_H
#define EESP_GENERAL_H

/* Keys in force now are not wiped until leave: Enter and Leave of keys.Reader. */
/* Announces something to threads that call barrier.Threads before they look. That makes this thread execute a
 * barrier, so that here the compiler's order is enough. */
static inline void announce(uint64_t *at, uint64_t value, const uint64_t *plain)
{
	if (LIKELY(__atomic_load_n(plain, __ATOMIC_RELAXED) == 1)) {
		__atomic_store_n(at, value, __ATOMIC_RELEASE);
		__atomic_signal_fence(__ATOMIC_SEQ_CST);
	} else {
		__atomic_exchange_n(at, value, __ATOMIC_SEQ_CST);
	}
}

static inline uint64_t enter(const struct eesp_worker_view *view)
{
	uint64_t epoch = __atomic_load_n(view->epoch, __ATOMIC_SEQ_CST);
	announce(view->active, epoch, view->plain);
	return epoch;
}

static inline void leave(const struct eesp_worker_view *view, uint64_t epoch)
{
	announce(view->active, 0, view->plain);
	if (UNLIKELY(epoch != __atomic_load_n(view->epoch, __ATOMIC_SEQ_CST) &&
		     __atomic_load_n(view->waiting, __ATOMIC_SEQ_CST) != 0))
		eespGoSweep();
}

static size_t go_seal(const struct eesp_fast_path *fp, eesp_pkt *pkts, size_t n)
{
	*fp->cgo_packets += n;
	return eespGoSealBurst(fp->worker, fp->object, pkts, n);
}

/* serial: that of the owner whose counters were taken. */
static size_t go_seal_taken(const struct eesp_fast_path *fp, eesp_pkt *pkts, size_t n, uint64_t first, uint64_t serial)
{
	*fp->cgo_packets += n;
	return eespGoSealTaken(fp->worker, fp->object, pkts, n, first, serial);
}

static size_t go_open(const struct eesp_fast_path *fp, eesp_pkt *pkts, size_t n, uint64_t first, uint64_t serial)
{
	(void)first;
	(void)serial;
	*fp->cgo_packets += n;
	return eespGoOpenBurst(fp->worker, fp->object, pkts, n);
}

/* Copies the strays of a burst out, hands them to the general path, and copies them
 * back. numbered: their counters, which begin with first, were taken. */
typedef size_t go_burst(const struct eesp_fast_path *fp, eesp_pkt *pkts, size_t n, uint64_t first, uint64_t serial);

static NOINLINE size_t strays(const struct eesp_fast_path *fp, eesp_pkt *pkts, size_t n, uint64_t first,
			      uint64_t serial, int numbered, go_burst *go)
{
	eesp_pkt apart[CHUNK];
	uint8_t from[CHUNK] = { 0 };
	size_t good = 0, k = 0;
	for (size_t i = 0; i < n; i++)
		if (pkts[i].status == STRAY) {
			if (k > 0 && numbered && from[k - 1] + 1u != i) { /* counters follow one another */
				good += go(fp, apart, k, first + from[0], serial);
				for (size_t x = 0; x < k; x++)
					pkts[from[x]] = apart[x];
				k = 0;
			}
			from[k] = (uint8_t)i;
			apart[k++] = pkts[i];
		}
	good += go(fp, apart, k, first + from[0], serial);
	for (size_t x = 0; x < k; x++)
		pkts[from[x]] = apart[x];
	return good;
}

#endif /* EESP_GENERAL_H */
