/* SPDX-License-Identifier: BSD-3-Clause */
/* For direct.c: counts packets, octets and what is done with keys. */
#ifndef EESP_COUNTS_H
#define EESP_COUNTS_H

/* The thread's own share of counts, or NULL. */
static inline struct eesp_share *share_of(struct eesp_share *all, uint64_t number)
{
	struct eesp_share *s = &all[number % SHARES];
	uint64_t owner = __atomic_load_n(&s->owner, __ATOMIC_RELAXED);
	if (LIKELY(owner == number))
		return s;
	return owner == 0 && __atomic_compare_exchange_n(&s->owner, &owner, number, 0, __ATOMIC_RELAXED,
							 __ATOMIC_RELAXED) ? s : NULL;
}

/* Adds to a count. The release store makes earlier counts visible to its readers. */
static inline void count(struct eesp_share *mine, int i, uint64_t *shared, uint64_t n)
{
	if (LIKELY(mine != NULL))
		__atomic_store_n(&mine->n[i], mine->n[i] + n, __ATOMIC_RELEASE);
	else
		__atomic_fetch_add(shared, n, __ATOMIC_RELEASE);
}

/* Counts what is done with a key. Derived data keys are only counted if there are not
 * as many as packets (keys.UsageWords). */
static inline void used(uint64_t *usage, uint64_t number, int what, size_t packets, const uint8_t *master,
			size_t derived)
{
	if (usage == NULL)
		return;
	struct eesp_share *mine = share_of((struct eesp_share *)(usage + USAGE_SHARES), number);
	if (packets != 0)
		count(mine, what, &usage[what], packets);
	if (master != NULL && derived != packets)
		count(mine, USAGE_EXTRA, &usage[USAGE_EXTRA], derived - packets);
}

static inline void tallied(uint64_t *tally, uint64_t number, int what, size_t packets)
{
	if (tally != NULL && packets != 0)
		count(share_of((struct eesp_share *)(tally + TALLY_SHARES), number), what, &tally[what], packets);
}

/* Counts good packets and their octets. */
static inline void counted(struct eesp_share *shares, uint64_t number, uint64_t *by, uint64_t *all_octets,
			   uint64_t packets, uint64_t octets)
{
	struct eesp_share *mine = share_of(shares, number);
	count(mine, 0, by, packets);
	count(mine, 1, all_octets, octets);
}

#endif /* EESP_COUNTS_H */
