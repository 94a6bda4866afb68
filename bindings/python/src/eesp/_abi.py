# SPDX-License-Identifier: BSD-3-Clause
"""The C ABI of libeesp (include/eesp.h), declared for ctypes, and the library itself, loaded on import.

Nothing here is public. tests/test_abi.py compares all of it with the header.
"""

from __future__ import annotations

import ctypes
import os
import sys
from ctypes import (
    POINTER,
    Structure,
    c_char,
    c_char_p,
    c_int,
    c_int32,
    c_int64,
    c_size_t,
    c_uint,
    c_uint8,
    c_uint16,
    c_uint32,
    c_uint64,
    c_void_p,
)
from pathlib import Path
from typing import Any

from ._version import __version__

# packets.py packs neighbouring fields of eesp_pkt into 64-bit words.
if sys.byteorder != "little" or ctypes.sizeof(c_void_p) != 8:
    raise ImportError("eesp needs a 64-bit little-endian machine")

ICV_LEN = 16
MIN_HEADER = 12
MAX_HEADER = 128
MAX_LEN = 1 << 20
MAX_GROUPS = 64
MIN_ROOT_KEY_ID = 16
MAX_ROOT_KEY_ID = 32
ROOT_KEY_LEN = 32
MAX_OPTIONS = 108
UDP_PORT = 63377
PSP_UDP_PORT = 1000
TSS_UDP_PORT = 4793
MAX_PADDING = 3
MAX_FLOW_ID = 64
PSP_MAX_EXTENSION = 112
TSS_LEAD_IPV4 = 12
TSS_LEAD_IPV6 = 36
# status count: begin
STATUS_COUNT = 46
# status count: end
REPLAY_WINDOWS = 0
REPLAY_TIME = 1
LEVEL_COUNT = 3
STATS_LEN = 62
GROUP_NO_SEQUENCE = 0x1
GROUP_IV = 0x2
GROUP_OPTIMIZED = 0x4
GROUP_ALIGN8 = 0x8
GROUP_TIME = 0x20
GROUP_TIME_LATE = 0x40
GROUP_NO_DIRECTION_BIT = 0x10
DRAFT_DEFAULT = 0
FOLLOW_WITHOUT_KEYS = 0x1
FOLLOW_CLIENTS = 0x2
DRAFT_02 = 2
DRAFT_03 = 3
UDP_ECN = 0x1
UDP_DSCP = 0x2
UDP_DSCP_BACK = 0x4
UDP_CHECKSUM6 = 0x8
PKT_IPV6 = 0x1
PKT_EXTENSION = 0x2
SENDER_OPTIONS = 0x1
SENDER_FIXED_EPOCH = 0x2
SENDER_TIME = 0x10
SENDER_TIME_LATE = 0x20
SENDER_NO_VC = 0x4
SENDER_OFFSET_FROM_IV = 0x8
RECEIVER_TRY_PREVIOUS = 0x1
RECEIVER_CLOCK_TRUSTED = 0x2
KDF_CONTEXT_LEN = 16
MAX_KEYSET = 65536


class GroupConfig(Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("profile", c_uint32),
        ("aead", c_uint32),
        ("combiner", c_uint32),
        ("domain", c_uint32),
        ("sub_sas", c_uint32),
        ("rekey_mask", c_uint64),
        ("rekey_shift", c_uint8),
        ("mode", c_uint8),
        ("versions", c_uint8),
        ("max_coffset", c_uint8),
        ("flags", c_uint32),
        ("reserved", c_uint64 * 1),
        ("draft", c_uint8),
        ("encap", c_uint8),
        ("crypt_offset", c_uint16),
        ("epoch_age", c_uint16),
        ("reserved2", c_uint8 * 2),
        ("auth_failure_limit", c_uint32),
        ("reserved3", c_uint32),
        ("counter_limit", c_uint64),
    ]


class RootKeyInfo(Structure):
    _fields_ = [
        ("index", c_uint64 * 3),
        ("id", c_uint8 * MAX_ROOT_KEY_ID),
        ("id_len", c_uint32),
        ("has_previous", c_uint32),
    ]


class Addr(Structure):
    _fields_ = [("src", c_uint8 * 16), ("dst", c_uint8 * 16)]


class Context(Structure):
    _fields_ = [
        ("id", c_uint64),
        ("epoch", c_uint16),
        ("v", c_uint8),
        ("levels", c_uint8),
        ("generation", c_uint8),
        ("reserved", c_uint8 * 3),
        ("addr", Addr),
    ]


