"""The PSP header: encoding, and parsing with every refusal that needs no key."""

from dataclasses import dataclass

from common.errors import Refused
from common.primitives import ICV_LEN

from .errors import Reason

BASE_LEN = 16
# What is behind the base header, the VC and any other extension field, comes in units of 8 octets.
UNIT = 8
VC_LEN = 8
MAX_VERSION = 3
MAX_COFFSET = 63
MAX_EXTENSION = UNIT * 254


def is_gmac(version: int) -> bool:
    """Whether a version authenticates only: 2 (AES-128-GMAC) and 3 (AES-256-GMAC)."""
    return version in (2, 3)


@dataclass(frozen=True)
class Header:
    """The fields of a header as they are on the wire.

    `extension` is what is behind the IV: with `has_vc` the VC comes first. A parsed header has it as it was sent, so
    encrypted from the crypt offset on; `packet.Opened` has it in clear.
    """

    next_header: int
    coffset: int
    version: int
    spi: int
    iv: int
    extension: bytes = b""
    has_vc: bool = False
    s: bool = False
    d: bool = False
    reserved: int = 0

    @property
    def size(self) -> int:
        """The octets of the header with its extension."""
        return BASE_LEN + len(self.extension)

    @property
    def payload_coffset(self) -> int:
        """The crypt offset in payload units, as the caller sees it."""
        return 0 if is_gmac(self.version) else max(0, self.coffset - len(self.extension) // 4)

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
    if len(header.extension) % UNIT or len(header.extension) > MAX_EXTENSION:
        raise ValueError("the extension is up to 254 units of 8 octets")
    if header.has_vc and not header.extension:
        raise ValueError("a VC is 8 octets")
    flags = header.s << 7 | header.d << 6 | header.version << 2 | header.has_vc << 1 | 1
    octets = bytes(
        [header.next_header, 1 + len(header.extension) // UNIT, header.reserved << 6 | header.coffset, flags]
    )
    return octets + header.spi.to_bytes(4, "big") + header.iv.to_bytes(8, "big") + header.extension


def parse_header(packet: bytes, versions: frozenset[int]) -> Header:
    """Reads the header of a whole packet. Raises Refused, for the first check that fails."""
    if len(packet) < BASE_LEN + ICV_LEN:
        raise Refused(Reason.SHORT, "the packet is shorter than the base header and an ICV")
    next_header, extlen, third, flags = packet[:4]
    version, has_vc = flags >> 2 & 0xF, bool(flags & 2)
    if version > MAX_VERSION or version not in versions:
        raise Refused(Reason.VERSION, "the version is unknown or not accepted")
    if not flags & 1:
        raise Refused(Reason.RESERVED, "the last bit is not 1")
    if extlen < (2 if has_vc else 1):
        raise Refused(Reason.HEADER_LEN, "the header has no room for its IV, or for the VC that it says it has")
    size = 8 + UNIT * extlen
    if len(packet) < size + ICV_LEN:
        raise Refused(Reason.SHORT, "the packet is shorter than its header and ICV")
    coffset = third & 0x3F
    if BASE_LEN + 4 * coffset + ICV_LEN > len(packet):
        raise Refused(Reason.OFFSET, "the crypt offset goes beyond the packet")
    return Header(
        next_header=next_header,
        coffset=coffset,
        version=version,
        spi=int.from_bytes(packet[4:8], "big"),
        iv=int.from_bytes(packet[8:16], "big"),
        extension=packet[BASE_LEN:size],
        has_vc=has_vc,
        s=bool(flags & 0x80),
        d=bool(flags & 0x40),
        reserved=third >> 6,
    )
