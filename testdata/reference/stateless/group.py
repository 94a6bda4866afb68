"""A trust group: its root keys, and how those of the present levels combine into a master key."""

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from common.primitives import Aead, hkdf_sha256

from .errors import CombineError, Reason, Refused
from .header import Level, MasterKeyOption
from .rootkey import RootKey

MASTER_LABEL = b"EESP-SE master"
MASTER_LEN = 32


class Combiner(str, enum.Enum):
    """How root keys become a master key."""

    HKDF = "hkdf"
    XOR = "xor"


class Generation(enum.IntEnum):
    """A generation of a root key; the value is its position in the DER structure."""

    PRE = 0
    CURRENT = 1
    NEXT = 2

    @property
    def label(self) -> str:
        """The generation's name in the vectors."""
        return self.name.lower()


@dataclass(frozen=True)
class KeyUse:
    """One generation of one level's root key, as it enters the master key."""

    level: Level
    generation: Generation
    index: int  # low 8 bits
    root_key_id: bytes
    value: bytes


@dataclass(frozen=True)
class Group:
    """A trust group as one of its members sees it."""

    aead: Aead
    combiner: Combiner
    levels: Mapping[Level, RootKey]
    default_levels: tuple[Level, ...]

    def use(self, level: Level, generation: Generation) -> KeyUse:
        """One root key of the group."""
        ring = self.levels[level]
        return KeyUse(
            level, generation, ring.indices[generation] & 0xFF, ring.root_key_id, ring.values[generation]
        )

    def find(self, options: Sequence[MasterKeyOption]) -> list[KeyUse]:
        """The root keys a received header names; without options, the default levels' current ones."""
        if not options:
            if not self.default_levels:
                raise Refused(Reason.NO_KEY, "no option was sent and the group has no default levels")
            return [self.use(level, Generation.CURRENT) for level in sorted(self.default_levels)]
        return [self._find_one(option) for option in options]

    def _find_one(self, option: MasterKeyOption) -> KeyUse:
        ring = self.levels.get(option.level)
        if ring is None or ring.root_key_id != option.root_key_id:
            raise Refused(Reason.NO_KEY, f"no root key with this ID at level {option.level.label}")
        # Current first, so that a ring whose pre repeats its current reports current.
        for generation in (Generation.CURRENT, Generation.PRE, Generation.NEXT):
            if ring.indices[generation] & 0xFF == option.index:
                return self.use(option.level, generation)
        raise Refused(Reason.NO_KEY, f"no generation with this index at level {option.level.label}")


def combine(combiner: Combiner, uses: Sequence[KeyUse]) -> bytes:
    """The master key of the present levels, which are in the order zone, user, task."""
    if not uses:
        raise CombineError("none", "there is no root key to combine")
    if combiner is Combiner.HKDF:
        info = MASTER_LABEL
        for use in uses:
            info += bytes([use.level, use.index, len(use.root_key_id)]) + use.root_key_id
        return hkdf_sha256(b"".join(use.value for use in uses), b"", info, MASTER_LEN)
    if len({use.value for use in uses}) != len(uses):
        raise CombineError("equal", "two levels have the same value, which would cancel")
    result = 0
    for use in uses:
        result ^= int.from_bytes(use.value, "big")
    if result == 0:
        raise CombineError("zero", "the combination is all zero")
    return result.to_bytes(MASTER_LEN, "big")