class DataKey(Structure):
    _fields_ = [
        ("id", c_uint64),
        ("epoch", c_uint16),
        ("v", c_uint8),
        ("key_len", c_uint8),
        ("options_len", c_uint8),
        ("profile", c_uint8),
        ("params", c_uint8 * 2),
        ("addr", Addr),
        ("key", c_uint8 * 32),
        ("options", c_uint8 * MAX_OPTIONS),
        ("domain", c_uint32),
    ]


class Iov(Structure):
    _fields_ = [("base", c_void_p), ("len", c_size_t)]


class Pkt(Structure):
    _fields_ = [
        ("data", c_void_p),
        ("len", c_uint32),
        ("headroom", c_uint32),
        ("tailroom", c_uint32),
        ("coffset", c_uint8),
        ("ioffset", c_uint8),
        ("iov_count", c_uint16),
        ("iov", POINTER(Iov)),
        ("dst", c_void_p),
        ("dst_size", c_uint32),
        ("status", c_int32),
        ("out", c_void_p),
        ("out_len", c_uint32),
        ("flags", c_uint16),
        ("next_header", c_uint8),
        ("reserved", c_uint8),
        ("addr", Addr),
        ("id", c_uint64),
        ("tsc", c_uint64),
        ("out_addr", POINTER(Addr)),
        ("user", c_void_p),
    ]


class SenderConfig(Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("flags", c_uint32),
        ("id", c_uint64),
        ("v", c_uint8),
        ("levels", c_uint8),
        ("counter_mode", c_uint8),
        ("engine_bits", c_uint8),
        ("engine", c_uint32),
        ("rate_log2", c_uint8),
        ("reserved1", c_uint8),
        ("epoch", c_uint16),
        ("reserved2", c_uint32),
        ("epoch_start_ns", c_int64),
        ("start_counter", c_uint64),
        ("reserve_run", c_uint64),
        ("state_path", c_char_p),
        ("extra", c_void_p),
        ("extra_len", c_uint32),
        ("reserved3", c_uint32),
        ("lock_dir", c_char_p),
        ("reserved", c_uint64 * 1),
    ]


class ReceiverConfig(Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("flags", c_uint32),
        ("own_ids", POINTER(c_uint64)),
        ("own_id_count", c_size_t),
        ("replay_window", c_uint32),
        ("replay_contexts", c_uint32),
        ("engine_bits", c_uint8),
        ("replay_mode", c_uint8),
        ("reserved1", c_uint8 * 6),
        ("max_age_us", c_uint32),
        ("max_early_us", c_uint32),
        ("max_rate", c_uint64),
        ("mark_path", c_char_p),
        ("heir_of", c_void_p),
        ("reserved", c_uint64 * 1),
    ]


class Udp(Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("dst_port", c_uint16),
        ("src_port", c_uint16),
        ("mode", c_uint8),
        ("ttl", c_uint8),
        ("tos", c_uint8),
        ("reserved1", c_uint8),
        ("flags", c_uint32),
        ("addr", Addr),
        ("reserved", c_uint64 * 2),
    ]


class Stats(Structure):
    _fields_ = [("octets", c_uint64), ("packets", c_uint64 * STATS_LEN), ("reserved", c_uint64 * 1)]


class ReplayStats(Structure):
    _fields_ = [
        ("windows", c_uint64),
        ("most", c_uint64),
        ("duplicates", c_uint64),
        ("old", c_uint64),
        ("no_room", c_uint64),
        ("made", c_uint64),
        ("given_up", c_uint64),
        ("early", c_uint64),
    ]


class DomainStats(Structure):
    _fields_ = [
        ("sealed", c_uint64),
        ("opened", c_uint64),
        ("auth_failures", c_uint64),
        ("invalid", c_uint64),
        ("unknown_sa", c_uint64),
        ("late_epoch", c_uint64),
        ("exhausted", c_uint64),
        ("wrong_ssi", c_uint64),
        ("clear", c_uint64),
        ("failures", c_uint64),
        ("latched", c_uint64),
        ("epoch", c_uint64),
        ("reserved", c_uint64 * 4),
    ]


class Usage(Structure):
    _fields_ = [
        ("derived", c_uint64),
        ("sealed", c_uint64),
        ("opened", c_uint64),
        ("index", c_uint64),
        ("reserved", c_uint64 * 4),
    ]


class FollowConfig(Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("flags", c_uint32),
        ("socket_path", c_char_p),
        ("timeout_ms", c_uint32),
        ("agent_uid", c_uint32),
        ("reserved", c_uint64 * 3),
    ]


