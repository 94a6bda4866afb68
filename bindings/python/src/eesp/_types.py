# SPDX-License-Identifier: BSD-3-Clause
"""Enumerations and plain data."""

from __future__ import annotations

import enum
import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, Union

from . import _abi

if TYPE_CHECKING:
    import array
    import ctypes
    import mmap

    from .secret import Secret


class Status(enum.IntEnum):
    """The outcome of a call or of one packet."""

    # statuses: begin
    OK = 0
    ARGUMENT = -1
    AUTH = -2
    REPLAY = -3
    NO_KEY = -4
    SHORT = -5
    VERSION = -6
    V = -7
    RESERVED = -8
    HEADER_LEN = -9
    OFFSET = -10
    OPTION = -11
    ROOM = -12
    TOO_LONG = -13
    OVERLAP = -14
    EXHAUSTED = -15
    CLOCK = -16
    STATE = -17
    REFLECTED = -18
    CONTEXT = -19
    FORKED = -20
    SELF_TEST = -21
    BACKEND = -22
    MEMORY = -23
    ROOT_KEY = -24
    EXISTS = -25
    NOT_FOUND = -26
    UNSUPPORTED = -27
    INTERNAL = -28
    SEGMENTS = -29
    EPOCH = -30
    SESSION = -31
    SEQUENCE = -32
    PAYLOAD = -33
    WINDOWS = -34
    ENCAP = -35
    DUMMY = -36
    LATCHED = -37
    STALE = -38
    EARLY = -39
    FULL = -40
    FENCED = -41
    OUT_OF_TOUCH = -42
    AGENT = -43
    TIMEOUT = -44
    FLOODED = -45
    # statuses: end

    def describe(self) -> str:
        """The library's short text for the status."""
        text: bytes = _abi.LIB.eesp_strerror(int(self))
        return text.decode()


class Profile(enum.IntEnum):
    """The packet format of a group: draft-xia-ipsecme-eesp-stateless-encryption-02, Google PSP, Ultra Ethernet TSS, EESP."""

    STATELESS = 0
    PSP = 1
    TSS = 2
    EESP = 3


class Aead(enum.IntEnum):
    """The AEAD of a group."""

    AES_128_GCM = 0
    AES_256_GCM = 1

    @property
    def key_len(self) -> int:
        """Octets of a data key."""
        return 16 if self is Aead.AES_128_GCM else 32


class Combiner(enum.IntEnum):
    """How root keys of several levels become one master key."""

    HKDF = 0
    XOR = 1


class Level(enum.IntEnum):
    """A level of root keys."""

    ZONE = 0
    USER = 1
    TASK = 2


class Levels(enum.IntFlag):
    """A set of levels; DEFAULT is the group's default."""

    DEFAULT = 0
    ZONE = 0x1
    USER = 0x2
    TASK = 0x4


class TssMode(enum.IntEnum):
    """Mode of a group of profile tss: which end holds which key."""

    CLUSTER = 0
    SERVER = 1
    DIRECT = 2


class Sskdf(enum.IntEnum):
    """Mode of a group of profile eesp: how the keys of Sub SAs are derived from the root key."""

    HKDF_SHA2_256 = 1
    HKDF_SHA2_384 = 2
    HKDF_SHA2_512 = 3
    AES256_CMAC = 4
    NONE = 255  # no Sub SAs: the SA's key, and 4 octets of salt, as key exchange gives them

    @property
    def key_len(self) -> int:
        """Octets of the root key (NONE: see key_len_with)."""
        if self is Sskdf.NONE:
            raise ValueError("without an SSKDF the AEAD says how long the key is: key_len_with(aead)")
        return {Sskdf.HKDF_SHA2_384: 48, Sskdf.HKDF_SHA2_512: 64}.get(self, 32)

    def key_len_with(self, aead: Aead) -> int:
        """Octets of the root key, or without Sub SAs of the SA's key and salt."""
        return aead.key_len + 4 if self is Sskdf.NONE else self.key_len


class Encap(enum.IntEnum):
    """Encapsulation mode of a group of profile eesp, which decides the format in draft -03."""

    TRANSPORT = 0
    TUNNEL = 1
    BEET = 2
    IPTFS = 3


class UdpMode(enum.IntEnum):
    """What a UDP datagram contains: the whole IP packet, or only its payload, behind its own IP header."""

    TUNNEL = 0
    TRANSPORT = 1


class V(enum.IntEnum):
    """Profile stateless: what the data key's context is made of: the ID (8 octets if LONG), and addresses."""

    ID = 0x0
    ID_SRC = 0x1
    ID_SRC_DST = 0x2
    LONG_ID = 0x8
    LONG_ID_SRC = 0x9
    LONG_ID_SRC_DST = 0xA

    @property
    def addresses(self) -> int:
        """How many addresses are in the context: none, the source, or both."""
        return self.value & 3


