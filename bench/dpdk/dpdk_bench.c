/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Cycles per packet of a DPDK loop (rx burst, work, tx burst) that seals or
 * opens in the mbufs, with libeesp and with DPDK's own crypto devices.
 * No NIC and no huge pages are needed: the port is net_null.
 */
#define _GNU_SOURCE
#define ALLOW_EXPERIMENTAL_API /* session pools, and the synchronous calls */
#include <eesp.h>
#include <errno.h>
#include <getopt.h>
#include <rte_cryptodev.h>
#include <rte_cycles.h>
#include <rte_dev.h>
#include <rte_eal.h>
#include <rte_ethdev.h>
#include <rte_malloc.h>
#include <rte_random.h>
#include <rte_version.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#if __has_include(<intel-ipsec-mb.h>)
#include <intel-ipsec-mb.h>
#else
#define IMB_VERSION_STR "of an unknown version"
#endif

#define BURST 32
#define HEADER 16 /* a DeviceID and no options; the PMDs' AAD is as long */
#define KEY_LEN 16
#define FEW BURST /* keys in use: as many as packets in a burst */
#define MANY 16384
#define MAX_SIZE 1420
#define MAX_ROUNDS 101
#define TURN_US 1500
#define HUGE_PAGE (2u << 20)
#define HEAP_PAGES 96
#define IV_LEN 12
#define IV_OFFSET (sizeof(struct rte_crypto_op) + sizeof(struct rte_crypto_sym_op))

#define TEXT(n) #n
#define NUMBER(n) TEXT(n)

static const uint16_t sizes[] = { 64, 256, MAX_SIZE };
#define SIZES RTE_DIM(sizes)

enum device { AESNI_MB, AESNI_GCM, DEVICES };

static struct pmd {
	const char *name;
	bool there;
	uint8_t id;
	struct rte_mempool *pool;
	void *sealing[MANY], *opening[FEW]; /* sessions made beforehand, one for each key */
} pmds[DEVICES] = { { .name = "crypto_aesni_mb" }, { .name = "crypto_aesni_gcm" } };

/* What is done with a burst between rx and tx, and measured. */
struct work {
	const char *name, *how;
	void (*run)(const struct work *w, struct rte_mbuf **m, uint32_t first);
	enum { SEAL, OPEN } what;
	uint8_t v;          /* the library: EESP_V_x */
	enum device device; /* a PMD, if keys is not 0 */
	uint32_t keys;      /* so many take turns; a power of two */
	bool fresh;         /* a session for each packet */
	bool sync;          /* no queue: rte_cryptodev_sym_cpu_crypto_process */
};

static uint8_t keys[MANY][KEY_LEN];
static eesp_group *group;
static eesp_sender *senders[2]; /* by V */
static eesp_receiver *receiver;
static struct rte_mempool *mbufs;
static struct rte_crypto_op *ops[BURST];
static uint16_t port;
static int heap; /* as a socket */
/* Packets to open: of the library by V, and with the first FEW of keys. */
typedef uint8_t packet[HEADER + MAX_SIZE + EESP_ICV_LEN];
static packet arrived_v[2][BURST], arrived_keys[BURST];

static void must(int status, const char *what)
{
	if (status != EESP_OK)
		rte_exit(EXIT_FAILURE, "%s: %s (%s)\n", what, eesp_strerror(status), eesp_last_error());
}

static void must_dpdk(int result, const char *what)
{
	if (result < 0)
		rte_exit(EXIT_FAILURE, "%s: %s\n", what, rte_strerror(-result));
}

static void *must_have(void *p, const char *what)
{
	if (p == NULL)
		rte_exit(EXIT_FAILURE, "%s: %s\n", what, rte_strerror(rte_errno));
	return p;
}

/* ---- The library ---------------------------------------------------------- */

/* The i-th packet's source address; a gateway takes it from the IP header. */
static void describe(const struct work *w, eesp_pkt *p, struct rte_mbuf *m, uint32_t i)
{
	*p = (eesp_pkt){
		.data = rte_pktmbuf_mtod(m, void *),
		.len = rte_pktmbuf_data_len(m),
		.headroom = rte_pktmbuf_headroom(m),
		.tailroom = rte_pktmbuf_tailroom(m),
	};
	if (w->v == EESP_V_ID_SRC) {
		const uint8_t ipv4[4] = { 10, (uint8_t)(i >> 16), (uint8_t)(i >> 8), (uint8_t)i };
		eesp_addr_from_ipv4(p->addr.src, ipv4);
	}
}