class FollowInfo(Structure):
    _fields_ = [
        ("generation", c_uint64 * 3 * LEVEL_COUNT),
        ("states", c_uint64),
        ("refused", c_uint64),
        ("fenced", c_uint64),
        ("ids", c_uint64),
        ("sealing", c_int32),
        ("connected", c_uint32),
        ("replay_window", c_uint32),
        ("replay_contexts", c_uint32),
        ("mtu", c_uint32),
        ("v", c_uint32),
        ("profile", c_uint32),
        ("aead", c_uint32),
        ("domain", c_uint32),
        ("mode", c_uint32),
        ("problem", c_char * 128),
        ("replay_mode", c_uint32),
        ("reserved1", c_uint32),
        ("reserved", c_uint64 * 3),
    ]


class FollowClient(Structure):
    _fields_ = [
        ("up", c_uint64),
        ("down", c_uint64),
        ("lease_ms", c_uint32),
        ("reserved", c_uint32),
        ("name", c_char * 64),
    ]


class Job(Structure):
    _fields_ = [
        ("aad", c_void_p),
        ("src", c_void_p),
        ("dst", c_void_p),
        ("tag", c_void_p),
        ("aad_len", c_uint32),
        ("len", c_uint32),
        ("key", c_uint32),
        ("ok", c_uint32),
        ("nonce", c_uint8 * 12),
        ("reserved", c_uint8 * 4),
    ]


STRUCTURES: dict[str, type[Structure]] = {
    "eesp_group_config": GroupConfig,
    "eesp_root_key_info": RootKeyInfo,
    "eesp_addr": Addr,
    "eesp_context": Context,
    "eesp_data_key": DataKey,
    "eesp_iov": Iov,
    "eesp_pkt": Pkt,
    "eesp_sender_config": SenderConfig,
    "eesp_receiver_config": ReceiverConfig,
    "eesp_udp": Udp,
    "eesp_stats": Stats,
    "eesp_replay_stats": ReplayStats,
    "eesp_domain_stats": DomainStats,
    "eesp_usage": Usage,
    "eesp_follow_config": FollowConfig,
    "eesp_follow_info": FollowInfo,
    "eesp_follow_client": FollowClient,
    "eesp_job": Job,
}

# Every pointer is a void * here: ctypes then takes an address, bytes, an array or byref().
_P, _N = c_void_p, c_size_t

