/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Packets in memory that another party may write at the same time (vhost-user, shared
 * rings). The library decrypts the octets that it authenticated, and the ICV is that of the
 * octets it sealed. So it reads each octet once, and does not read what it has written.
 * The test does not depend on timing: pages of the packet cannot be accessed, so each
 * access faults. The handler allows this one access, and then the other party writes.
 */
#include "test.h"

#include <signal.h>
#include <stdint.h>

#if !defined(__x86_64__)

int main(void)
{
	printf("     shared: needs single steps, which this test knows for x86-64 only\n");
	return 0;
}

#else

#include <ucontext.h>

enum { MOST = 8192, PAGE = 4096, STEP = 1 << 8 /* the flag that traps behind an instruction */ };

/* A page in the middle of memory is watched. Only a few octets of a packet are on it,
 * since an access takes some microseconds. */
static struct {
	uint8_t *memory, *page; /* MOST octets before the page and behind it */
	int on, writing;
	size_t reads, writes;
	size_t turn;            /* the other party writes after the read of this number, from 1 on */
	int back;               /* it writes again after the next read */
	uint8_t *target, flip;  /* the octet that it changes, and in which bits */
	int scramble;           /* it changes all octets of the page after each write */
} watch;

static void touchable(int yes)
{
	if (mprotect(watch.page, PAGE, yes ? PROT_READ | PROT_WRITE : PROT_NONE) != 0)
		abort();
}

static void on_fault(int s, siginfo_t *i, void *context)
{
	ucontext_t *c = context;
	uint8_t *at = i->si_addr;
	if (!watch.on || at < watch.page || at >= watch.page + PAGE) {
		signal(s, SIG_DFL); /* a real fault, which happens again */
		return;
	}
	watch.writing = (int)(c->uc_mcontext.gregs[REG_ERR] >> 1 & 1);
	*(watch.writing ? &watch.writes : &watch.reads) += 1;
	touchable(1);
	c->uc_mcontext.gregs[REG_EFL] |= STEP;
}

static void on_step(int s, siginfo_t *i, void *context)
{
	ucontext_t *c = context;
	(void)s, (void)i;
	c->uc_mcontext.gregs[REG_EFL] &= ~(greg_t)STEP;
	if (!watch.writing && watch.target &&
	    (watch.reads == watch.turn || (watch.back && watch.reads == watch.turn + 1)))
		*watch.target ^= watch.flip;
	if (watch.writing && watch.scramble)
		for (uint8_t *p = watch.memory; p < watch.page + PAGE + MOST; p++)
			*p ^= 0x5a;
	touchable(0);
}

static void begin(size_t turn, uint8_t *target, int scramble)
{
	watch.turn = turn;
	watch.target = target;
	watch.scramble = scramble;
	watch.reads = watch.writes = 0;
	watch.on = 1;
	touchable(0);
}

static void end(void)
{
	touchable(1);
	watch.on = 0;
}

/* ---- Jobs ---- */

enum { JOBS = 5 };
static eesp_kdf *kdf;
static eesp_keyset *set;
static uint8_t contexts[JOBS][16], clear[JOBS][MOST], text[JOBS][MOST], tags[JOBS][16], result[MOST];
static const uint8_t aad[20] = "header of 20 octets";

/* The place for n octets of which octet at, and few others, are on the page. */
static uint8_t *placed(uint32_t n, uint32_t at)
{
	return at < n / 2 ? watch.page + PAGE - 1 - at - n % 5 : watch.page + n % 5 - at;
}

static void jobs_of(eesp_job *j, int fresh, size_t n, uint32_t len)
{
	memset(j, 0, JOBS * sizeof *j);
	for (size_t i = 0; i < n; i++) {
		j[i] = (eesp_job){ .aad = aad, .aad_len = 20, .src = text[i], .dst = text[i], .tag = tags[i],
				   .len = len, .key = fresh ? 0 : (uint32_t)i };
		memcpy(j[i].nonce, &i, sizeof i);
	}
}

static size_t seal(int fresh, uint32_t aead, eesp_job *j, size_t n)
{
	return fresh ? eesp_kdf_seal(kdf, aead, contexts[0], j, n) : eesp_keyset_seal(set, j, n);
}