static void eesp_seal(const struct work *w, struct rte_mbuf **m, uint32_t first)
{
	eesp_pkt pkts[BURST];
	for (uint32_t i = 0; i < BURST; i++)
		describe(w, &pkts[i], m[i], first + i);
	if (eesp_seal_burst(senders[w->v], pkts, BURST) != BURST)
		rte_exit(EXIT_FAILURE, "%s: a packet was not sealed\n", w->name);
	for (uint32_t i = 0; i < BURST; i++) {
		rte_pktmbuf_prepend(m[i], HEADER);
		rte_pktmbuf_append(m[i], EESP_ICV_LEN);
	}
}

static void strip(struct rte_mbuf *m)
{
	rte_pktmbuf_adj(m, HEADER);
	rte_pktmbuf_trim(m, EESP_ICV_LEN);
}

static void eesp_open_in_place(const struct work *w, struct rte_mbuf **m, uint32_t first)
{
	eesp_pkt pkts[BURST];
	for (uint32_t i = 0; i < BURST; i++)
		describe(w, &pkts[i], m[i], first + i);
	if (eesp_open_burst(receiver, pkts, BURST) != BURST)
		rte_exit(EXIT_FAILURE, "%s: a packet did not open\n", w->name);
	for (uint32_t i = 0; i < BURST; i++)
		strip(m[i]);
}

/* Puts packets to open where rx would have put them. */
static void arrive(struct rte_mbuf **m, packet from[BURST])
{
	for (uint32_t i = 0; i < BURST; i++) {
		rte_pktmbuf_append(m[i], HEADER + EESP_ICV_LEN);
		memcpy(rte_pktmbuf_mtod(m[i], uint8_t *), from[i], rte_pktmbuf_data_len(m[i]));
	}
}

static void eesp_open(const struct work *w, struct rte_mbuf **m, uint32_t first)
{
	RTE_SET_USED(first);
	arrive(m, arrived_v[w->v]);
	eesp_open_in_place(w, m, 0);
}

/* ---- DPDK's crypto devices ------------------------------------------------ */

/* Not in their order, so that the CPU cannot guess which session is next. */
static uint32_t key_of(const struct work *w, uint32_t i)
{
	return i * 2654435761u & (w->keys - 1);
}

static void *session_new(const struct pmd *p, uint8_t *key, bool sealing)
{
	struct rte_crypto_sym_xform x = {
		.type = RTE_CRYPTO_SYM_XFORM_AEAD,
		.aead = {
			.op = sealing ? RTE_CRYPTO_AEAD_OP_ENCRYPT : RTE_CRYPTO_AEAD_OP_DECRYPT,
			.algo = RTE_CRYPTO_AEAD_AES_GCM,
			.key = { .data = key, .length = KEY_LEN },
			.iv = { .offset = IV_OFFSET, .length = IV_LEN },
			.digest_length = EESP_ICV_LEN,
			.aad_length = HEADER,
		},
	};
	return must_have(rte_cryptodev_sym_session_create(p->id, &x, p->pool), "rte_cryptodev_sym_session_create");
}

static void *session(const struct work *w, uint32_t i)
{
	struct pmd *p = &pmds[w->device];
	uint32_t key = key_of(w, i);
	if (w->fresh)
		return session_new(p, keys[key], w->what == SEAL);
	return w->what == SEAL ? p->sealing[key] : p->opening[key];
}

static void session_done(const struct work *w, void *s)
{
	if (w->fresh && rte_cryptodev_sym_session_free(pmds[w->device].id, s) != 0)
		rte_exit(EXIT_FAILURE, "rte_cryptodev_sym_session_free failed\n");
}

/* A header and nonce as the library's: a fixed part and a counter. */
static void put_header(uint8_t *header, uint64_t counter)
{
	static const uint8_t fixed[8] = { 0, 4, 0, 0, 0, 0, 0, 7 };
	memcpy(header, fixed, sizeof fixed);
	memcpy(header + sizeof fixed, &counter, sizeof counter);
}

static uint8_t *nonce_of(uint8_t *header)
{
	return header + HEADER - IV_LEN;
}

