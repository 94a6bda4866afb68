"""Key derivation and nonce; sealing and opening whole packets."""

from collections.abc import Sequence
from dataclasses import dataclass

from common.errors import Refused
from common.packet import Key, Sealed, open_octets, seal_octets
from common.primitives import ICV_LEN, counter_inputs, counter_mode

from .errors import Reason
from .header import BASE_LEN, Header, encode_header, is_gmac, parse_header

LABEL = b"Pv"


@dataclass(frozen=True)
class Receiver:
    """What a receiver has: the device keys, an absent one being empty, and the versions it accepts."""

    device_keys: Sequence[bytes]
    versions: frozenset[int]


@dataclass(frozen=True)
class Opened:
    """What opening a packet yields; `extension` is the header's, decrypted as far as it was encrypted."""

    header: Header
    extension: bytes
    payload: bytes


def is_reserved(spi: int) -> bool:
    """Whether an SPI is none: the low 31 bits of one are never 0."""
    return not spi & 0x7FFFFFFF


def key_bits(version: int) -> int:
    """Versions 0 and 2 have 128 bits, 1 and 3 have 256."""
    return 256 if version & 1 else 128


def derive(device_key: bytes, version: int, spi: int) -> Key:
    """The data key of an SPI: counter(4) | "Pv" | 0x30 + version | 00 | SPI(4) | L(4)."""
    bits = key_bits(version)
    fixed = LABEL + bytes([0x30 + version, 0x00]) + spi.to_bytes(4, "big") + bits.to_bytes(4, "big")
    inputs = counter_inputs(fixed, bits // 8, counter_octets=4)
    return Key(tuple(inputs), counter_mode(device_key, inputs))


def nonce(spi: int, iv: int) -> bytes:
    """SPI || IV."""
    return spi.to_bytes(4, "big") + iv.to_bytes(8, "big")


def seal(
    device_keys: Sequence[bytes],
    *,
    version: int,
    spi: int,
    iv: int,
    next_header: int,
    payload: bytes,
    extension: bytes = b"",
    has_vc: bool | None = None,
    coffset: int = 0,
    from_iv: bool = False,
) -> Sealed:
    """Seals a payload.

    `coffset`, in 4-octet units, counts from the payload, or as on the wire from the end of the IV. An extension has a
    VC in front unless `has_vc` says otherwise.
    """
    if is_reserved(spi):
        raise ValueError("the low 31 bits of an SPI are never 0")
    if 4 * coffset > len(payload) + (len(extension) if from_iv else 0):
        raise ValueError("the crypt offset goes beyond the payload")
    if is_gmac(version):
        if coffset:
            raise ValueError("with GMAC nothing is encrypted, there is no crypt offset")
        field = 0
    else:
        field = coffset + (0 if from_iv else len(extension) // 4)
    device_key = device_keys[spi >> 31]
    if not device_key:
        raise ValueError("the SPI's device key is not there")
    header = Header(next_header, field, version, spi, iv, extension, bool(extension) if has_vc is None else has_vc)
    sent = encode_header(header) + payload
    clear = header.authenticated_in_clear
    return seal_octets(derive(device_key, version, spi), nonce(spi, iv), sent, len(sent) if clear is None else clear)


def open_packet(receiver: Receiver, packet: bytes) -> Opened:
    """Opens a packet or raises Refused."""
    header = parse_header(packet, receiver.versions)
    device_key = receiver.device_keys[header.spi >> 31]
    if is_reserved(header.spi):
        raise Refused(Reason.NO_KEY, "the low 31 bits of an SPI are never 0")
    if not device_key:
        raise Refused(Reason.NO_KEY, "the SPI's device key is not there")
    clear = header.authenticated_in_clear
    octets = open_octets(
        derive(device_key, header.version, header.spi),
        nonce(header.spi, header.iv),
        packet,
        len(packet) - ICV_LEN if clear is None else clear,
    )
    if octets is None:
        raise Refused(Reason.AUTH, "the ICV is wrong")
    return Opened(header, octets[BASE_LEN : header.size], octets[header.size :])
