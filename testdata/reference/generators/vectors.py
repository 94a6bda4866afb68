"""What the vectors of all profiles share: their octet stream, common fields, and the form of the file."""

import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any

from common.errors import BaseReason, Refused
from common.packet import Sealed

Vector = dict[str, Any]
Sections = dict[str, list[Vector]]

LONGEST_INLINE_PAYLOAD = 200


def stream(seed: bytes, size: int) -> bytes:
    """SHA-256(seed || i) for i = 0, 1, ... as 32-bit big-endian numbers, joined and cut to size."""
    out = b""
    for i in range((size + 31) // 32):
        out += hashlib.sha256(seed + i.to_bytes(4, "big")).digest()
    return out[:size]


def flip(packet: bytes, bit: int) -> bytes:
    """The packet with one bit changed, counted from the first octet's highest."""
    changed = bytearray(packet)
    changed[bit // 8] ^= 0x80 >> bit % 8
    return bytes(changed)


def payload_fields(seed: bytes, payload: bytes) -> Vector:
    """The payload in place if it is short or no stream, else the seed it is the stream of."""
    inline = len(payload) <= LONGEST_INLINE_PAYLOAD or payload != stream(seed, len(payload))
    return {
        "payload_len": len(payload),
        "payload": payload.hex() if inline else "",
        "payload_seed": "" if inline else seed.hex(),
    }


def output_fields(sealed: Sealed) -> Vector:
    """The values on the way to a packet, and the packet."""
    return {
        "kdf_inputs": [block.hex() for block in sealed.key.kdf_inputs],
        "data_key": sealed.key.data_key.hex(),
        "mask": sealed.key.mask.hex(),
        "nonce": sealed.nonce.hex(),
        "aad": sealed.aad.hex(),
        "packet": sealed.packet.hex(),
    }


def decided(vector: Vector, decision: str) -> Vector:
    """The vector, marked with the decision it rests on, if any."""
    return vector | {"decision": decision} if decision else vector


def check_refused(name: str, reason: BaseReason, opening: Callable[[], object]) -> None:
    """Raises AssertionError unless opening the packet is refused for this reason."""
    try:
        opening()
    except Refused as refusal:
        if refusal.reason is not reason:
            raise AssertionError(f"{name}: refused for {refusal}, not {reason.value}") from refusal
    else:
        raise AssertionError(f"{name}: accepted")


def check_names(sections: Sections) -> None:
    """Raises AssertionError if a name occurs twice in a section."""
    for section, vectors in sections.items():
        names: Sequence[str] = [vector["name"] for vector in vectors]
        twice = {name for name in names if names.count(name) > 1} if len(set(names)) != len(names) else set()
        if twice:
            raise AssertionError(f"{section}: names that occur twice: {', '.join(sorted(twice))}")


def render(profile: str, sections: Sections) -> str:
    """JSON with one vector on a line, so that a change shows as a change of the vectors it concerns."""
    lines = ["{", f'"profile": "{profile}",']
    names = list(sections)
    for section in names:
        lines.append(f'"{section}": [')
        lines.append(",\n".join(json.dumps(vector, separators=(",", ":")) for vector in sections[section]))
        lines.append("]" if section == names[-1] else "],")
    lines.append("}")
    return "\n".join(lines) + "\n"