static void pmd_queued(const struct work *w, struct rte_mbuf **m, uint32_t first)
{
	uint8_t dev = pmds[w->device].id;
	struct rte_crypto_op *done[BURST];
	for (uint32_t i = 0; i < BURST; i++) {
		struct rte_crypto_op *op = ops[i];
		struct rte_crypto_sym_op *sym = op->sym;
		uint8_t *header = rte_pktmbuf_mtod(m[i], uint8_t *);
		uint32_t len = rte_pktmbuf_data_len(m[i]) - HEADER - EESP_ICV_LEN;
		op->status = RTE_CRYPTO_OP_STATUS_NOT_PROCESSED;
		memcpy(rte_crypto_op_ctod_offset(op, uint8_t *, IV_OFFSET), nonce_of(header), IV_LEN);
		sym->m_src = m[i];
		sym->aead.data.offset = HEADER;
		sym->aead.data.length = len;
		sym->aead.aad.data = header;
		sym->aead.aad.phys_addr = rte_pktmbuf_iova(m[i]);
		sym->aead.digest.data = header + HEADER + len;
		sym->aead.digest.phys_addr = rte_pktmbuf_iova_offset(m[i], HEADER + len);
		rte_crypto_op_attach_sym_session(op, session(w, first + i));
	}
	if (rte_cryptodev_enqueue_burst(dev, 0, ops, BURST) != BURST)
		rte_exit(EXIT_FAILURE, "%s: the queue is full\n", w->name);
	for (uint32_t n = 0; n < BURST;)
		n += rte_cryptodev_dequeue_burst(dev, 0, done + n, (uint16_t)(BURST - n));
	for (uint32_t i = 0; i < BURST; i++) {
		if (done[i]->status != RTE_CRYPTO_OP_STATUS_SUCCESS)
			rte_exit(EXIT_FAILURE, "%s: a packet failed\n", w->name);
		session_done(w, done[i]->sym->session);
	}
}

static void pmd_sync(const struct work *w, struct rte_mbuf **m, uint32_t first)
{
	for (uint32_t i = 0; i < BURST; i++) {
		uint8_t *header = rte_pktmbuf_mtod(m[i], uint8_t *);
		uint32_t len = rte_pktmbuf_data_len(m[i]) - HEADER - EESP_ICV_LEN;
		struct rte_crypto_vec data = { .base = header + HEADER, .len = len };
		struct rte_crypto_sgl sgl = { .vec = &data, .num = 1 };
		struct rte_crypto_va_iova_ptr iv = { .va = nonce_of(header) }, aad = { .va = header },
					      digest = { .va = header + HEADER + len };
		int32_t status = -1;
		struct rte_crypto_sym_vec v = { .num = 1, .src_sgl = &sgl, .iv = &iv, .digest = &digest, .aad = &aad,
						.status = &status };
		void *s = session(w, first + i);
		if (rte_cryptodev_sym_cpu_crypto_process(pmds[w->device].id, s, (union rte_crypto_sym_ofs){ 0 },
							 &v) != 1 || status != 0)
			rte_exit(EXIT_FAILURE, "%s: a packet failed\n", w->name);
		session_done(w, s);
	}
}

static void pmd_crypt(const struct work *w, struct rte_mbuf **m, uint32_t first)
{
	if (w->sync)
		pmd_sync(w, m, first);
	else
		pmd_queued(w, m, first);
}

static void pmd_seal(const struct work *w, struct rte_mbuf **m, uint32_t first)
{
	for (uint32_t i = 0; i < BURST; i++) {
		put_header((uint8_t *)rte_pktmbuf_prepend(m[i], HEADER), first + i);
		rte_pktmbuf_append(m[i], EESP_ICV_LEN);
	}
	pmd_crypt(w, m, first);
}

static void pmd_open(const struct work *w, struct rte_mbuf **m, uint32_t first)
{
	RTE_SET_USED(first);
	arrive(m, arrived_keys);
	pmd_crypt(w, m, 0);
	for (uint32_t i = 0; i < BURST; i++)
		strip(m[i]);
}

static void nothing(const struct work *w, struct rte_mbuf **m, uint32_t first)
{
	RTE_SET_USED(first);
	if (w->what == OPEN)
		arrive(m, arrived_keys);
}

/* ---- What is measured ----------------------------------------------------- */

#define EESP(what_, run_, call, name_, v_) \
	{ .name = "libeesp, " name_, .how = call " in place, V = " NUMBER(v_) ", no options", .run = run_, \
	  .what = what_, .v = v_ }
