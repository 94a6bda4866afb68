/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * eesp.h - stateless packet encryption in bursts
 *
 * libeesp seals and opens packets without a session for each peer. Both ends
 * hold a few root keys. For each packet the library derives a data key from a
 * root key and from fields of the packet's header, and applies AES-GCM.
 *
 * To seal and open, the next 45 lines are enough. After that the header has
 *   Part 1  groups, packets, senders, receivers: what every program uses
 *   Part 2  what each profile adds: stateless, psp, tss, eesp
 *   Part 3  advanced: rotation in steps, data keys, proxies, UDP, following an
 *           agent, backends, kernels without packets, the library in a process
 *
 *     // A group: all ends that share the root key. They load the same DER file.
 *     eesp_group *group;
 *     eesp_group_new(NULL, &group);
 *     eesp_group_set_root_key_der(group, EESP_LEVEL_ZONE, der, der_len);
 *
 *     // A sender. No other sender of the group may have its ID.
 *     eesp_sender *sender;
 *     eesp_sender_config sc = EESP_SENDER_CONFIG_INIT;
 *     sc.id = 7;
 *     sc.flags = EESP_SENDER_OPTIONS;      // packets name their root key
 *     eesp_sender_new(group, &sc, &sender);
 *
 *     // A receiver with replay protection. It refuses packets that have our ID.
 *     eesp_receiver *receiver;
 *     eesp_receiver_config rc = EESP_RECEIVER_CONFIG_INIT;
 *     rc.replay_window = 1024;
 *     rc.own_ids = &sc.id;
 *     rc.own_id_count = 1;
 *     eesp_receiver_new(&group, 1, &rc, &receiver);
 *
 *     // Seal a burst in place: the header goes in front of data, the ICV behind.
 *     eesp_pkt p[32] = {0};
 *     for (size_t i = 0; i < n; i++) {
 *         p[i].data = payload[i];
 *         p[i].len = payload_len[i];
 *         p[i].headroom = EESP_MAX_HEADER; // octets free in front of data
 *         p[i].tailroom = EESP_ICV_LEN;    // octets free behind data + len
 *     }
 *     eesp_seal_burst(sender, p, n);
 *     // Where p[i].status is EESP_OK: send p[i].out_len octets from p[i].out.
 *
 *     // Open a burst in place.
 *     eesp_pkt q[32] = {0};
 *     for (size_t i = 0; i < m; i++) {
 *         q[i].data = packet[i];
 *         q[i].len = packet_len[i];
 *     }
 *     eesp_open_burst(receiver, q, m);
 *     // Where q[i].status is EESP_OK: the payload is q[i].out_len octets at
 *     // q[i].out. Drop all others.
 *
 *     eesp_receiver_free(receiver);
 *     eesp_sender_free(sender);
 *     eesp_group_free(group);
 *
 * (Error checks are left out: eesp_group_new and the like return a status.)
 *
 * Profiles are packet formats. All of them share all objects and functions.
 *   stateless  draft-xia-ipsecme-eesp-stateless-encryption-02
 *   psp        Google PSP
 *   tss        Ultra Ethernet Transport Security Sublayer
 *   eesp       EESP version 0, draft-ietf-ipsecme-eesp-03, or -02 if selected
 * docs/profiles.md says what the fields below mean in each of them.
 *
 * Conventions. They hold for every function unless its comment says otherwise.
 *   - Each comment ends with a contract: which threads may call the function,
 *     what it writes, its errors, and the version that added it.
 *   - Threads: any thread may call any function at any time, also on one
 *     object. The exception is _free: no other call on the object may be
 *     running, and none may follow.
 *   - Writes: on error, no output is written and nothing has changed.
 *   - Errors: functions that can fail return an eesp_status, EESP_OK (0) or a
 *     negative code. eesp_strerror() describes it; eesp_last_error() has
 *     details. Contracts leave out the prefix EESP_ERR_, and these common
 *     errors:
 *       ARGUMENT     NULL or a wrong handle, a value out of range
 *       MEMORY       memory cannot be allocated or locked
 *       FORKED       called in a forked child
 *       UNSUPPORTED  called from a signal handler, or in a second copy of the
 *                    library in one process
 *       BACKEND, SELF_TEST  at first use: the backend is missing or failed its
 *                           test
 *       INTERNAL     a bug in the library
 *   - Input is copied. The library reads the caller's memory only during the
 *     call and keeps no pointer to it.
 *   - const means that the function does not change the object.
 *   - NULL in place of an object is EESP_ERR_ARGUMENT. _free ignores NULL.
 *   - Structures that begin with struct_size are initialized with their _INIT
 *     macro. Reserved fields must be zero. A newer library accepts the older,
 *     shorter structure.
 *   - Integers are in host byte order. Addresses are 16 octets; an IPv4 address
 *     is ::ffff:a.b.c.d (eesp_addr_from_ipv4 makes one).
 *   - The library reads and writes nothing outside the buffers that it is
 *     given, not even by an octet. Buffers need no alignment.
 *
 * Threads and time
 *   - A thread's first call sets up its scratch memory. That takes some 100 us
 *     and is the only allocation for a thread. eesp_thread_init does it in
 *     advance.
 *   - Bursts take no lock and allocate nothing.
 *   - With an assembly backend, ordinary bursts of any size run in C and
 *     assembly and do not enter the Go runtime. docs/dataplane.md ("The silence
 *     problem") lists the bursts that do. Such a cgo call costs some 50 ns; the
 *     first one after 200 us without any costs 10 to 50 us. A polling loop
 *     avoids that with eesp_thread_keep_warm.
 *
 * Nonces
 *   Two packets with the same key and nonce reveal the authentication key. The
 *   library therefore counts nonces itself. See eesp_counter_mode.
 */
#ifndef EESP_H
#define EESP_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define EESP_VERSION_MAJOR 1
#define EESP_VERSION_MINOR 0
#define EESP_VERSION_PATCH 0
/* Version of the header, 0xMMmmpp00. eesp_version() is that of the library. */
#define EESP_VERSION ((uint32_t)(EESP_VERSION_MAJOR << 24 | EESP_VERSION_MINOR << 16 | EESP_VERSION_PATCH << 8))

#if defined(__GNUC__)
#define EESP_API __attribute__((visibility("default")))
#define EESP_MUST_CHECK __attribute__((warn_unused_result))
#else
#define EESP_API
#define EESP_MUST_CHECK
#endif

/* ======================================================================== *
 * Part 1: what every program uses                                          *
 * ======================================================================== */

/* ---- Status ------------------------------------------------------------ */

/* The outcome of a call or of one packet. New codes are added at the end. */
typedef enum eesp_status {
	/* statuses: begin */
	EESP_OK = 0,                 /* success */
	EESP_ERR_ARGUMENT = -1,      /* NULL, out of range, or contradictory */
	EESP_ERR_AUTH = -2,          /* the ICV is wrong: forged or damaged packet */
	EESP_ERR_REPLAY = -3,        /* seen before, or older than the replay window */
	EESP_ERR_NO_KEY = -4,        /* no key here for the packet: root key, slot, SDI or SPI */
	EESP_ERR_SHORT = -5,         /* the packet ends before its header or ICV does */
	EESP_ERR_VERSION = -6,       /* header field Version */
	EESP_ERR_V = -7,             /* header field V */
	EESP_ERR_RESERVED = -8,      /* header field Reserve, or a reserved bit, is not zero */
	EESP_ERR_HEADER_LEN = -9,    /* header field HL (psp: Hdr Ext Len; eesp: Opt Len) */
	EESP_ERR_OFFSET = -10,       /* an offset (COffset, IOffset, crypt offset) out of range */
	EESP_ERR_OPTION = -11,       /* option unknown, repeated, out of order, malformed */
	EESP_ERR_ROOM = -12,         /* headroom, tailroom or destination too small */
	EESP_ERR_TOO_LONG = -13,     /* longer than EESP_MAX_LEN */
	EESP_ERR_OVERLAP = -14,      /* source and destination overlap in part */
	EESP_ERR_EXHAUSTED = -15,    /* no counter left in this epoch */
	EESP_ERR_CLOCK = -16,        /* wall clock stepped back, or slower than the sender */
	EESP_ERR_STATE = -17,        /* counter state file cannot be used */
	EESP_ERR_REFLECTED = -18,    /* packet carries an ID that this end sends with */
	EESP_ERR_CONTEXT = -19,      /* packet is not of this data key's context */
	EESP_ERR_FORKED = -20,       /* called in a forked child */
	EESP_ERR_SELF_TEST = -21,    /* a known-answer test failed */
	EESP_ERR_BACKEND = -22,      /* backend unknown, or this CPU lacks it */
	EESP_ERR_MEMORY = -23,       /* memory cannot be allocated or locked */
	EESP_ERR_ROOT_KEY = -24,     /* root key not valid */
	EESP_ERR_EXISTS = -25,       /* there is one already */
	EESP_ERR_NOT_FOUND = -26,    /* there is none: root key, key, group */
	EESP_ERR_UNSUPPORTED = -27,  /* not offered by this profile or version */
	EESP_ERR_INTERNAL = -28,     /* a bug in the library; nothing was output */
	EESP_ERR_SEGMENTS = -29,     /* segments of a chained packet do not fit the rules */
	EESP_ERR_EPOCH = -30,        /* tss: epoch further behind the group's than epoch_age */
	EESP_ERR_SESSION = -31,      /* eesp: no Sub SA of this SA has that Session ID */
	EESP_ERR_SEQUENCE = -32,     /* eesp: sequence number 0 */
	EESP_ERR_PAYLOAD = -33,      /* eesp: authentic, but Payload Info Header or padding is malformed */
	EESP_ERR_WINDOWS = -34,      /* no replay window is left for a packet of a new context */
	EESP_ERR_ENCAP = -35,        /* outer IP or UDP header is not as expected */
	EESP_ERR_DUMMY = -36,        /* eesp: authentic, but a dummy packet (Next Header 59): discarded */
	EESP_ERR_LATCHED = -37,      /* tss: the group drops packets: too many were not authentic */
	EESP_ERR_STALE = -38,        /* time: older than max_age_us */
	EESP_ERR_EARLY = -39,        /* time: further ahead of the clock than max_early_us */
	EESP_ERR_FULL = -40,         /* time: more packets than max_rate */
	EESP_ERR_FENCED = -41,       /* another machine has this one's IDs: nothing is sealed */
	EESP_ERR_OUT_OF_TOUCH = -42, /* agent or servers were silent for too long: nothing is sealed */
	EESP_ERR_AGENT = -43,        /* no agent to follow, or it refuses */
	EESP_ERR_TIMEOUT = -44,      /* not done within the timeout */
	EESP_ERR_FLOODED = -45       /* eesp: not checked: a new Sub SA, while too many such packets are forged */
	/* statuses: end */
} eesp_status;

/* One more than the number of error codes of this version. */
/* status count: begin */
#define EESP_STATUS_COUNT 46
/* status count: end */

/*
 * Returns a short English text for a status. It is static and never NULL.
 * Threads: any. Writes: nothing. Errors: none. Since 1.0.
 */
EESP_API const char *eesp_strerror(int status);

/*
 * Returns the details of this thread's last error as text ("engine 9 does not
 * fit in 2 engine bits"), without the status. "" before the first error. The
 * text is valid until the thread's next failing call. Bursts do not set it:
 * their packets have statuses.
 * Threads: any; each has its own text. Writes: nothing. Errors: none. Since 1.0.
 */
EESP_API const char *eesp_last_error(void);

/*
 * Return the library's version, in the form of EESP_VERSION and as "1.0.0".
 * Threads: any. Writes: nothing. Errors: none. Since 1.0.
 */
EESP_API uint32_t eesp_version(void);
EESP_API const char *eesp_version_string(void);

/* ---- Sizes --------------------------------------------------------------- */

#define EESP_ICV_LEN 16        /* octets behind the payload */
#define EESP_MIN_HEADER 12     /* shortest header: 12 octets in tss, 16 in the others */
#define EESP_MAX_HEADER 128    /* longest header that sealing writes, octets */
#define EESP_MAX_LEN (1u << 20) /* longest payload, octets */
#define EESP_MAX_GROUPS 64     /* groups of one receiver */
#define EESP_MIN_ROOT_KEY_ID 16
#define EESP_MAX_ROOT_KEY_ID 32
#define EESP_ROOT_KEY_LEN 32
#define EESP_MAX_OPTIONS 108   /* octets of three Master Key Options */
#define EESP_UDP_PORT 63377    /* stateless, eesp. Our choice: IANA assigns no ports from 49152 on */
#define EESP_PSP_UDP_PORT 1000
#define EESP_TSS_UDP_PORT 4793
#define EESP_MAX_PADDING 3     /* most octets of padding that sealing adds */
#define EESP_MAX_FLOW_ID 64    /* octets of an eesp Flow Identifier, draft -02 */
#define EESP_PSP_MAX_EXTENSION 112 /* octets of a psp sender's extra; receivers take any */
#define EESP_TSS_LEAD_IPV4 12  /* tss: octets of the prefix in front of the header */
#define EESP_TSS_LEAD_IPV6 36

/* The most space that a sealed payload of len octets needs: header, payload,
 * padding, ICV. tss needs the prefix in addition. */
#define EESP_MAX_SEALED_LEN(len) ((len) + EESP_MAX_HEADER + EESP_MAX_PADDING + EESP_ICV_LEN)

/* ---- Threads ------------------------------------------------------------- */

/*
 * Sets up the calling thread for bursts, so that its first burst does not have
 * to. It is undone when the thread ends. Optional.
 * Threads: any. Writes: nothing. Errors: the common ones. Since 1.0.
 */
EESP_API EESP_MUST_CHECK eesp_status eesp_thread_init(void);

/*
 * Keeps the code path of packets warm: seals and opens a dummy packet under an
 * internal key. Statistics do not count it. Call it every 20 to 50 us in a
 * polling loop while no packets arrive; it takes some 0.5 us. The first call in
 * a process makes the key, which takes some 100 us and up to 256 KiB of locked
 * memory.
 * Threads: any. Writes: nothing. Errors: none; on failure it does nothing. Since 1.0.
 */
EESP_API void eesp_thread_keep_warm(void);

/* ---- Trust groups ------------------------------------------------------- */

/*
 * A trust group: all ends that share keys. In profile stateless it has root
 * keys at up to three levels (zone, user, task), each a ring of previous,
 * current and next key. In the other profiles it has one or two keys in slots
 * (Part 2).
 */
typedef struct eesp_group eesp_group;

typedef enum eesp_profile {
	EESP_PROFILE_STATELESS = 0, /* draft-xia-ipsecme-eesp-stateless-encryption-02 */
	EESP_PROFILE_PSP = 1,       /* Google PSP */
	EESP_PROFILE_TSS = 2,       /* Ultra Ethernet TSS */
	EESP_PROFILE_EESP = 3       /* draft-ietf-ipsecme-eesp-03 or -02 */
} eesp_profile;

typedef enum eesp_aead {
	EESP_AEAD_AES_128_GCM = 0,
	EESP_AEAD_AES_256_GCM = 1
} eesp_aead;

/*
 * What all packets of a group have in common. Part 2 explains the fields of
 * each profile; those of other profiles must be zero.
 */
typedef struct eesp_group_config {
	uint32_t struct_size;
	uint32_t profile;    /* eesp_profile */
	uint32_t aead;       /* eesp_aead; tss: EESP_AEAD_AES_256_GCM only */
	uint32_t combiner;   /* stateless: eesp_combiner */
	uint32_t domain;     /* tss: SDI, 24 bits; eesp: SPI */
	uint32_t sub_sas;    /* eesp: Session IDs are below this; 0 = 65,536 */
	uint64_t rekey_mask; /* tss: (counter & rekey_mask) >> rekey_shift is in the context */
	uint8_t rekey_shift;
	uint8_t mode;        /* tss: EESP_TSS_x; eesp: EESP_SSKDF_x */
	uint8_t versions;    /* psp: bit v set: version v is allowed; 0 = the GCM version with aead's key length */
	uint8_t max_coffset; /* eesp: greatest CryptOffset, 4-octet units; 0 = none, else the full format */
	uint32_t flags;      /* EESP_GROUP_x */
	uint64_t reserved[1];
	uint8_t draft;       /* eesp: EESP_DRAFT_x */
	uint8_t encap;       /* eesp: EESP_ENCAP_x */
	/* tss: */
	uint16_t crypt_offset; /* octets in clear with the header: a multiple of 4, 16 to 1032; 0 = only the header */
	uint16_t epoch_age;  /* how far a packet's epoch may be behind the group's, below 32,768; 0 = 16 */
	uint8_t reserved2[2];
	uint32_t auth_failure_limit; /* receivers drop all packets after this many that were not authentic; 0 = never */
	uint32_t reserved3;
	uint64_t counter_limit; /* counters stay below it; then packets are EESP_ERR_EXHAUSTED; 0 = 2^48 */
} eesp_group_config;
#define EESP_GROUP_CONFIG_INIT \
	{ sizeof(eesp_group_config), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, { 0 }, 0, 0, 0, 0, { 0 }, 0, 0, 0 }

/*
 * Makes a group without keys. config NULL: all defaults, profile stateless.
 * Threads: any. Writes: *group. Errors: ARGUMENT (also a field of another
 * profile is set), UNSUPPORTED (profile unknown). Since 1.0.
 */
EESP_API EESP_MUST_CHECK eesp_status eesp_group_new(const eesp_group_config *config, eesp_group **group);

/*
 * Frees the handle. Senders and receivers of the group stay usable. The group's
 * keys are wiped when the last of them is freed.
 * Threads: any. Writes: nothing. Errors: none. Since 1.0.
 */
EESP_API void eesp_group_free(eesp_group *group);

/* Levels of root keys, in the order in which they are combined. */
#define EESP_LEVEL_ZONE 0
#define EESP_LEVEL_USER 1
#define EESP_LEVEL_TASK 2
#define EESP_LEVEL_COUNT 3
/* Sets of levels. */
#define EESP_LEVELS_ZONE 0x1
#define EESP_LEVELS_USER 0x2
#define EESP_LEVELS_TASK 0x4

/*
 * Sets the root key of a level (stateless), in place of any that is there. DER:
 *   RootKeyStruct ::= SEQUENCE {
 *     root_key_id OCTET STRING (SIZE (16..32)),
 *     SEQUENCE (SIZE(3)) OF INTEGER,        -- root_keys_index
 *     SEQUENCE (SIZE(3)) OF OCTET STRING }  -- root_keys_value, 32 octets each
 * in the order previous, current, next. A ring without a previous key repeats
 * the current one there, index and value. Other indices must differ modulo 256.
 * A new level is added to the default levels.
 * Threads: any; bursts go on. Writes: nothing. Errors: ROOT_KEY (eesp_last_error
 * names the field), UNSUPPORTED (other profiles; groups that follow an agent).
 * Since 1.0.
 */
EESP_API EESP_MUST_CHECK eesp_status eesp_group_set_root_key_der(eesp_group *group, int level, const uint8_t *der,
								 size_t len);

/*
 * Sets random values with indices 1, 1, 2: a new root key without a previous one.
 * Threads: any; bursts go on. Writes: nothing. Errors: as
 * eesp_group_set_root_key_der. Since 1.0.
 */
EESP_API EESP_MUST_CHECK eesp_status eesp_group_generate_root_key(eesp_group *group, int level, const uint8_t *id,
								  size_t id_len);

/*
 * Rotates a level: value becomes next, next becomes current, current becomes
 * previous, and previous is wiped. value NULL: a random one. index must differ
 * modulo 256 from those of the two keys that stay. A burst uses the keys that
 * the group had when the burst began. Packets with Master Key Options
 * (EESP_SENDER_OPTIONS) open whether sender or receiver rotates first. Without
 * options only the current key is tried.
 * Threads: any; bursts go on. Writes: nothing. Errors: NOT_FOUND (no root key at
 * the level, or no next one), ROOT_KEY, UNSUPPORTED (other profiles; groups that
 * follow an agent). Since 1.0.
 */
EESP_API EESP_MUST_CHECK eesp_status eesp_group_rotate(eesp_group *group, int level, uint64_t index,
						       const uint8_t value[EESP_ROOT_KEY_LEN]);

/* ---- Packets ------------------------------------------------------------ */

typedef struct eesp_addr {
	uint8_t src[16];
	uint8_t dst[16];
} eesp_addr;

/* One segment of a chained packet (DPDK: one mbuf of a chain). */
typedef struct eesp_iov {
	void *base;
	size_t len;
} eesp_iov;

/*
 * One packet of a burst. Zero it first. The library reads fields marked "in"
 * and does not change them. It writes fields marked "out" of every packet.
 *
 * Sealing turns the payload into Security Header || payload || ICV. The first
 * 4*coffset octets of the payload stay in clear; the rest is encrypted. The ICV
 * covers the header and the payload from 4*ioffset on. Opening reverses it.
 *
 * A packet is placed in one of three ways:
 *   in place   dst NULL, iov_count 0. The header is written into the headroom,
 *              in front of data, and the ICV into the tailroom, behind
 *              data+len. Opening leaves the payload where it is.
 *   elsewhere  dst, dst_size. The result is written there. Source and
 *              destination must not overlap, unless the payload stays where it
 *              is.
 *   chained    iov, iov_count. The payload is all segments together, in place.
 *              data is ignored, dst is NULL, len is written. Headroom belongs to
 *              the first segment, tailroom to the last one. Segments keep their
 *              lengths and must not overlap. Opening: the whole header must be
 *              in the first segment; if the payload begins in a later segment,
 *              so does out.
 *
 * On error out_len is 0 and out is NULL. When sealing fails, nothing else is
 * written, and id and tsc are 0. When opening fails, nothing is written either,
 * unless the packet was decrypted: then zeros replace its plaintext. This
 * happens with AUTH, PAYLOAD and DUMMY; in eesp_udp_open_burst with ENCAP and
 * UNSUPPORTED; and with REPLAY and WINDOWS if the reason is a packet opened at
 * the same time or earlier in the burst.
 *
 * eesp: sealing adds up to EESP_MAX_PADDING octets of padding behind the
 * payload, which need space too. Opening accepts up to 255 octets of padding
 * and does not count them in out_len. The Payload Info Header is part of the
 * header.
 */
typedef struct eesp_pkt {
	void *data;            /* in  seal: payload; open: Security Header */
	uint32_t len;          /* in  octets at data */
	uint32_t headroom;     /* in  octets in front of data that may be written */
	uint32_t tailroom;     /* in  octets behind data+len that may be written */
	uint8_t coffset;       /* seal: in, open: out. 4-octet units of the payload */
	uint8_t ioffset;       /* seal: in, open: out. 4-octet units, 0..15 */
	uint16_t iov_count;    /* in  segments; 0 = not chained */
	const eesp_iov *iov;   /* in  */
	void *dst;             /* in  NULL = in place */
	uint32_t dst_size;     /* in  octets at dst */
	int32_t status;        /* out eesp_status */
	void *out;             /* out first octet of the result */
	uint32_t out_len;      /* out octets of the result (chained: of all segments) */
	uint16_t flags;        /* in  EESP_PKT_x */
	uint8_t next_header;   /* seal: in, open: out. psp, eesp: IP protocol of the payload */
	uint8_t reserved;      /* in  must be 0 */
	eesp_addr addr;        /* in  addresses, if V asks for them; zeros count as an address */
	uint64_t id;           /* out DeviceID or ConnectionID; SPI, SSI, Session ID */
	uint64_t tsc;          /* out Epoch(16) | Counter(48); IV, sequence number */
	const eesp_addr *out_addr; /* in  proxy: addresses for sealing; NULL = addr */
	void *user;            /* for the caller: never read or written */
} eesp_pkt;

/* ---- Senders ------------------------------------------------------------ */

/* Seals packets under one ID, and owns that ID's nonce counters. */
typedef struct eesp_sender eesp_sender;

/*
 * How counters are kept from repeating after a restart. Part 3 ("Counters") has
 * the conditions in full; read them before you choose.
 *   CLOCK     The default. Counters follow the wall clock. The clock must be
 *             right when a sender is made, and must not be set back by more than
 *             the sender's downtime.
 *   RESERVED  A small file holds a mark above all counters in use. Needs no clock.
 *   EXPLICIT  The caller chooses the first counter and must make sure that no
 *             counter repeats.
 * No mode protects a machine that is cloned or restored from a snapshot. Only
 * RESERVED protects two processes that send under one ID and engine.
 */
typedef enum eesp_counter_mode {
	EESP_COUNTER_CLOCK = 0,
	EESP_COUNTER_RESERVED = 1,
	EESP_COUNTER_EXPLICIT = 2
} eesp_counter_mode;

/* Send Master Key Options, which name the root keys in use. Set this in every
 * group whose root keys rotate. */
#define EESP_SENDER_OPTIONS 0x1
/* Use the epoch in the configuration (implied unless the mode is CLOCK). */
#define EESP_SENDER_FIXED_EPOCH 0x2
/* With a data key: counters are times, as in the key's group (EESP_GROUP_TIME or
 * _TIME_LATE). A group's sender follows its group. */
#define EESP_SENDER_TIME 0x10
#define EESP_SENDER_TIME_LATE 0x20

/*
 * id belongs to one sender and one direction. The two ends of a connection must
 * not send under the same ID, unless V puts the source address into the key or
 * the ends are different engines.
 *
 * Engines: engine_bits divide the counters of one ID among 2^engine_bits senders
 * that work independently (the NICs of a pool). Each has its own number, which
 * is in the lowest bits of the counter, so the counters of all engines rise
 * together. Senders of one process with the same ID and engine share one
 * counter, even in different groups. tss: in server mode the counter's top bit
 * is the direction, which leaves at most 15 engine bits.
 *
 * lock_dir: a directory for locks on IDs. The sender is refused with
 * EESP_ERR_EXISTS if another process of the host, or another copy of the library,
 * has a sender with the same ID, engine, key and lock_dir. Put the directory on
 * tmpfs (/run/eesp) and let no other user write to it. The library locks files in
 * it without keeping a descriptor. The locks end when the process ends, in
 * whatever way; forked children do not inherit them. A lock covers the group's
 * keys. The group must have a key when the sender is made (else EESP_ERR_NO_KEY);
 * the lock then follows the keys through rotations. If another process locks the
 * ID under a new key first, packets are EESP_ERR_EXISTS. In CLOCK mode with a
 * fixed epoch, a file for each ID also records the epoch's start and rate: a
 * sender with other values is EESP_ERR_EXISTS.
 */
typedef struct eesp_sender_config {
	uint32_t struct_size;
	uint32_t flags;        /* EESP_SENDER_x */
	uint64_t id;           /* DeviceID (32 bits) or ConnectionID (64 bits); SPI, SSI, Session ID */
	uint8_t v;             /* EESP_V_x */
	uint8_t levels;        /* EESP_LEVELS_x; 0 = the group's default */
	uint8_t counter_mode;  /* eesp_counter_mode */
	uint8_t engine_bits;   /* 0..16; the counter's lowest bits */
	uint32_t engine;       /* number of this engine, below 2^engine_bits */
	uint8_t rate_log2;     /* CLOCK: ticks a second, and packets at most: 2^rate_log2; 0 = 28 - engine_bits */
	uint8_t reserved1;
	uint16_t epoch;        /* the fixed epoch; tss: 0 = the group's, else the sender stays in this one */
	uint32_t reserved2;
	int64_t epoch_start_ns;  /* CLOCK, fixed epoch: its start, ns since 1970, the same at every start */
	uint64_t start_counter;  /* EXPLICIT: first counter, without engine bits; eesp: 0 is taken for 1 */
	uint64_t reserve_run;    /* RESERVED: counters to reserve at a time, when half of the last are left; 0 = 2^24 */
	const char *state_path;  /* RESERVED: the file */
	const uint8_t *extra;    /* psp: virtualization cookie (VC), 8 octets, and other extension fields;
				  * eesp, draft -02: Flow Identifier; NULL = none */
	uint32_t extra_len;      /* octets at extra; psp: a multiple of 8, at most EESP_PSP_MAX_EXTENSION */
	uint32_t reserved3;
	const char *lock_dir;    /* directory for locks on IDs, see above; NULL = no lock */
	uint64_t reserved[1];
} eesp_sender_config;
#define EESP_SENDER_CONFIG_INIT \
	{ sizeof(eesp_sender_config), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, NULL, NULL, 0, 0, NULL, { 0 } }

/*
 * Makes a sender of a group. The group's keys may be set later: until then
 * packets are EESP_ERR_NO_KEY.
 * Threads: any. Writes: *sender.
 * Errors: EXISTS (this process has a sender of the same ID with other counter
 * settings; or it has used these counters before; or it has a sender that could
 * use the same key and nonces, which is one with a data key of this ID or, for
 * tss in one mode, one with an SSI beside one without; or another process has
 * locked the ID in lock_dir; or lock_dir records another start or rate of the
 * epoch), CLOCK, STATE, NO_KEY (RESERVED, lock_dir), ARGUMENT, V, UNSUPPORTED.
 * Senders of one ID with different engines are allowed. Since 1.0.
 */
EESP_API EESP_MUST_CHECK eesp_status eesp_sender_new(eesp_group *group, const eesp_sender_config *config,
						     eesp_sender **sender);

/*
 * Frees a sender. Its counters stay used.
 * Threads: any. Writes: nothing. Errors: none. Since 1.0.
 */
EESP_API void eesp_sender_free(eesp_sender *sender);

/*
 * Returns the length of the header that the sender writes now, in octets: the
 * headroom that sealing needs. 0: the sender has no key. tss needs
 * EESP_TSS_LEAD_x octets more. The tailroom needed is EESP_ICV_LEN; eesp: up to
 * EESP_MAX_PADDING more.
 * Threads: any. Writes: nothing. Errors: none. Since 1.0.
 */
EESP_API uint32_t eesp_sender_header_len(const eesp_sender *sender);

/*
 * Seals n packets in order; n may be any number. Returns how many have status
 * EESP_OK. A packet that fails gets its status, and the others are sealed.
 * Threads: any; no lock. Writes: all out fields of each packet, and its result.
 * sender or pkts NULL: returns 0 and writes nothing.
 * Statuses: ARGUMENT, NO_KEY, OFFSET, ROOM, TOO_LONG, OVERLAP, EXHAUSTED, CLOCK,
 * STATE, SEGMENTS, MEMORY (chained packets; eesp with HKDF: a thread's first),
 * CONTEXT (tss, data key: another source address), EXISTS (lock_dir: another
 * process has locked the ID under a new key), FENCED and OUT_OF_TOUCH (groups
 * that follow an agent), ROOT_KEY (eesp: the root key was used under another
 * SPI), FORKED, UNSUPPORTED (from a signal handler), INTERNAL. Since 1.0.
 */
EESP_API size_t eesp_seal_burst(eesp_sender *sender, eesp_pkt *pkts, size_t n);

/* ---- Receivers ---------------------------------------------------------- */

/* Opens packets of one or more groups, and owns their replay protection. */
typedef struct eesp_receiver eesp_receiver;

/*
 * If a packet without Master Key Options fails, retry it with the previous root
 * keys of all default levels. This does not help if levels rotate at different
 * times, and it doubles the cost of a forged packet. Prefer options.
 */
#define EESP_RECEIVER_TRY_PREVIOUS 0x1
/* EESP_REPLAY_TIME: trust the clock even if the kernel (adjtimex) does not
 * report it as synchronized. */
#define EESP_RECEIVER_CLOCK_TRUSTED 0x2

/* How repeated packets are recognized. */
typedef enum eesp_replay_mode {
	EESP_REPLAY_WINDOWS = 0, /* by windows of replay_window packets, if it is not 0 */
	EESP_REPLAY_TIME = 1     /* by the packets' times */
} eesp_replay_mode;

/*
 * Replay protection by windows (RFC 6479): a packet is EESP_ERR_REPLAY if its
 * counter was seen before, or is further behind the highest one than the window
 * is wide. Each context has a window of its own: each key, ID and epoch, and
 * each address if V asks for addresses (eesp: each Sub SA). Its first authentic
 * packet makes the window. Windows are checked before decryption and moved after
 * it, so a forged packet changes nothing.
 *   Memory     replay_contexts windows of some replay_window / 2 + 100 octets
 *              each. The address space is reserved at the start; memory is used
 *              as windows are made.
 *   All used   Packets of further contexts are EESP_ERR_WINDOWS. A window is
 *              freed only when its key is gone. It can serve another context
 *              after the next burst. (If the same key is set again, its windows
 *              are lost: its old packets open once more.)
 *   Threads    Several threads may share a receiver: a packet opens in only one
 *              of them.
 *
 * Replay protection by time (replay_mode; groups with EESP_GROUP_TIME): a packet
 * opens if its counter, which is a time, is at most max_age_us old and at most
 * max_early_us ahead of the clock, and if the packet did not open before (else
 * EESP_ERR_REPLAY). One table serves all senders. It holds the packets of the
 * last max_age_us + max_early_us, 16 octets each at max_rate: 21 MiB for 10
 * million a second and the default times. Packets above max_rate are
 * EESP_ERR_FULL, whichever sender they are from. Only authentic packets enter
 * the table.
 *   Clocks     max_age_us must cover the path, queues and the error of the
 *              clocks; max_early_us the error of the clocks and 2 ms. The wall
 *              clock is read once a burst. EESP_ERR_CLOCK: the clock is not
 *              synchronized, and neither mark_path nor
 *              EESP_RECEIVER_CLOCK_TRUSTED is set.
 *   Restart    A new receiver opens nothing for max_early_us. If the clock was
 *              not set back, it opens no packet that an earlier receiver opened.
 *              If the clock may be set back, set mark_path: a file that is
 *              written twice a second. Packets with times below the mark do not
 *              open; after a crash that is a second of packets. EESP_ERR_STATE:
 *              the file cannot be written.
 *   Reload     heir_of: the new receiver takes over the table of the old one,
 *              which must have the same limits. They may be freed in either
 *              order. Two receivers with separate tables each open a packet
 *              once.
 *   Set back   When a clock that was ahead is set right, all packets are
 *              EESP_ERR_STALE for a second. After that, packets open if their
 *              times are above those of all packets opened before. If packets
 *              from the future were opened meanwhile, rotate keys and make a
 *              new receiver.
 */
typedef struct eesp_receiver_config {
	uint32_t struct_size;
	uint32_t flags;          /* EESP_RECEIVER_x */
	const uint64_t *own_ids; /* IDs of this end's senders: packets with them are EESP_ERR_REFLECTED;
				  * none in tss server mode */
	size_t own_id_count;
	uint32_t replay_window;  /* packets, 64 to 65,536; 0 = no replay protection */
	uint32_t replay_contexts; /* most windows; 0 = 4096 */
	uint8_t engine_bits;     /* of the senders: each engine has windows of its own; time: 0 */
	uint8_t replay_mode;     /* eesp_replay_mode */
	uint8_t reserved1[6];
	uint32_t max_age_us;     /* time: older packets are EESP_ERR_STALE; 0 = 100,000 */
	uint32_t max_early_us;   /* time: packets further ahead are EESP_ERR_EARLY; 0 = 25,000 */
	uint64_t max_rate;       /* time: packets a second for which the table has space; 0 = 1,000,000 */
	const char *mark_path;   /* time: a file with a mark above all that was accepted; NULL = none */
	const struct eesp_receiver *heir_of; /* time: the receiver whose table is taken over; NULL = a new table */
	uint64_t reserved[1];
} eesp_receiver_config;
#define EESP_RECEIVER_CONFIG_INIT \
	{ sizeof(eesp_receiver_config), 0, NULL, 0, 0, 0, 0, 0, { 0 }, 0, 0, 0, NULL, NULL, { 0 } }

/*
 * Makes a receiver of one or more groups of one profile. config NULL: all
 * defaults, so no replay protection. A packet's group is
 *   stateless  with Master Key Options: the first that has all the root keys
 *              that they name; without: the first
 *   tss, eesp  the one whose domain is in the packet
 *   psp        the first
 * Threads: any. Writes: *receiver. Errors: ARGUMENT (also groups of different
 * profiles), CLOCK and STATE (time). Since 1.0.
 */
EESP_API EESP_MUST_CHECK eesp_status eesp_receiver_new(eesp_group *const *groups, size_t group_count,
						       const eesp_receiver_config *config, eesp_receiver **receiver);

/*
 * Frees a receiver, with its windows.
 * Threads: any. Writes: nothing. Errors: none. Since 1.0.
 */
EESP_API void eesp_receiver_free(eesp_receiver *receiver);

/*
 * Opens n packets in order; n may be any number. Returns how many have status
 * EESP_OK. A packet that fails gets its status, and the others are opened. id,
 * tsc, coffset, ioffset and next_header are authentic only with EESP_OK.
 * Threads: any; no lock. Writes: all out fields of each packet, and its result.
 * receiver or pkts NULL: returns 0 and writes nothing.
 * Statuses: VERSION, V, RESERVED, HEADER_LEN, OFFSET, OPTION (header fields);
 * SESSION, SEQUENCE, PAYLOAD, DUMMY, FLOODED (eesp); EPOCH, LATCHED (tss); AUTH, NO_KEY,
 * SHORT, REFLECTED, CONTEXT, REPLAY, WINDOWS; STALE, EARLY, FULL, STATE (time);
 * ROOM, OVERLAP, TOO_LONG, ARGUMENT, SEGMENTS, MEMORY (chained packets), FORKED,
 * UNSUPPORTED (from a signal handler; tss: direct mode over IPv6 without SSI),
 * INTERNAL. Since 1.0.
 */
EESP_API size_t eesp_open_burst(eesp_receiver *receiver, eesp_pkt *pkts, size_t n);

/* ---- Statistics ---------------------------------------------------------- */

#define EESP_STATS_LEN 62 /* with space for the statuses of later versions */

typedef struct eesp_stats {
	uint64_t octets;                     /* in all results */
	uint64_t packets[EESP_STATS_LEN];    /* by status: packets[-status] */
	uint64_t reserved[1];
} eesp_stats;

/*
 * Read an object's counts since it was made. Counts only grow. A proxy's
 * packets count in its receiver (opened) and its sender (sealed).
 * Threads: any. Writes: *stats. Errors: the common ones. Since 1.0.
 */
EESP_API EESP_MUST_CHECK eesp_status eesp_sender_stats(const eesp_sender *sender, eesp_stats *stats);
EESP_API EESP_MUST_CHECK eesp_status eesp_receiver_stats(const eesp_receiver *receiver, eesp_stats *stats);

typedef struct eesp_replay_stats {
	uint64_t windows;    /* windows in use */
	uint64_t most;       /* limit of windows */
	uint64_t duplicates; /* packets refused: seen before */
	uint64_t old;        /* packets refused: older than the window; time: STALE */
	uint64_t no_room;    /* packets refused: no window left; time: FULL */
	uint64_t made;       /* windows made so far */
	uint64_t given_up;   /* windows freed because their key was gone */
	uint64_t early;      /* packets refused: ahead of the clock (time) */
} eesp_replay_stats;

/*
 * Reads the counts of a receiver's replay protection; all are zero without it.
 * Threads: any. Writes: *stats. Errors: the common ones. Since 1.0.
 */
EESP_API EESP_MUST_CHECK eesp_status eesp_receiver_replay_stats(const eesp_receiver *receiver,
								eesp_replay_stats *stats);

/* ---- Helpers ------------------------------------------------------------ */

/*
 * Writes the 16-octet form of an IPv4 address given in network byte order.
 * Threads: any. Writes: out. Errors: none. Since 1.0.
 */
static inline void eesp_addr_from_ipv4(uint8_t out[16], const void *ipv4)
{
	const uint8_t *a = (const uint8_t *)ipv4;
	for (int i = 0; i < 10; i++)
		out[i] = 0;
	out[10] = out[11] = 0xff;
	for (int i = 0; i < 4; i++)
		out[12 + i] = a[i];
}

/*
 * Moves the packets with status EESP_OK to the front, in their order, and the
 * others behind them in any order. Returns how many have EESP_OK.
 * Threads: any. Writes: pkts. Errors: none. Since 1.0.
 */
static inline size_t eesp_partition(eesp_pkt *pkts, size_t n)
{
	size_t good = 0;
	for (size_t i = 0; i < n; i++) {
		if (pkts[i].status != EESP_OK)
			continue;
		if (i != good) {
			eesp_pkt t = pkts[good];
			pkts[good] = pkts[i];
			pkts[i] = t;
		}
		good++;
	}
	return good;
}

/* ======================================================================== *
 * Part 2: what each profile adds                                           *
 * ======================================================================== */

/* ---- stateless ------------------------------------------------------------ */

/* How root keys of several levels become one master key. */
typedef enum eesp_combiner {
	EESP_COMBINER_HKDF = 0, /* HKDF-SHA-256 over values and names */
	EESP_COMBINER_XOR = 1   /* the draft's example; refuses values that cancel out */
} eesp_combiner;

/*
 * V, a field of the header, says what a data key's context consists of. The ID
 * is a 4-octet DeviceID, or with _LONG an 8-octet ConnectionID.
 *   ID       the ID and the epoch
 *   SRC      also the source address
 *   SRC_DST  also both addresses
 * Addresses are not in the header: set them in each packet (addr).
 */
#define EESP_V_ID 0x0
#define EESP_V_ID_SRC 0x1
#define EESP_V_ID_SRC_DST 0x2
#define EESP_V_LONG_ID 0x8
#define EESP_V_LONG_ID_SRC 0x9
#define EESP_V_LONG_ID_SRC_DST 0xA

/*
 * stateless, psp: counters are the times at which packets are sealed, in units
 * of 2^-28 s since 1970. Receivers can then refuse old packets without a window
 * for each sender (EESP_REPLAY_TIME). All senders and epochs of the group follow
 * the clock. Senders have at most 10 engine bits. Making a sender takes 2 ms.
 * EESP_ERR_CLOCK: a packet's time would be more than 2 ms ahead of the clock,
 * because the sender seals more than 2^(28 - engine_bits) packets a second or
 * the clock was set back. The time is that of the seal call: time in queues
 * after it counts as age.
 */
#define EESP_GROUP_TIME 0x20
/* The same, for a group whose senders may have sent without EESP_GROUP_TIME
 * before, with counters up to a second ahead of the clock. Making a sender takes
 * a second. */
#define EESP_GROUP_TIME_LATE 0x40

/*
 * Sets the root key of a level from its parts, in place of any that is there.
 * index and value are in the order previous, current, next. (Before C23, a value
 * that is not const needs a cast: (const uint8_t (*)[EESP_ROOT_KEY_LEN])v.)
 * Threads: any; bursts go on. Writes: nothing. Errors: as
 * eesp_group_set_root_key_der. Since 1.0.
 */
EESP_API EESP_MUST_CHECK eesp_status eesp_group_set_root_key(eesp_group *group, int level, const uint8_t *id,
							     size_t id_len, const uint64_t index[3],
							     const uint8_t value[3][EESP_ROOT_KEY_LEN]);

/*
 * Writes a level's root key as DER, which is secret. *len is the size of der
 * before the call, and the length written after it.
 * Threads: any. Writes: der, *len. Errors: NOT_FOUND, ROOM (der is NULL or too
 * small: *len becomes the size needed), UNSUPPORTED (other profiles; groups
 * that follow an agent; a ring without a next key). Since 1.0.
 */
EESP_API EESP_MUST_CHECK eesp_status eesp_group_get_root_key_der(const eesp_group *group, int level, uint8_t *der,
								 size_t *len);

/*
 * Removes a level's root key. It is wiped when all bursts that began before the
 * call have ended.
 * Threads: any; bursts go on. Writes: nothing. Errors: NOT_FOUND, ROOT_KEY,
 * UNSUPPORTED (other profiles; groups that follow an agent). Since 1.0.
 */
EESP_API EESP_MUST_CHECK eesp_status eesp_group_remove_root_key(eesp_group *group, int level);

/*
 * Sets the default levels, EESP_LEVELS_x: those of packets without Master Key
 * Options, and of senders and contexts that set no levels. 0: they have no key.
 * Threads: any; bursts go on. Writes: nothing. Errors: NOT_FOUND (a level has no
 * root key), UNSUPPORTED (other profiles; groups that follow an agent). Since 1.0.
 */
EESP_API EESP_MUST_CHECK eesp_status eesp_group_set_default_levels(eesp_group *group, unsigned levels);

/* The keys of a ring. */
#define EESP_GENERATION_CURRENT 0
#define EESP_GENERATION_PREVIOUS 1
#define EESP_GENERATION_NEXT 2

typedef struct eesp_root_key_info {
	uint64_t index[3]; /* previous, current, next; without a next key: the current key's index again */
	uint8_t id[EESP_MAX_ROOT_KEY_ID];
	uint32_t id_len;
	uint32_t has_previous; /* 0: there is no previous key; its index is the current key's */
} eesp_root_key_info;

/*
 * Reads the public part of a level's root key.
 * Threads: any. Writes: *info. Errors: NOT_FOUND, UNSUPPORTED (other profiles).
 * Since 1.0.
 */
EESP_API EESP_MUST_CHECK eesp_status eesp_group_get_root_key_info(const eesp_group *group, int level,
								  eesp_root_key_info *info);

/* ---- psp, tss, eesp: keys in slots ---------------------------------------- */

/*
 * These profiles have no levels; their keys are in slots:
 *   psp   0 and 1: device keys; the SPI's top bit is the slot
 *   tss   0 and 1: keys of an association number (AN)
 *   eesp  0: the root key of the SA, or its key (EESP_SSKDF_NONE)
 * Keys have 32 octets (eesp: the mode decides). Without a key nothing is sealed
 * or opened. EESP_ERR_UNSUPPORTED: a call on slots in profile stateless, or on
 * levels in these profiles.
 */

/*
 * Sets a slot's key, in place of any that is there. The old key is wiped when
 * the last burst that may use it has ended. Senders use the first key that is
 * set, until another slot is selected.
 * Threads: any; bursts go on. Writes: nothing. Errors: ROOT_KEY (length; the
 * other slot holds this key), UNSUPPORTED. Since 1.0.
 */
EESP_API EESP_MUST_CHECK eesp_status eesp_group_set_key(eesp_group *group, unsigned slot, const uint8_t *key,
							size_t key_len);
/*
 * Selects the slot that senders use (tss: the AN; psp: the slot for new SPIs).
 * Threads: any; bursts go on. Writes: nothing. Errors: NOT_FOUND (no key in the
 * slot), UNSUPPORTED. Since 1.0.
 */
EESP_API EESP_MUST_CHECK eesp_status eesp_group_use_key(eesp_group *group, unsigned slot);
/*
 * Sets the key of the slot that senders do not use, and selects that slot. If the
 * slot in use is empty, its key is set instead. key NULL and key_len 0: a random
 * key.
 * Threads: any; bursts go on. Writes: *slot, the slot that was set, if not NULL.
 * Errors: ARGUMENT (eesp has one slot), ROOT_KEY, UNSUPPORTED. Since 1.0.
 */
EESP_API EESP_MUST_CHECK eesp_status eesp_group_rotate_key(eesp_group *group, const uint8_t *key, size_t key_len,
							   unsigned *slot);
/*
 * Removes a slot's key. Senders that used it then have no key: they do not
 * change to the other slot.
 * Threads: any; bursts go on. Writes: nothing. Errors: NOT_FOUND, UNSUPPORTED.
 * Since 1.0.
 */
EESP_API EESP_MUST_CHECK eesp_status eesp_group_remove_key(eesp_group *group, unsigned slot);

/* ---- psp ------------------------------------------------------------------ */

/* v of psp: the version. */
#define EESP_V_PSP_AES_128_GCM 0
#define EESP_V_PSP_AES_256_GCM 1
#define EESP_V_PSP_AES_128_GMAC 2
#define EESP_V_PSP_AES_256_GMAC 3

/* Sender: extra has no virtualization cookie, only other extension fields. The
 * header's V bit is 0. */
#define EESP_SENDER_NO_VC 0x4
/* Sender: coffset is the crypt offset of the header, which counts from the end
 * of the IV, so through extra. The octets of extra behind it are encrypted: 0
 * encrypts a whole cookie, 1 its second half. Without the flag, coffset counts
 * from the start of the payload. */
#define EESP_SENDER_OFFSET_FROM_IV 0x8

/*
 * Packet, opening: keep the header's octets behind the IV (a cookie, other
 * extension fields) in front of the payload, decrypted if they were encrypted.
 * out begins with these 8 * (Hdr Ext Len - 1) octets, and coffset counts from
 * there. Without the flag, opening in place leaves them in front of out, and
 * opening to dst drops them. eesp_udp_open_burst: EESP_ERR_UNSUPPORTED.
 */
#define EESP_PKT_EXTENSION 0x2

/*
 * Allocates an SPI, to be given to a peer together with its data key
 * (eesp_data_key_export). Each SPI is allocated once for a device key, in rising
 * order of the low 31 bits, beginning with first. The top bit is the slot in use;
 * the top bit of first is ignored. After a restart with the same device keys,
 * pass the last SPI + 1 as first; if the low 31 bits of the last SPI were all
 * ones, rotate before. Two peers with the same SPI have the same key.
 * Threads: any. Writes: *spi. Errors: EXHAUSTED (rotate), NO_KEY, UNSUPPORTED
 * (other profiles). Since 1.0.
 */
EESP_API EESP_MUST_CHECK eesp_status eesp_group_alloc_spi(eesp_group *group, uint32_t first, uint32_t *spi);

/* ---- tss ------------------------------------------------------------------ */

/* mode: who holds which key. */
#define EESP_TSS_CLUSTER 0 /* all members hold the group's key and derive a key from the sender's SSI or address */
#define EESP_TSS_SERVER 1  /* the server derives a client's key from its SSI or address; a client holds its own only */
#define EESP_TSS_DIRECT 2  /* no derivation: all use the group's key itself */

/*
 * v of tss: what the context contains.
 *   ADDR       no SSI in the header; the IPv4 address
 *   SSI        an SSI; the ID
 *   ADDR_IPV6  no SSI; the IPv6 address
 *   SSI_IPV6   an SSI, and the IPv6 address
 * A sender seals packets of one address family. EESP_ERR_ARGUMENT:
 * EESP_PKT_IPV6 is set for the other one. Only a group's sender with
 * EESP_V_TSS_SSI seals both families, each packet in the context of its family.
 */
#define EESP_V_TSS_ADDR 0
#define EESP_V_TSS_SSI 1
#define EESP_V_TSS_ADDR_IPV6 2
#define EESP_V_TSS_SSI_IPV6 3

/*
 * Packet: the prefix has 36 octets, for IPv6, instead of 12 for IPv4. The prefix
 * is both addresses and the entropy field: EESP_TSS_LEAD_x octets right in front
 * of the header. It is authenticated and is not part of the result. Before
 * sealing, put it into the headroom, which must include it, or at dst (out is
 * then behind it). For opening, leave it in the headroom. The library only reads
 * it, except that a proxy writes it, from out_addr.
 */
#define EESP_PKT_IPV6 0x1

/*
 * Group, server mode: for peers that do not use the counter's top bit as the
 * direction. DANGER: both ends then seal with one key and count from 0. Nonces
 * repeat, which reveals plaintext and the authentication key, and a packet opens
 * at the end that sent it. Use it only if something else, such as start_counter,
 * keeps the counters of the two ends apart.
 */
#define EESP_GROUP_NO_DIRECTION_BIT 0x10

/*
 * Sets the group's epoch, 0 by default. Senders seal in it. Receivers drop
 * packets that are more than epoch_age behind it. Key management changes it at all
 * ends when a member has left or come back. The epoch belongs to the key in use:
 * a new key begins in epoch 0, and counters begin anew with each key and epoch. A
 * data key is valid in one epoch.
 * Threads: any; bursts go on. Writes: nothing. Errors: UNSUPPORTED (other
 * profiles). Since 1.0.
 */
EESP_API EESP_MUST_CHECK eesp_status eesp_group_set_epoch(eesp_group *group, uint16_t epoch);

/*
 * Resets the latch. Receivers open the group's packets again, which they stopped
 * doing after auth_failure_limit packets that were not authentic.
 * Threads: any. Writes: nothing. Errors: UNSUPPORTED (other profiles). Since 1.0.
 */
EESP_API EESP_MUST_CHECK eesp_status eesp_group_reset_latch(eesp_group *group);

/* Counts of a group: packets of all its senders and receivers. */
typedef struct eesp_domain_stats {
	uint64_t sealed;
	uint64_t opened;
	uint64_t auth_failures; /* wrong ICV */
	uint64_t invalid;       /* refused for a header field, replayed, or dropped by the latch */
	uint64_t unknown_sa;    /* no key for the packet's SDI and AN */
	uint64_t late_epoch;    /* EESP_ERR_EPOCH */
	uint64_t exhausted;     /* not sealed: no counter left */
	uint64_t wrong_ssi;     /* received with an SSI that this end sends with (own_ids) */
	uint64_t clear;         /* not in this format, so perhaps in clear */
	uint64_t failures;      /* wrong ICVs since the latch was reset; 0 without auth_failure_limit */
	uint64_t latched;       /* 1: packets are dropped */
	uint64_t epoch;         /* of the key in use */
	uint64_t reserved[4];
} eesp_domain_stats;

/*
 * Reads a group's counts. A packet whose header names none of a receiver's
 * groups counts in the receiver's first group.
 * Threads: any. Writes: *stats. Errors: UNSUPPORTED (other profiles). Since 1.0.
 */
EESP_API EESP_MUST_CHECK eesp_status eesp_group_domain_stats(const eesp_group *group, eesp_domain_stats *stats);

/* ---- eesp ----------------------------------------------------------------- */

/* mode: how the keys of Sub SAs are derived from the root key. */
#define EESP_SSKDF_HKDF_SHA2_256 1 /* root key of 32 octets */
#define EESP_SSKDF_HKDF_SHA2_384 2 /* 48 octets */
#define EESP_SSKDF_HKDF_SHA2_512 3 /* 64 octets */
#define EESP_SSKDF_AES256_CMAC 4   /* 32 octets; experimental: the draft does not define it */
#define EESP_SSKDF_NONE 255        /* no Sub SAs: the group's key is the SA's own, 16 or 32 octets as aead says and
				      4 octets of salt, as a key exchange gives them; Session ID 0 */

/* flags of a group. */
#define EESP_GROUP_NO_SEQUENCE 0x1 /* no sequence number in packets: needs EESP_GROUP_IV */
#define EESP_GROUP_IV 0x2          /* an explicit IV in packets; else the sequence number is the IV (RFC 8750) */
#define EESP_GROUP_OPTIMIZED 0x4   /* no Payload Info Header, payloads are IP packets; -03: as EESP_ENCAP_TUNNEL */
#define EESP_GROUP_ALIGN8 0x8      /* payloads begin at a multiple of 8 octets (IPv6), not of 4 */

/* draft: the version of draft-ietf-ipsecme-eesp that the group uses. It is not
 * in packets: both ends must set the same. */
#define EESP_DRAFT_DEFAULT 0 /* -03; if struct_size ends in front of this field: -02 */
#define EESP_DRAFT_02 2      /* Flow Identifiers; flags choose the format */
#define EESP_DRAFT_03 3

/* encap, draft -03: the SA's encapsulation mode, which decides the format. -02:
 * must be 0. */
#define EESP_ENCAP_TRANSPORT 0 /* full format */
#define EESP_ENCAP_TUNNEL 1    /* payloads are IPv4 or IPv6 packets; format: optimized, with max_coffset the full one */
#define EESP_ENCAP_BEET 2      /* full format */
#define EESP_ENCAP_IPTFS 3     /* full format; payloads are up to the caller */

/* ======================================================================== *
 * Part 3: advanced                                                         *
 * ======================================================================== */

/* ---- Counters -------------------------------------------------------------- */

/*
 * The conditions under which eesp_counter_mode keeps counters from repeating.
 *   CLOCK     Counters follow the wall clock at 2^rate_log2 ticks a second, one
 *             second ahead of it. A sender uses no more counters than ticks have
 *             passed. After a crash, a new sender starts above all counters used
 *             before, if the clock was not set back by more than the sender's
 *             downtime. After a step back of the clock, packets are EESP_ERR_CLOCK
 *             until it has caught up. The clock must be right when a sender is
 *             made: a machine that boots in the same second of 1970 every time
 *             repeats its counters. A sender whose counters are a minute behind the
 *             clock, or in the epoch before, skips ahead to it, at most 4096
 *             packets later. A replay window covers a number of counters: after
 *             such a skip, packets from before the skip that arrive late are
 *             EESP_ERR_REPLAY. Epochs follow the clock, 2^20 s each, counted from
 *             1970, unless EESP_SENDER_FIXED_EPOCH is set; then the sender stops
 *             with EESP_ERR_EXHAUSTED at the epoch's end.
 *             rate_log2 + engine_bits, and epoch_start_ns, belong to a fixed
 *             epoch. They must be THE SAME for every sender of that ID, key and
 *             epoch; epoch_start_ns is never "now". Another rate or start repeats
 *             counters. That is refused within a process, and with lock_dir
 *             within a host until the directory is emptied (on tmpfs, when the
 *             host boots).
 *             Without a fixed epoch, a later sender with other engine_bits starts
 *             above all counters used before. So does one with another rate,
 *             until the two rates give the same counter (56 years later at half
 *             the rate).
 *   RESERVED  A small file holds a mark above all counters in use. It is written
 *             and synced before they are used. Counters are in the fixed epoch
 *             of the configuration: a later epoch than the file's begins at 0,
 *             an earlier one is refused. The file belongs to the ID, engine and
 *             key (the key's name, not its value), so the group must have its
 *             keys before the sender is made. EESP_ERR_STATE: the file was
 *             swapped, emptied or truncated, belongs to another user, or is
 *             writable by group or others; or it was removed, replaced or
 *             changed while in use, for packets that need the next write. It
 *             must stay reachable at its path (no chroot). Only one sender at a
 *             time can use it, across all processes; forked children cannot.
 *             Meanwhile the file state_path.lock beside it is locked.
 *   EXPLICIT  The caller chooses the first counter. Even so, counters that were
 *             used before in the same process are refused.
 * tss: the epoch is the group's and does not follow the clock. Counters begin at
 * 0 with each key and epoch (EXPLICIT: at start_counter under the first key).
 * RESERVED: state_path is the beginning of file names, with one file for each key
 * and epoch. CLOCK: the time since 2025 in units of 2^-18 s, unless rate_log2 and
 * epoch_start_ns are set; it is for senders of few packets.
 */

/*
 * Returns Epoch(16) | Counter(48) of the next packet that is sealed.
 * Threads: any. Writes: nothing. Errors: none. Since 1.0.
 */
EESP_API uint64_t eesp_sender_next_tsc(const eesp_sender *sender);

/* ---- IDs that change ------------------------------------------------------- */

/*
 * Changes the ID of a group's sender. All other settings stay. Bursts in
 * progress may end with the old ID; its counters stay used. Statistics continue.
 * Threads: any; bursts go on. Writes: nothing. Errors: as eesp_sender_new;
 * UNSUPPORTED (a sender with a data key; a group that follows an agent, which
 * gives the IDs). Since 1.0.
 */
EESP_API EESP_MUST_CHECK eesp_status eesp_sender_set_id(eesp_sender *sender, uint64_t id);

/*
 * Returns the sender's ID. 0: the agent has given none yet.
 * Threads: any. Writes: nothing. Errors: none. Since 1.0.
 */
EESP_API uint64_t eesp_sender_id(const eesp_sender *sender);

/*
 * Replaces own_ids of the configuration. IDs that agents gave to senders of the
 * receiver's groups are always refused too.
 * Threads: any; bursts go on. Writes: nothing. Errors: the common ones. Since 1.0.
 */
EESP_API EESP_MUST_CHECK eesp_status eesp_receiver_set_own_ids(eesp_receiver *receiver, const uint64_t *ids, size_t n);

/* ---- Rotation in steps ----------------------------------------------------- */

/*
 * Sets the whole ring of a level (stateless), in place of any that is there: the
 * keys whose generation is not 0, in the order previous, current, next. A current
 * key is required; previous and next are optional. Without a next key,
 * eesp_group_rotate is NOT_FOUND and the ring has no DER form. Many hosts can
 * rotate together. Each step begins when all hosts have done the one before:
 * (-, n, -) becomes (-, n, n+1), then (n, n+1, -), then (-, n+1, -).
 * eesp_group_wait tells when a step is done. On the wire a generation is its
 * lowest octet, which must differ for the keys of a ring. Replay windows of keys
 * that stay are kept.
 * Threads: any; bursts go on. Writes: nothing. Errors: ROOT_KEY (a generation
 * below floor, or below the lowest that a ring of this ID had in this process,
 * in any group: a dropped key must not come back, or old packets would open
 * again), UNSUPPORTED (other profiles; groups that follow an agent). Since 1.0.
 */
EESP_API EESP_MUST_CHECK eesp_status eesp_group_set_ring(eesp_group *group, int level, const uint8_t *id, size_t id_len,
							 const uint64_t generation[3],
							 const uint8_t value[3][EESP_ROOT_KEY_LEN], uint64_t floor);

/*
 * Waits until all bursts that began before this call have ended, in all threads.
 * Then no burst uses keys from before the last change, and these keys are wiped.
 * Threads: any; blocks up to timeout_ms. Writes: nothing. Errors: TIMEOUT. Since 1.0.
 */
EESP_API EESP_MUST_CHECK eesp_status eesp_group_wait(const eesp_group *group, uint32_t timeout_ms);

/* How a key was used since it was set in the group. */
typedef struct eesp_usage {
	/* Data keys derived from it. eesp: one for each Sub SA. Other profiles derive one
	 * from a packet's context: a repeated context counts again, even in packets that
	 * were not authentic, but packets of one context in a burst may share one, and a
	 * tss receiver does not derive the keys again that it keeps (docs/profiles.md). */
	uint64_t derived;
	uint64_t sealed; /* packets */
	uint64_t opened;
	uint64_t index;  /* of the root key that these counts belong to, since keys rotate */
	uint64_t reserved[4];
} eesp_usage;

/*
 * Reads how a key was used, for rotation by usage. Root keys: level and
 * EESP_GENERATION_x. Keys in slots: level is the slot, generation 0. Counts stay
 * with their key when the ring rotates. The use of a master key of several
 * levels counts for the root key of each level. Counts are those of this group
 * in this process, and may lack bursts in progress.
 * Threads: any. Writes: *usage. Errors: NOT_FOUND (no such key). Since 1.0.
 */
EESP_API EESP_MUST_CHECK eesp_status eesp_group_usage(const eesp_group *group, int level, unsigned generation,
						      eesp_usage *usage);

/* ---- Contexts and data keys --------------------------------------------- */

/*
 * Everything besides root keys that a data key depends on.
 *   psp   id: SPI; v: version
 *   tss   id: SSI, and in the upper 32 bits the counter's bits that rekey_mask
 *         selects; epoch; v; generation: the slot; addr.src (except with
 *         EESP_V_TSS_SSI)
 *   eesp  id: Session ID
 * In these profiles all other fields must be zero.
 */
typedef struct eesp_context {
	uint64_t id;
	uint16_t epoch;
	uint8_t v;          /* EESP_V_x */
	uint8_t levels;     /* EESP_LEVELS_x; 0 = the group's default */
	uint8_t generation; /* EESP_GENERATION_x, the same at all levels */
	uint8_t reserved[3];
	eesp_addr addr;     /* used as far as v says */
} eesp_context;

/*
 * Derives the data keys of n contexts, one behind the other: 16 octets each with
 * AES-128-GCM, 32 with AES-256-GCM. tss: 44 octets each (direct: 32), eesp: 20 or
 * 36; the last 12 or 4 of them are combined with nonces. psp: only versions whose
 * keys are as long as aead says. The keys are secret.
 * Threads: any. Writes: keys; on error of a context, zeros. Errors: ARGUMENT
 * (keys_len is not n times a key's length), NO_KEY, V and UNSUPPORTED (of the
 * first context that is wrong; UNSUPPORTED: tss, direct mode over IPv6 without
 * SSI). Since 1.0.
 */
EESP_API EESP_MUST_CHECK eesp_status eesp_derive_keys(const eesp_group *group, const eesp_context *contexts, size_t n,
						      uint8_t *keys, size_t keys_len);

/* A data key, for an end that must not hold root keys. Secret. */
typedef struct eesp_data_key {
	uint64_t id;
	uint16_t epoch;
	uint8_t v;
	uint8_t key_len;     /* 16 or 32 */
	uint8_t options_len; /* octets of options */
	uint8_t profile;     /* eesp_profile */
	uint8_t params[2];   /* parameters of the group that the holder needs; leave them as exported */
	eesp_addr addr;
	uint8_t key[32];
	uint8_t options[EESP_MAX_OPTIONS]; /* Master Key Options, as in the header; tss, eesp: combined with nonces;
					    * tss: then the counter limit, if not 2^48 */
	uint32_t domain;     /* tss: SDI; eesp: SPI */
} eesp_data_key;

/*
 * Derives the data key of a context. with_options 1: packets sealed with it carry
 * Master Key Options (recommended where root keys rotate; not in tss).
 * tss: for a client in server mode, or in cluster mode with rekey_mask 0. Without
 * an SSI, a holder of the key can only seal packets sent from its own address
 * (others are EESP_ERR_CONTEXT).
 * Threads: any. Writes: *key. Errors: NO_KEY, V, UNSUPPORTED (tss, other modes),
 * ROOT_KEY (eesp: the root key was used under another SPI). Since 1.0.
 */
EESP_API EESP_MUST_CHECK eesp_status eesp_data_key_export(const eesp_group *group, const eesp_context *context,
							  int with_options, eesp_data_key *key);

/*
 * Overwrites a data key with zeros. Compilers do not remove this.
 * Threads: any. Writes: *key. Errors: none. Since 1.0.
 */
EESP_API void eesp_data_key_wipe(eesp_data_key *key);

/*
 * Makes a sender that holds only a data key. config NULL: all defaults. The key
 * contains id, v, levels, options and the epoch, which is fixed: these must be zero
 * in the configuration.
 * CLOCK: epoch_start_ns is when the epoch began; without a fixed epoch, epoch E
 * begins at E * 2^20 s plus a multiple of 2^36 s. psp, eesp: keys do not depend on
 * the epoch, which is set in the configuration.
 * Threads: any. Writes: *sender. Errors: as eesp_sender_new; OPTION (the key's
 * options are malformed). Since 1.0.
 */
EESP_API EESP_MUST_CHECK eesp_status eesp_sender_new_with_key(const eesp_data_key *key,
							      const eesp_sender_config *config,
							      eesp_sender **sender);

/*
 * Makes a receiver that holds only a data key. config NULL: all defaults, so no
 * replay protection. Packets of other contexts are
 * EESP_ERR_CONTEXT; if V asks for addresses, so are packets from other
 * addresses.
 * Threads: any. Writes: *receiver. Errors: as eesp_receiver_new; V and OPTION (the
 * key is malformed). Since 1.0.
 */
EESP_API EESP_MUST_CHECK eesp_status eesp_receiver_new_with_key(const eesp_data_key *key,
								const eesp_receiver_config *config,
								eesp_receiver **receiver);

/* ---- Proxies ------------------------------------------------------------ */

/* Opens with a receiver and seals with a sender, in one call. */
typedef struct eesp_proxy eesp_proxy;

/*
 * Joins two trust domains: packets are opened with receiver and sealed with
 * sender. Both must live as long as the proxy. They may be of different profiles.
 * coffset, ioffset and next_header are kept if the sender's format has them;
 * EESP_ERR_OFFSET: that format cannot leave these octets in clear. stateless and
 * tss carry no protocol: next_header of packets opened from them is 0. A tss
 * sender also writes the prefix in front of the new header, with out_addr's
 * addresses and a zero entropy field; this needs headroom too.
 * Threads: any. Writes: *proxy. Errors: the common ones. Since 1.0.
 */
EESP_API EESP_MUST_CHECK eesp_status eesp_proxy_new(eesp_receiver *receiver, eesp_sender *sender, eesp_proxy **proxy);
/*
 * Frees a proxy. Receiver and sender stay.
 * Threads: any. Writes: nothing. Errors: none. Since 1.0.
 */
EESP_API void eesp_proxy_free(eesp_proxy *proxy);

/*
 * Opens and seals n packets. In place, the new header uses the space of the old
 * one: headroom is needed only for the difference. addr is for opening, out_addr
 * for sealing. id and tsc are those of the received packet. A packet that was
 * opened but could not be sealed is zeroed.
 * Threads: any; no lock. Writes: all out fields of each packet, and its result.
 * Statuses: those of eesp_open_burst and eesp_seal_burst; SEGMENTS (all chained
 * packets). Since 1.0.
 */
EESP_API size_t eesp_proxy_burst(eesp_proxy *proxy, eesp_pkt *pkts, size_t n);

/* ---- In UDP --------------------------------------------------------------- */

/* Tunnel: new IP and UDP headers in front of the sealed IP packet. */
#define EESP_UDP_TUNNEL 0
/* Transport: the packet's own IP header, a UDP header, and the sealed IP payload.
 * For formats that carry the payload's protocol (psp, eesp in the full format). */
#define EESP_UDP_TRANSPORT 1

/* flags of an eesp_udp. Opening copies bits of the outer header without
 * authentication: nothing protects that header. */
#define EESP_UDP_ECN 0x1       /* tunnel: Explicit Congestion Notification is copied both ways, by RFC 6040 */
#define EESP_UDP_DSCP 0x2      /* tunnel, sealing: the outer header gets the inner DSCP; tos's DSCP is ignored */
#define EESP_UDP_DSCP_BACK 0x4 /* tunnel, opening: the outer DSCP is copied to the inner header (RFC 2983, uniform) */
#define EESP_UDP_CHECKSUM6 0x8 /* sealing: a UDP checksum, over IPv6: ordinary sockets drop datagrams without one
				  (UDP_NO_CHECK6_RX lets them in), and so do NICs */

typedef struct eesp_udp {
	uint32_t struct_size;
	uint16_t dst_port;   /* of the outer UDP header; opening: others are EESP_ERR_ENCAP */
	uint16_t src_port;   /* sealing: 0 = one of 49152 to 65535, from a hash of the packet's flow */
	uint8_t mode;        /* EESP_UDP_TUNNEL, EESP_UDP_TRANSPORT */
	uint8_t ttl;         /* sealing, tunnel: 0 = 64 */
	uint8_t tos;         /* sealing, tunnel: DSCP and ECN, unless flags copy them from the packet */
	uint8_t reserved1;
	uint32_t flags;      /* EESP_UDP_x */
	eesp_addr addr;      /* sealing, tunnel: outer addresses, both IPv4 or both IPv6 */
	uint64_t reserved[2];
} eesp_udp;
#define EESP_UDP_INIT { sizeof(eesp_udp), EESP_PSP_UDP_PORT, 0, 0, 0, 0, 0, 0, { { 0 }, { 0 } }, { 0, 0 } }

/*
 * Seals IP packets into UDP. data is an IP packet, which ends where its length
 * field says. The result is an IP packet with a UDP datagram in it. next_header
 * and addr are ignored: if V asks for addresses, those of the outer header are
 * used, here and in eesp_udp_open_burst. The IPv4 checksum is filled in. The UDP
 * checksum is 0 (RFC 6935, 6936) unless flags ask for it. Besides headroom for
 * the Security Header, this needs 28 or 48 octets (tunnel) or 8 (transport).
 * Threads: any; no lock. Writes: all out fields of each packet, and its result.
 * Statuses: those of eesp_seal_burst; ARGUMENT (not a whole IP packet; udp is not
 * valid: all packets), UNSUPPORTED (tss; transport: a fragment, an IPv6 extension
 * header, IPv4 protocol 0, a format without the protocol, or eesp with protocol
 * 59, a dummy), TOO_LONG (for IP; or the length field is 0: a jumbogram, BIG TCP),
 * SEGMENTS (chained). Since 1.0.
 */
EESP_API size_t eesp_udp_seal_burst(eesp_sender *sender, const eesp_udp *udp, eesp_pkt *pkts, size_t n);

/*
 * Opens IP packets with a UDP datagram in them. The result is the inner IP packet.
 * Octets behind the end of the outer packet are ignored; in a tunnel, also those
 * behind the end of the inner packet. In place, the result of transport mode
 * begins with the outer IP header, which is not authenticated.
 * Threads: any; no lock. Writes: all out fields of each packet, and its result.
 * Statuses: those of eesp_open_burst; ENCAP (the outer packet is incomplete, a
 * fragment, not UDP, for another port, or its IPv4 checksum is wrong; the inner
 * packet is not an IP packet, has a length field of 0, or, with EESP_UDP_ECN, is
 * not ECN-capable while the outer packet is marked), UNSUPPORTED (tss; transport:
 * the format has no protocol), SEGMENTS (chained). Since 1.0.
 */
EESP_API size_t eesp_udp_open_burst(eesp_receiver *receiver, const eesp_udp *udp, eesp_pkt *pkts, size_t n);

/* ---- Following an agent --------------------------------------------------- */

/*
 * Groups that get their keys from an agent. On hosts of a cluster an agent (eespd
 * agent; docs/control.md) holds the keys and brings each step of their rotation.
 * One call makes a group with the agent's parameters, keys and IDs:
 *
 *     eesp_group *group;
 *     eesp_group_follow("net", NULL, &group);
 *     eesp_sender_config sc = EESP_SENDER_CONFIG_INIT;   // no ID: the agent gives it
 *     eesp_sender_new(group, &sc, &sender);
 *     eesp_receiver_new(&group, 1, NULL, &receiver);
 *     eesp_follow_wait(group, 10000);                    // optional: else NO_KEY at first
 *
 * Such a group differs in this:
 *   - A thread of the library talks to the agent, with blocking calls. It
 *     reconnects after the agent was gone, or after the program closed the thread's
 *     descriptor. Bursts are not affected.
 *   - Without a key nothing is sealed: packets are EESP_ERR_NO_KEY and never leave
 *     in clear. Sealing stops with EESP_ERR_OUT_OF_TOUCH when the agent or the
 *     servers have been silent for longer than the group allows, and with
 *     EESP_ERR_FENCED while another machine has this machine's IDs. It resumes by
 *     itself. Opening continues meanwhile.
 *   - Senders: id, lock_dir and all settings of counters must be 0. Each sender gets
 *     an ID that was never used before, and a new one after fencing. stateless:
 *     Master Key Options are always sent; the group sets the length of IDs, and v
 *     only the addresses in the context. tss: v is EESP_V_TSS_SSI (0 means the same)
 *     or EESP_V_TSS_SSI_IPV6.
 *   - Receivers refuse packets that this process sealed in the group. Without replay
 *     settings of their own they use the group's: its windows, or times if the
 *     group's counters are times (replay_mode below).
 *   - Functions that change keys are EESP_ERR_UNSUPPORTED.
 *   - psp: device keys are made in this process and never leave it. All peers
 *     are clients (eesp_follow_clients), even those in the cluster.
 *   - eesp_group_free stops following and drops the keys, also for senders and
 *     receivers. Free these first.
 */
#define EESP_AGENT_SOCKET "/run/eespd/agent/agent.sock"

/* Return as soon as the group's parameters are known. Keys may arrive later. */
#define EESP_FOLLOW_WITHOUT_KEYS 0x1
/* Allow the agent to request data keys from this group for clients outside the
 * cluster. */
#define EESP_FOLLOW_CLIENTS 0x2

typedef struct eesp_follow_config {
	uint32_t struct_size;
	uint32_t flags;          /* EESP_FOLLOW_x */
	const char *socket_path; /* NULL = EESP_AGENT_SOCKET */
	uint32_t timeout_ms;     /* longest wait of eesp_group_follow; 0 = 10,000 */
	uint32_t agent_uid;      /* the agent may run as this user, too, besides root and this process's; 0 = none */
	uint64_t reserved[3];
} eesp_follow_config;
#define EESP_FOLLOW_CONFIG_INIT { sizeof(eesp_follow_config), 0, NULL, 0, 0, { 0, 0, 0 } }

/*
 * Makes a group that follows an agent, and waits until it has keys. config NULL:
 * all defaults.
 * Threads: any; blocks up to timeout_ms. Writes: *group. Errors: AGENT (none
 * there, or it refuses this user), NOT_FOUND (the agent does not know the group),
 * NO_KEY (it has no keys of the group yet), UNSUPPORTED (profile eesp).
 * Since 1.0.
 */
EESP_API EESP_MUST_CHECK eesp_status eesp_group_follow(const char *name, const eesp_follow_config *config,
						       eesp_group **group);

/*
 * Waits until the group's senders can seal: keys are there, the agent allows
 * sealing, and each sender has an ID.
 * Threads: any; blocks up to timeout_ms. Writes: nothing. Errors: NO_KEY,
 * OUT_OF_TOUCH, FENCED: the reason why senders cannot seal after timeout_ms.
 * Since 1.0.
 */
EESP_API EESP_MUST_CHECK eesp_status eesp_follow_wait(const eesp_group *group, uint32_t timeout_ms);

typedef struct eesp_follow_info {
	uint64_t generation[EESP_LEVEL_COUNT][3]; /* by level: previous, current, next; 0: there is none */
	uint64_t states;         /* states from the agent that were applied so far */
	uint64_t refused;        /* states from the agent that were refused */
	uint64_t fenced;         /* how often this machine was fenced */
	uint64_t ids;            /* how many IDs the agent has assigned */
	int32_t sealing;         /* EESP_OK, or the status with which packets are refused */
	uint32_t connected;      /* 1: connected to the agent */
	uint32_t replay_window;  /* of receivers without replay settings of their own */
	uint32_t replay_contexts;
	uint32_t mtu;            /* a hint; 0: none */
	uint32_t v;              /* stateless: EESP_V_ID or EESP_V_LONG_ID, as in the group's senders */
	uint32_t profile;        /* eesp_profile; this and the next: as in an eesp_group_config */
	uint32_t aead;
	uint32_t domain;
	uint32_t mode;
	char problem[128];       /* the last problem as text; "": none */
	uint32_t replay_mode;    /* eesp_replay_mode of receivers that set no replay; time: counters are times */
	uint32_t reserved1;
	uint64_t reserved[3];
} eesp_follow_info;

/*
 * Reads the state of a group that follows an agent.
 * Threads: any. Writes: *info. Errors: ARGUMENT (the group follows none). Since 1.0.
 */
EESP_API EESP_MUST_CHECK eesp_status eesp_group_follow_info(const eesp_group *group, eesp_follow_info *info);

/* A client outside the cluster that has a pair of the group's data keys. */
typedef struct eesp_follow_client {
	uint64_t up;         /* the ID in packets from it; psp: SPI */
	uint64_t down;       /* the ID in packets to it */
	uint32_t lease_ms;   /* time left */
	uint32_t reserved;
	char name[64];       /* the name in its certificate */
} eesp_follow_client;

/*
 * Lists the clients that have data keys of a group that follows an agent with
 * EESP_FOLLOW_CLIENTS, in the order of down. *n: before the call, how many fit;
 * after it, how many there are. The group's receivers open packets of clients like
 * all others. A client's pair of keys is valid for as long as the agent renews its
 * lease.
 * Threads: any. Writes: clients, *n. Errors: ARGUMENT (the group follows none),
 * ROOM (there are more than fit; those that fit are written). Since 1.0.
 */
EESP_API EESP_MUST_CHECK eesp_status eesp_follow_clients(const eesp_group *group, eesp_follow_client *clients,
							 size_t *n);

/*
 * Makes the sender to a client. Each client has one. Its key does not change when
 * the group's keys rotate. Once the lease has ended or the group was not allowed to
 * seal, its packets are EESP_ERR_NO_KEY for ever.
 * Threads: any. Writes: *sender. Errors: NOT_FOUND (no client has this down now),
 * EXISTS (the sender was made before), ARGUMENT (the group follows none). Since
 * 1.0.
 */
EESP_API EESP_MUST_CHECK eesp_status eesp_sender_new_to_client(const eesp_group *group, uint64_t down,
							       eesp_sender **sender);

/* ---- Backends -------------------------------------------------------------- */

/*
 * A backend is an implementation of the cryptographic kernels. All compute the
 * same. At first use, the library chooses the fastest one that CPU and operating
 * system support, or the one named in the environment variable EESP_BACKEND, and
 * runs its known-answer test, and that of the fast path with each profile, on a
 * thread that has never called Go. If that backend is missing or fails, every
 * constructor returns EESP_ERR_BACKEND or EESP_ERR_SELF_TEST. There is no silent
 * fallback.
 */

/*
 * Returns the name of the backend in use. NULL: none could be chosen.
 * Threads: any. Writes: nothing. Errors: see eesp_last_error. Since 1.0.
 */
EESP_API const char *eesp_backend_name(void);
/*
 * Returns the name of the i-th backend, best first (except on CPUs that slow
 * down for 512-bit vectors). NULL: there are no more.
 * Threads: any. Writes: nothing. Errors: none. Since 1.0.
 */
EESP_API const char *eesp_backend_at(size_t i);
/*
 * Returns 1 if this machine can run the backend, 0 if not or if it is unknown.
 * Threads: any. Writes: nothing. Errors: none. Since 1.0.
 */
EESP_API int eesp_backend_supported(const char *name);
/*
 * Selects the backend of objects made from now on. Existing objects keep
 * theirs. name "auto" or NULL: the fastest. On error nothing changes.
 * Threads: any. Writes: nothing. Errors: BACKEND, SELF_TEST, MEMORY. Since 1.0.
 */
EESP_API EESP_MUST_CHECK eesp_status eesp_backend_select(const char *name);
/*
 * Runs the known-answer tests of every backend that this machine supports, and
 * those of its fast path with each profile.
 * Threads: any. Writes: nothing. Errors: SELF_TEST, MEMORY. Since 1.0.
 */
EESP_API EESP_MUST_CHECK eesp_status eesp_self_test(void);

/* ---- Kernels without packets --------------------------------------------- */

/*
 * The steps of a burst, for formats other than the library's: derive many keys,
 * and seal or open many messages with AES-GCM, each with its own key. The caller
 * provides keys, nonces and AAD, and must make sure that no key seals two
 * messages with the same nonce. Sort jobs by len for the best speed.
 */

/* A key of the key-derivation function, AES-256-CMAC, in locked memory. */
typedef struct eesp_kdf eesp_kdf;
/* Data keys, expanded, in locked memory: 512 octets each. */
typedef struct eesp_keyset eesp_keyset;

#define EESP_KDF_CONTEXT_LEN 16 /* octets of a context */
#define EESP_MAX_KEYSET 65536   /* keys of a set */

/*
 * One message. tag is EESP_ICV_LEN octets. dst is src (in place) or does not
 * overlap it. aad and tag overlap neither.
 */
typedef struct eesp_job {
	const void *aad;  /* in  aad_len octets */
	const void *src;  /* in  len octets */
	void *dst;        /* out len octets */
	void *tag;        /* seal: out, open: in */
	uint32_t aad_len; /* in  at most EESP_MAX_LEN */
	uint32_t len;     /* in  at most EESP_MAX_LEN */
	uint32_t key;     /* in  index of the key in the set; with a KDF: 0 */
	uint32_t ok;      /* open: out 1 if the tag is right, else 0, and dst is zeroed */
	uint8_t nonce[12]; /* in */
	uint8_t reserved[4];
} eesp_job;

/*
 * Expands a key of 32 octets.
 * Threads: any. Writes: *kdf. Errors: the common ones. Since 1.0.
 */
EESP_API EESP_MUST_CHECK eesp_status eesp_kdf_new(const uint8_t key[32], eesp_kdf **kdf);
/*
 * Wipes and frees a key.
 * Threads: any. Writes: nothing. Errors: none. Since 1.0.
 */
EESP_API void eesp_kdf_free(eesp_kdf *kdf);

/*
 * Derives the keys of n contexts, one behind the other (NIST SP 800-108, counter
 * mode). The first 16 octets of a key are the AES-256-CMAC of the context with its
 * first octet set to 1; the second 16 octets (EESP_AEAD_AES_256_GCM) are the same
 * with 2. Contexts whose first octet is 0 are faster, since they are not copied.
 * Threads: any. Writes: keys. Errors: ARGUMENT (keys_len is not n times a key's
 * length). Since 1.0.
 */
EESP_API EESP_MUST_CHECK eesp_status eesp_kdf_derive(const eesp_kdf *kdf, uint32_t aead, const uint8_t *contexts,
						     size_t n, uint8_t *keys, size_t keys_len);

/*
 * Derive a key for each job from its context (job i: 16 octets from contexts +
 * 16*i), and seal or open the job with it. Return how many jobs succeeded: for
 * seal, all n.
 * Threads: any; no lock. Writes: dst, tag and ok of the jobs. Errors: if an
 * argument is wrong, they return 0 and do nothing (eesp_last_error). Since 1.0.
 */
EESP_API size_t eesp_kdf_seal(const eesp_kdf *kdf, uint32_t aead, const uint8_t *contexts, eesp_job *jobs, size_t n);
EESP_API size_t eesp_kdf_open(const eesp_kdf *kdf, uint32_t aead, const uint8_t *contexts, eesp_job *jobs, size_t n);

/*
 * Expands n keys, one behind the other: 16 or 32 octets each, as aead says.
 * Threads: any. Writes: *set. Errors: the common ones. Since 1.0.
 */
EESP_API EESP_MUST_CHECK eesp_status eesp_keyset_new(uint32_t aead, const uint8_t *keys, size_t n, eesp_keyset **set);
/*
 * Wipes and frees a set.
 * Threads: any. Writes: nothing. Errors: none. Since 1.0.
 */
EESP_API void eesp_keyset_free(eesp_keyset *set);

/*
 * Seal or open each job with its key in the set. Return how many jobs succeeded:
 * for seal, all n.
 * Threads: any; no lock. Writes: dst, tag and ok of the jobs. Errors: as
 * eesp_kdf_seal. Since 1.0.
 */
EESP_API size_t eesp_keyset_seal(const eesp_keyset *set, eesp_job *jobs, size_t n);
EESP_API size_t eesp_keyset_open(const eesp_keyset *set, eesp_job *jobs, size_t n);

/* ---- The library in a process ----------------------------------------------- */

/*
 * Loading
 *   - The library contains the Go runtime. Load it (link it, or dlopen) before
 *     pinning threads: its threads inherit the CPU mask of the loading thread.
 *     dlclose leaves it in place.
 *   - A second copy of the library in one process (one linked and one loaded,
 *     or two files) would repeat counters. All its functions return
 *     EESP_ERR_UNSUPPORTED.
 *   - glibc only. On musl, a shared library made by Go crashes at load.
 *   - Of Go's environment variables, GOGC and GOMEMLIMIT have an effect, with the
 *     values that they had when the process started; GODEBUG has none. In
 *     set-user-ID programs and the like neither these nor EESP_BACKEND have an
 *     effect.
 *
 * Signals
 *   - The library installs handlers for synchronous signals (SIGSEGV, SIGBUS,
 *     SIGFPE), with SA_ONSTACK. They pass signals of other code on to the
 *     handlers that were there before. Handlers of other signals stay. Do not
 *     call the library in a handler. Its threads block all other signals, so
 *     those are delivered to the program's threads.
 *   - A calling thread gets an alternate signal stack of 32 KiB, unless it has
 *     one. A handler with SA_ONSTACK runs there. A handler without it that
 *     interrupts a call has at least 32 KiB of stack on amd64. On arm64 all
 *     handlers need SA_ONSTACK, unless calling threads block their signals: Go
 *     keeps data below the stack pointer there.
 *   - The operating system saves vector registers on a handler's stack, and
 *     during a burst they hold keys. Block signals in calling threads if stacks
 *     may leak.
 *
 * Fork
 *   - A forked child must not use the library. Every function returns
 *     EESP_ERR_FORKED; bursts return 0 and set each status to it. daemon() forks
 *     too: a program that uses dlopen must call it before. exec in the child is
 *     allowed, and so are children forked before loading.
 *
 * Resources
 *   - The library keeps open only the descriptors of state files, and a socket for
 *     each group that follows an agent (opened again if it was closed). A program
 *     may therefore close all descriptors that it did not open. The library creates
 *     threads when it is loaded and in eesp_thread_init. docs/dataplane.md lists
 *     threads, limits and system calls.
 *   - Keys are in memory that is locked (mlock), left out of core dumps, absent in
 *     forked children, and wiped when freed. RLIMIT_MEMLOCK limits it. It is
 *     allocated in blocks of at most 256 KiB: some 600 KiB for a process with one
 *     thread and one group; 256 KiB or more for each thread with chained packets.
 *     If memory cannot be locked, the call fails with EESP_ERR_MEMORY. Keys are
 *     never in unlocked memory.
 */

/* ---- Layout ------------------------------------------------------------------ */

/* The layout is part of the ABI. */
#if defined(__cplusplus) && __cplusplus >= 201103L
#define EESP_ASSERT_(c) static_assert(c, #c)
#elif defined(__STDC_VERSION__) && __STDC_VERSION__ >= 201112L
#define EESP_ASSERT_(c) _Static_assert(c, #c)
#else
#define EESP_ASSERT_(c) struct eesp_assert_
#endif
#if UINTPTR_MAX == 0xffffffffffffffffu
EESP_ASSERT_(sizeof(eesp_pkt) == 128);
EESP_ASSERT_(offsetof(eesp_pkt, iov) == 24);
EESP_ASSERT_(offsetof(eesp_pkt, out) == 48);
EESP_ASSERT_(offsetof(eesp_pkt, addr) == 64);
EESP_ASSERT_(offsetof(eesp_pkt, user) == 120);
EESP_ASSERT_(sizeof(eesp_group_config) == 72);
EESP_ASSERT_(offsetof(eesp_group_config, draft) == 48);
EESP_ASSERT_(sizeof(eesp_sender_config) == 96);
EESP_ASSERT_(offsetof(eesp_sender_config, lock_dir) == 80);
EESP_ASSERT_(sizeof(eesp_receiver_config) == 80);
EESP_ASSERT_(sizeof(eesp_context) == 48);
EESP_ASSERT_(sizeof(eesp_data_key) == 192);
EESP_ASSERT_(sizeof(eesp_root_key_info) == 64);
EESP_ASSERT_(sizeof(eesp_stats) == 512);
EESP_ASSERT_(sizeof(eesp_replay_stats) == 64);
EESP_ASSERT_(sizeof(eesp_domain_stats) == 128);
EESP_ASSERT_(sizeof(eesp_usage) == 64);
EESP_ASSERT_(sizeof(eesp_udp) == 64);
EESP_ASSERT_(sizeof(eesp_follow_config) == 48);
EESP_ASSERT_(sizeof(eesp_follow_info) == 304);
EESP_ASSERT_(sizeof(eesp_follow_client) == 88);
EESP_ASSERT_(offsetof(eesp_pkt, next_header) == 62);
EESP_ASSERT_(sizeof(eesp_job) == 64);
EESP_ASSERT_(offsetof(eesp_job, nonce) == 48);
#endif

#ifdef __cplusplus
}
#endif

#endif /* EESP_H */
