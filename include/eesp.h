/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * eesp.h - stateless packet encryption in bursts
 *
 * libeesp seals and opens packets without keeping a session for any of them.
 * Both ends hold a few root keys; for each packet the library derives a data
 * key from them and from the context in the packet's own header, and seals or
 * opens it with AES-GCM. The formats are profiles, which share all objects:
 *   stateless  draft-xia-ipsecme-eesp-stateless-encryption-02
 *   psp        Google PSP
 *   tss        Ultra Ethernet Transport Security Sublayer
 *   eesp       EESP version 0, draft-ietf-ipsecme-eesp-03, or -02 if asked for
 * docs/profiles.md says what each of them makes of the fields below.
 *
 * The objects
 *   eesp_group     a trust group: root keys at up to three levels (zone, user,
 *                  task), each a ring of previous, current and next key; in
 *                  profiles other than stateless, one key or two
 *   eesp_sender    seals packets under one ID; owns that ID's nonce counters
 *   eesp_receiver  opens packets of one or more groups
 *   eesp_proxy     opens with a receiver and seals with a sender, in one call
 *   eesp_pkt       describes one packet of a burst; yours, in an array
 *
 * A minimal sender (error checks left out):
 *
 *     eesp_group_config gc = EESP_GROUP_CONFIG_INIT;
 *     eesp_group *group;
 *     eesp_group_new(&gc, &group);
 *     eesp_group_set_root_key_der(group, EESP_LEVEL_ZONE, der, der_len);
 *
 *     eesp_sender_config sc = EESP_SENDER_CONFIG_INIT;
 *     sc.id = 7;
 *     eesp_sender *sender;
 *     eesp_sender_new(group, &sc, &sender);
 *
 *     eesp_pkt p = {0};
 *     p.data = payload; p.len = n; p.headroom = 64; p.tailroom = 64;
 *     eesp_seal_burst(sender, &p, 1);          // p.status, p.out, p.out_len
 *
 * Conventions, true of every function unless it says otherwise
 *   - Functions that can fail return an eesp_status: EESP_OK (0) or a negative
 *     code. eesp_strerror() names it, eesp_last_error() has the details.
 *     On error no output argument is written, and nothing has changed.
 *   - Any function may be called from any thread at any time, also on the same
 *     object; the exception is _free, after which the object must not be used,
 *     and during which no other call on it may be running.
 *   - The library copies what it is given and keeps no pointer of yours.
 *     Bytes that it needs from you are read during the call only.
 *   - const means that a function does not change what is behind the pointer.
 *   - A NULL where an object is asked for gives EESP_ERR_ARGUMENT; _free takes
 *     NULL and does nothing.
 *   - Structures that begin with struct_size are set up with their _INIT
 *     macro; reserved fields must be zero. A newer library accepts the older,
 *     shorter structure.
 *   - The integers are in host order. Addresses are 16 octets; an IPv4 address
 *     is ::ffff:a.b.c.d (eesp_addr_from_ipv4 makes one).
 *   - Nothing outside the buffers named is read or written, not even by one
 *     octet, and no alignment is asked for.
 *
 * The process
 *   - The library brings the Go runtime. Load it (link it, or dlopen) before
 *     you pin threads: its threads inherit the CPU mask of the thread that
 *     loads it. It cannot be unloaded: dlclose leaves it in place.
 *   - It installs handlers for synchronous signals (SIGSEGV, SIGBUS, SIGFPE),
 *     with SA_ONSTACK, and passes on what is not its own. Other handlers stay
 *     as they were. Call nothing of this library in one. Its threads block all
 *     other signals, which so go to yours.
 *   - A thread that calls gets an alternate signal stack of 32 KiB, unless it
 *     has one. A handler with SA_ONSTACK runs there; one without it has at
 *     least 32 KiB (on amd64 and arm64) if it interrupts a call.
 *   - Of Go's environment variables GOGC and GOMEMLIMIT are heeded, as they
 *     were when the process started; GODEBUG is not. A program that is set-user-ID or
 *     the like has nothing of the environment heeded, nor EESP_BACKEND.
 *   - A second copy of the library in one process (linked in and loaded, or two
 *     files) is of no use: it would count from the start again. All its functions
 *     return EESP_ERR_UNSUPPORTED.
 *   - It keeps no descriptors but that of a state file, so that a program may
 *     close those that it has not opened. What it needs of threads it has from
 *     load, and for callers from eesp_thread_init: see docs/dataplane.md, also for
 *     limits and the system calls that it makes.
 *   - A signal handler's stack receives the vector registers of what it
 *     interrupts, which hold keys during a burst: block signals in threads that
 *     call, if stacks may leak.
 *   - After fork, the child must not use it: every function returns
 *     EESP_ERR_FORKED there (bursts return 0 with each status set to that).
 *     daemon() is a fork too: call it before, in programs that dlopen.
 *     exec in the child is fine, and so are children forked before loading.
 *   - Keys are kept in memory that is locked (mlock), left out of core dumps,
 *     gone in forked children, and wiped when freed. RLIMIT_MEMLOCK bounds it:
 *     it is taken in blocks of at most 256 KiB, some 600 KiB for a process with
 *     one thread and one group; chained packets take 256 KiB or more for each
 *     thread. What cannot be locked is EESP_ERR_MEMORY, never unlocked memory.
 *   - glibc only. On musl, a shared library made by Go crashes at load.
 *
 * Threads and time
 *   - A thread's first call sets up its scratch memory (some 100 us, and the
 *     only allocation on its account); eesp_thread_init does so beforehand.
 *   - Bursts take no lock and allocate nothing. Those of up to 32 plain packets
 *     of profile stateless do not enter the Go runtime on amd64 with an assembly
 *     backend, from a thread's second burst with a sender or receiver on (a few
 *     of each; receivers of one group, without replay windows or own IDs).
 *     Other calls do: each costs some 50 ns before its first packet, and the
 *     first after 200 us without one 10 to 50 us, which a polling loop keeps
 *     away by calling eesp_thread_keep_warm.
 *
 * Nonces
 *   A (key, nonce) pair that repeats gives the authentication key away, so the
 *   library owns the counters. See eesp_counter_mode.
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
/* 0xMMmmpp00 of the header; compare with eesp_version() of the library. */
#define EESP_VERSION ((uint32_t)(EESP_VERSION_MAJOR << 24 | EESP_VERSION_MINOR << 16 | EESP_VERSION_PATCH << 8))

#if defined(__GNUC__)
#define EESP_API __attribute__((visibility("default")))
#define EESP_MUST_CHECK __attribute__((warn_unused_result))
#else
#define EESP_API
#define EESP_MUST_CHECK
#endif

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
	EESP_ERR_NOT_FOUND = -26,    /* there is none */
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
	EESP_ERR_STALE = -38,        /* older than packets may be, or its time has passed meanwhile */
	EESP_ERR_EARLY = -39,        /* further ahead of the clock than packets may be */
	EESP_ERR_FULL = -40,         /* no place for one more packet of its time */
	EESP_ERR_FENCED = -41,       /* another machine has the IDs of this one: nothing is sealed */
	EESP_ERR_OUT_OF_TOUCH = -42, /* nothing was heard of the group's servers for too long to seal */
	EESP_ERR_AGENT = -43,        /* no agent to follow, or it refuses */
	EESP_ERR_TIMEOUT = -44       /* what was waited for has not come about */
	/* statuses: end */
} eesp_status;

/* One more than the number of error codes of this version. */
/* status count: begin */
#define EESP_STATUS_COUNT 45
/* status count: end */

/* A short English sentence for a status; never NULL, static, thread-safe. */
EESP_API const char *eesp_strerror(int status);

/*
 * What was wrong in this thread's last call that returned an error, in words
 * ("engine 9 does not fit in 2 engine bits"), without the status; "" before the
 * first. Valid until the thread's next failing call. Bursts do not set it:
 * packets carry statuses.
 */
EESP_API const char *eesp_last_error(void);

/* Version of the library, as EESP_VERSION. The string is "1.0.0". */
EESP_API uint32_t eesp_version(void);
EESP_API const char *eesp_version_string(void);

/* ---- Sizes and names ---------------------------------------------------- */