#define QUEUED ": rte_cryptodev_enqueue_burst and _dequeue_burst; "
#define SYNC ": rte_cryptodev_sym_cpu_crypto_process; "
#define MADE(keys_) "sessions made beforehand, one for each of " NUMBER(keys_) " keys"
#define FRESH "session created, used and destroyed for each packet; deriving its key left out"
#define PMD(what_, run_, device_, pmd, keys_) \
	{ .name = pmd " queued, " NUMBER(keys_) " sessions", .how = pmd QUEUED MADE(keys_), .run = run_, \
	  .what = what_, .device = device_, .keys = keys_ }, \
	{ .name = pmd " sync, " NUMBER(keys_) " sessions", .how = pmd SYNC MADE(keys_), .run = run_, .what = what_, \
	  .device = device_, .keys = keys_, .sync = true }
#define PMD_FRESH(what_, run_, device_, pmd) \
	{ .name = pmd " queued, session per packet", .how = pmd QUEUED FRESH, .run = run_, .what = what_, \
	  .device = device_, .keys = FEW, .fresh = true }, \
	{ .name = pmd " sync, session per packet", .how = pmd SYNC FRESH, .run = run_, .what = what_, \
	  .device = device_, .keys = FEW, .fresh = true, .sync = true }

/* A base, and what is compared with it. */
static const struct work works[] = {
	{ .name = "rx, tx", .how = "rte_eth_rx_burst, rte_eth_tx_burst", .run = nothing, .what = SEAL },
	EESP(SEAL, eesp_seal, "eesp_seal_burst", "a key for each packet", 1),
	EESP(SEAL, eesp_seal, "eesp_seal_burst", "one key", 0),
	PMD(SEAL, pmd_seal, AESNI_MB, "aesni_mb", FEW),
	PMD(SEAL, pmd_seal, AESNI_MB, "aesni_mb", MANY),
	PMD_FRESH(SEAL, pmd_seal, AESNI_MB, "aesni_mb"),
	PMD(SEAL, pmd_seal, AESNI_GCM, "aesni_gcm", FEW),
	PMD(SEAL, pmd_seal, AESNI_GCM, "aesni_gcm", MANY),
	PMD_FRESH(SEAL, pmd_seal, AESNI_GCM, "aesni_gcm"),
	{ .name = "rx, copy, tx", .how = "rte_eth_rx_burst, memcpy of a sealed packet into each mbuf, rte_eth_tx_burst",
	  .run = nothing,
	  .what = OPEN },
	EESP(OPEN, eesp_open, "eesp_open_burst", "a key for each packet", 1),
	EESP(OPEN, eesp_open, "eesp_open_burst", "one key", 0),
	PMD(OPEN, pmd_open, AESNI_MB, "aesni_mb", FEW),
	PMD_FRESH(OPEN, pmd_open, AESNI_MB, "aesni_mb"),
	PMD(OPEN, pmd_open, AESNI_GCM, "aesni_gcm", FEW),
	PMD_FRESH(OPEN, pmd_open, AESNI_GCM, "aesni_gcm"),
};
#define WORKS RTE_DIM(works)

static bool is_base(const struct work *w)
{
	return w->run == nothing;
}

static bool possible(const struct work *w)
{
	return w->keys == 0 || pmds[w->device].there;
}

static uint8_t plain(uint32_t i, uint32_t at)
{
	return (uint8_t)(7 * i + at);
}

static void fill(uint8_t *payload, uint32_t size, uint32_t i)
{
	for (uint32_t at = 0; at < size; at++)
		payload[at] = plain(i, at);
}

/* Seals or opens one packet with the library's kernels: the PMDs' other end. */
static void crypt_one(uint8_t *header, uint32_t len, const uint8_t *key,
		      size_t (*crypt)(const eesp_keyset *, eesp_job *, size_t))
{
	uint8_t *payload = header + HEADER;
	eesp_job j = { .aad = header, .aad_len = HEADER, .src = payload, .dst = payload, .len = len,
		       .tag = payload + len };
	eesp_keyset *set;
	memcpy(j.nonce, nonce_of(header), IV_LEN);
	must(eesp_keyset_new(EESP_AEAD_AES_128_GCM, key, 1, &set), "eesp_keyset_new");
	if (crypt(set, &j, 1) != 1)
		rte_exit(EXIT_FAILURE, "a packet does not open\n");
	eesp_keyset_free(set);
}

/* Opens what a work has sealed. */
static void unseal(const struct work *w, struct rte_mbuf **m, uint32_t first)
{
	if (w->keys == 0) {
		eesp_open_in_place(w, m, first);
		return;
	}
	for (uint32_t i = 0; i < BURST; i++) {
		crypt_one(rte_pktmbuf_mtod(m[i], uint8_t *), rte_pktmbuf_data_len(m[i]) - HEADER - EESP_ICV_LEN,
			  keys[key_of(w, first + i)], eesp_keyset_open);
		strip(m[i]);
	}
}

