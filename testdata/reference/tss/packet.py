"""Sealing and opening whole packets."""

from collections.abc import Sequence
from dataclasses import dataclass

from common.errors import Refused
from common.packet import Sealed, open_octets, seal_octets
from common.primitives import ICV_LEN

from .errors import Reason
from .header import Header, encode_header, parse_header
from .lead import Lead
from .schedule import Mode, Rekey, derive, nonce

# The counter's top bit in server mode.
TO_CLIENT = 1 << 47
EPOCH_AGE = 16


@dataclass(frozen=True)
class Domain:
    """What both ends of a domain are told: where encryption starts, and whether the counter tells directions apart.

    `crypt_offset` counts octets from the header's first; None: the header's end. `epoch` is the domain's, and
    `epoch_age` how far behind it a packet may be.
    """

    crypt_offset: int | None = None
    direction_bit: bool = True
    epoch: int = 0
    epoch_age: int = EPOCH_AGE

    def clear(self, header: Header) -> int:
        """How many octets of the packet are in clear."""
        return header.size if self.crypt_offset is None else self.crypt_offset

    def is_late(self, epoch: int) -> bool:
        """Whether an epoch is older than the domain's less the age, in the serial number arithmetic of RFC 1982."""
        behind = (self.epoch - epoch) % 2**16
        return self.epoch_age < behind < 2**15


@dataclass(frozen=True)
class Receiver:
    """A group as a receiver sees it: the keys of AN 0 and 1 (absent ones empty), and whom it hears.

    `from_server` makes it a client in server mode.
    """

    mode: Mode
    sdi: int
    keys: Sequence[bytes]
    rekey: Rekey = Rekey()
    from_server: bool = False
    domain: Domain = Domain()


@dataclass(frozen=True)
class Opened:
    """What opening a packet yields."""

    header: Header
    payload: bytes


def shares_nonces(mode: Mode, header: Header, lead: Lead) -> bool:
    """Direct mode over IPv6 without SSI, where nothing in key or nonce tells the senders apart."""
    return mode is Mode.DIRECT and lead.ipv6 and header.ssi is None


def seal(
    mode: Mode,
    sdk: bytes,
    header: Header,
    lead: Lead,
    payload: bytes,
    *,
    rekey: Rekey = Rekey(),
    to_client: bool = False,
    domain: Domain = Domain(),
) -> Sealed:
    """Seals a payload; the packet is without the lead. The epoch is the header's."""
    if shares_nonces(mode, header, lead):
        raise ValueError("direct mode over IPv6 needs an SSI")
    if mode is Mode.SERVER and domain.direction_bit and bool(header.counter & TO_CLIENT) is not to_client:
        raise ValueError("the counter's top bit is not that of the direction")
    key = derive(mode, sdk, header, lead, rekey.of(mode, header.counter), to_client=to_client)
    sent = encode_header(header)
    clear = domain.clear(header)
    if not len(sent) <= clear <= len(sent) + len(payload):
        raise ValueError("the crypt offset is inside the header, or behind the payload")
    return seal_octets(key, nonce(header, lead, key.mask), sent + payload, clear, lead=lead.octets)


def open_packet(receiver: Receiver, packet: bytes, lead: Lead) -> Opened:
    """Opens a packet or raises Refused."""
    header = parse_header(packet, lambda sdi, an: sdi == receiver.sdi and bool(receiver.keys[an]))
    clear = receiver.domain.clear(header)
    if not header.size <= clear <= len(packet) - ICV_LEN:
        raise Refused(Reason.OFFSET, "the crypt offset is inside the header, or behind the payload")
    if shares_nonces(receiver.mode, header, lead):
        raise Refused(Reason.UNSUPPORTED, "direct mode over IPv6 without SSI")
    directed = receiver.mode is Mode.SERVER and receiver.domain.direction_bit
    if directed and bool(header.counter & TO_CLIENT) is not receiver.from_server:
        raise Refused(Reason.REFLECTED, "the counter's top bit says that the packet is from this end")
    # A client's one data key is of one epoch, whichever is the domain's.
    if not receiver.from_server and receiver.domain.is_late(header.epoch):
        raise Refused(Reason.EPOCH, "the epoch is too old")
    number = receiver.rekey.of(receiver.mode, header.counter)
    key = derive(receiver.mode, receiver.keys[header.an], header, lead, number, to_client=receiver.from_server)
    octets = open_octets(key, nonce(header, lead, key.mask), packet, clear, lead=lead.octets)
    if octets is None:
        raise Refused(Reason.AUTH, "the ICV is wrong")
    return Opened(header, octets[header.size :])