#define EESP_ICV_LEN 16        /* octets behind the payload */
#define EESP_MIN_HEADER 12     /* shortest header, octets: of tss; of the others 16 */
#define EESP_MAX_HEADER 128    /* longest header that is written, octets */
#define EESP_MAX_LEN (1u << 20) /* longest payload, octets */
#define EESP_MAX_GROUPS 64     /* groups of one receiver */
#define EESP_MIN_ROOT_KEY_ID 16
#define EESP_MAX_ROOT_KEY_ID 32
#define EESP_ROOT_KEY_LEN 32
#define EESP_MAX_OPTIONS 108   /* octets of three Master Key Options */
#define EESP_UDP_PORT 63377    /* stateless, eesp. Our choice: IANA assigns none from 49152 on */
#define EESP_PSP_UDP_PORT 1000
#define EESP_TSS_UDP_PORT 4793
#define EESP_MAX_PADDING 3     /* octets that sealing puts behind the payload at most */
#define EESP_MAX_FLOW_ID 64    /* octets of an eesp Flow Identifier, draft -02 */
#define EESP_PSP_MAX_EXTENSION 112 /* octets of a psp sender's extra; receivers take any */
#define EESP_TSS_LEAD_IPV4 12  /* octets in front of a tss header: source, destination, entropy */
#define EESP_TSS_LEAD_IPV6 36

/* Room that sealing a payload of len octets takes at most: header, padding, ICV;
 * tss: the lead in front of it comes on top. */
#define EESP_MAX_SEALED_LEN(len) ((len) + EESP_MAX_HEADER + EESP_MAX_PADDING + EESP_ICV_LEN)

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
 * V: what the data key's context is made of (header field V).
 * The ID is a 4-octet DeviceID, or with _LONG an 8-octet ConnectionID.
 * ID: the ID and the epoch. SRC: also the source address. SRC_DST: both
 * addresses. The addresses are not in the header; give them with each packet.
 */
#define EESP_V_ID 0x0
#define EESP_V_ID_SRC 0x1
#define EESP_V_ID_SRC_DST 0x2
#define EESP_V_LONG_ID 0x8
#define EESP_V_LONG_ID_SRC 0x9
#define EESP_V_LONG_ID_SRC_DST 0xA

/* The same in the other profiles. psp: the version. */
#define EESP_V_PSP_AES_128_GCM 0
#define EESP_V_PSP_AES_256_GCM 1
#define EESP_V_PSP_AES_128_GMAC 2
#define EESP_V_PSP_AES_256_GMAC 3
/*
 * tss: no SSI in the header, the context has the IPv4 address; an SSI, the ID;
 * no SSI, the context has the IPv6 address; an SSI, and over IPv6 the context
 * has the address all the same. A sender seals packets of its family:
 * EESP_PKT_IPV6 where it should not be, or not where it should, is
 * EESP_ERR_ARGUMENT. Only a group's with EESP_V_TSS_SSI seals both, each packet
 * in the context of its family.
 */
#define EESP_V_TSS_ADDR 0
#define EESP_V_TSS_SSI 1
#define EESP_V_TSS_ADDR_IPV6 2
#define EESP_V_TSS_SSI_IPV6 3 /* (since 1.1) */

/* ---- The library -------------------------------------------------------- */

/*
 * Backends: implementations of the cryptographic kernels. All compute the
 * same. The first use of the library chooses the fastest that the CPU and the
 * operating system support, or the one that the environment variable
 * EESP_BACKEND names, and runs its known-answer test; if that backend is not
 * there, or fails, every constructor returns EESP_ERR_BACKEND or
 * EESP_ERR_SELF_TEST: there is no silent fallback.
 */
/* Name of the backend in force, or NULL if none could be chosen. */
EESP_API const char *eesp_backend_name(void);
/* Name of the i-th backend, the best first but for CPUs that slow down for
 * 512-bit vectors; NULL beyond the last. */
EESP_API const char *eesp_backend_at(size_t i);
/* 1 if this machine can run the backend, 0 if not or if there is none such. */
EESP_API int eesp_backend_supported(const char *name);
/*
 * Puts a backend in force for objects made from now on; those made before keep
 * theirs. name "auto" or NULL: the fastest.
 */
EESP_API EESP_MUST_CHECK eesp_status eesp_backend_select(const char *name);
/* Runs the known-answer tests of every backend that this machine supports. */
EESP_API EESP_MUST_CHECK eesp_status eesp_self_test(void);

/*
 * Sets up what the calling thread needs for bursts, so that its first burst
 * does not have to. Freed when the thread ends. Optional.
 */
EESP_API EESP_MUST_CHECK eesp_status eesp_thread_init(void);
/*
 * Keeps the way of a packet warm: seals and opens one of the library's own, of
 * a key of its own. No statistics count it. Call it every 20 to 50 us from
 * polling loops that have no packets; it takes some 0.5 us. The first call in a
 * process makes the key (some 100 us, and 256 KiB of locked memory if what is
 * locked is used up); one that fails does nothing.
 */
EESP_API void eesp_thread_keep_warm(void);

/* ---- Trust groups ------------------------------------------------------- */

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

/* How root keys of several levels become one master key. */
typedef enum eesp_combiner {
	EESP_COMBINER_HKDF = 0, /* HKDF-SHA-256 over values and names */
	EESP_COMBINER_XOR = 1   /* the draft's example; refuses values that cancel */
} eesp_combiner;

/* mode of a group of profile tss: who has which key. */
#define EESP_TSS_CLUSTER 0 /* members derive keys from each other's SSI or address */
#define EESP_TSS_SERVER 1  /* the server derives, from the client's; clients hold their key only */
#define EESP_TSS_DIRECT 2  /* no derivation: all use the group's key itself */

/* mode of a group of profile eesp: how keys of Sub SAs come from the root key. */
#define EESP_SSKDF_HKDF_SHA2_256 1 /* root key of 32 octets */
#define EESP_SSKDF_HKDF_SHA2_384 2 /* 48 octets */
#define EESP_SSKDF_HKDF_SHA2_512 3 /* 64 octets */
#define EESP_SSKDF_AES256_CMAC 4   /* 32 octets; experimental: the draft does not define it */
#define EESP_SSKDF_NONE 255        /* no Sub SAs: the group's key is the SA's own, 16 or 32 octets as aead says, and
				      behind it 4 octets of salt, as key exchange gives them; Session ID 0 (since 1.1) */

/* flags of a group of profile eesp. */
#define EESP_GROUP_NO_SEQUENCE 0x1 /* no sequence number in packets: _IV must be set */
#define EESP_GROUP_IV 0x2          /* an explicit IV in packets; else the sequence number serves (RFC 8750) */
#define EESP_GROUP_OPTIMIZED 0x4   /* no Payload Info Header: payloads are IPv4 or IPv6 packets; -03: as EESP_ENCAP_TUNNEL */
#define EESP_GROUP_ALIGN8 0x8      /* payloads begin at a multiple of 8 octets (IPv6), not of 4 */
/*
 * flag of a group of profile tss in server mode, for peers that do not know that
 * the counter's top bit says which way a packet goes (since 1.1). Both ends then
 * seal with one key and count from 0 on: nonces repeat, which gives plaintext and
 * the authentication key away, and a packet opens at the end that sent it. Only
 * where the ends' counters are kept apart in another way, such as start_counter.
 */
#define EESP_GROUP_NO_DIRECTION_BIT 0x10
/*
 * stateless, psp: counters are the times at which packets are sealed, in
 * units of 2^-28 s since 1970, so that receivers can tell what is old without a
 * window for each sender (EESP_REPLAY_TIME). All senders of the group follow the
 * clock, and so do its epochs; at most 10 engine bits. A sender waits for 2 ms when
 * it is made; it is EESP_ERR_CLOCK what would be more than 2 ms ahead of the clock
 * (more than 2^(28 - engine_bits) packets a second, or the clock was set back).
 * The time is that of the burst call: what waits in a queue afterwards ages.
 */
#define EESP_GROUP_TIME 0x20
/* The same, in a group whose senders may have sent without it before, as much as
 * a second ahead of the clock: each waits for a second when it is made. */
#define EESP_GROUP_TIME_LATE 0x40

/* draft of a group of profile eesp: which version of draft-ietf-ipsecme-eesp it
 * speaks (since 1.1). Packets do not say: both ends must have the same. */
#define EESP_DRAFT_DEFAULT 0 /* -03; -02 for programs that were built with eesp.h of 1.0 */
#define EESP_DRAFT_02 2      /* Flow Identifiers, and a format that flags choose */
#define EESP_DRAFT_03 3

/* encap of a group of profile eesp, draft -03: what the SA's encapsulation mode
 * is, which decides the format. -02: must be 0. (Since 1.1.) */
#define EESP_ENCAP_TRANSPORT 0 /* full format */
#define EESP_ENCAP_TUNNEL 1    /* payloads are IPv4 or IPv6 packets; optimized format, with a max_coffset the full one */
#define EESP_ENCAP_BEET 2      /* full format */
#define EESP_ENCAP_IPTFS 3     /* full format; what is in payloads is up to you */