class PspVersion(enum.IntEnum):
    """Profile psp: the version, which selects the AEAD. GMAC only authenticates."""

    AES_128_GCM = 0
    AES_256_GCM = 1
    AES_128_GMAC = 2
    AES_256_GMAC = 3


class TssV(enum.IntEnum):
    """Profile tss: whether headers have an SSI. Without an SSI, and over IPv6 also with one, the context has the address.

    A group's sender with SSI seals packets of either family.
    """

    ADDR = 0
    SSI = 1
    ADDR_IPV6 = 2
    SSI_IPV6 = 3


#: What the field v of senders, contexts and data keys is, by profile; eesp has none.
AnyV = Union[V, PspVersion, TssV]


class Generation(enum.IntEnum):
    """Names one key of a ring."""

    CURRENT = 0
    PREVIOUS = 1
    NEXT = 2


class _HasArrayInterface(Protocol):
    """NumPy arrays, without importing NumPy."""

    @property
    def __array_interface__(self) -> dict[str, Any]: ...


#: Whatever lends its memory through the buffer protocol.
Buffer = Union[
    bytes, bytearray, memoryview, "array.array[Any]", "mmap.mmap", "ctypes.Array[Any]", _HasArrayInterface, "Secret"
]

#: "192.0.2.1", "2001:db8::1", an object of module ipaddress, or 4 or 16 octets in network order.
Address = Union[str, bytes, ipaddress.IPv4Address, ipaddress.IPv6Address]
#: Source and destination.
AddressPair = tuple[Address, Address]


_V_KINDS: dict[Profile, type[V] | type[PspVersion] | type[TssV]] = {
    Profile.STATELESS: V,
    Profile.PSP: PspVersion,
    Profile.TSS: TssV,
}


def v_number(profile: Profile, aead: Aead, v: AnyV | int | None) -> int:
    """The number of a v, which must not be another profile's. None: what is usual."""
    kind = _V_KINDS.get(profile)
    if v is None:
        if profile is Profile.TSS:
            raise ValueError("profile tss: v is needed, one of TssV")
        return int(aead) if profile is Profile.PSP else 0
    if isinstance(v, enum.IntEnum) and type(v) is not kind:
        takes = "no v" if kind is None else f"one of {kind.__name__}"
        raise ValueError(f"v is {type(v).__name__}.{v.name}: profile {profile.name.lower()} takes {takes}")
    return int(v)


def v_member(profile: Profile, v: int) -> AnyV | None:
    """A number as a member of the profile's enumeration."""
    kind = _V_KINDS.get(profile)
    return None if kind is None else kind(v)


def address(value: Address) -> bytes:
    """The 16 octets of an address; IPv4 as ::ffff:a.b.c.d."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        packed = bytes(value)
    elif isinstance(value, int):  # which ip_address takes
        raise TypeError("an address is text, octets or an object of module ipaddress, not a number")
    else:
        packed = ipaddress.ip_address(value).packed
    if len(packed) == 4:
        return bytes(10) + b"\xff\xff" + packed
    if len(packed) != 16:
        raise ValueError(f"an address has 4 or 16 octets, not {len(packed)}")
    return packed


def tss_lead(src: Address, dst: Address, entropy: bytes = bytes(4)) -> bytes:
    """The prefix of a tss packet: addresses, and 4 octets of entropy (in UDP, the ports)."""
    ends, mapped = (address(src), address(dst)), bytes(10) + b"\xff\xff"
    if len(entropy) != 4:
        raise ValueError("entropy has 4 octets")
    short = [end.startswith(mapped) for end in ends]
    if short[0] != short[1]:
        raise ValueError("src and dst must have the same IP version")
    return b"".join(end[12:] if short[0] else end for end in ends) + bytes(entropy)


@dataclass(frozen=True)
class Context:
    """What a data key depends on besides the group's keys.

    psp: id (SPI), v (not given: the version of the group's AEAD). tss: id (SSI; in the upper 32 bits what rekey_mask
    selects), epoch, v, generation (the slot), src without SSI. eesp: id (Session ID). src and dst are needed where v asks
    for them.
    """

    id: int
    epoch: int = 0
    v: AnyV | None = None
    levels: Levels = Levels.DEFAULT
    generation: Generation | int = Generation.CURRENT
    src: Address | None = None
    dst: Address | None = None


@dataclass(frozen=True)
class RootKeyInfo:
    """The public part of a level's root key."""

    id: bytes
    previous: int
    current: int
    next: int
    has_previous: bool