static uint64_t checked;

/* Whether the burst is what went in. */
static void check(const struct work *w, struct rte_mbuf **m, uint32_t first, uint16_t size)
{
	if (w->what == SEAL)
		unseal(w, m, first);
	for (uint32_t i = 0; i < BURST; i++) {
		const uint8_t *payload = rte_pktmbuf_mtod(m[i], const uint8_t *);
		bool same = rte_pktmbuf_pkt_len(m[i]) == size;
		for (uint32_t at = 0; at < size && same; at++)
			same = payload[at] == plain(i, at);
		if (!same)
			rte_exit(EXIT_FAILURE, "%s: the packet is not what it was\n", w->name);
		checked++;
	}
}

/* The loop. check_size: of the packets, whose contents are checked; 0 when it is timed. */
static void pass(const struct work *w, uint32_t bursts, uint16_t check_size)
{
	static uint32_t first;
	struct rte_mbuf *m[BURST];
	for (uint32_t b = 0; b < bursts; b++, first += BURST) {
		if (rte_eth_rx_burst(port, 0, m, BURST) != BURST)
			rte_exit(EXIT_FAILURE, "out of mbufs\n");
		for (uint32_t i = 0; i < BURST && check_size != 0; i++)
			fill(rte_pktmbuf_mtod(m[i], uint8_t *), check_size, i);
		w->run(w, m, first);
		if (check_size != 0 && !is_base(w))
			check(w, m, first, check_size);
		if (rte_eth_tx_burst(port, 0, m, BURST) != BURST)
			rte_exit(EXIT_FAILURE, "tx failed\n");
	}
}

static struct result {
	double cycles[MAX_ROUNDS]; /* per packet; sorted in the end */
} results[SIZES][WORKS];
static unsigned rounds = 21;

static double quantile(const struct result *r, double q)
{
	return r->cycles[(unsigned)(q * (rounds - 1) + 0.5)];
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return x < y ? -1 : x > y;
}

static double turn(const struct work *w, uint32_t bursts)
{
	uint64_t before = rte_rdtsc_precise();
	pass(w, bursts, 0);
	return (double)(rte_rdtsc_precise() - before) / (bursts * BURST);
}

static void check_all(uint16_t size)
{
	for (size_t w = 0; w < WORKS; w++)
		if (possible(&works[w]))
			pass(&works[w], 2, size);
}

static void measure(size_t s, bool smoke)
{
	uint32_t bursts[WORKS] = { 0 };
	check_all(sizes[s]);
	for (size_t w = 0; w < WORKS; w++)
		if (possible(&works[w]))
			bursts[w] = smoke ? 2
					  : 1 + (uint32_t)((double)rte_get_tsc_hz() * TURN_US / 1e6 /
							   (turn(&works[w], 64) * BURST));
	for (unsigned r = 0; r < rounds; r++) {
		for (size_t w = 0; w < WORKS; w++) {
			if (!possible(&works[w]))
				continue;
			pass(&works[w], bursts[w] / 8 + 1, 0);
			results[s][w].cycles[r] = turn(&works[w], bursts[w]);
		}
	}
	check_all(sizes[s]);
	for (size_t w = 0; w < WORKS; w++)
		qsort(results[s][w].cycles, rounds, sizeof(double), by_value);
}

/* ---- Setting up ----------------------------------------------------------- */