static size_t open(int fresh, uint32_t aead, eesp_job *j, size_t n)
{
	return fresh ? eesp_kdf_open(kdf, aead, contexts[0], j, n) : eesp_keyset_open(set, j, n);
}

/* Opens one job of n from watched memory to elsewhere. Octet at of it changes after one of
 * the reads: once from right to wrong and once from wrong to right, for each read. Returns
 * how many times the job was authentic. */
static int opened_while_written(int fresh, uint32_t aead, size_t n, uint32_t len, uint32_t at)
{
	eesp_job j[JOBS];
	uint8_t *src = placed(len, at);
	size_t victim = n - 1, genuine = 0;

	for (int flipped = 0; flipped < 2; flipped++) {
		/* Turn 0: the other party does not write, and reads are counted. */
		for (size_t turn = 0, turns = 0; turn <= turns; turn++) {
			for (size_t i = 0; i < n; i++)
				memcpy(text[i], clear[i], len);
			jobs_of(j, fresh, n, len);
			SAME(seal(fresh, aead, j, n), n);
			memcpy(src, text[victim], len);
			src[at] ^= flipped ? 0x10 : 0;
			memset(result, 0, len);
			j[victim].src = src;
			j[victim].dst = result;
			begin(turn, src + at, 0);
			open(fresh, aead, j, n);
			end();
			CHECK(watch.writes == 0 && watch.reads > 0);
			if (turn == 0) {
				turns = watch.reads;
				SAME(j[victim].ok, !flipped);
			}
			if (j[victim].ok) {
				genuine++;
				CHECK(memcmp(result, clear[victim], len) == 0);
			}
			for (size_t i = 0; i < victim; i++)
				CHECK(j[i].ok && memcmp(text[i], clear[i], len) == 0);
		}
	}
	return (int)genuine;
}

static const uint32_t lengths[] = { 1,   15,  16,  31,  33,  64,   65,   100,  128, 129,
				    200, 257, 320, 450, 700, 1024, 1420, 2900, 4100 };

static void each(void (*f)(int fresh, uint32_t aead, size_t n))
{
	static const size_t counts[] = { 1, 2, JOBS };
	uint8_t key[JOBS * 32], secret[32];
	fill(secret, 5, 32);
	fill(key, 6, sizeof key);
	for (size_t b = 0; eesp_backend_at(b); b++) {
		if (!eesp_backend_supported(eesp_backend_at(b)))
			continue;
		WORKS(eesp_backend_select(eesp_backend_at(b)));
		for (uint32_t aead = 0; aead < 2; aead++) {
			WORKS(eesp_kdf_new(secret, &kdf));
			WORKS(eesp_keyset_new(aead, key, JOBS, &set));
			for (int fresh = 0; fresh < 2; fresh++)
				for (size_t x = 0; x < COUNT(counts); x++)
					f(fresh, aead, counts[x]);
			eesp_kdf_free(kdf);
			eesp_keyset_free(set);
		}
	}
	WORKS(eesp_backend_select("auto"));
}

static void open_jobs(int fresh, uint32_t aead, size_t n)
{
	static size_t phase; /* calls take different lengths; together each backend gets all */
	for (size_t x = phase++ % 12; x < COUNT(lengths); x += 12) {
		uint32_t len = lengths[x], at[] = { 0, len - 1, len / 2 };
		for (size_t i = 0; i < (len < 300 ? 3 : 2); i++)
			CHECK(opened_while_written(fresh, aead, n, len, at[i]) > 0);
	}
}

/* The other party changes the output after each write: the ICV must be that of the octets that were sealed. */
static void seal_jobs(int fresh, uint32_t aead, size_t n)
{
	static size_t phase;
	for (size_t x = phase++ % 6; x < COUNT(lengths); x += 6) {
		uint32_t len = lengths[x];
		eesp_job j[JOBS];
		uint8_t want[16];
		jobs_of(j, fresh, n, len);
		for (size_t i = 0; i < n; i++)
			j[i].src = clear[i];
		SAME(seal(fresh, aead, j, n), n);
		memcpy(want, tags[n - 1], 16);
		for (int end_of_it = 0; end_of_it < 2; end_of_it++) {
			j[n - 1].dst = placed(len, end_of_it ? len - 1 : 0);
			begin(0, NULL, 1);
			size_t good = seal(fresh, aead, j, n);
			end();
			CHECK(watch.writes > 0 && watch.reads == 0);
			SAME(good, n);
			CHECK(memcmp(want, tags[n - 1], 16) == 0);
		}
	}
}

