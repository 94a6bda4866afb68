"""Reading the vectors back, by the rules that README.md states."""

import hashlib
import json
from typing import Any

import generate


def load(profile: str) -> dict[str, Any]:
    """The object in a profile's file."""
    data: dict[str, Any] = json.loads(generate.output(profile).read_text(encoding="ascii"))
    return data


def load_payload(vector: dict[str, Any]) -> bytes:
    """The payload: in place, or SHA-256(seed || i) for i = 0, 1, ..., cut to its length."""
    if not vector["payload_seed"]:
        return bytes.fromhex(vector["payload"])
    blocks = range((vector["payload_len"] + 31) // 32)
    seed = bytes.fromhex(vector["payload_seed"])
    return b"".join(hashlib.sha256(seed + i.to_bytes(4, "big")).digest() for i in blocks)[: vector["payload_len"]]


def reused_nonces(seals: list[dict[str, Any]]) -> list[str]:
    """Vectors are no example to follow if they use a nonce twice under a key, for different packets."""
    seen: dict[tuple[str, str], str] = {}
    return [
        vector["name"]
        for vector in seals
        if seen.setdefault((vector["data_key"], vector["nonce"]), vector["packet"]) != vector["packet"]
    ]