/*
 * What all packets of a group have in common. Fields of other profiles must
 * be zero. tss: aead must be EESP_AEAD_AES_256_GCM.
 */
typedef struct eesp_group_config {
	uint32_t struct_size;
	uint32_t profile;    /* eesp_profile */
	uint32_t aead;       /* eesp_aead */
	uint32_t combiner;   /* stateless: eesp_combiner */
	uint32_t domain;     /* tss: SDI, 24 bits; eesp: SPI */
	uint32_t sub_sas;    /* eesp: Session IDs are below this; 0 = 65,536 */
	uint64_t rekey_mask; /* tss: (counter & rekey_mask) >> rekey_shift is in the context */
	uint8_t rekey_shift;
	uint8_t mode;        /* tss: EESP_TSS_x; eesp: EESP_SSKDF_x */
	uint8_t versions;    /* psp: bit v: version v is in use; 0 = GCM's, with keys as aead says */
	uint8_t max_coffset; /* eesp: greatest CryptOffset, 4-octet units; 0 = none, else full format */
	uint32_t flags;      /* EESP_GROUP_x; eesp and tss, but for EESP_GROUP_TIME and _LATE */
	uint64_t reserved[1];
	uint8_t draft;       /* eesp: EESP_DRAFT_x (since 1.1) */
	uint8_t encap;       /* eesp: EESP_ENCAP_x (since 1.1) */
	/* tss (all since 1.1): */
	uint16_t crypt_offset; /* octets in clear from the header's first on: a multiple of 4, 16 to 1032; 0 = the header */
	uint16_t epoch_age;  /* epochs that packets may be behind the group's, below 32,768; 0 = 16 */
	uint8_t reserved2[2];
	uint32_t auth_failure_limit; /* receivers drop all packets after so many that were not authentic; 0 = never */
	uint32_t reserved3;
	uint64_t counter_limit; /* counters are below it, then EESP_ERR_EXHAUSTED; 0 = 2^48 */
} eesp_group_config;
#define EESP_GROUP_CONFIG_INIT { sizeof(eesp_group_config), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, { 0 }, 0, 0, 0, 0, { 0 }, 0, 0, 0 }

/* Makes a group without keys. config NULL: all defaults, profile stateless. */
EESP_API EESP_MUST_CHECK eesp_status eesp_group_new(const eesp_group_config *config, eesp_group **group);

/*
 * Gives the handle back. Senders and receivers made of the group go on; its
 * keys are wiped when the last of them is freed.
 */
EESP_API void eesp_group_free(eesp_group *group);

/*
 * Puts a root key at a level, in place of one that is there. DER:
 *   RootKeyStruct ::= SEQUENCE {
 *     root_key_id OCTET STRING (SIZE (16..32)),
 *     SEQUENCE (SIZE(3)) OF INTEGER,        -- root_keys_index
 *     SEQUENCE (SIZE(3)) OF OCTET STRING }  -- root_keys_value, 32 octets each
 * in the order previous, current, next. A ring that has no previous key yet
 * carries its current one there, index and value. The three indices must
 * differ modulo 256. EESP_ERR_ROOT_KEY otherwise; eesp_last_error names the
 * field. A level that is new joins the default levels.
 */
EESP_API EESP_MUST_CHECK eesp_status eesp_group_set_root_key_der(eesp_group *group, int level, const uint8_t *der,
								 size_t len);

/* The same from its parts. index and value: previous, current, next. (C before
 * C23 wants a cast where value is not const: (const uint8_t (*)[EESP_ROOT_KEY_LEN])v.) */
EESP_API EESP_MUST_CHECK eesp_status eesp_group_set_root_key(eesp_group *group, int level, const uint8_t *id,
							     size_t id_len, const uint64_t index[3],
							     const uint8_t value[3][EESP_ROOT_KEY_LEN]);

/*
 * Puts a whole ring at a level, in place of one that is there: those keys whose
 * generation is not 0, in the order previous, current, next (since 1.1). There must
 * be a current one; a ring may have no previous and no next key. That is how a
 * rotation goes that many hosts make together, each step when all have made the one
 * before: (n, n, -) becomes (-, n, n+1), then (n, n+1, -), then (-, n+1, -); and
 * eesp_group_wait says when a step is done. On the wire a generation is its lowest
 * octet, in which the ring's must differ. EESP_ERR_ROOT_KEY: a generation below
 * floor, or below the lowest one that this ID's rings had in this process, in
 * whichever group: what was dropped never comes back, for old packets would open
 * again. Replay windows of keys that stay go on. Without a next key,
 * eesp_group_rotate is EESP_ERR_NOT_FOUND and the ring has no DER form
 * (EESP_ERR_UNSUPPORTED).
 */
EESP_API EESP_MUST_CHECK eesp_status eesp_group_set_ring(eesp_group *group, int level, const uint8_t *id, size_t id_len,
							 const uint64_t generation[3],
							 const uint8_t value[3][EESP_ROOT_KEY_LEN], uint64_t floor);

/*
 * Waits until every burst has ended that began before this call, in all threads
 * (since 1.1). Then none uses keys that were in force before the last change, and
 * those are wiped. EESP_ERR_TIMEOUT: after timeout_ms one still goes on.
 */
EESP_API EESP_MUST_CHECK eesp_status eesp_group_wait(const eesp_group *group, uint32_t timeout_ms);

/* The same with random values and indices 1, 1, 2 (no previous key). */
EESP_API EESP_MUST_CHECK eesp_status eesp_group_generate_root_key(eesp_group *group, int level, const uint8_t *id,
								  size_t id_len);

/*
 * Writes a level's root key as DER. *len is the size of der before and the
 * length written after; where it is too small, or der is NULL, EESP_ERR_ROOM
 * and *len says how much is needed. What is written is secret.
 */
EESP_API EESP_MUST_CHECK eesp_status eesp_group_get_root_key_der(const eesp_group *group, int level, uint8_t *der,
								 size_t *len);

/*
 * Rotates a level: value becomes next, next becomes current, current becomes
 * previous, previous is wiped. Bursts go on meanwhile, each with the keys that
 * were in force when it began. value NULL: a random one. index must differ
 * from those of the two keys that stay, modulo 256.
 * Packets under way open before and after, if they carry Master Key Options
 * (EESP_SENDER_OPTIONS); without, only the current key is tried.
 */
EESP_API EESP_MUST_CHECK eesp_status eesp_group_rotate(eesp_group *group, int level, uint64_t index,
						       const uint8_t value[EESP_ROOT_KEY_LEN]);

/* Removes a level's root key; it is wiped when the last burst that began
 * before has ended. */
EESP_API EESP_MUST_CHECK eesp_status eesp_group_remove_root_key(eesp_group *group, int level);

/* Says which levels packets without Master Key Options use: EESP_LEVELS_x. */
EESP_API EESP_MUST_CHECK eesp_status eesp_group_set_default_levels(eesp_group *group, unsigned levels);

typedef struct eesp_root_key_info {
	uint64_t index[3]; /* previous, current, next; the current one's again: there is no next key */
	uint8_t id[EESP_MAX_ROOT_KEY_ID];
	uint32_t id_len;
	uint32_t has_previous; /* 0: the previous key is the current one */
} eesp_root_key_info;

/* Which key of a ring. */
#define EESP_GENERATION_CURRENT 0
#define EESP_GENERATION_PREVIOUS 1
#define EESP_GENERATION_NEXT 2

/* Tells the public part of a level's root key. */
EESP_API EESP_MUST_CHECK eesp_status eesp_group_get_root_key_info(const eesp_group *group, int level,
								  eesp_root_key_info *info);

/*
 * Keys of profiles that have no root keys at levels. There are slots:
 *   psp   0 and 1: device keys, which the SPI's top bit names
 *   tss   0 and 1: keys of an association number (AN)
 *   eesp  0: the root key of the SA, or its key (EESP_SSKDF_NONE)
 * Keys have 32 octets (eesp: as the mode says). Slots that have no key open and
 * seal nothing. Other profiles: EESP_ERR_UNSUPPORTED; so is every function of
 * root keys at levels for these.
 */

/* Puts a key into a slot, in place of one that is there, which is wiped when
 * the last burst that may use it has ended. The first key is used by senders. */
EESP_API EESP_MUST_CHECK eesp_status eesp_group_set_key(eesp_group *group, unsigned slot, const uint8_t *key,
							size_t key_len);
/* Has senders use a slot's key (tss: AN; psp: SPIs are given out for it).
 * EESP_ERR_NOT_FOUND: there is none. */