static void jobs_are_opened_as_they_were_read(void) { each(open_jobs); }
static void jobs_are_sealed_as_they_were_written(void) { each(seal_jobs); }

/* ---- Packets: not in place, and in segments ---- */

static void packets(int chained)
{
	static uint8_t room[MOST + 256], genuine[MOST + 256], out[MOST];
	for (size_t b = 0; eesp_backend_at(b); b++) {
		if (!eesp_backend_supported(eesp_backend_at(b)))
			continue;
		WORKS(eesp_backend_select(eesp_backend_at(b)));
		struct kit kit = new_kit(0, EESP_V_ID);
		for (size_t x = 0; x < COUNT(lengths); x += 3) {
			uint32_t len = lengths[x];
			eesp_pkt p = packet(room + 128, len, 128, 64);
			fill(p.data, x, len);
			SAME(eesp_seal_burst(kit.sender, &p, 1), 1);
			uint32_t whole = p.out_len, at = whole - EESP_ICV_LEN - 1;
			memcpy(genuine, p.out, whole);
			uint8_t *data = placed(whole, at);
			for (int flipped = 0; flipped < 2; flipped++)
				for (size_t turn = 0, turns = 0; turn <= turns; turn++) {
					memcpy(data, genuine, whole);
					data[at] ^= flipped ? 0x10 : 0;
					eesp_pkt q = packet(data, whole, 0, 0);
					q.addr = p.addr;
					/* Segments: the header and an octet, the rest. */
					eesp_iov iov[2] = { { data, whole - len - EESP_ICV_LEN + 1 },
							    { data + whole - len - EESP_ICV_LEN + 1,
							      len + EESP_ICV_LEN - 1 } };
					if (chained) {
						q.data = NULL;
						q.len = 0;
						q.iov = iov;
						q.iov_count = 2;
					} else {
						q.dst = out;
						q.dst_size = sizeof out;
					}
					begin(turn, data + at, 0);
					eesp_open_burst(kit.receiver, &q, 1);
					end();
					if (turn == 0) {
						SAME(q.status, flipped ? EESP_ERR_AUTH : EESP_OK);
						turns = watch.reads;
						CHECK(turns > 0);
					}
					if (q.status == EESP_OK)
						CHECK(q.out_len == len && filled(q.out, x, len));
				}
		}
		free_kit(&kit);
	}
	WORKS(eesp_backend_select("auto"));
}

static void packets_to_elsewhere(void) { packets(0); }
static void packets_in_segments(void) { packets(1); }

/* ---- Headers that change while they are read ---- */

/* Opens the n octets at "genuine" in place, where memory ends, while one octet of its first few ones
 * changes behind each read. Whatever comes of it, no result is longer than the packet, and nothing
 * beyond its end is touched. */
static void headers_change(const uint8_t *genuine, uint32_t n, uint32_t few, int want, size_t (*burst)(eesp_pkt *p))
{
	static const uint8_t flips[] = { 0x0f, 0x20, 0xff };
	uint8_t *data = watch.page + PAGE - n;
	for (uint32_t at = 0; at < few && at < n; at++)
		for (size_t f = 0; f < COUNT(flips); f++)
			for (size_t turn = 0, turns = 0; turn <= turns; turn++) {
				memset(watch.page, CANARY, PAGE - n);
				memcpy(data, genuine, n);
				eesp_pkt p = packet(data, n, 128, 0);
				watch.flip = flips[f];
				begin(turn, data + at, 0);
				burst(&p);
				end();
				if (turn == 0) {
					turns = watch.reads;
					SAME(p.status, want);
					CHECK(turns > 0);
				}
				CHECK(p.out_len <= n &&
				      (p.status != EESP_OK || (uint8_t *)p.out >= watch.page + PAGE - n));
				CHECK(all_are(watch.page, PAGE - n, CANARY));
			}
}