FUNCTIONS: dict[str, tuple[Any, list[Any]]] = {
    "eesp_strerror": (c_char_p, [c_int]),
    "eesp_last_error": (c_char_p, []),
    "eesp_version": (c_uint32, []),
    "eesp_version_string": (c_char_p, []),
    "eesp_backend_name": (c_char_p, []),
    "eesp_backend_at": (c_char_p, [_N]),
    "eesp_backend_supported": (c_int, [c_char_p]),
    "eesp_backend_select": (c_int, [c_char_p]),
    "eesp_self_test": (c_int, []),
    "eesp_thread_init": (c_int, []),
    "eesp_thread_keep_warm": (None, []),
    "eesp_group_new": (c_int, [_P, _P]),
    "eesp_group_free": (None, [_P]),
    "eesp_group_set_root_key_der": (c_int, [_P, c_int, _P, _N]),
    "eesp_group_set_root_key": (c_int, [_P, c_int, _P, _N, _P, _P]),
    "eesp_group_set_ring": (c_int, [_P, c_int, _P, _N, _P, _P, c_uint64]),
    "eesp_group_wait": (c_int, [_P, c_uint32]),
    "eesp_group_follow": (c_int, [c_char_p, _P, _P]),
    "eesp_follow_wait": (c_int, [_P, c_uint32]),
    "eesp_group_follow_info": (c_int, [_P, _P]),
    "eesp_follow_clients": (c_int, [_P, _P, _P]),
    "eesp_sender_new_to_client": (c_int, [_P, c_uint64, _P]),
    "eesp_sender_set_id": (c_int, [_P, c_uint64]),
    "eesp_sender_id": (c_uint64, [_P]),
    "eesp_receiver_set_own_ids": (c_int, [_P, _P, _N]),
    "eesp_group_generate_root_key": (c_int, [_P, c_int, _P, _N]),
    "eesp_group_get_root_key_der": (c_int, [_P, c_int, _P, _P]),
    "eesp_group_rotate": (c_int, [_P, c_int, c_uint64, _P]),
    "eesp_group_remove_root_key": (c_int, [_P, c_int]),
    "eesp_group_set_default_levels": (c_int, [_P, c_uint]),
    "eesp_group_get_root_key_info": (c_int, [_P, c_int, _P]),
    "eesp_group_set_key": (c_int, [_P, c_uint, _P, _N]),
    "eesp_group_use_key": (c_int, [_P, c_uint]),
    "eesp_group_rotate_key": (c_int, [_P, _P, _N, _P]),
    "eesp_group_remove_key": (c_int, [_P, c_uint]),
    "eesp_group_alloc_spi": (c_int, [_P, c_uint32, _P]),
    "eesp_group_set_epoch": (c_int, [_P, c_uint16]),
    "eesp_group_reset_latch": (c_int, [_P]),
    "eesp_group_domain_stats": (c_int, [_P, _P]),
    "eesp_group_usage": (c_int, [_P, c_int, c_uint, _P]),
    "eesp_derive_keys": (c_int, [_P, _P, _N, _P, _N]),
    "eesp_data_key_export": (c_int, [_P, _P, c_int, _P]),
    "eesp_data_key_wipe": (None, [_P]),
    "eesp_sender_new": (c_int, [_P, _P, _P]),
    "eesp_sender_new_with_key": (c_int, [_P, _P, _P]),
    "eesp_sender_free": (None, [_P]),
    "eesp_sender_header_len": (c_uint32, [_P]),
    "eesp_sender_next_tsc": (c_uint64, [_P]),
    "eesp_seal_burst": (_N, [_P, _P, _N]),
    "eesp_receiver_new": (c_int, [_P, _N, _P, _P]),
    "eesp_receiver_new_with_key": (c_int, [_P, _P, _P]),
    "eesp_receiver_free": (None, [_P]),
    "eesp_open_burst": (_N, [_P, _P, _N]),
    "eesp_proxy_new": (c_int, [_P, _P, _P]),
    "eesp_proxy_free": (None, [_P]),
    "eesp_proxy_burst": (_N, [_P, _P, _N]),
    "eesp_udp_seal_burst": (_N, [_P, _P, _P, _N]),
    "eesp_udp_open_burst": (_N, [_P, _P, _P, _N]),
    "eesp_sender_stats": (c_int, [_P, _P]),
    "eesp_receiver_stats": (c_int, [_P, _P]),
    "eesp_receiver_replay_stats": (c_int, [_P, _P]),
    "eesp_kdf_new": (c_int, [_P, _P]),
    "eesp_kdf_free": (None, [_P]),
    "eesp_kdf_derive": (c_int, [_P, c_uint32, _P, _N, _P, _N]),
    "eesp_kdf_seal": (_N, [_P, c_uint32, _P, _P, _N]),
    "eesp_kdf_open": (_N, [_P, c_uint32, _P, _P, _N]),
    "eesp_keyset_new": (c_int, [c_uint32, _P, _N, _P]),
    "eesp_keyset_free": (None, [_P]),
    "eesp_keyset_seal": (_N, [_P, _P, _N]),
    "eesp_keyset_open": (_N, [_P, _P, _N]),
}

SONAME = "libeesp.so.1"


def find_library() -> str:
    """The file that EESP_LIBRARY names; else the bundled one; else what the dynamic loader finds."""
    chosen = os.environ.get("EESP_LIBRARY")
    if chosen:
        return chosen
    bundled = Path(__file__).parent / "_lib" / SONAME
    return str(bundled) if bundled.exists() else SONAME


def check_version(found: int, path: str) -> None:
    """Refuses a library of another major version, or one older than what this package declares."""
    major, minor, patch = (int(part) for part in __version__.split("."))
    if found >> 24 != major or found >> 16 & 0xFF < minor:
        raise ImportError(
            f"{path} is libeesp {found >> 24}.{found >> 16 & 0xFF}.{found >> 8 & 0xFF}; "
            f"eesp {__version__} needs libeesp {major}.{minor} or a later {major}.x"
        )


def load_library(path: str) -> ctypes.CDLL:
    """Loads the library and declares its functions. ctypes.CDLL releases the GIL during every call."""
    try:
        library = ctypes.CDLL(path)
    except OSError as error:
        raise ImportError(f"cannot load libeesp ({error}); EESP_LIBRARY may name its file") from error
    try:
        library.eesp_version.restype = c_uint32
        check_version(library.eesp_version(), path)
        for name, (restype, argtypes) in FUNCTIONS.items():
            function = getattr(library, name)
            function.restype, function.argtypes = restype, argtypes
    except AttributeError as error:
        raise ImportError(f"{path} is not libeesp {__version__}: {error}") from error
    return library


PATH = find_library()
LIB = load_library(PATH)