EESP_API EESP_MUST_CHECK eesp_status eesp_group_use_key(eesp_group *group, unsigned slot);
/* Puts a key into the slot that senders do not use (the one that they use, if it
 * is empty), and has them use it. key NULL (and key_len 0): a random one. slot, if not NULL, tells which it was. */
EESP_API EESP_MUST_CHECK eesp_status eesp_group_rotate_key(eesp_group *group, const uint8_t *key, size_t key_len,
							   unsigned *slot);
/* Takes a slot's key away. EESP_ERR_NOT_FOUND: there is none. Senders that use
 * it have none then: they do not go over to the other slot by themselves. */
EESP_API EESP_MUST_CHECK eesp_status eesp_group_remove_key(eesp_group *group, unsigned slot);
/*
 * psp: gives out an SPI, to be handed to a peer with its data key
 * (eesp_data_key_export): each once for a device key, in rising order of the
 * low 31 bits, from first on (its top bit is not read: that is the slot in
 * use). Who restarts with the same device keys must pass one more than the last
 * one, or rotate first if its low 31 bits were all ones: two peers with one SPI
 * have one key. EESP_ERR_EXHAUSTED: rotate. EESP_ERR_NO_KEY: no key yet.
 */
EESP_API EESP_MUST_CHECK eesp_status eesp_group_alloc_spi(eesp_group *group, uint32_t first, uint32_t *spi);

/*
 * tss: puts the group into an epoch, 0 by default (since 1.1). Senders seal in it,
 * and receivers drop packets that are more than epoch_age behind it. Whoever
 * manages keys moves it, at all ends, when a member left or came again. It is that
 * of the key in use: a new key begins in epoch 0, and with each key and epoch
 * counters begin anew. Data keys are of one epoch. Other profiles:
 * EESP_ERR_UNSUPPORTED.
 */
EESP_API EESP_MUST_CHECK eesp_status eesp_group_set_epoch(eesp_group *group, uint16_t epoch);

/* tss: has receivers open the group's packets again after auth_failure_limit
 * of them were not authentic (since 1.1). */
EESP_API EESP_MUST_CHECK eesp_status eesp_group_reset_latch(eesp_group *group);

/* What a group of profile tss counts, packets of all its senders and receivers
 * (since 1.1). */
typedef struct eesp_domain_stats {
	uint64_t sealed;
	uint64_t opened;
	uint64_t auth_failures; /* wrong ICV */
	uint64_t invalid;       /* refused for what the header says, replayed, or dropped by the latch */
	uint64_t unknown_sa;    /* no key of that SDI and AN */
	uint64_t late_epoch;    /* EESP_ERR_EPOCH */
	uint64_t exhausted;     /* not sealed: no counter left */
	uint64_t wrong_ssi;     /* an SSI that this end sends with (own_ids), from elsewhere */
	uint64_t clear;         /* not of this format, so perhaps in clear */
	uint64_t failures;      /* wrong ICVs since the latch was reset; 0 without auth_failure_limit */
	uint64_t latched;       /* 1: packets are dropped */
	uint64_t epoch;         /* of the key in use */
	uint64_t reserved[4];
} eesp_domain_stats;

/* Reads them. Packets whose header names no group of a receiver count for its
 * first. Other profiles: EESP_ERR_UNSUPPORTED. */
EESP_API EESP_MUST_CHECK eesp_status eesp_group_domain_stats(const eesp_group *group, eesp_domain_stats *stats);

/* What was done with a key since it came to the group (since 1.1). */
typedef struct eesp_usage {
	/* Data keys that were derived from it. Where they come of packets' contexts
	 * (stateless, psp, tss), one that is derived again counts again, for packets that
	 * were not authentic too; packets of a burst that have one context may share
	 * one. eesp: one for each Sub SA. */
	uint64_t derived;
	uint64_t sealed; /* packets */
	uint64_t opened;
	uint64_t index;  /* of a root key, which tells whose counts these are when keys rotate */
	uint64_t reserved[4];
} eesp_usage;

/*
 * Reads them, for rotation by usage: of a root key at a level, by its EESP_GENERATION_x;
 * of a key in a slot, which is the level then, generation 0. Counts go
 * with their key when the ring rotates. A key of several levels' root keys counts for
 * each of these. They cost bursts no more than an addition or two, and
 * are of this group and process alone; of bursts that are under way some may
 * be missing. EESP_ERR_NOT_FOUND: there is no such key.
 */
EESP_API EESP_MUST_CHECK eesp_status eesp_group_usage(const eesp_group *group, int level, unsigned generation, eesp_usage *usage);

/* ---- Contexts and data keys --------------------------------------------- */

typedef struct eesp_addr {
	uint8_t src[16];
	uint8_t dst[16];
} eesp_addr;

/*
 * All that a data key depends on besides root keys.
 *   psp   id: SPI; v: version
 *   tss   id: SSI, and in the upper 32 bits what rekey_mask picks; epoch; v;
 *         generation: the slot; addr.src (but for EESP_V_TSS_SSI)
 *   eesp  id: Session ID
 * Fields that are not named here must be zero in these.
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
 * Derives the data keys of n contexts: 16 octets each with AES-128-GCM, 32
 * with AES-256-GCM, one behind the other; keys_len must be exactly n times
 * that. tss: 44 octets each (direct: 32), eesp: 20 or 36, which end with what is
 * added to nonces. psp: versions whose keys are as long as aead says. The caller keeps these secret. EESP_ERR_NO_KEY, ERR_V: of the first
 * context that is wrong; then keys is all zero.
 */
EESP_API EESP_MUST_CHECK eesp_status eesp_derive_keys(const eesp_group *group, const eesp_context *contexts, size_t n,
						      uint8_t *keys, size_t keys_len);

/* A data key to hand to an end that must not hold root keys. Secret. */
typedef struct eesp_data_key {
	uint64_t id;
	uint16_t epoch;
	uint8_t v;
	uint8_t key_len;     /* 16 or 32 */
	uint8_t options_len; /* octets of options */
	uint8_t profile;     /* eesp_profile */
	uint8_t params[2];   /* what the holder has to know of the group: as exported */
	eesp_addr addr;
	uint8_t key[32];
	uint8_t options[EESP_MAX_OPTIONS]; /* Master Key Options, as in the header; tss, eesp: added to nonces */
	uint32_t domain;     /* tss: SDI; eesp: SPI */
} eesp_data_key;

/*
 * Derives the data key of a context. with_options 1: packets sealed with it
 * shall carry Master Key Options (recommended where root keys rotate).
 * tss: in server mode, for the client, or in cluster mode with rekey_mask 0;
 * else EESP_ERR_UNSUPPORTED. with_options must be 0. Who holds the key and has
 * no SSI seals packets from its own address only, else EESP_ERR_CONTEXT.
 * eesp: EESP_ERR_ROOT_KEY: the root key was sent with, or a key of it exported,
 * under another SPI.
 */
EESP_API EESP_MUST_CHECK eesp_status eesp_data_key_export(const eesp_group *group, const eesp_context *context,
							  int with_options, eesp_data_key *key);

/* Overwrites a data key with zeros in a way that compilers do not remove. */
EESP_API void eesp_data_key_wipe(eesp_data_key *key);

/* ---- Packets ------------------------------------------------------------ */

/* One segment of a chained packet (DPDK: one mbuf of a chain). */
typedef struct eesp_iov {
	void *base;
	size_t len;
} eesp_iov;

/*
 * One packet of a burst. Start from zeros; fields marked "in" are yours and
 * stay as they are, those marked "out" are written for every packet.
 *
 * Sealing turns payload into Security Header || payload || ICV, where the
 * payload's first 4*coffset octets stay in clear and the rest is encrypted;
 * the ICV covers the header and the payload from 4*ioffset on. Opening undoes it.
 *
 * Three ways to place it:
 *   in place   dst NULL, iov_count 0: the header goes into the headroom octets
 *              in front of data, the ICV into the tailroom behind data+len;
 *              opening leaves the payload where it is.
 *   elsewhere  dst, dst_size: the result goes there. Source and destination
 *              must not overlap, unless the payload stays where it is.
 *   chained    iov, iov_count: the payload is all segments together, in place;
 *              data is not used and dst NULL, headroom belongs to the first
 *              segment and tailroom to the last. len is written. Segments keep
 *              their lengths, and do not overlap. Opening: the whole header lies
 *              in the first one, and out in a later one if nothing follows it.
 *
 * On error out_len is 0, out NULL. Sealing then has written nothing, and id
 * and tsc are 0. Opening has written nothing either, unless the packet went
 * through the cipher: then zeros are where its plaintext would be. That is so
 * with EESP_ERR_AUTH, and with what is found out after that: _PAYLOAD, _DUMMY, and in
 * eesp_udp_open_burst _ENCAP and _UNSUPPORTED; _REPLAY and _WINDOWS where
 * another packet that came meanwhile, or earlier in the burst, is the reason.
 * eesp: padding needs room as well. Sealing puts up to EESP_MAX_PADDING octets
 * behind the payload; opening decrypts what the packet has, up to 255 from other
 * senders, and leaves it out of out_len. The Payload Info Header counts as header.
 */
