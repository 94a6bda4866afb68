"""The options of the base header."""

from dataclasses import dataclass

from common.errors import Refused

from .errors import Reason

PAD1 = 0
PADN = 1
CRYPT_OFFSET = 2
FLOW_IDENTIFIER = 3  # of -02 only
PRIVATE = range(224, 256)
MAX_OPT_LEN = 255
MAX_SIX_BITS = 63


@dataclass(frozen=True)
class CryptOffset:
    """The data of a Crypt Offset option: Payload Offset(6) | CryptOffset(6) | R(2) | F(2)."""

    payload_offset: int
    coffset: int
    r: int = 0
    f: int = 0

    def encode(self) -> bytes:
        """The whole option."""
        if not (0 <= self.payload_offset <= MAX_SIX_BITS and 0 <= self.coffset <= MAX_SIX_BITS):
            raise ValueError("an offset is six bits")
        data = self.payload_offset << 10 | self.coffset << 4 | self.r << 2 | self.f
        return bytes([CRYPT_OFFSET, 2]) + data.to_bytes(2, "big")

    @classmethod
    def decode(cls, data: bytes) -> "CryptOffset":
        """The fields of an option's two octets of data."""
        value = int.from_bytes(data, "big")
        return cls(value >> 10, value >> 4 & 0x3F, value >> 2 & 3, value & 3)


@dataclass(frozen=True)
class Options:
    """What the options of a packet say; without a Flow Identifier option, flow_id is None."""

    crypt_offset: CryptOffset | None = None
    flow_id: bytes | None = None


def encode_padding(size: int) -> bytes:
    """Padding in one option: nothing, Pad1 or PadN."""
    if size < 2:
        return bytes([PAD1]) * size
    return bytes([PADN, size - 2]) + bytes(size - 2)


def encode_options(coffset: int | None, flow_id: bytes, *, align8: bool, peer_len: int, info_len: int) -> bytes:
    """The options a sender sends: Crypt Offset, Flow Identifier, padding.

    They are padded to a multiple of 4 octets, or with `align8` such that the payload begins at a multiple of 8 from
    the start of the base header. `coffset` None is no Crypt Offset option, an empty `flow_id` no Flow Identifier.
    """
    size = 4 if coffset is not None else 0
    flow = bytes([FLOW_IDENTIFIER, len(flow_id)]) + flow_id if flow_id else b""
    size += len(flow)
    padding = -(size + peer_len + info_len) % 8 if align8 else -size % 4
    size += padding
    if size > MAX_OPT_LEN:
        raise ValueError("the options are longer than Opt Len can say")
    crypt = b"" if coffset is None else CryptOffset((8 + size + peer_len) // 4, coffset).encode()
    return crypt + flow + encode_padding(padding)


def parse_options(area: bytes, *, flow_ids: bool = False) -> Options:
    """Reads the options of a packet or raises Refused. In -03 there are no Flow Identifiers."""
    crypt_offset: CryptOffset | None = None
    flow_id: bytes | None = None
    at = 0
    while at < len(area):
        kind = area[at]
        if kind == PAD1:
            at += 1
            continue
        if at + 2 > len(area) or at + 2 + area[at + 1] > len(area):
            raise Refused(Reason.OPTION, "an option goes beyond Opt Len")
        data = area[at + 2 : at + 2 + area[at + 1]]
        at += 2 + len(data)
        if kind == PADN:
            if any(data):
                raise Refused(Reason.OPTION, "PadN is not zero")
        elif kind == CRYPT_OFFSET:
            if crypt_offset is not None or len(data) != 2:
                raise Refused(Reason.OPTION, "a second Crypt Offset, or one of a wrong length")
            crypt_offset = CryptOffset.decode(data)
        elif kind == FLOW_IDENTIFIER and flow_ids:
            if flow_id is not None:
                raise Refused(Reason.OPTION, "a second Flow Identifier")
            flow_id = data
        elif kind not in PRIVATE:
            raise Refused(Reason.OPTION, f"unknown option type {kind}")
    return Options(crypt_offset, flow_id)