/* Memory in huge pages for all pools, where the system has them: --no-huge alone would mean 4 KiB pages. */
static void heap_new(void)
{
	static rte_iova_t iova[HEAP_PAGES];
	size_t len = HEAP_PAGES * (size_t)HUGE_PAGE;
	uint8_t *p = mmap(NULL, len + HUGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		rte_exit(EXIT_FAILURE, "mmap: %s\n", strerror(errno));
	p = RTE_PTR_ALIGN_CEIL(p, HUGE_PAGE);
	madvise(p, len, MADV_HUGEPAGE);
	for (size_t i = 0; i < HEAP_PAGES; i++)
		iova[i] = (rte_iova_t)(p + i * HUGE_PAGE);
	if (rte_malloc_heap_create("bench") != 0 ||
	    rte_malloc_heap_memory_add("bench", p, len, iova, HEAP_PAGES, HUGE_PAGE) != 0)
		rte_exit(EXIT_FAILURE, "rte_malloc_heap_memory_add: %s\n", rte_strerror(rte_errno));
	heap = rte_malloc_heap_get_socket("bench");
}

static uint16_t port_new(uint16_t size)
{
	char name[32], args[32];
	uint16_t id;
	struct rte_eth_conf conf = { 0 };
	snprintf(name, sizeof name, "net_null%u", size);
	/* copy=0: rx hands out mbufs of this length and does not touch their octets, as after a NIC's DMA. */
	snprintf(args, sizeof args, "size=%u,copy=0", size);
	must_dpdk(rte_eal_hotplug_add("vdev", name, args), name);
	must_dpdk(rte_eth_dev_get_port_by_name(name, &id), name);
	must_dpdk(rte_eth_dev_configure(id, 1, 1, &conf), "rte_eth_dev_configure");
	must_dpdk(rte_eth_rx_queue_setup(id, 0, 512, heap, NULL, mbufs), "rte_eth_rx_queue_setup");
	must_dpdk(rte_eth_tx_queue_setup(id, 0, 512, heap, NULL), "rte_eth_tx_queue_setup");
	must_dpdk(rte_eth_dev_start(id), "rte_eth_dev_start");
	return id;
}

static void pmd_new(struct pmd *p)
{
	if (rte_eal_hotplug_add("vdev", p->name, "") < 0) {
		printf("%s is left out: this DPDK or this machine does not have it\n", p->name);
		return;
	}
	int id = rte_cryptodev_get_dev_id(p->name);
	must_dpdk(id, p->name);
	p->id = (uint8_t)id;
	struct rte_cryptodev_config config = { .socket_id = heap, .nb_queue_pairs = 1 };
	p->pool = must_have(rte_cryptodev_sym_session_pool_create(p->name, MANY + FEW + 1024,
								  rte_cryptodev_sym_get_private_session_size(p->id),
								  256, 0, heap),
			    "rte_cryptodev_sym_session_pool_create");
	struct rte_cryptodev_qp_conf queue = { .nb_descriptors = 2048, .mp_session = p->pool };
	must_dpdk(rte_cryptodev_configure(p->id, &config), "rte_cryptodev_configure");
	must_dpdk(rte_cryptodev_queue_pair_setup(p->id, 0, &queue, heap), "rte_cryptodev_queue_pair_setup");
	must_dpdk(rte_cryptodev_start(p->id), "rte_cryptodev_start");
	for (uint32_t k = 0; k < MANY; k++)
		p->sealing[k] = session_new(p, keys[k], true);
	for (uint32_t k = 0; k < FEW; k++)
		p->opening[k] = session_new(p, keys[k], false);
	p->there = true;
}

static void library_new(void)
{
	static const uint8_t id[EESP_MIN_ROOT_KEY_ID] = "dpdk_bench";
	eesp_receiver_config receiver_config = EESP_RECEIVER_CONFIG_INIT;
	must(eesp_group_new(NULL, &group), "eesp_group_new");
	must(eesp_group_generate_root_key(group, EESP_LEVEL_ZONE, id, sizeof id), "eesp_group_generate_root_key");
	must(eesp_receiver_new(&group, 1, &receiver_config, &receiver), "eesp_receiver_new");
	for (uint8_t v = EESP_V_ID; v <= EESP_V_ID_SRC; v++) {
		eesp_sender_config config = EESP_SENDER_CONFIG_INIT;
		config.id = 7 + v;
		config.v = v;
		must(eesp_sender_new(group, &config, &senders[v]), "eesp_sender_new");
	}
}

/* Fills the packets that are to be opened. */
static void arrived_new(uint16_t size)
{
	struct rte_mbuf *m[BURST];
	for (uint8_t v = EESP_V_ID; v <= EESP_V_ID_SRC; v++) {
		const struct work w = { .name = "arrived", .v = v };
		if (rte_pktmbuf_alloc_bulk(mbufs, m, BURST) != 0)
			rte_exit(EXIT_FAILURE, "out of mbufs\n");
		for (uint32_t i = 0; i < BURST; i++)
			fill((uint8_t *)rte_pktmbuf_append(m[i], size), size, i);
		eesp_seal(&w, m, 0);
		for (uint32_t i = 0; i < BURST; i++)
			memcpy(arrived_v[v][i], rte_pktmbuf_mtod(m[i], void *), rte_pktmbuf_data_len(m[i]));
		rte_pktmbuf_free_bulk(m, BURST);
	}
	const struct work few = { .keys = FEW };
	for (uint32_t i = 0; i < BURST; i++) {
		put_header(arrived_keys[i], i);
		fill(arrived_keys[i] + HEADER, size, i);
		crypt_one(arrived_keys[i], size, keys[key_of(&few, i)], eesp_keyset_seal);
	}
}

static void ops_new(void)
{
	struct rte_mempool *pool = must_have(rte_crypto_op_pool_create("ops", RTE_CRYPTO_OP_TYPE_SYMMETRIC, BURST, 0,
								       IV_LEN, heap),
					     "rte_crypto_op_pool_create");
	if (rte_crypto_op_bulk_alloc(pool, RTE_CRYPTO_OP_TYPE_SYMMETRIC, ops, BURST) != BURST)
		rte_exit(EXIT_FAILURE, "rte_crypto_op_bulk_alloc failed\n");
}

/* ---- Results -------------------------------------------------------------- */

static double base_of(size_t s, size_t w)
{
	while (!is_base(&works[w]))
		w--;
	return quantile(&results[s][w], 0.5);
}

static double spread(size_t s, size_t w)
{
	const struct result *r = &results[s][w];
	return (quantile(r, 0.75) - quantile(r, 0.25)) / quantile(r, 0.5) * 100;
}

static void print_tables(void)
{
	printf("%s, libipsec-mb %s; libeesp %s, %s; AES-128-GCM, bursts of %u, one core, TSC at %.0f MHz\n",
	       rte_version(), IMB_VERSION_STR, eesp_version_string(), eesp_backend_name(), BURST,
	       (double)rte_get_tsc_hz() / 1e6);
	for (size_t w = 0; w < WORKS; w++) {
		if (is_base(&works[w])) {
			printf("\n**%s: TSC cycles per packet, and (+) what is on top of %s**\n\n| %-38s |",
			       works[w].what == OPEN ? "Open" : "Seal", works[w].name, "");
			for (size_t s = 0; s < SIZES; s++)
				printf(" %5u octets |      + |", sizes[s]);
			printf(" spread |\n|----------------------------------------|");
			for (size_t s = 0; s < SIZES; s++)
				printf("-------------:|-------:|");
			printf("-------:|\n");
		}
		if (!possible(&works[w]))
			continue;
		double worst = 0;
		printf("| %-38s |", works[w].name);
		for (size_t s = 0; s < SIZES; s++) {
			double median = quantile(&results[s][w], 0.5);
			printf(" %12.0f | %6.0f |", median, median - base_of(s, w));
			worst = RTE_MAX(worst, spread(s, w));
		}
		printf(" %4.1f %% |\n", worst);
	}
}

static void write_json(const char *dir)
{
	char path[4096];
	snprintf(path, sizeof path, "%s/dpdk.json", dir);
	if (mkdir(dir, 0777) != 0 && errno != EEXIST)
		rte_exit(EXIT_FAILURE, "%s: %s\n", dir, strerror(errno));
	FILE *f = fopen(path, "w");
	if (f == NULL)
		rte_exit(EXIT_FAILURE, "%s: %s\n", path, strerror(errno));
	fprintf(f,
		"{\"versions\": {\"dpdk\": \"%s\", \"ipsec-mb\": \"%s\", \"libeesp\": \"%s\"}, \"backend\": \"%s\", "
		"\"tsc_hz\": %" PRIu64 ",\n\"results\": [",
		rte_version(), IMB_VERSION_STR, eesp_version_string(), eesp_backend_name(), rte_get_tsc_hz());
	const char *comma = "";
	for (size_t s = 0; s < SIZES; s++) {
		for (size_t w = 0; w < WORKS; w++) {
			const struct work *x = &works[w];
			const struct result *r = &results[s][w];
			if (!possible(x))
				continue;
			double median = quantile(r, 0.5);
			fprintf(f,
				"%s\n{\"name\": \"%s\", \"peer\": \"%s\", \"work\": \"%s\", \"size\": %u, "
				"\"burst\": %u, \"cycles_median\": %.1f, \"cycles_min\": %.1f, "
				"\"cycles_max\": %.1f, \"cycles_on_top\": %.1f, "
				"\"ns_median\": %.2f, \"rounds\": %u, \"how\": \"%s\"}",
				comma, x->name, is_base(x) ? "none" : x->keys == 0 ? "libeesp" : pmds[x->device].name,
				x->what == OPEN ? "open" : "seal", sizes[s], BURST, median, quantile(r, 0),
				quantile(r, 1), median - base_of(s, w), median * 1e9 / (double)rte_get_tsc_hz(),
				rounds, x->how);
			comma = ",";
		}
	}
	fprintf(f, "\n]}\n");
	if (ferror(f) | fclose(f))
		rte_exit(EXIT_FAILURE, "%s could not be written\n", path);
}

/* ---- Main ----------------------------------------------------------------- */

static int last_cpu(void)
{
	cpu_set_t set;
	int cpu = CPU_SETSIZE - 1;
	if (sched_getaffinity(0, sizeof set, &set) != 0)
		return 0;
	while (cpu > 0 && !CPU_ISSET(cpu, &set))
		cpu--;
	return cpu;
}

static void usage(FILE *f)
{
	fprintf(f, "usage: dpdk_bench [--out DIR] [--rounds N] [--lcore CPU] [--smoke]\n"
		   "  --out DIR     also write DIR/dpdk.json\n"
		   "  --rounds N    1 to " NUMBER(MAX_ROUNDS) ", default 21\n"
		   "  --lcore CPU   default: the last one\n"
		   "  --smoke       check what the loops compute; the times mean nothing\n");
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "out", required_argument, NULL, 'o' },   { "rounds", required_argument, NULL, 'r' },
		{ "lcore", required_argument, NULL, 'l' }, { "smoke", no_argument, NULL, 's' },
		{ "help", no_argument, NULL, 'h' },        { NULL, 0, NULL, 0 }
	};
	const char *out = NULL;
	bool smoke = false;
	char lcore[16];
	snprintf(lcore, sizeof lcore, "%d", last_cpu());
	for (int o; (o = getopt_long(argc, argv, "", options, NULL)) != -1;) {
		switch (o) {
		case 'o':
			out = optarg;
			break;
		case 'r':
			rounds = (unsigned)strtoul(optarg, NULL, 10);
			break;
		case 'l':
			snprintf(lcore, sizeof lcore, "%lu", strtoul(optarg, NULL, 10));
			break;
		case 's':
			smoke = true;
			rounds = 1;
			break;
		case 'h':
			usage(stdout);
			return 0;
		default:
			usage(stderr);
			return 2;
		}
	}
	if (optind != argc || rounds < 1 || rounds > MAX_ROUNDS) {
		usage(stderr);
		return 2;
	}

	/* First of all: EAL pins this thread, and the library's threads inherit where it may run. */
	if (eesp_backend_name() == NULL)
		rte_exit(EXIT_FAILURE, "libeesp: %s\n", eesp_last_error());
	must(eesp_thread_init(), "eesp_thread_init");
	char *eal[] = { argv[0], (char[]){ "--no-huge" }, (char[]){ "--no-pci" }, (char[]){ "--no-shconf" },
			(char[]){ "--no-telemetry" }, (char[]){ "--log-level=error" }, (char[]){ "-m" },
			(char[]){ "64" }, (char[]){ "-l" }, lcore, NULL };
	must_dpdk(rte_eal_init(RTE_DIM(eal) - 1, eal) < 0 ? -rte_errno : 0, "rte_eal_init");

	rte_srand(1);
	for (size_t i = 0; i < sizeof keys; i++)
		keys[i / KEY_LEN][i % KEY_LEN] = (uint8_t)rte_rand();
	heap_new();
	mbufs = must_have(rte_pktmbuf_pool_create("mbufs", 4095, 256, 0, RTE_MBUF_DEFAULT_BUF_SIZE, heap),
			  "rte_pktmbuf_pool_create");
	library_new();
	ops_new();
	for (size_t i = 0; i < DEVICES; i++)
		pmd_new(&pmds[i]);
	for (size_t s = 0; s < SIZES; s++) {
		port = port_new(sizes[s]);
		arrived_new(sizes[s]);
		measure(s, smoke);
	}
	printf("checked before and after timing: %" PRIu64 " packets that the loops sealed or opened are right\n",
	       checked);
	print_tables();
	if (out != NULL)
		write_json(out);
	eesp_receiver_free(receiver);
	for (size_t v = 0; v < RTE_DIM(senders); v++)
		eesp_sender_free(senders[v]);
	eesp_group_free(group);
	for (size_t i = 0; i < DEVICES; i++)
		if (pmds[i].there)
			rte_cryptodev_stop(pmds[i].id);
	rte_eal_cleanup();
	return 0;
}