typedef struct eesp_pkt {
	void *data;            /* in  seal: payload; open: Security Header */
	uint32_t len;          /* in  octets at data */
	uint32_t headroom;     /* in  octets that may be written in front of data */
	uint32_t tailroom;     /* in  octets that may be written behind data+len */
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
	eesp_addr addr;        /* in  addresses, if V asks for them (zeros are taken for one) */
	uint64_t id;           /* out DeviceID or ConnectionID; SPI, SSI, Session ID */
	uint64_t tsc;          /* out Epoch(16) | Counter(48); IV, sequence number */
	const eesp_addr *out_addr; /* in  proxy: addresses for sealing; NULL = addr */
	void *user;            /* yours: never read or written */
} eesp_pkt;

/*
 * tss: both addresses and the entropy field, EESP_TSS_LEAD_x octets, stand right
 * in front of the header, are authenticated with it, and are read, not written:
 * put them there before sealing (in the headroom, counted in it, or with dst at
 * dst, and out is behind them), and leave them there for opening, in the
 * headroom. A proxy writes them, from out_addr. flags: they are IPv6's 36 octets,
 * not IPv4's 12.
 */
#define EESP_PKT_IPV6 0x1
/*
 * psp, opening: what the header has behind its IV (a cookie, other extension
 * fields) stays in front of the payload, decrypted where it was encrypted: out
 * begins with its 8 * (Hdr Ext Len - 1) octets, and coffset counts from there.
 * Without the flag, opening in place leaves it in front of out all the same;
 * with dst it is lost. eesp_udp_open_burst: EESP_ERR_UNSUPPORTED.
 */
#define EESP_PKT_EXTENSION 0x2

/* ---- Senders ------------------------------------------------------------ */

typedef struct eesp_sender eesp_sender;

/*
 * How counters are kept from repeating after a restart.
 *   CLOCK     (default) Counters follow the wall clock at 2^rate_log2 ticks a
 *             second, one second ahead of it; a sender uses no more of them
 *             than time has passed. After a crash the next start lies above
 *             all that was used, as long as the clock was not set back by more
 *             than the time the sender was down. A clock that is seen to step
 *             back is EESP_ERR_CLOCK until it has caught up. The clock must be
 *             right when a sender is made: a machine that boots in the same
 *             second of 1970 every time repeats its counters.
 *             A sender that sends little skips counters, to stay by the clock:
 *             not at each burst, but within some bursts, and 4096 packets at
 *             most. Epochs follow the clock too, 2^20 s each, counted from
 *             1970, unless EESP_SENDER_FIXED_EPOCH is set; then the sender
 *             stops with EESP_ERR_EXHAUSTED at the epoch's end.
 *             rate_log2 + engine_bits, and epoch_start_ns, belong to a fixed
 *             epoch: they must be THE SAME at every start under that ID, key and
 *             epoch, and epoch_start_ns is never "now". A start with another
 *             rate or start repeats counters, and only within a process is that
 *             seen. Without a fixed epoch a later start with other engine_bits
 *             lies above what was used; so it does with another rate, up to the
 *             same instant (56 years later at half the rate).
 *   RESERVED  A small file holds a mark above all counters used; it is written
 *             and synced before they are. Needs no clock. Within the fixed epoch
 *             given; a later epoch begins at 0, an earlier one than the file's
 *             is refused. The file belongs to the ID, engine and key (its name,
 *             not its value): the group's keys must be there before, and one that
 *             was swapped, emptied, cut, belongs to another user, or can be
 *             written by group or others is EESP_ERR_STATE. So is, for the
 *             packets that would need the next write, one that was removed,
 *             replaced or changed while in use. It must stay reachable at its
 *             path (no chroot). One sender at a time has it, of whatever process;
 *             children made by fork do not have it. state_path.lock beside it
 *             is locked meanwhile.
 *   EXPLICIT  The caller says where to start, and answers for it; within one
 *             process, counters that were used are refused all the same.
 * tss: the epoch is the group's, not the clock's, and counters begin at 0 with
 * each key and epoch (EXPLICIT: under the first key at start_counter). RESERVED:
 * state_path is how the names of files begin, one for each key and epoch, each as
 * above. CLOCK: the time since 2025 in units of 2^-18 s, unless rate_log2 and
 * epoch_start_ns say otherwise; it is for senders of few packets.
 * No mode protects from a machine that is cloned or set back to a snapshot, or
 * (but for RESERVED) from two processes that send under one ID and engine.
 */
typedef enum eesp_counter_mode {
	EESP_COUNTER_CLOCK = 0,
	EESP_COUNTER_RESERVED = 1,
	EESP_COUNTER_EXPLICIT = 2
} eesp_counter_mode;

/* Send Master Key Options, so that receivers know which root keys were used.
 * Always set this in groups whose root keys rotate. */
#define EESP_SENDER_OPTIONS 0x1
/* Use the epoch of the configuration (implied unless the mode is CLOCK). */
#define EESP_SENDER_FIXED_EPOCH 0x2
/* With a data key: counters are times, as in the group that the key is of, with
 * EESP_GROUP_TIME or _TIME_LATE. A group's sender follows its group. */
#define EESP_SENDER_TIME 0x10
#define EESP_SENDER_TIME_LATE 0x20
/* psp: extra has no virtualization cookie, only other extension fields: the
 * header's V bit is 0. */
#define EESP_SENDER_NO_VC 0x4
/* psp: coffset of packets is what the header has: it counts from the end of the
 * IV, through extra, and not from the payload. What of extra it does not reach
 * is encrypted: 0 hides a cookie, 1 its second half. */
#define EESP_SENDER_OFFSET_FROM_IV 0x8

/*
 * An ID names one sender and one direction: both ends of a connection must not
 * send under one ID, unless V brings the source address in, or they are
 * different engines. engine_bits split the counter space of one ID among
 * 2^engine_bits senders that do not know of each other (NICs of a pool), each
 * with its own number. Senders of one process with the same ID and engine
 * share one counter, whichever groups they are made of. The engine's number is
 * the lowest bits of the counter, so that all engines' counters rise together.
 * tss: servers of server mode seal with the counter's top bit set, clients with
 * it clear; then there are at most 15 engine bits.
 *
 * lock_dir: the sender is refused with EESP_ERR_EXISTS if another
 * process of this host, or another copy of the library, has one of the same ID,
 * engine and key that names the same directory (one on tmpfs, such as /run/eesp, that
 * no other user may write). Files in it are locked; no descriptor is kept, a
 * process that ends in whichever way gives them up, and children made by fork do
 * not have them. Keys are those that the group holds when the sender is made,
 * before and after a rotation too; there must be one (else EESP_ERR_NO_KEY).
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
	uint8_t rate_log2;     /* CLOCK: 2^this ticks, so packets, a second; 0 = 28 - engine_bits */
	uint8_t reserved1;
	uint16_t epoch;        /* with a fixed epoch; tss: 0 = the group's, else the sender stays in it */
	uint32_t reserved2;
	int64_t epoch_start_ns;  /* CLOCK, fixed epoch: its start, ns since 1970, the same at every start */
	uint64_t start_counter;  /* EXPLICIT: first counter, without engine bits; eesp: 0 is taken for 1 */
	uint64_t reserve_run;    /* RESERVED: counters claimed at a time; 0 = 2^24 */
	const char *state_path;  /* RESERVED: the file */
	const uint8_t *extra;    /* psp: virtualization cookie (VC), 8 octets, and other extension fields; eesp, draft -02: Flow Identifier; NULL = none */
	uint32_t extra_len;      /* octets at extra; psp: a multiple of 8, at most EESP_PSP_MAX_EXTENSION */
	uint32_t reserved3;
	const char *lock_dir;    /* a directory where the ID is locked, see below; NULL = not */
	uint64_t reserved[1];
} eesp_sender_config;
#define EESP_SENDER_CONFIG_INIT { sizeof(eesp_sender_config), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, NULL, NULL, 0, 0, NULL, { 0 } }

/*
 * Makes a sender of a group. EESP_ERR_EXISTS: this process has a sender of the
 * same ID with other counter settings, or has used the counters asked for; or
 * one that may come to the same key and nonces, which is told by IDs and not by
 * keys: with a data key of that ID, or (tss, one mode) without SSI where this one
 * has one, and the other way round. Different engines may live side by side.
 * Keys need not be there yet: packets get EESP_ERR_NO_KEY until they are.
 */
