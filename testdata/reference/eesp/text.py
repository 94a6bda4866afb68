"""The text: Payload Info Header (full format), payload and padding."""

from dataclasses import dataclass

from common.errors import Refused

from .errors import Reason
from .header import INFO_LEN

MAX_PADDING = 255
IPV4_MIN, IPV6_MIN = 20, 40
NO_NEXT_HEADER = 59
IPV4, IPV6 = 4, 41  # protocol numbers


@dataclass(frozen=True)
class Text:
    """What a text says; the optimized format has no next header."""

    next_header: int | None
    payload: bytes


def ip_length(packet: bytes) -> int | None:
    """The length that an IPv4 or IPv6 packet says it has; None if it is neither, ends within its header, or is a jumbo."""
    version = packet[0] >> 4 if packet else 0
    if version == 4 and len(packet) >= IPV4_MIN:
        size = int.from_bytes(packet[2:4], "big")
        return size if size >= IPV4_MIN else None
    if version == 6 and len(packet) >= IPV6_MIN:
        size = int.from_bytes(packet[4:6], "big")
        # 0, and something behind it: its length is in an option (RFC 2675), or nowhere.
        if not size and packet[6] != NO_NEXT_HEADER and len(packet) > IPV6_MIN:
            return None
        return IPV6_MIN + size
    return None


def is_inner(next_header: int, payload: bytes) -> bool:
    """Whether a payload is the IP packet that Next Header says, and nothing else."""
    return ip_length(payload) == len(payload) and next_header == (IPV4 if payload[0] >> 4 == 4 else IPV6)


def encode_text(full: bool, next_header: int, payload: bytes, *, tunnel: bool = False) -> bytes:
    """A sender's text, zero-padded to a multiple of 4 octets."""
    padding = -len(payload) % 4
    if full:
        if tunnel and next_header != NO_NEXT_HEADER and not is_inner(next_header, payload):
            raise ValueError("the payload is not the IP packet that Next Header says")
        return bytes([0, 0, next_header, padding]) + payload + bytes(padding)
    if ip_length(payload) != len(payload):
        raise ValueError("the payload is not an IPv4 or IPv6 packet of the length it says")
    return payload + bytes(padding)


def parse_text(full: bool, text: bytes, *, tunnel: bool = False) -> Text:
    """Takes an authentic text apart or raises Refused."""
    if full:
        if text[0] or text[1]:
            raise Refused(Reason.PAYLOAD, "the first nibble or Reserved of the Payload Info Header is not 0")
        padding = text[3]
        if padding > len(text) - INFO_LEN:
            raise Refused(Reason.PAYLOAD, "Pad Length is more than what is there")
        found = Text(text[2], text[INFO_LEN : len(text) - padding])
        if text[2] == NO_NEXT_HEADER:
            raise Refused(Reason.DUMMY, "there is no next header: a dummy packet")
        if tunnel and not is_inner(text[2], found.payload):
            raise Refused(Reason.PAYLOAD, "the payload is not the IP packet that Next Header says")
        return found
    size = ip_length(text)
    if size is None or not 0 <= len(text) - size <= MAX_PADDING:
        raise Refused(Reason.PAYLOAD, "the payload is no IP packet, or its length does not fit")
    return Text(None, text[:size])
