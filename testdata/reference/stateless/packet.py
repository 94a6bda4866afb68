"""Sealing and opening whole packets."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from common.primitives import ICV_LEN, counter_mode, gcm_open, gcm_seal

from .errors import CombineError, Reason, Refused
from .group import Generation, Group, KeyUse, combine
from .header import Header, Level, MasterKeyOption, encode_header, parse_header
from .kdf import kdf_inputs, nonce


@dataclass(frozen=True)
class Sealed:
    """A sealed packet and every value on the way to it."""

    uses: tuple[KeyUse, ...]
    header: bytes
    master_key: bytes
    kdf_inputs: tuple[bytes, ...]
    data_key: bytes
    nonce: bytes
    aad: bytes
    packet: bytes


@dataclass(frozen=True)
class Opened:
    """What opening a packet yields."""

    header: Header
    uses: tuple[KeyUse, ...]
    payload: bytes


def seal(
    group: Group,
    *,
    v: int,
    id: bytes,
    epoch: int,
    counter: int,
    payload: bytes,
    options: Sequence[Level] = (),
    src_ip: bytes = b"",
    dst_ip: bytes = b"",
    coffset: int = 0,
    ioffset: int = 0,
) -> Sealed:
    """Seals a payload with the current root keys of the levels in `options`; without any, of the default levels."""
    uses = [group.use(level, Generation.CURRENT) for level in sorted(options or group.default_levels)]
    sent = [MasterKeyOption(use.level, use.index, use.root_key_id) for use in uses] if options else []
    header = encode_header(Header(v, id, epoch, counter, coffset, ioffset, tuple(sent)))
    if 4 * coffset > len(payload):
        raise ValueError("COffset goes beyond the payload")
    master = combine(group.combiner, uses)
    inputs = kdf_inputs(v, id, epoch, src_ip, dst_ip, group.aead.key_bits)
    key = counter_mode(master, inputs)
    iv = nonce(id, epoch, counter)
    aad = header + payload[4 * ioffset : 4 * coffset]
    packet = header + payload[: 4 * coffset] + gcm_seal(key, iv, aad, payload[4 * coffset :])
    return Sealed(tuple(uses), header, master, tuple(inputs), key, iv, aad, packet)


def open_packet(
    group: Group,
    packet: bytes,
    *,
    src_ip: bytes = b"",
    dst_ip: bytes = b"",
    own_ids: Collection[bytes] = (),
) -> Opened:
    """Opens a packet or raises Refused. `own_ids` are the IDs the receiver itself sends under."""
    header, size = parse_header(packet)
    uses = group.find(header.options)
    try:
        master = combine(group.combiner, uses)
    except CombineError as error:
        raise Refused(Reason.NO_KEY, "the root keys that the packet names do not combine") from error
    if header.id in own_ids:
        raise Refused(Reason.REFLECTED, "the packet carries an ID the receiver sends under")
    key = counter_mode(master, kdf_inputs(header.v, header.id, header.epoch, src_ip, dst_ip, group.aead.key_bits))
    clear = packet[size : size + 4 * header.coffset]
    aad = packet[:size] + clear[4 * header.ioffset :]
    text = gcm_open(key, nonce(header.id, header.epoch, header.counter), aad, packet[size + len(clear) :])
    if text is None:
        raise Refused(Reason.AUTH, "the ICV is wrong")
    assert len(clear) + len(text) == len(packet) - size - ICV_LEN
    return Opened(header, tuple(uses), clear + text)
