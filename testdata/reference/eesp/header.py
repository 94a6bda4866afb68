"""The SA, and the header in front of the text: base header, options and peer header."""

import enum
from dataclasses import dataclass

from common.errors import Refused
from common.primitives import ICV_LEN, Aead

from .errors import Reason
from .options import Options, encode_options, parse_options
from .sskdf import Sskdf

BASE_LEN = 8
NUMBER_LEN = 8  # a sequence number, or an IV
INFO_LEN = 4
MAX_SUB_SAS = 65536


class Encap(enum.Enum):
    """The encapsulation modes of Table 1."""

    TRANSPORT = "transport"
    TUNNEL = "tunnel"
    BEET = "beet"
    IPTFS = "ip-tfs"


@dataclass(frozen=True)
class Sa:
    """One SA. `seq` and `iv` say which fields the peer header has, `full` whether there is a Payload Info Header.

    In draft -03 `full` is what the encapsulation mode and the crypt offset make it; in -02 there is no mode.
    """

    spi: int
    sskdf: Sskdf
    aead: Aead
    root: bytes
    seq: bool = True
    iv: bool = False
    full: bool = True
    max_coffset: int = 0
    align8: bool = False
    sub_sas: int = 1
    draft: int = 3
    encap: Encap | None = Encap.TRANSPORT

    def __post_init__(self) -> None:
        if not (self.seq or self.iv):
            raise ValueError("neither sequence number nor IV: there would be no nonce")
        if not 1 <= self.sub_sas <= MAX_SUB_SAS or not 0 <= self.max_coffset <= 63:
            raise ValueError("a number of Sub SAs or crypt offset out of range")
        if self.max_coffset and not self.full:
            raise ValueError("a crypt offset needs the full format")
        if self.draft not in (2, 3) or (self.draft == 2) != (self.encap is None):
            raise ValueError("-02 has no encapsulation mode, -03 has one")
        if self.draft == 3 and self.full != (self.encap is not Encap.TUNNEL or self.max_coffset > 0):
            raise ValueError("not the format of the encapsulation mode")
        if self.sskdf is Sskdf.NONE and self.sub_sas != 1:
            raise ValueError("without an SSKDF there are no Sub SAs")

    @property
    def tunnel(self) -> bool:
        """Whether payloads are to be IP packets, whatever the format."""
        return self.encap is Encap.TUNNEL

    @property
    def peer_len(self) -> int:
        """The octets of the peer header."""
        return NUMBER_LEN * (self.seq + self.iv)

    @property
    def info_len(self) -> int:
        """The octets of the Payload Info Header."""
        return INFO_LEN if self.full else 0


@dataclass(frozen=True)
class Header:
    """The fields of a received header; a field that the SA does not have is None. `size` is up to the text."""

    session: int
    options: Options
    coffset: int
    sequence: int | None
    iv: int | None
    size: int

    @property
    def nonce_number(self) -> int:
        """The eight octets behind the salt: the IV, or without one the sequence number (RFC 8750)."""
        number = self.iv if self.iv is not None else self.sequence
        assert number is not None
        return number


def encode_base(spi: int, session: int, opt_len: int) -> bytes:
    """The fixed base header."""
    return bytes([0x80, opt_len]) + session.to_bytes(2, "big") + spi.to_bytes(4, "big")


def encode_header(sa: Sa, *, session: int, sequence: int, coffset: int, flow_id: bytes) -> bytes:
    """Base header, options and peer header of a sender, whose IV is its sequence number."""
    if session >= sa.sub_sas:
        raise ValueError("the Session ID is not that of a Sub SA")
    if coffset > sa.max_coffset:
        raise ValueError("the crypt offset is more than the SA's maximum")
    if flow_id and sa.draft != 2:
        raise ValueError("-03 has no Flow Identifier")
    options = encode_options(
        coffset if sa.max_coffset else None,
        flow_id,
        align8=sa.align8,
        peer_len=sa.peer_len,
        info_len=sa.info_len,
    )
    number = sequence.to_bytes(NUMBER_LEN, "big")
    return encode_base(sa.spi, session, len(options)) + options + number * (sa.seq + sa.iv)


def parse_header(sa: Sa, packet: bytes) -> Header:
    """Reads everything in front of the text, for the receiver of an SA; raises Refused for the first failed check."""
    fixed = BASE_LEN + sa.peer_len + sa.info_len + ICV_LEN
    if len(packet) < fixed:
        raise Refused(Reason.SHORT, "the packet is shorter than its fixed parts")
    first, opt_len = packet[:2]
    if first >> 7 != 1 or first >> 3 & 0xF:
        raise Refused(Reason.VERSION, "the top bit is not 1, or the version is not 0")
    if first & 7:
        raise Refused(Reason.RESERVED, "R is not 0")
    if int.from_bytes(packet[4:8], "big") != sa.spi:
        raise Refused(Reason.NO_KEY, "there is no SA of this SPI")
    if opt_len % 4:
        raise Refused(Reason.HEADER_LEN, "Opt Len is not a multiple of 4")
    if len(packet) < fixed + opt_len:
        raise Refused(Reason.SHORT, "the packet is shorter than its header and ICV")
    options = parse_options(packet[BASE_LEN : BASE_LEN + opt_len], flow_ids=sa.draft == 2)
    session = int.from_bytes(packet[2:4], "big")
    if session >= sa.sub_sas:
        raise Refused(Reason.SESSION, "the Session ID is not that of a Sub SA")

    size = BASE_LEN + opt_len + sa.peer_len
    coffset = 0
    if options.crypt_offset is not None:
        coffset = options.crypt_offset.coffset
        if not sa.full or not sa.max_coffset:
            raise Refused(Reason.OFFSET, "the SA has no Crypt Offset option")
        if options.crypt_offset.payload_offset * 4 != size:
            raise Refused(Reason.OFFSET, "Payload Offset is not that of the payload header")
        if coffset > sa.max_coffset or size + 4 * coffset + ICV_LEN > len(packet):
            raise Refused(Reason.OFFSET, "CryptOffset is more than the SA's maximum, or goes beyond the packet")

    starts = range(size - sa.peer_len, size, NUMBER_LEN)
    numbers = [int.from_bytes(packet[at : at + NUMBER_LEN], "big") for at in starts]
    sequence = numbers[0] if sa.seq else None
    if sequence == 0:
        raise Refused(Reason.SEQUENCE, "the sequence number is 0")
    iv = numbers[-1] if sa.iv else None
    return Header(session, options, coffset, sequence, iv, size)
