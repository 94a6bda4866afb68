"""The PSP header: encoding, and parsing with every refusal that needs no key."""

from dataclasses import dataclass

from common.errors import Refused
from common.primitives import ICV_LEN

from .errors import Reason

BASE_LEN = 16
VC_LEN = 8
MAX_VERSION = 3
MAX_COFFSET = 63
# A VC is two of the crypt offset's units.
VC_UNITS = VC_LEN // 4


def is_gmac(version: int) -> bool:
    """Whether a version authenticates only: 2 (AES-128-GMAC) and 3 (AES-256-GMAC)."""
    return version in (2, 3)


@dataclass(frozen=True)
class Header:
    """The fields of a header as they are on the wire; an empty VC is none."""

    next_header: int
    coffset: int
    version: int
    spi: int
    iv: int
    vc: bytes = b""
    s: bool = False
    d: bool = False

    @property
    def size(self) -> int:
        """The octets of the header with its VC."""
        return BASE_LEN + len(self.vc)

    @property
    def payload_coffset(self) -> int:
        """The crypt offset in payload units, as the caller sees it."""
        return max(0, self.coffset - (VC_UNITS if self.vc else 0))

    @property
    def authenticated_in_clear(self) -> int | None:
        """How many octets of the packet are AAD; None: all before the ICV."""
        return None if is_gmac(self.version) else BASE_LEN + 4 * self.coffset


def encode_header(header: Header) -> bytes:
    """The header's octets; raises ValueError for a field that does not fit."""
    if not 0 <= header.coffset <= MAX_COFFSET:
        raise ValueError("the crypt offset is six bits")
    if not 0 <= header.version <= MAX_VERSION:
        raise ValueError("the version is 0 to 3")
    if len(header.vc) not in (0, VC_LEN):
        raise ValueError("a VC is 8 octets")
    flags = header.s << 7 | header.d << 6 | header.version << 2 | bool(header.vc) << 1 | 1
    octets = bytes([header.next_header, 2 if header.vc else 1, header.coffset, flags])
    return octets + header.spi.to_bytes(4, "big") + header.iv.to_bytes(8, "big") + header.vc


def parse_header(packet: bytes, versions: frozenset[int]) -> Header:
    """Reads the header of a whole packet. Raises Refused, for the first check that fails."""
    if len(packet) < BASE_LEN + ICV_LEN:
        raise Refused(Reason.SHORT, "the packet is shorter than the base header and an ICV")
    next_header, extlen, third, flags = packet[:4]
    version, has_vc = flags >> 2 & 0xF, bool(flags & 2)
    if version > MAX_VERSION or version not in versions:
        raise Refused(Reason.VERSION, "the version is unknown or not accepted")
    if third >> 6 or not flags & 1:
        raise Refused(Reason.RESERVED, "the top bits before the crypt offset are not 0, or the last bit is not 1")
    if extlen != (2 if has_vc else 1):
        raise Refused(Reason.HEADER_LEN, "the header's length does not fit the V bit")
    size = 8 + 8 * extlen
    if len(packet) < size + ICV_LEN:
        raise Refused(Reason.SHORT, "the packet is shorter than its header and ICV")
    coffset = third & 0x3F
    if BASE_LEN + 4 * coffset + ICV_LEN > len(packet):
        raise Refused(Reason.OFFSET, "the crypt offset goes beyond the packet")
    if has_vc and coffset < VC_UNITS and not is_gmac(version):
        raise Refused(Reason.OFFSET, "the crypt offset ends inside the VC")
    return Header(
        next_header=next_header,
        coffset=coffset,
        version=version,
        spi=int.from_bytes(packet[4:8], "big"),
        iv=int.from_bytes(packet[8:16], "big"),
        vc=packet[BASE_LEN:size],
        s=bool(flags & 0x80),
        d=bool(flags & 0x40),
    )
