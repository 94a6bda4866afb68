/* SPDX-License-Identifier: BSD-3-Clause */
/* For direct.c: announces a burst, so that its keys are not wiped, and hands packets to the general path in Go. */
#ifndef EESP_GENERAL_H
#define EESP_GENERAL_H

/* Keys in force now are not wiped until leave: Enter and Leave of keys.Reader. */
static inline uint64_t enter(const struct eesp_worker_view *view)
{
	uint64_t epoch = __atomic_load_n(view->epoch, __ATOMIC_SEQ_CST);
	__atomic_exchange_n(view->active, epoch, __ATOMIC_SEQ_CST);
	return epoch;
}

static inline void leave(const struct eesp_worker_view *view, uint64_t epoch)
{
	__atomic_exchange_n(view->active, 0, __ATOMIC_SEQ_CST);
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
