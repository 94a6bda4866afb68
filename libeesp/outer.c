/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What goes around the fast path's bursts: proxies, which open and seal. Packets that
 * are the general path's take it within these bursts. internal/burst does the same for
 * callers in Go.
 */
#include <string.h>

#include "shim.h"

#define ICV EESP_ICV_LEN
#define MOST_AROUND (EESP_MAX_HEADER + EESP_TSS_LEAD_IPV6 + EESP_MAX_PADDING + ICV) /* sums of more might wrap */

/* A chunk's packets on their way; in memory of the thread's, for its stack may be short. */
struct around {
	eesp_pkt tmp[CHUNK];
	uint32_t front[CHUNK]; /* octets in front of a payload that a proxy seals */
	uint8_t orig[CHUNK];
};
_Static_assert(sizeof(struct around) <= AROUND_ROOM, "what a worker has room for");

static inline uint32_t least(uint32_t a, uint32_t b) { return a < b ? a : b; }

static void refuse(eesp_pkt *p, eesp_status st)
{
	p->status = st;
	p->out = NULL;
	p->out_len = 0;
}

static const eesp_addr *out_addr(const eesp_pkt *p) { return p->out_addr != NULL ? p->out_addr : &p->addr; }

static int mapped(const uint8_t a[16])
{
	static const uint8_t prefix[12] = { [10] = 0xff, [11] = 0xff };
	return memcmp(a, prefix, 12) == 0;
}

/* What a proxy writes in front of a header of tss: the addresses, and no entropy. Returns its length. */
static uint32_t prefix_for(const eesp_addr *a, uint8_t prefix[EESP_TSS_LEAD_IPV6])
{
	memset(prefix, 0, EESP_TSS_LEAD_IPV6);
	if (mapped(a->src) && mapped(a->dst)) {
		memcpy(prefix, a->src + 12, 4);
		memcpy(prefix + 4, a->dst + 12, 4);
		return EESP_TSS_LEAD_IPV4;
	}
	memcpy(prefix, a->src, 16);
	memcpy(prefix + 16, a->dst, 16);
	return EESP_TSS_LEAD_IPV6;
}

/* Up to CHUNK packets: proxy of internal/burst. */
static size_t proxy_some(const struct eesp_fast_path *open, const struct eesp_fast_path *seal, const struct eesp_front *f, eesp_pkt *pkts, size_t n)
{
	struct around *a = open->view->around;
	uint8_t prefix[EESP_TSS_LEAD_IPV6];
	size_t m = 0, good = 0;
	/* With a destination, the payload goes to where the second side wants it. */
	for (size_t i = 0; i < n; i++) {
		const eesp_pkt *p = &pkts[i];
		eesp_pkt *t = &a->tmp[i];
		*t = *p;
		a->front[i] = f->header + (f->prefix != 0 ? prefix_for(out_addr(p), prefix) : 0);
		const uint32_t need = a->front[i] + f->tail;
		if (p->iov_count != 0) {
			t->flags = UINT16_MAX; /* refused: chained packets cannot be proxied yet */
		} else if (p->dst != NULL && p->dst_size < need) {
			t->dst_size = 0;
		} else if (p->dst != NULL) {
			t->dst = (uint8_t *)p->dst + a->front[i];
			t->dst_size = p->dst_size - need;
		}
	}
	direct_open(open, a->tmp, n);
	for (size_t i = 0; i < n; i++) {
		eesp_pkt *p = &pkts[i], v = a->tmp[i];
		const uint32_t front = a->front[i];
		p->id = v.id;
		p->tsc = v.tsc;
		p->coffset = v.coffset;
		p->ioffset = v.ioffset;
		p->next_header = v.next_header;
		if (v.status == EESP_OK && p->dst != NULL && p->dst_size < front + f->tail)
			v.status = EESP_ERR_ROOM; /* an empty payload fits anywhere, its header does not */
		if (v.status != EESP_OK) {
			refuse(p, p->iov_count != 0 ? EESP_ERR_SEGMENTS : v.status);
			continue;
		}
		v.len = v.out_len;
		if (p->dst == NULL) {
			const uint32_t at = (uint32_t)((uint8_t *)v.out - (uint8_t *)p->data);
			v.headroom = at + least(p->headroom, MOST_AROUND);
			v.tailroom = p->len - at - v.out_len + least(p->tailroom, MOST_AROUND);
			v.data = (uint8_t *)p->data + at;
		} else {
			v.headroom = front;
			v.tailroom = p->dst_size - front - v.out_len;
			v.data = (uint8_t *)p->dst + front;
		}
		v.dst = NULL;
		v.flags = 0;
		v.addr = *out_addr(p);
		if (f->prefix != 0) {
			const uint32_t k = prefix_for(out_addr(p), prefix);
			if (v.headroom >= front)
				memcpy((uint8_t *)v.data - front, prefix, k);
			v.flags = k == EESP_TSS_LEAD_IPV6 ? EESP_PKT_IPV6 : 0;
		}
		a->orig[m] = (uint8_t)i;
		a->tmp[m++] = v; /* m <= i: that one is done with */
	}
	if (m != 0)
		direct_seal(seal, a->tmp, m);
	for (size_t i = 0; i < m; i++) {
		eesp_pkt *p = &pkts[a->orig[i]];
		const eesp_pkt *t = &a->tmp[i];
		p->status = t->status;
		p->out = t->out;
		p->out_len = t->out_len;
		if (t->status == EESP_OK)
			good++;
		else /* opened, but not sealed: let no plaintext out */
			memset(t->data, 0, t->len);
	}
	return good;
}

size_t direct_proxy(const struct eesp_fast_path *open, const struct eesp_fast_path *seal, eesp_pkt *pkts, size_t n)
{
	size_t good = 0;
	struct eesp_front f;
	/* Where the header goes is decided once: rotation does not change its length. */
	if (!direct_front(seal, &f))
		return SIZE_MAX;
	for (size_t at = 0; at < n; at += CHUNK)
		good += proxy_some(open, seal, &f, pkts + at, n - at < CHUNK ? n - at : CHUNK);
	return good;
}
