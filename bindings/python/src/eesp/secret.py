# SPDX-License-Identifier: BSD-3-Clause
"""Octets that are secret: never shown, and wiped when no longer needed."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import NoReturn, SupportsIndex, overload


class Secret(bytearray):
    """A bytearray that is wiped when its with block ends, or when it goes away, and that does not print itself.

    Copies that you make of it (bytes(secret), secret.hex()) are yours to care for.
    """

    def wipe(self) -> None:
        """Overwrites it with zeros."""
        self[:] = bytes(len(self))

    def __enter__(self) -> Secret:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.wipe()

    def __del__(self) -> None:
        self.wipe()

    @overload
    def __getitem__(self, index: SupportsIndex) -> int: ...

    @overload
    def __getitem__(self, index: slice) -> Secret: ...

    def __getitem__(self, index: SupportsIndex | slice) -> int | Secret:
        if isinstance(index, slice):
            return Secret(memoryview(self)[index])
        return super().__getitem__(index)

    def copy(self) -> Secret:
        """Another secret with the same octets."""
        return Secret(self)

    def __repr__(self) -> str:
        return f"<Secret of {len(self)} octets>"

    __str__ = __repr__

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise TypeError("secrets are not pickled")


class Keys(Sequence[memoryview]):
    """Data keys, one behind the other in `data`."""

    __slots__ = ("data", "key_len")

    def __init__(self, data: Secret, key_len: int) -> None:
        self.data, self.key_len = data, key_len

    def __len__(self) -> int:
        return len(self.data) // self.key_len

    @overload
    def __getitem__(self, index: SupportsIndex) -> memoryview: ...

    @overload
    def __getitem__(self, index: slice) -> list[memoryview]: ...

    def __getitem__(self, index: SupportsIndex | slice) -> memoryview | list[memoryview]:
        places = range(0, len(self.data), self.key_len)[index]
        view = memoryview(self.data)
        if isinstance(places, range):
            return [view[at : at + self.key_len] for at in places]
        return view[places : places + self.key_len]

    def wipe(self) -> None:
        """Overwrites all of them with zeros."""
        self.data.wipe()

    def __enter__(self) -> Keys:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.wipe()

    def __repr__(self) -> str:
        return f"<Keys: {len(self)} of {self.key_len} octets>"
