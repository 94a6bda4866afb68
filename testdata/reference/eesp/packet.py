"""Sealing and opening whole packets."""

from dataclasses import dataclass

from common.errors import Refused
from common.packet import Key, Sealed, open_octets, seal_octets

from .errors import Reason
from .header import Header, Sa, encode_header, parse_header
from .sskdf import derive
from .text import Text, encode_text, parse_text


@dataclass(frozen=True)
class SealedText:
    """A sealed packet, with the text that is in it."""

    sealed: Sealed
    text: bytes


@dataclass(frozen=True)
class Opened:
    """What opening a packet yields."""

    header: Header
    text: Text


def nonce(key: Key, number: int) -> bytes:
    """salt(4) || the IV or, where it is implicit, the sequence number."""
    return key.mask + number.to_bytes(8, "big")


def seal(
    sa: Sa,
    *,
    session: int,
    sequence: int,
    payload: bytes,
    next_header: int = 0,
    coffset: int = 0,
    flow_id: bytes = b"",
) -> SealedText:
    """Seals a payload; `coffset` is the field of the Crypt Offset option."""
    text = encode_text(sa.full, next_header, payload, tunnel=sa.tunnel)
    if 4 * coffset > len(text):
        raise ValueError("the crypt offset goes beyond the text")
    if sa.seq and not sequence:
        raise ValueError("sequence numbers begin at 1")
    header = encode_header(sa, session=session, sequence=sequence, coffset=coffset, flow_id=flow_id)
    key = derive(sa.sskdf, sa.root, session, sa.aead)
    sealed = seal_octets(key, nonce(key, sequence), header + text, len(header) + 4 * coffset)
    return SealedText(sealed, text)


def open_packet(sa: Sa, packet: bytes) -> Opened:
    """Opens a packet or raises Refused."""
    header = parse_header(sa, packet)
    key = derive(sa.sskdf, sa.root, header.session, sa.aead)
    octets = open_octets(key, nonce(key, header.nonce_number), packet, header.size + 4 * header.coffset)
    if octets is None:
        raise Refused(Reason.AUTH, "the ICV is wrong")
    return Opened(header, parse_text(sa.full, octets[header.size :], tunnel=sa.tunnel))