EESP_API EESP_MUST_CHECK eesp_status eesp_sender_new(eesp_group *group, const eesp_sender_config *config,
						     eesp_sender **sender);

/*
 * Makes a sender that holds one data key only. id, v, levels and
 * EESP_SENDER_OPTIONS of the configuration must be zero: they come with the
 * key; so does the epoch, which is fixed (CLOCK: epoch_start_ns says when it began).
 * Clock mode's default epoch E began at E * 2^20 s plus a multiple of 2^36 s.
 * psp, eesp: keys do not depend on the epoch, which is the configuration's.
 */
EESP_API EESP_MUST_CHECK eesp_status eesp_sender_new_with_key(const eesp_data_key *key,
							      const eesp_sender_config *config,
							      eesp_sender **sender);

/* Frees a sender. The counters that it used stay used. */
EESP_API void eesp_sender_free(eesp_sender *sender);

/*
 * Has a group's sender send under another ID, in the same direction and with the
 * other settings that it was made with (since 1.1). Bursts that are under way may
 * end with the one before; its counters stay used. Statistics go on. Errors are
 * those of eesp_sender_new; EESP_ERR_UNSUPPORTED: with a data key, or in a group
 * that follows an agent, which gives the IDs.
 */
EESP_API EESP_MUST_CHECK eesp_status eesp_sender_set_id(eesp_sender *sender, uint64_t id);

/* The ID that the sender sends under; 0: the agent has given none yet (since 1.1). */
EESP_API uint64_t eesp_sender_id(const eesp_sender *sender);

/* Octets of the header that the sender writes at present, 0 if it has no key:
 * the headroom that sealing needs; tss: behind EESP_TSS_LEAD_x octets more.
 * Tailroom is EESP_ICV_LEN; eesp: up to EESP_MAX_PADDING more. */
EESP_API uint32_t eesp_sender_header_len(const eesp_sender *sender);

/* Epoch(16) | Counter(48) of the next packet, if nothing else is sent first. */
EESP_API uint64_t eesp_sender_next_tsc(const eesp_sender *sender);

/*
 * Seals n packets, in order; any n. Returns how many have status EESP_OK; a
 * packet that fails does not keep others from being sealed. Every packet's
 * out fields are written. Statuses: ARGUMENT, NO_KEY, OFFSET, ROOM, TOO_LONG,
 * OVERLAP, EXHAUSTED, CLOCK, STATE, SEGMENTS, MEMORY (chained packets, and a thread's first of eesp with HKDF),
 * CONTEXT (tss, with a data key: another source address), FENCED and OUT_OF_TOUCH (a
 * group that follows an agent), ROOT_KEY (eesp: the
 * root key was sent with under another SPI), FORKED, UNSUPPORTED (from a signal
 * handler), INTERNAL. sender or pkts NULL: 0, nothing written.
 */
EESP_API size_t eesp_seal_burst(eesp_sender *sender, eesp_pkt *pkts, size_t n);

/* ---- Receivers ---------------------------------------------------------- */

typedef struct eesp_receiver eesp_receiver;

/*
 * If a packet without Master Key Options fails, try the previous root keys of
 * all default levels together as well (which does not help where levels rotate
 * at different times). Doubles what a forged packet costs; better send options.
 */
#define EESP_RECEIVER_TRY_PREVIOUS 0x1
/* EESP_REPLAY_TIME: take the clock as it is, although nothing tells the kernel
 * that it is synchronised (adjtimex). */
#define EESP_RECEIVER_CLOCK_TRUSTED 0x2

/* By what packets are told that came before. */
typedef enum eesp_replay_mode {
	EESP_REPLAY_WINDOWS = 0, /* by replay_window, if it is not 0 */
	EESP_REPLAY_TIME = 1     /* by their time */
} eesp_replay_mode;

typedef struct eesp_receiver_config {
	uint32_t struct_size;
	uint32_t flags;          /* EESP_RECEIVER_x */
	const uint64_t *own_ids; /* IDs that this end sends with: refused (reflection); none in tss server mode */
	size_t own_id_count;
	uint32_t replay_window;  /* packets, 64 to 65,536; 0 = no replay protection */
	uint32_t replay_contexts; /* windows at most; 0 = 4096 */
	uint8_t engine_bits;     /* of the senders: each engine has windows of its own; time: 0 */
	uint8_t replay_mode;     /* eesp_replay_mode */
	uint8_t reserved1[6];
	uint32_t max_age_us;     /* time: what is older is EESP_ERR_STALE; 0 = 100,000 */
	uint32_t max_early_us;   /* time: what is further ahead of the clock is EESP_ERR_EARLY; 0 = 25,000 */
	uint64_t max_rate;       /* time: packets a second that there is room for; 0 = 1,000,000 */
	const char *mark_path;   /* time: a file with a mark above all that was accepted; NULL = none */
	const struct eesp_receiver *heir_of; /* time: whose table is taken over; NULL = a new one */
	uint64_t reserved[1];
} eesp_receiver_config;
#define EESP_RECEIVER_CONFIG_INIT { sizeof(eesp_receiver_config), 0, NULL, 0, 0, 0, 0, 0, { 0 }, 0, 0, 0, NULL, NULL, { 0 } }

/*
 * Replay protection (RFC 6479): a packet whose counter was seen before, or is
 * further behind the highest one than the window is wide, is EESP_ERR_REPLAY.
 * There is a window for each key, ID and epoch (eesp: Sub SA; and where V says
 * so, address) that an authentic packet came with. It is checked before a
 * packet is decrypted and moved after: a forged one leaves no trace. Memory for
 * replay_contexts windows, each of some replay_window / 2 + 100 octets, is set
 * aside when the receiver is made (and taken as windows come). When all are in
 * use, packets of further contexts are EESP_ERR_WINDOWS; windows are given up
 * only when their key is gone (if it is put back, its packets open once more),
 * and serve others after the first burst that follows.
 * Threads may share a receiver: of a packet that several of them open at once,
 * one has it.
 *
 * By time (replay_mode, groups with EESP_GROUP_TIME): a packet is opened if its
 * counter, which is a time, is not older than max_age_us and not further ahead of
 * the clock than max_early_us, and it was not opened before (else EESP_ERR_REPLAY).
 * One table serves all senders, however many: packets of the last max_age_us +
 * max_early_us, of all of them together, 16 octets each at max_rate (21 MiB for 10
 * million a second and the times above). Above max_rate packets of that moment are
 * EESP_ERR_FULL, whosever they are. Only authentic packets are entered.
 *   Clocks     max_age_us must cover the path, queues, and how far clocks are off;
 *              max_early_us how far they are off, and 2 ms. The wall clock is read
 *              once a burst. EESP_ERR_CLOCK: it is not synchronised, and there is
 *              neither mark_path nor EESP_RECEIVER_CLOCK_TRUSTED.
 *   Restart    A new receiver opens nothing for max_early_us: no packet that an
 *              earlier one opened opens again, if the clock has not been set back
 *              since. Who cannot rely on that has a mark: a file, written once in
 *              half a second, below which nothing is opened (up to a second after a
 *              crash). One that cannot be written: EESP_ERR_STATE.
 *   heir_of    Reloads without loss: the new receiver has the table of the old one,
 *              with the same limits; free either first. Two receivers with tables of
 *              their own each open a packet once.
 *   Set back   A clock that was ahead, and is right again: all packets are
 *              EESP_ERR_STALE for a second; then what lies above all that was opened
 *              is. If packets of times to come were opened meanwhile, rotate keys
 *              and make a new receiver.
 */

/*
 * Makes a receiver of one or more groups, all of one profile. stateless: a
 * packet with Master Key Options belongs to the first group that has all the
 * root keys they name; one without belongs to the first group. tss and eesp:
 * the group is the one whose domain the packet names; psp: the first. config
 * NULL: all defaults.
 */
EESP_API EESP_MUST_CHECK eesp_status eesp_receiver_new(eesp_group *const *groups, size_t group_count,
						       const eesp_receiver_config *config, eesp_receiver **receiver);

/* Makes a receiver that holds one data key; other packets, and those from
 * addresses other than the key's where V asks for them: EESP_ERR_CONTEXT. */
EESP_API EESP_MUST_CHECK eesp_status eesp_receiver_new_with_key(const eesp_data_key *key,
								const eesp_receiver_config *config,
								eesp_receiver **receiver);

EESP_API void eesp_receiver_free(eesp_receiver *receiver);

/* Puts other IDs in the place of the configuration's own_ids (since 1.1). IDs that
 * agents gave to senders of the receiver's groups come on top by themselves. */