static eesp_receiver *to_open;
static const eesp_udp udp = EESP_UDP_INIT;
static size_t open_packet(eesp_pkt *p) { return eesp_open_burst(to_open, p, 1); }
static size_t open_udp(eesp_pkt *p) { return eesp_udp_open_burst(to_open, &udp, p, 1); }

static void headers_in_place(void)
{
	static uint8_t room[512];
	eesp_group_config c = EESP_GROUP_CONFIG_INIT;
	eesp_sender_config sc = explicit_config(0);
	eesp_group *group;
	eesp_sender *s;
	const struct { uint8_t *memory, *page; } before = { watch.memory, watch.page };
	const struct guarded g = guarded(2 * PAGE);
	const uint8_t secret[32] = { 7 };
	watch.memory = g.start;
	watch.page = g.end - PAGE;
	c.profile = EESP_PROFILE_EESP;
	c.mode = EESP_SSKDF_HKDF_SHA2_256;
	c.domain = 9;
	c.max_coffset = 20;
	sc.epoch = 0;
	sc.id = 3;
	WORKS(eesp_group_new(&c, &group));
	WORKS(eesp_group_set_key(group, 0, secret, sizeof secret));
	WORKS(eesp_sender_new(group, &sc, &s));
	WORKS(eesp_receiver_new(&group, 1, NULL, &to_open));
	for (uint8_t offset = 0; offset < 4; offset += 3) {
		eesp_pkt p = packet(room + 256, 46, 128, 64);
		p.coffset = offset;
		p.next_header = 6;
		SAME(eesp_seal_burst(s, &p, 1), 1);
		eesp_pkt q = packet(memcpy(room, p.out, p.out_len), p.out_len, 0, 0);
		SAME(eesp_open_burst(to_open, &q, 1), 1); /* now its key is here */
		headers_change(p.out, p.out_len, p.out_len - 46u - EESP_ICV_LEN, EESP_OK, open_packet);
	}
	eesp_receiver_free(to_open);
	eesp_sender_free(s);
	eesp_group_free(group);
	for (int options = 0; options < 2; options++) {
		struct kit kit = new_kit(0, EESP_V_ID);
		eesp_sender *other = new_sender(kit.group, EESP_V_LONG_ID, options ? EESP_SENDER_OPTIONS : 0);
		to_open = kit.receiver;
		eesp_pkt p = packet(room + 256, 24, 128, 64);
		p.coffset = 2;
		p.ioffset = 1;
		SAME(eesp_seal_burst(other, &p, 1), 1);
		headers_change(p.out, p.out_len, options ? p.out_len - 24u - EESP_ICV_LEN : 8, EESP_OK, open_packet);
		eesp_sender_free(other);
		if (options) { /* the shortest IPv4 packet with UDP that has a payload */
			const uint8_t shortest[29] = { 0x45, 0, 0, 29, 0, 0, 0, 0, 64, 17, 0x66, 0xce, 10, 0, 0, 1, 10,
						       0, 0, 2,
						       1, 1, EESP_PSP_UDP_PORT >> 8, EESP_PSP_UDP_PORT & 255, 0, 9 };
			headers_change(shortest, sizeof shortest, 10, EESP_ERR_SHORT, open_udp);
		}
		free_kit(&kit);
	}
	watch.memory = before.memory;
	watch.page = before.page;
	watch.flip = 0x10;
}

/* ---- Headers that become right behind a check ---- */

/* A packet that r must not open again. Octet at of it, counted from its prefix on, is wrong until one of the
 * reads. another: it is opened beside another one, which is shorter and not authentic, so that they change places. */
static void opened_again(eesp_receiver *r, const eesp_pkt *genuine, uint32_t prefix, uint32_t at, int another)
{
	static const uint8_t flips[] = { 0x01, 0x80 };
	static uint8_t room[EESP_MAX_SEALED_LEN(64) + EESP_TSS_LEAD_IPV6];
	const uint32_t n = genuine->out_len, shorter = n - 5;
	const uint8_t *from = (uint8_t *)genuine->out - prefix;
	uint8_t *data = watch.page + PAGE - n;
	for (size_t f = 0; f < COUNT(flips); f++)
		for (size_t turn = 0, turns = 0; turn <= turns; turn++) {
			memcpy(data - prefix, from, prefix + n);
			data[(ptrdiff_t)at - prefix] ^= flips[f];
			memcpy(room, from, prefix + n);
			eesp_pkt p[2] = { packet(data, n, prefix, 0), packet(room + prefix, shorter, prefix, 0) };
			for (int i = 0; i < 2; i++) {
				p[i].addr = genuine->addr;
				p[i].flags = genuine->flags;
			}
			watch.flip = flips[f];
			begin(turn, data + at - prefix, 0);
			eesp_open_burst(r, p, another ? 2 : 1);
			end();
			if (turn == 0)
				turns = watch.reads;
			CHECK(p[0].status != EESP_OK);
		}
}

