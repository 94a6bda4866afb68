"""The text: Payload Info Header (full format), payload and padding."""

from dataclasses import dataclass

from common.errors import Refused

from .errors import Reason
from .header import INFO_LEN

MAX_PADDING = 255
IPV4_MIN, IPV6_MIN = 20, 40


@dataclass(frozen=True)
class Text:
    """What a text says; the optimized format has no next header."""

    next_header: int | None
    payload: bytes


def ip_length(packet: bytes) -> int | None:
    """The length that an IPv4 or IPv6 packet says it has; None if it is neither, or ends within its header."""
    version = packet[0] >> 4 if packet else 0
    if version == 4 and len(packet) >= IPV4_MIN:
        size = int.from_bytes(packet[2:4], "big")
        return size if size >= IPV4_MIN else None
    if version == 6 and len(packet) >= IPV6_MIN:
        return IPV6_MIN + int.from_bytes(packet[4:6], "big")
    return None


def encode_text(full: bool, next_header: int, payload: bytes) -> bytes:
    """A sender's text, zero-padded to a multiple of 4 octets."""
    padding = -len(payload) % 4
    if full:
        return bytes([0, 0, next_header, padding]) + payload + bytes(padding)
    if ip_length(payload) != len(payload):
        raise ValueError("the payload is not an IPv4 or IPv6 packet of the length it says")
    return payload + bytes(padding)


def parse_text(full: bool, text: bytes) -> Text:
    """Takes an authentic text apart or raises Refused."""
    if full:
        if text[0] or text[1]:
            raise Refused(Reason.PAYLOAD, "the first nibble or Reserved of the Payload Info Header is not 0")
        padding = text[3]
        if padding > len(text) - INFO_LEN:
            raise Refused(Reason.PAYLOAD, "Pad Length is more than what is there")
        return Text(text[2], text[INFO_LEN : len(text) - padding])
    size = ip_length(text)
    if size is None or not 0 <= len(text) - size <= MAX_PADDING:
        raise Refused(Reason.PAYLOAD, "the payload is no IP packet, or its length does not fit")
    return Text(None, text[:size])
