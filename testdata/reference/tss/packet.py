"""Sealing and opening whole packets."""

from collections.abc import Sequence
from dataclasses import dataclass

from common.errors import Refused
from common.packet import Sealed, open_octets, seal_octets

from .errors import Reason
from .header import Header, encode_header, parse_header
from .lead import Lead
from .schedule import Mode, Rekey, derive, nonce

# The counter's top bit in server mode.
TO_CLIENT = 1 << 47
EPOCH_WINDOW = 16


@dataclass(frozen=True)
class Receiver:
    """A group as a receiver sees it: the keys of AN 0 and 1 (absent ones empty), and whom it hears.

    `from_server` makes it a client in server mode. `current_epoch` is the newest epoch of an authentic packet of the
    packet's AN, None for none yet.
    """

    mode: Mode
    sdi: int
    keys: Sequence[bytes]
    rekey: Rekey = Rekey()
    from_server: bool = False
    current_epoch: int | None = None


@dataclass(frozen=True)
class Opened:
    """What opening a packet yields."""

    header: Header
    payload: bytes


def shares_nonces(mode: Mode, header: Header, lead: Lead) -> bool:
    """Direct mode over IPv6 without SSI, where nothing in key or nonce tells the senders apart."""
    return mode is Mode.DIRECT and lead.ipv6 and header.ssi is None


def too_old(epoch: int, current: int) -> bool:
    """Whether an epoch is older than current - 16 in the serial number arithmetic of RFC 1982."""
    return (epoch - (current - EPOCH_WINDOW)) % 2**16 >= 2**15


def seal(
    mode: Mode,
    sdk: bytes,
    header: Header,
    lead: Lead,
    payload: bytes,
    *,
    rekey: Rekey = Rekey(),
    to_client: bool = False,
) -> Sealed:
    """Seals a payload; the packet is without the lead."""
    if shares_nonces(mode, header, lead):
        raise ValueError("direct mode over IPv6 needs an SSI")
    if mode is Mode.SERVER and bool(header.counter & TO_CLIENT) is not to_client:
        raise ValueError("the counter's top bit is not that of the direction")
    key = derive(mode, sdk, header, lead, rekey.of(mode, header.counter), to_client=to_client)
    sent = encode_header(header)
    return seal_octets(key, nonce(header, lead, key.mask), sent + payload, len(sent), lead=lead.octets)


def open_packet(receiver: Receiver, packet: bytes, lead: Lead) -> Opened:
    """Opens a packet or raises Refused."""
    header = parse_header(packet, lambda sdi, an: sdi == receiver.sdi and bool(receiver.keys[an]))
    if shares_nonces(receiver.mode, header, lead):
        raise Refused(Reason.UNSUPPORTED, "direct mode over IPv6 without SSI")
    if receiver.mode is Mode.SERVER and bool(header.counter & TO_CLIENT) is not receiver.from_server:
        raise Refused(Reason.REFLECTED, "the counter's top bit says that the packet is from this end")
    if receiver.current_epoch is not None and too_old(header.epoch, receiver.current_epoch):
        raise Refused(Reason.EPOCH, "the epoch is too old")
    number = receiver.rekey.of(receiver.mode, header.counter)
    key = derive(receiver.mode, receiver.keys[header.an], header, lead, number, to_client=receiver.from_server)
    octets = open_octets(key, nonce(header, lead, key.mask), packet, header.size, lead=lead.octets)
    if octets is None:
        raise Refused(Reason.AUTH, "the ICV is wrong")
    return Opened(header, octets[header.size :])