/* Each octet is a page fault for each read, so by default a kind of packet takes one of three, each backend others. */
static uint32_t octets_between(void) { return getenv("EESP_TEST_LONG") != NULL ? 1 : 3; }

static void headers_become_right(void)
{
	const uint32_t step = octets_between();
	static uint8_t room[512], copy[512];
	static const struct {
		eesp_group_config g;
		uint8_t v;
	} kinds[] = {
		{ .v = EESP_V_ID },
		{ .v = EESP_V_LONG_ID },
		{ .v = EESP_V_LONG_ID_SRC_DST },
		{ .g = { .profile = EESP_PROFILE_PSP } },
		{ .g = { .profile = EESP_PROFILE_EESP, .mode = 1 } },
		{ .g = { .profile = EESP_PROFILE_EESP, .mode = 1, .draft = EESP_DRAFT_02, .flags = EESP_GROUP_IV } },
		{ .g = { .profile = EESP_PROFILE_EESP, .mode = 1, .draft = EESP_DRAFT_02, .flags = EESP_GROUP_IV,
			 .max_coffset = 20 } },
		{ .g = { .profile = EESP_PROFILE_TSS, .mode = EESP_TSS_CLUSTER }, .v = EESP_V_TSS_SSI },
		{ .g = { .profile = EESP_PROFILE_TSS, .mode = EESP_TSS_CLUSTER }, .v = EESP_V_TSS_ADDR },
		{ .g = { .profile = EESP_PROFILE_TSS, .mode = EESP_TSS_CLUSTER }, .v = EESP_V_TSS_SSI_IPV6 },
		{ .g = { .profile = EESP_PROFILE_TSS, .mode = EESP_TSS_CLUSTER }, .v = EESP_V_TSS_ADDR_IPV6 },
		{ .g = { .profile = EESP_PROFILE_TSS, .mode = EESP_TSS_CLUSTER, .crypt_offset = 24 },
		  .v = EESP_V_TSS_ADDR },
	};
	const struct { uint8_t *memory, *page; } before = { watch.memory, watch.page };
	const struct guarded g = guarded(2 * PAGE);
	watch.memory = g.start;
	watch.page = g.end - PAGE;
	for (size_t b = 0; eesp_backend_at(b); b++) {
		if (!eesp_backend_supported(eesp_backend_at(b)))
			continue;
		WORKS(eesp_backend_select(eesp_backend_at(b)));
		for (size_t k = 0; k < COUNT(kinds); k++) {
			eesp_group_config c = EESP_GROUP_CONFIG_INIT, x = kinds[k].g;
			eesp_sender_config sc = explicit_config(kinds[k].v);
			eesp_receiver_config rc = EESP_RECEIVER_CONFIG_INIT;
			const int tss = x.profile == EESP_PROFILE_TSS, v = kinds[k].v;
			const int addr = tss && (v == EESP_V_TSS_ADDR || v == EESP_V_TSS_ADDR_IPV6);
			const int six = tss && (v == EESP_V_TSS_ADDR_IPV6 || v == EESP_V_TSS_SSI_IPV6);
			const uint32_t prefix = !tss ? 0 : six ? EESP_TSS_LEAD_IPV6 : EESP_TSS_LEAD_IPV4;
			const uint8_t secret[32] = { 7, (uint8_t)b, (uint8_t)k };
			eesp_group *group;
			eesp_sender *s;
			eesp_receiver *r;
			x.struct_size = c.struct_size;
			x.aead = tss;
			x.domain = tss || x.profile == EESP_PROFILE_EESP ? 0x900 + (uint32_t)(16 * b + k) : 0;
			x.draft = x.draft != 0 ? x.draft : c.draft;
			WORKS(eesp_group_new(&x, &group));
			if (x.profile == EESP_PROFILE_STATELESS) {
				set_root_key(group, EESP_LEVEL_ZONE);
			} else {
				WORKS(eesp_group_set_key(group, 0, secret, sizeof secret));
				sc.epoch = 0;
			}
			if (tss)
				WORKS(eesp_group_set_epoch(group, 3));
			sc.id = addr ? 0 : sc.id;
			/* those without SSI share their counters */
			sc.start_counter = tss ? 1000000 * (16 * b + k + 1) : 0;
			WORKS(eesp_sender_new(group, &sc, &s));
			rc.replay_window = 64;
			WORKS(eesp_receiver_new(&group, 1, &rc, &r));
			for (int i = 0; i < 4; i++) { /* the first ones may take the general path, to make keys */
				eesp_pkt p = packet(room + 256, 46, 128, 64);
				p.next_header = 6;
				p.flags = six ? EESP_PKT_IPV6 : 0;
				p.coffset = i == 3 && x.max_coffset != 0 ? 3 : 0;
				fill(room, 1, 256);
				SAME(eesp_seal_burst(s, &p, 1), 1);
				memcpy(copy, (uint8_t *)p.out - prefix, prefix + p.out_len);
				eesp_pkt q = packet(copy + prefix, p.out_len, prefix, 0);
				q.addr = p.addr;
				q.flags = p.flags;
				SAME(eesp_open_burst(r, &q, 1), 1);
				for (uint32_t at = (uint32_t)(b + k) % step;
				     i > 1 && at < prefix + p.out_len - 46 - EESP_ICV_LEN; at += step)
					opened_again(r, &p, prefix, at, i == 2);
			}
			eesp_receiver_free(r);
			eesp_sender_free(s);
			eesp_group_free(group);
		}
	}
	WORKS(eesp_backend_select("auto"));
	watch.memory = before.memory;
	watch.page = before.page;
	watch.flip = 0x10;
}