EESP_API EESP_MUST_CHECK eesp_status eesp_receiver_set_own_ids(eesp_receiver *receiver, const uint64_t *ids, size_t n);

/*
 * Opens n packets, in order; any n. Returns how many have status EESP_OK.
 * Statuses: all that name a header field (VERSION, V, RESERVED, HEADER_LEN,
 * OFFSET, OPTION; SESSION and SEQUENCE of eesp), AUTH, NO_KEY, SHORT, REFLECTED,
 * CONTEXT, REPLAY, WINDOWS, STALE, EARLY, FULL, STATE (time: its mark), EPOCH (tss), PAYLOAD and DUMMY (eesp), ROOM, OVERLAP,
 * TOO_LONG, ARGUMENT, SEGMENTS, MEMORY (chained packets only), FORKED,
 * UNSUPPORTED (from a signal handler; tss: direct mode over IPv6 without SSI),
 * INTERNAL. id, tsc, coffset, ioffset and next_header are authentic only if
 * status is EESP_OK.
 */
EESP_API size_t eesp_open_burst(eesp_receiver *receiver, eesp_pkt *pkts, size_t n);

/* ---- Proxies ------------------------------------------------------------ */

typedef struct eesp_proxy eesp_proxy;

/*
 * Joins two trust domains: packets are opened with receiver and sealed anew
 * with sender, in one call. Both must stay until the proxy is freed. They may be
 * of different profiles. coffset, ioffset and next_header are taken over, as far
 * as the second format has them: clear octets that it cannot leave in clear are
 * EESP_ERR_OFFSET. Where the first does not have the protocol (stateless, tss),
 * next_header is 0 in the second: packets of psp or eesp do not keep theirs
 * through such a domain. tss: the octets in front of the new header are written
 * too, out_addr's addresses (both IPv4, or IPv6) and zeros for the entropy; they
 * count as headroom.
 */
EESP_API EESP_MUST_CHECK eesp_status eesp_proxy_new(eesp_receiver *receiver, eesp_sender *sender, eesp_proxy **proxy);
EESP_API void eesp_proxy_free(eesp_proxy *proxy);

/*
 * Opens and seals n packets. In place, the old header and ICV make room for
 * the new ones: headroom is asked for only as far as the new header is longer.
 * addr serves opening, out_addr sealing. id and tsc are those of the packet
 * that came in. Chained packets: EESP_ERR_SEGMENTS. A packet that opened but
 * could not be sealed is zeroed.
 */
EESP_API size_t eesp_proxy_burst(eesp_proxy *proxy, eesp_pkt *pkts, size_t n);

/* ---- In UDP --------------------------------------------------------------- */

/* The IP packet as a whole, behind new IP and UDP headers. */
#define EESP_UDP_TUNNEL 0
/* Its payload, behind its own IP header and a UDP header: for formats that
 * carry the payload's protocol (psp, and eesp in the full format). */
#define EESP_UDP_TRANSPORT 1

/* flags of an eesp_udp (since 1.1). What comes back on opening is not
 * authenticated: nothing protects the outer header. */
#define EESP_UDP_ECN 0x1       /* tunnel: Explicit Congestion Notification goes outward and comes back, by RFC 6040 */
#define EESP_UDP_DSCP 0x2      /* tunnel, sealing: the inner DSCP goes outward, in place of tos's */
#define EESP_UDP_DSCP_BACK 0x4 /* tunnel, opening: the outer DSCP becomes the inner one (RFC 2983, uniform) */
#define EESP_UDP_CHECKSUM6 0x8 /* sealing: a UDP checksum, over IPv6: plain sockets drop datagrams without one
				  (UDP_NO_CHECK6_RX lets them in), and so do NICs */

typedef struct eesp_udp {
	uint32_t struct_size;
	uint16_t dst_port;   /* of the outer UDP header; opening: others are EESP_ERR_ENCAP */
	uint16_t src_port;   /* sealing: 0 = one of 49152 to 65535, by the packet's flow */
	uint8_t mode;        /* EESP_UDP_TUNNEL, EESP_UDP_TRANSPORT */
	uint8_t ttl;         /* sealing, tunnel: 0 = 64 */
	uint8_t tos;         /* sealing, tunnel: DSCP and ECN, but for what flags take from the packet */
	uint8_t reserved1;
	uint32_t flags;      /* EESP_UDP_x (since 1.1) */
	eesp_addr addr;      /* sealing, tunnel: outer addresses, both IPv4 or both IPv6 */
	uint64_t reserved[2];
} eesp_udp;
#define EESP_UDP_INIT { sizeof(eesp_udp), EESP_PSP_UDP_PORT, 0, 0, 0, 0, 0, 0, { { 0 }, { 0 } }, { 0, 0 } }

/*
 * As eesp_seal_burst, for IP packets: data is one, which ends where its own
 * length field says; the result is an IP packet with a UDP datagram in it.
 * next_header and addr are not read: where V asks for addresses, they are those
 * of the outer header, here and in eesp_udp_open_burst. The IPv4 checksum is right,
 * the UDP one 0 (RFC 6935, 6936) unless flags ask for it. Headroom that is needed
 * beyond the sealed header: the tunnel's 28 or 48 octets, or 8 (transport). Statuses
 * besides those of eesp_seal_burst: ARGUMENT (not a whole IP packet), UNSUPPORTED
 * (transport: a fragment, an IPv6 extension header, IPv4 protocol 0, a format that
 * does not carry the protocol, or protocol 59 with eesp, where it is a dummy; tss),
 * TOO_LONG (for IP; or the packet's length field is 0, so that it does not say how
 * long it is: a jumbogram, or BIG TCP), SEGMENTS (chained). udp not valid: all
 * packets ARGUMENT.
 */
EESP_API size_t eesp_udp_seal_burst(eesp_sender *sender, const eesp_udp *udp, eesp_pkt *pkts, size_t n);

/*
 * As eesp_open_burst, for IP packets with a UDP datagram in them: the result is
 * the inner IP packet. Octets behind the outer one's end are ignored, and in a
 * tunnel those behind the inner one's. ENCAP:
 * the outer packet is not whole, a fragment, not UDP, for another port, or its
 * IPv4 checksum is wrong; or what was in a tunnel is no IP packet, does not say how
 * long it is (jumbograms, BIG TCP), or, with EESP_UDP_ECN, met congestion and cannot
 * say so. UNSUPPORTED:
 * transport, and no protocol came with the payload; tss. SEGMENTS: chained. In
 * place, the result of transport mode begins in front of the payload, with the
 * outer IP header, which is not authenticated.
 */
EESP_API size_t eesp_udp_open_burst(eesp_receiver *receiver, const eesp_udp *udp, eesp_pkt *pkts, size_t n);

/* ---- Following an agent --------------------------------------------------- */

/*
 * Groups whose keys somebody else has in hand (since 1.1). On hosts of a cluster an
 * agent (eespd agent; docs/control.md) holds the keys, and brings each step of their
 * rotation. One call gives a group that has its parameters, keys and IDs from there:
 *
 *     eesp_group *group;
 *     eesp_group_follow("net", NULL, &group);
 *     eesp_sender_config sc = EESP_SENDER_CONFIG_INIT;   // no ID: the agent gives it
 *     eesp_sender_new(group, &sc, &sender);
 *     eesp_receiver_new(&group, 1, NULL, &receiver);
 *     eesp_follow_wait(group, 10000);                    // or begin, and see NO_KEY
 *
 * What is different in such a group:
 *   - A thread of the library does the work, with calls that block, and sleeps
 *     otherwise. It connects again when the agent was away, or the host has closed
 *     its descriptor. Bursts know nothing of it.
 *   - Without a key nothing is sealed: packets are EESP_ERR_NO_KEY, never sent as
 *     they are. They are EESP_ERR_OUT_OF_TOUCH when neither agent nor servers were
 *     heard of for as long as the group allows, and EESP_ERR_FENCED while another
 *     machine has this one's IDs; both end by themselves. Opening goes on.
 *   - Senders: id must be 0, and so must be all about counters and lock_dir. Each
 *     has an ID that was never used before, and another one after having been fenced.
 *     stateless: Master Key Options are always sent, and how long IDs are is the
 *     group's; v says what of addresses is in the context. tss: v is EESP_V_TSS_SSI
 *     (also for 0) or EESP_V_TSS_SSI_IPV6.
 *   - Receivers refuse what the group's senders of this process have sealed, and have
 *     the group's replay windows unless they ask for others.
 *   - Functions that change keys are EESP_ERR_UNSUPPORTED.
 *   - eesp_group_free ends it: keys are dropped, for senders and receivers of
 *     the group too. Free those before.
 */
