"""The Security Header: encoding, and parsing with every refusal that needs no key."""

import enum
from dataclasses import dataclass, field

from common.primitives import ICV_LEN

from .errors import Reason, Refused

VERSION = 0
V_CONNECTION_ID = 0x8
V_MAX_CONTEXT = 2
FIRST_WORD_LEN = 4
TAIL_LEN = 8  # Epoch and Counter
MAX_HL = 15

OPTION_PAD1 = 0
OPTION_PADN = 1
MIN_ID, MAX_ID = 16, 32


class Level(enum.IntEnum):
    """A level of root key; the value is the type of its Master Key Option."""

    ZONE = 0xE0
    USER = 0xE1
    TASK = 0xE2

    @property
    def label(self) -> str:
        """The level's name in the vectors."""
        return self.name.lower()


@dataclass(frozen=True)
class MasterKeyOption:
    """One Master Key Option: which root key of a level, and (low 8 bits of the index) which generation."""

    level: Level
    index: int
    root_key_id: bytes

    def encode(self) -> bytes:
        """The option, padded to a multiple of 4 octets."""
        if not MIN_ID <= len(self.root_key_id) <= MAX_ID:
            raise ValueError("a root key ID is 16 to 32 octets")
        if not 0 <= self.index <= 0xFF:
            raise ValueError("a root key index is one octet")
        padding = -len(self.root_key_id) % 4
        length = 2 + len(self.root_key_id) + padding
        return bytes([self.level, length, self.index, padding]) + self.root_key_id + bytes(padding)


@dataclass(frozen=True)
class Header:
    """The fields of a Security Header. Version and Reserve are always 0; HL follows from the rest."""

    v: int
    id: bytes
    epoch: int
    counter: int
    coffset: int = 0
    ioffset: int = 0
    options: tuple[MasterKeyOption, ...] = field(default=())


def id_len(v: int) -> int:
    """The length of the ID field: ConnectionID (8) or DeviceID (4)."""
    return 8 if v & V_CONNECTION_ID else 4


def encode_padding(size: int) -> bytes:
    """The canonical filling of a gap, in the fewest options: nothing, one Pad1, or one PadN."""
    if size == 0:
        return b""
    if size == 1:
        return bytes([OPTION_PAD1])
    return bytes([OPTION_PADN, size - 2]) + bytes(size - 2)


def encode_first_word(version: int, hl: int, v: int, reserve: int, coffset: int, ioffset: int) -> bytes:
    """The first word from raw fields: Version(4) HL(4) V(4) Reserve(8) COffset(8) IOffset(4)."""
    word = version << 28 | hl << 24 | v << 20 | reserve << 12 | coffset << 4 | ioffset
    return word.to_bytes(FIRST_WORD_LEN, "big")


def encode_header(header: Header) -> bytes:
    """The canonical octets of a header; raises ValueError for fields that cannot be sent."""
    if not 0 <= header.v <= 0xF or header.v & 0x7 > V_MAX_CONTEXT:
        raise ValueError("V is not one of the defined values")
    if len(header.id) != id_len(header.v):
        raise ValueError("the ID has not the length that V states")
    if not 0 <= header.epoch < 1 << 16 or not 0 <= header.counter < 1 << 48:
        raise ValueError("Epoch or Counter is out of range")
    if not 0 <= header.ioffset <= header.coffset or header.ioffset > 0xF or header.coffset > 0xFF:
        raise ValueError("an offset is out of range")
    levels = [option.level for option in header.options]
    if levels != sorted(set(levels)):
        raise ValueError("options are not in ascending order, one of each type")
    options = b"".join(option.encode() for option in header.options)
    size = FIRST_WORD_LEN + len(header.id) + len(options) + TAIL_LEN
    gap = -size % 8
    hl = (size + gap) // 8 - 1
    if hl > MAX_HL:
        raise ValueError("the header is longer than HL can say")
    first = encode_first_word(VERSION, hl, header.v, 0, header.coffset, header.ioffset)
    tail = header.epoch.to_bytes(2, "big") + header.counter.to_bytes(6, "big")
    return first + header.id + options + encode_padding(gap) + tail


