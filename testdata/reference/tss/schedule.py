"""Key derivation and nonce."""

import enum
from dataclasses import dataclass

from common.packet import Key
from common.primitives import counter_inputs, counter_mode

from .header import Header
from .lead import Lead

KEY_LEN = 32
MASK_LEN = 12
OUTPUT_BITS = 8 * (KEY_LEN + MASK_LEN)


class Mode(str, enum.Enum):
    """How a group's keys become data keys."""

    CLUSTER = "cluster"
    SERVER = "server"
    DIRECT = "direct"


LABELS = {Mode.CLUSTER: b"U1", Mode.SERVER: b"U2"}


@dataclass(frozen=True)
class Rekey:
    """Which bits of the counter are the rekey number."""

    mask: int = 0
    shift: int = 0

    def __post_init__(self) -> None:
        if not (0 <= self.mask < 2**48 and 0 <= self.shift <= 47 and self.mask >> self.shift < 2**32):
            raise ValueError("the rekey number does not fit in 32 bits")

    def of(self, mode: Mode, counter: int) -> int:
        """The rekey number of a counter; always 0 but in cluster mode."""
        return (counter & self.mask) >> self.shift if mode is Mode.CLUSTER else 0


def derive(mode: Mode, sdk: bytes, header: Header, lead: Lead, rekey: int, *, to_client: bool) -> Key:
    """The data key and IV mask of a packet.

    The context has the address over IPv6, with an SSI too, and over IPv4 the SSI or without one the address. In server
    mode the address is the client's.
    """
    if mode is Mode.DIRECT:
        return Key((), sdk)
    context = header.epoch.to_bytes(2, "big") + rekey.to_bytes(4, "big")
    address = lead.destination if mode is Mode.SERVER and to_client else lead.source
    if lead.ipv6:
        context = bytes(4) + context + address
    elif header.ssi is not None:
        context += header.ssi_octets
    else:
        context += address
    fixed = LABELS[mode] + b"\x00" + context + OUTPUT_BITS.to_bytes(4, "big")
    inputs = counter_inputs(fixed, OUTPUT_BITS // 8)
    output = counter_mode(sdk, inputs)
    return Key(tuple(inputs), output[:KEY_LEN], output[KEY_LEN : KEY_LEN + MASK_LEN])


def nonce(header: Header, lead: Lead, mask: bytes) -> bytes:
    """(SSI | source IPv4 | 00 SDI) || epoch || counter, XOR the mask if there is one."""
    if header.ssi is not None:
        base = header.ssi_octets
    elif lead.ipv6:
        base = header.sdi.to_bytes(4, "big")
    else:
        base = lead.source
    base += header.tsc
    return bytes(a ^ b for a, b in zip(base, mask)) if mask else base