#define EESP_AGENT_SOCKET "/run/eespd/agent/agent.sock"

/* Return as soon as the group's parameters are known: keys may come later. */
#define EESP_FOLLOW_WITHOUT_KEYS 0x1

typedef struct eesp_follow_config {
	uint32_t struct_size;
	uint32_t flags;          /* EESP_FOLLOW_x */
	const char *socket_path; /* NULL = EESP_AGENT_SOCKET */
	uint32_t timeout_ms;     /* that eesp_group_follow waits; 0 = 10,000 */
	uint32_t agent_uid;      /* a user that the agent may run as, besides root and this process's own; 0 = none */
	uint64_t reserved[3];
} eesp_follow_config;
#define EESP_FOLLOW_CONFIG_INIT { sizeof(eesp_follow_config), 0, NULL, 0, 0, { 0, 0, 0 } }

/*
 * Makes a group that follows an agent, and waits until it has keys. config NULL:
 * all defaults. EESP_ERR_AGENT: there is none, or it refuses this user;
 * EESP_ERR_NOT_FOUND: it knows no such group; EESP_ERR_NO_KEY: it has no keys of it
 * yet; EESP_ERR_UNSUPPORTED: a profile other than stateless and tss.
 * eesp_last_error says more.
 */
EESP_API EESP_MUST_CHECK eesp_status eesp_group_follow(const char *name, const eesp_follow_config *config,
						       eesp_group **group);

/*
 * Waits until the group's senders can seal: there are keys, the agent allows it,
 * and each sender has an ID. After timeout_ms it returns why not: EESP_ERR_NO_KEY,
 * _OUT_OF_TOUCH or _FENCED.
 */
EESP_API EESP_MUST_CHECK eesp_status eesp_follow_wait(const eesp_group *group, uint32_t timeout_ms);

typedef struct eesp_follow_info {
	uint64_t generation[EESP_LEVEL_COUNT][3]; /* by level: previous, current, next; 0: there is none */
	uint64_t states;         /* that the agent asked for and that are in force, so far */
	uint64_t refused;        /* that are not */
	uint64_t fenced;         /* how often this machine was */
	uint64_t ids;            /* how many IDs the agent has given */
	int32_t sealing;         /* EESP_OK, or what packets are refused with */
	uint32_t connected;      /* 1: the agent is there */
	uint32_t replay_window;  /* that receivers have if they do not ask */
	uint32_t replay_contexts;
	uint32_t mtu;            /* a hint; 0: none */
	uint32_t v;              /* stateless: EESP_V_ID or EESP_V_LONG_ID, which senders have */
	uint32_t profile;        /* eesp_profile, and so on: as in an eesp_group_config */
	uint32_t aead;
	uint32_t domain;
	uint32_t mode;
	char problem[128];       /* the last one, in words; "": none */
	uint64_t reserved[4];
} eesp_follow_info;

/* Tells what is known of a group that follows an agent. */
EESP_API EESP_MUST_CHECK eesp_status eesp_group_follow_info(const eesp_group *group, eesp_follow_info *info);

/* ---- Counters of what happened ------------------------------------------ */

#define EESP_STATS_LEN 62 /* room for statuses of later versions */

typedef struct eesp_stats {
	uint64_t octets;                     /* of all results */
	uint64_t packets[EESP_STATS_LEN];    /* by status: packets[-status] */
	uint64_t reserved[1];
} eesp_stats;

/* Reads the counters since the object was made. They only grow. A proxy's are
 * in its receiver (opened) and its sender (sealed). */
EESP_API EESP_MUST_CHECK eesp_status eesp_sender_stats(const eesp_sender *sender, eesp_stats *stats);
EESP_API EESP_MUST_CHECK eesp_status eesp_receiver_stats(const eesp_receiver *receiver, eesp_stats *stats);

typedef struct eesp_replay_stats {
	uint64_t windows;    /* in use */
	uint64_t most;       /* that there may be */
	uint64_t duplicates; /* packets refused: seen before */
	uint64_t old;        /* packets refused: further back than the window */
	uint64_t no_room;    /* packets refused: no window left */
	uint64_t made;       /* windows made so far */
	uint64_t given_up;   /* windows given up because their key was gone */
	uint64_t early;      /* time: packets refused: ahead of the clock; old and no_room: STALE and FULL */
} eesp_replay_stats;

/* Reads what a receiver's replay protection counts; all zero without it. */
EESP_API EESP_MUST_CHECK eesp_status eesp_receiver_replay_stats(const eesp_receiver *receiver, eesp_replay_stats *stats);

/* ---- Kernels without packets --------------------------------------------- */

/*
 * The steps behind a burst, for formats that are not the library's: derive
 * many keys, and seal or open many messages with AES-GCM, each with its own
 * key. Keys, nonces and AAD are in your hands, and so is the rule that one
 * key never seals two messages with one nonce. All of it works in bursts, as
 * fast as the packet functions do; sort jobs by len if you can.
 */

/* A key of the key-derivation function, AES-256-CMAC, in locked memory. */
typedef struct eesp_kdf eesp_kdf;
/* Data keys, expanded, in locked memory: 512 octets each. */
typedef struct eesp_keyset eesp_keyset;

#define EESP_KDF_CONTEXT_LEN 16 /* octets of a context */
#define EESP_MAX_KEYSET 65536   /* keys of a set */

/*
 * One message. tag is EESP_ICV_LEN octets. dst is src (in place) or does not
 * overlap it; aad and tag overlap neither.
 */
typedef struct eesp_job {
	const void *aad;  /* in  aad_len octets */
	const void *src;  /* in  len octets */
	void *dst;        /* out len octets */
	void *tag;        /* seal: out, open: in */
	uint32_t aad_len; /* in  at most EESP_MAX_LEN */
	uint32_t len;     /* in  at most EESP_MAX_LEN */
	uint32_t key;     /* in  which key of the set; with a KDF: 0 */
	uint32_t ok;      /* open: out 1 if the tag is right, else 0, and dst is zeroed */
	uint8_t nonce[12]; /* in */
	uint8_t reserved[4];
} eesp_job;

/* Expands a key of 32 octets. */
EESP_API EESP_MUST_CHECK eesp_status eesp_kdf_new(const uint8_t key[32], eesp_kdf **kdf);
EESP_API void eesp_kdf_free(eesp_kdf *kdf);

/*
 * Derives the keys of n contexts (NIST SP 800-108, counter mode): the first 16
 * octets of a key are the AES-256-CMAC of the context with its first octet set
 * to 1, the second 16 (EESP_AEAD_AES_256_GCM) with it set to 2. (Where that
 * octet is 0 in all of them, they need not be copied.) Keys are
 * written one behind the other; keys_len must be exactly n times their length.
 */
EESP_API EESP_MUST_CHECK eesp_status eesp_kdf_derive(const eesp_kdf *kdf, uint32_t aead, const uint8_t *contexts,
						     size_t n, uint8_t *keys, size_t keys_len);

/*
 * Derives a key for each job from its context (job i: 16 octets from
 * contexts + 16*i), and seals or opens the job with it. Returns how many are
 * good: for seal all n of them. 0 without any work if an argument is wrong
 * (eesp_last_error).
 */
EESP_API size_t eesp_kdf_seal(const eesp_kdf *kdf, uint32_t aead, const uint8_t *contexts, eesp_job *jobs, size_t n);
EESP_API size_t eesp_kdf_open(const eesp_kdf *kdf, uint32_t aead, const uint8_t *contexts, eesp_job *jobs, size_t n);

/* Expands n keys, one behind the other: 16 or 32 octets each, as aead says. */
EESP_API EESP_MUST_CHECK eesp_status eesp_keyset_new(uint32_t aead, const uint8_t *keys, size_t n, eesp_keyset **set);
EESP_API void eesp_keyset_free(eesp_keyset *set);

/* As eesp_kdf_seal and eesp_kdf_open, with the keys of the set. */
EESP_API size_t eesp_keyset_seal(const eesp_keyset *set, eesp_job *jobs, size_t n);
EESP_API size_t eesp_keyset_open(const eesp_keyset *set, eesp_job *jobs, size_t n);

/* ---- Helpers ------------------------------------------------------------ */

/* Writes the 16-octet form of an IPv4 address given in network order. */
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
 * others behind them (in any order); returns how many are good.
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
EESP_ASSERT_(offsetof(eesp_pkt, next_header) == 62);
EESP_ASSERT_(sizeof(eesp_job) == 64);
EESP_ASSERT_(offsetof(eesp_job, nonce) == 48);
#endif

#ifdef __cplusplus
}
#endif

#endif /* EESP_H */