/* ---- What is delivered is what was authenticated ---- */

/* Opens a packet, in place or to elsewhere, while one of the reads of its octet at, counted from its prefix on, gets
 * another value. want: as it is opened otherwise; NULL: it was opened before and must not be again. */
static void read_once_wrong(eesp_receiver *r, const eesp_pkt *genuine, const eesp_pkt *want, uint32_t prefix,
			    uint32_t at, int elsewhere)
{
	static uint8_t out[MOST];
	const uint32_t n = genuine->out_len;
	uint8_t *data = watch.page + PAGE - n;
	watch.flip = elsewhere ? 0x80 : 0x01;
	watch.back = 1;
	for (size_t turn = 0, turns = 1; turn < turns; turn++) {
		memcpy(data - prefix, (uint8_t *)genuine->out - prefix, prefix + n);
		eesp_pkt p = packet(data, n, prefix, 0);
		p.addr = genuine->addr;
		p.flags = genuine->flags;
		p.dst = elsewhere ? out : NULL;
		p.dst_size = elsewhere ? sizeof out : 0;
		data[(ptrdiff_t)at - prefix] ^= turn == 0 ? watch.flip : 0;
		begin(turn, data + at - prefix, 0);
		eesp_open_burst(r, &p, 1);
		end();
		turns = turn == 0 || watch.reads > turns ? watch.reads : turns;
		CHECK(turns > 0 && (p.status != EESP_OK || want != NULL));
		if (p.status == EESP_OK) {
			SAME(p.id, want->id);
			SAME(p.tsc, want->tsc);
			SAME(p.next_header, want->next_header);
			SAME(p.coffset, want->coffset);
			SAME(p.ioffset, want->ioffset);
			SAME(p.out_len, want->out_len);
			/* but for octets that are not authenticated, or lie in the other party's memory */
			const uint32_t skip = elsewhere ? 4u * p.ioffset : p.out_len;
			const uint8_t *is = p.out, *was = want->out;
			CHECK(memcmp(is + skip, was + skip, p.out_len - skip) == 0);
		}
	}
	watch.back = 0;
}