def parse_master_key_option(level: Level, body: bytes) -> MasterKeyOption:
    """Reads what follows type and length of a Master Key Option."""
    if len(body) < 2:
        raise Refused(Reason.OPTION, "a Master Key Option is too short")
    index, padding = body[0], body[1]
    size = len(body) - 2 - padding
    if padding > 3 or not MIN_ID <= size <= MAX_ID or (2 + len(body)) % 4:
        raise Refused(Reason.OPTION, "length and padding of a Master Key Option do not fit")
    if any(body[2 + size :]):
        raise Refused(Reason.OPTION, "the padding of a Master Key Option is not zero")
    return MasterKeyOption(level, index, body[2 : 2 + size])


def parse_options(area: bytes) -> tuple[MasterKeyOption, ...]:
    """Reads everything between the ID and the Epoch."""
    options: list[MasterKeyOption] = []
    padding = 0
    at = 0
    while at < len(area):
        kind = area[at]
        if kind == OPTION_PAD1:
            at += 1
            padding += 1
            continue
        if at + 2 > len(area) or at + 2 + area[at + 1] > len(area):
            raise Refused(Reason.OPTION, "an option goes beyond the header")
        body = area[at + 2 : at + 2 + area[at + 1]]
        at += 2 + len(body)
        if kind == OPTION_PADN:
            if any(body):
                raise Refused(Reason.OPTION, "PadN is not zero")
            padding += 2 + len(body)
            continue
        if kind not in set(Level):
            raise Refused(Reason.OPTION, f"unknown option type {kind:#04x}")
        if padding:
            raise Refused(Reason.OPTION, "padding stands before a Master Key Option")
        if options and kind <= options[-1].level:
            raise Refused(Reason.OPTION, "options are not in ascending order, one of each type")
        options.append(parse_master_key_option(Level(kind), body))
    if padding >= 8:
        raise Refused(Reason.OPTION, "more padding than fills up to the 8-octet multiple")
    return tuple(options)


def parse_header(packet: bytes) -> tuple[Header, int]:
    """Reads the header of a whole packet; returns it and its length. Raises Refused, for the first check that fails."""
    if len(packet) < FIRST_WORD_LEN:
        raise Refused(Reason.SHORT, "the packet ends inside the first word")
    word = int.from_bytes(packet[:FIRST_WORD_LEN], "big")
    v = word >> 20 & 0xF
    if word >> 28 != VERSION:
        raise Refused(Reason.VERSION, "Version is not 0")
    if v & 0x7 > V_MAX_CONTEXT:
        raise Refused(Reason.V, "V names no defined combination")
    if word >> 12 & 0xFF:
        raise Refused(Reason.RESERVED, "Reserve is not 0")

    size = ((word >> 24 & 0xF) + 1) * 8
    options_at = FIRST_WORD_LEN + id_len(v)
    if size < options_at + TAIL_LEN:
        raise Refused(Reason.HEADER_LEN, "HL leaves no room for the fixed fields")
    if len(packet) < size + ICV_LEN:
        raise Refused(Reason.SHORT, "the packet is shorter than its header and ICV")

    options = parse_options(packet[options_at : size - TAIL_LEN])

    coffset, ioffset = word >> 4 & 0xFF, word & 0xF
    if ioffset > coffset:
        raise Refused(Reason.OFFSET, "IOffset is greater than COffset")
    if 4 * coffset > len(packet) - size - ICV_LEN:
        raise Refused(Reason.OFFSET, "COffset goes beyond the payload")

    header = Header(
        v=v,
        id=packet[FIRST_WORD_LEN:options_at],
        epoch=int.from_bytes(packet[size - 8 : size - 6], "big"),
        counter=int.from_bytes(packet[size - 6 : size], "big"),
        coffset=coffset,
        ioffset=ioffset,
        options=options,
    )
    return header, size