@dataclass(frozen=True)
class FollowInfo:
    """Describes a group that follows an agent."""

    connected: bool
    sealing: Status  # OK, or the status of packets to be sealed
    generations: dict[Level, tuple[int, int, int]]  # previous, current, next; 0: none
    states: int  # states of the agent that were installed
    refused: int  # states that were refused
    fenced: int  # how often another machine had this machine's IDs
    ids: int  # how many IDs the agent has given
    replay_window: int  # of receivers that set none
    replay_contexts: int
    mtu: int  # a hint; 0: none
    problem: str  # the last problem, as text; "": none
    replay: Literal["windows", "time"]  # of receivers that set none; "time": counters are times


@dataclass(frozen=True)
class Client:
    """A client outside the cluster that has a pair of a followed group's data keys."""

    name: str  # from its certificate
    up: int  # ID (psp: SPI) of packets from it
    down: int  # ID (psp: SPI) of packets to it
    lease: float  # what is left of it, seconds


@dataclass(frozen=True)
class Clock:
    """Counters follow the wall clock. So do epochs, unless a fixed epoch is given with its start (ns since 1970).

    The start, and rate_log2 with the engine bits, belong to the epoch: they must be the same whenever a sender begins
    in it. A start that is "now" repeats counters.
    """

    rate_log2: int = 0
    epoch: int | None = None
    epoch_start_ns: int = 0


@dataclass(frozen=True)
class Reserved:
    """A file holds a mark above all counters used. run: counters claimed at a time, 0 for the default.

    The file belongs to one ID, engine and key: the group must have its key before a sender is made.
    """

    path: str | os.PathLike[str]
    epoch: int = 0
    run: int = 0


@dataclass(frozen=True)
class Explicit:
    """The caller chooses the first counter and must make sure that no counter repeats."""

    start: int
    epoch: int = 0


Counter = Union[Clock, Reserved, Explicit]


@dataclass(frozen=True)
class Opened:
    """One opened packet with the fields of its header."""

    payload: bytes
    id: int
    epoch: int
    counter: int
    coffset: int
    ioffset: int
    next_header: int = 0

    @property
    def tsc(self) -> int:
        """Epoch(16) | Counter(48) as one number: psp, the IV; eesp, the sequence number."""
        return self.epoch << 48 | self.counter


@dataclass(frozen=True)
class Udp:
    """The UDP datagrams that sealed packets travel in.

    dport: of the outer header; opening refuses packets to other ports. sport 0: one for each flow. src, dst, ttl (0: 64)
    and tos are of the outer header that a tunnel puts in front when sealing. ecn: a tunnel's outer header gets the
    inner one's ECN, and opening copies it back (RFC 6040). dscp: the outer header gets the inner one's
    DSCP; dscp_back: opening copies it back. checksum6: datagrams over IPv6 get a UDP checksum, without
    which plain sockets and NICs drop them.
    """

    mode: UdpMode = UdpMode.TUNNEL
    src: Address = bytes(16)
    dst: Address = bytes(16)
    dport: int = _abi.PSP_UDP_PORT
    sport: int = 0
    ttl: int = 0
    tos: int = 0
    ecn: bool = False
    dscp: bool = False
    dscp_back: bool = False
    checksum6: bool = False


@dataclass(frozen=True)
class DomainStats:
    """The counts of a group of profile tss, of all its senders and receivers."""

    sealed: int
    opened: int
    auth_failures: int
    invalid: int
    unknown_sa: int
    late_epoch: int
    exhausted: int
    wrong_ssi: int
    clear: int
    failures: int
    latched: bool
    epoch: int


@dataclass(frozen=True)
class Usage:
    """How a root key, or the key in a slot, was used since it was set in the group."""

    derived: int  # how often a data key was derived from it; eesp: how many Sub SAs had a key
    sealed: int  # packets
    opened: int  # packets
    index: int  # of a root key; 0: a key in a slot


@dataclass(frozen=True)
class ReplayStats:
    """Counts of a receiver's replay protection; all zero without it."""

    windows: int  # windows in use
    most: int  # the most windows that there may be
    duplicates: int  # packets refused: seen before
    old: int  # packets refused: further back than the window
    no_room: int  # packets refused: no window left
    made: int  # windows made so far
    given_up: int  # windows freed because their key was wiped
    early: int = 0  # with times, packets refused: ahead of the clock; then old counts packets that are too old


@dataclass(frozen=True)
class Stats:
    """Counts since an object was made."""

    octets: int
    packets: dict[Status, int] = field(default_factory=dict)


Offsets = Union[int, Sequence[int]]