static void one_read_is_wrong(void)
{
	const uint32_t step = octets_between();
	static uint8_t room[MOST], copy[MOST], opened[MOST];
	static const uint8_t extra[16] = { 1, 2, 3, 4, 5, 6, 7, 8, 9 };
	static const struct kind {
		eesp_group_config g;
		uint8_t v, data, coffset, ioffset, flags, sender, extra;
		uint16_t len;
	} kinds[] = {
		{ .v = EESP_V_ID },
		{ .v = EESP_V_LONG_ID, .data = 1 },
		{ .v = EESP_V_LONG_ID_SRC, .coffset = 2 },
		{ .v = EESP_V_ID, .coffset = 3, .ioffset = 1, .sender = EESP_SENDER_OPTIONS },
		{ .v = EESP_V_LONG_ID, .coffset = 3, .data = 1 },
		{ .g = { .profile = EESP_PROFILE_PSP } },
		{ .g = { .profile = EESP_PROFILE_PSP }, .data = 1 },
		{ .g = { .profile = EESP_PROFILE_PSP }, .extra = 8, .coffset = 2 },
		{ .g = { .profile = EESP_PROFILE_PSP }, .extra = 16, .sender = EESP_SENDER_OFFSET_FROM_IV },
		{ .g = { .profile = EESP_PROFILE_PSP }, .extra = 16, .sender = EESP_SENDER_OFFSET_FROM_IV, .coffset = 1,
		  .flags = EESP_PKT_EXTENSION },
		{ .g = { .profile = EESP_PROFILE_PSP, .versions = 4 }, .v = EESP_V_PSP_AES_128_GMAC },
		{ .g = { .profile = EESP_PROFILE_PSP, .versions = 4 }, .v = EESP_V_PSP_AES_128_GMAC, .len = 2000 },
		{ .g = { .profile = EESP_PROFILE_EESP, .mode = 1 } },
		{ .g = { .profile = EESP_PROFILE_EESP, .mode = 1 }, .data = 1 },
		{ .g = { .profile = EESP_PROFILE_EESP, .mode = 1, .draft = EESP_DRAFT_02, .flags = EESP_GROUP_IV } },
		{ .g = { .profile = EESP_PROFILE_EESP, .mode = 1, .max_coffset = 20 }, .coffset = 3 },
		{ .g = { .profile = EESP_PROFILE_EESP, .mode = 1, .max_coffset = 20 }, .coffset = 3, .data = 1 },
		{ .g = { .profile = EESP_PROFILE_TSS, .mode = EESP_TSS_CLUSTER }, .v = EESP_V_TSS_SSI },
		{ .g = { .profile = EESP_PROFILE_TSS, .mode = EESP_TSS_CLUSTER, .crypt_offset = 24 },
		  .v = EESP_V_TSS_ADDR },
		{ .g = { .profile = EESP_PROFILE_TSS, .mode = EESP_TSS_CLUSTER, .crypt_offset = 40 },
		  .v = EESP_V_TSS_SSI },
	};
	const struct { uint8_t *memory, *page; } before = { watch.memory, watch.page };
	const struct guarded g = guarded(2 * PAGE);
	watch.memory = g.start;
	watch.page = g.end - PAGE;
	for (size_t b = 0; eesp_backend_at(b); b++) {
		if (!eesp_backend_supported(eesp_backend_at(b)))
			continue;
		WORKS(eesp_backend_select(eesp_backend_at(b)));
		for (size_t k = 0; k < COUNT(kinds); k++) {
			const struct kind *x = &kinds[k];
			eesp_group_config c = EESP_GROUP_CONFIG_INIT, gc = x->g;
			eesp_sender_config sc = explicit_config(x->v);
			eesp_receiver_config rc = EESP_RECEIVER_CONFIG_INIT;
			const int tss = gc.profile == EESP_PROFILE_TSS,
				  epochs = tss || gc.profile == EESP_PROFILE_STATELESS;
			const int gmac = gc.versions != 0;
			const uint32_t prefix = tss ? EESP_TSS_LEAD_IPV4 : 0, len = x->len != 0 ? x->len : 46;
			const uint8_t secret[32] = { 9, (uint8_t)b, (uint8_t)k };
			eesp_group *group;
			eesp_sender *s;
			eesp_receiver *r[2];
			gc.struct_size = c.struct_size;
			gc.aead = tss;
			gc.domain = tss || gc.profile == EESP_PROFILE_EESP ? 0x1900 + (uint32_t)(32 * b + k) : 0;
			gc.draft = gc.draft != 0 ? gc.draft : c.draft;
			WORKS(eesp_group_new(&gc, &group));
			if (gc.profile == EESP_PROFILE_STATELESS) {
				set_root_key(group, EESP_LEVEL_ZONE);
			} else {
				WORKS(eesp_group_set_key(group, 0, secret, sizeof secret));
				sc.epoch = 0;
			}
			if (tss)
				WORKS(eesp_group_set_epoch(group, 3));
			sc.id = tss && x->v == EESP_V_TSS_ADDR ? 0 : sc.id;
			sc.start_counter = tss ? 1000000 * (1000 + 32 * b + k) : 0;
			sc.flags = x->sender;
			sc.extra = x->extra != 0 ? extra : NULL;
			sc.extra_len = x->extra;
			WORKS(eesp_sender_new(group, &sc, &s));
			for (int again = 0; again < 2; again++) {
				eesp_data_key key;
				eesp_context of = { .id = sc.id, .epoch = epochs ? 3 : 0, .v = x->v };
				rc.replay_window = again ? 64 : 0;
				if (x->data) {
					WORKS(eesp_data_key_export(group, &of, 0, &key));
					WORKS(eesp_receiver_new_with_key(&key, &rc, &r[again]));
				} else {
					WORKS(eesp_receiver_new(&group, 1, &rc, &r[again]));
				}
			}
			for (int i = 0; i < 3; i++) { /* the first ones may take the general path, to make keys */
				eesp_pkt p = packet(room + 256, len, 256, 64), q, w;
				p.next_header = 6;
				p.coffset = x->coffset;
				p.ioffset = x->ioffset;
				fill(room, 1, 256);
				fill(room + 256, 2, len);
				SAME(eesp_seal_burst(s, &p, 1), 1);
				p.flags = x->flags;
				for (int again = 0; again < 2; again++) {
					memcpy(copy, (uint8_t *)p.out - prefix, prefix + p.out_len);
					q = packet(copy + prefix, p.out_len, prefix, 0);
					q.addr = p.addr;
					q.flags = p.flags;
					q.dst = opened;
					q.dst_size = sizeof opened;
					SAME(eesp_open_burst(r[again], &q, 1), 1);
					w = q;
				}
				const uint32_t header = prefix + p.out_len - len - EESP_ICV_LEN;
				const uint32_t some = header + 4u * x->coffset + (w.coffset == 0 && gmac ? 4 : 1);
				for (uint32_t at = (uint32_t)(b + k) % step; i > 1 && at < some;
				     at += len < 64 ? step : 5 * step) {
					/* each backend gets both ways, in places of their own */
					const int elsewhere = at >= header - 4 || (at + k + b) % 2 != 0;
					read_once_wrong(r[0], &p, &w, prefix, at, elsewhere);
					if (at < header && at % 2 != 0)
						read_once_wrong(r[1], &p, NULL, prefix, at, elsewhere);
				}
			}
			eesp_receiver_free(r[0]);
			eesp_receiver_free(r[1]);
			eesp_sender_free(s);
			eesp_group_free(group);
		}
	}
	WORKS(eesp_backend_select("auto"));
	watch.memory = before.memory;
	watch.page = before.page;
	watch.flip = 0x10;
}

int main(void)
{
	struct sigaction fault = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK };
	struct sigaction step = { .sa_sigaction = on_step, .sa_flags = SA_SIGINFO | SA_ONSTACK };
	watch.memory = guarded(2 * MOST + PAGE).start;
	watch.page = watch.memory + MOST;
	watch.flip = 0x10;
	CHECK(sigaction(SIGSEGV, &fault, NULL) == 0 && sigaction(SIGTRAP, &step, NULL) == 0);
	for (size_t i = 0; i < JOBS; i++) {
		fill(clear[i], i, MOST);
		fill(contexts[i], i + 9, 16);
	}
	TEST(jobs_are_opened_as_they_were_read);
	TEST(jobs_are_sealed_as_they_were_written);
	TEST(packets_to_elsewhere);
	TEST(packets_in_segments);
	TEST(headers_in_place);
	TEST(headers_become_right);
	TEST(one_read_is_wrong);
	return 0;
}

#endif
