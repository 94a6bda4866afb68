"""The TSS header: encoding, and parsing with every refusal that needs no key."""

from collections.abc import Callable
from dataclasses import dataclass

from common.errors import Refused
from common.primitives import ICV_LEN

from .errors import Reason

TYPE = 1
SHORT_LEN = 12
SSI_LEN = 4
MAX_SDI = 2**24 - 1
MAX_COUNTER = 2**48 - 1


@dataclass(frozen=True)
class Header:
    """The fields of a header; without an SSI, SP is 0."""

    an: int
    sdi: int
    epoch: int
    counter: int
    ssi: int | None = None

    @property
    def size(self) -> int:
        """The header's octets."""
        return SHORT_LEN + (SSI_LEN if self.ssi is not None else 0)

    @property
    def ssi_octets(self) -> bytes:
        """The SSI on the wire; nothing with SP = 0."""
        return b"" if self.ssi is None else self.ssi.to_bytes(SSI_LEN, "big")

    @property
    def tsc(self) -> bytes:
        """Epoch and counter on the wire."""
        return self.epoch.to_bytes(2, "big") + self.counter.to_bytes(6, "big")


def encode_header(header: Header) -> bytes:
    """The header's octets; raises ValueError for a field that does not fit."""
    if header.an not in (0, 1) or not 0 <= header.sdi <= MAX_SDI:
        raise ValueError("AN is one bit, SDI 24")
    first = TYPE << 3 | (header.ssi is not None) << 2 | header.an
    return bytes([first]) + header.sdi.to_bytes(3, "big") + header.ssi_octets + header.tsc


def parse_header(packet: bytes, has_key: Callable[[int, int], bool]) -> Header:
    """Reads the header of a whole packet. Raises Refused, for the first check that fails.

    `has_key` says whether the receiver has the key of an SDI and AN.
    """
    if len(packet) < SHORT_LEN + ICV_LEN:
        raise Refused(Reason.SHORT, "the packet is shorter than the shortest header and an ICV")
    first = packet[0]
    if first >> 3 != TYPE:
        raise Refused(Reason.VERSION, "the type is not 1")
    if first & 2:
        raise Refused(Reason.RESERVED, "the reserved bit is not 0")
    an, sdi = first & 1, int.from_bytes(packet[1:4], "big")
    if not has_key(sdi, an):
        raise Refused(Reason.NO_KEY, "there is no group of this SDI, or it has no key of this AN")
    at, ssi = 4, None
    if first & 4:
        if len(packet) < SHORT_LEN + SSI_LEN + ICV_LEN:
            raise Refused(Reason.SHORT, "the packet is shorter than a header with SSI and an ICV")
        ssi = int.from_bytes(packet[4:8], "big")
        at = 8
    return Header(
        an=an,
        sdi=sdi,
        epoch=int.from_bytes(packet[at : at + 2], "big"),
        counter=int.from_bytes(packet[at + 2 : at + 8], "big"),
        ssi=ssi,
    )
