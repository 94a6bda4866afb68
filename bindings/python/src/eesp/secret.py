# SPDX-License-Identifier: BSD-3-Clause
"""Secret octets: never printed, and wiped when no longer needed."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, SupportsIndex, overload

if TYPE_CHECKING:
    from ._types import Buffer


class _Wiped(bytearray):
    """Octets that are wiped when neither a Secret nor a view refers to them."""

    def __del__(self) -> None:
        self[:] = bytes(len(self))


class Secret:
    """Octets that do not print themselves, and are wiped when their with block ends or when they go away.

    It is not a bytearray: operations that would return plain octets (its methods, iteration, pickle, marshal) are missing
    or raise an error. Slices and sums are Secrets. view() gives access to the octets without a copy. The caller must
    protect and wipe copies: those that hex() returns or that are made from a view. Using a wiped Secret is a ValueError,
    because zeros would work as a key.
    """

    __slots__ = ("_octets", "_wiped", "__weakref__")
    __hash__: ClassVar[None]  # type: ignore[assignment]
    __iter__ = None  # nor an accident with list() or bytes.join()
    __reversed__ = None
    __contains__ = None

    def __init__(self, octets: Buffer | int = 0) -> None:
        """The octets of a buffer, or as many zeros."""
        self._octets, self._wiped = _Wiped(octets if isinstance(octets, int) else _view(octets)), False

    def view(self) -> memoryview:
        """A view of the octets, without a copy. The caller must protect and wipe what is copied from it."""
        return memoryview(self._whole())

    def hex(self) -> str:
        """A copy as text."""
        return self._whole().hex()

    def _whole(self) -> _Wiped:
        if self._wiped:
            raise ValueError("this Secret was wiped")
        return self._octets

    def wipe(self) -> None:
        """Overwrites it with zeros."""
        self._wiped = True
        self._octets[:] = bytes(len(self._octets))

    def __enter__(self) -> Secret:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.wipe()

    def __len__(self) -> int:
        return len(self._octets)

    @overload
    def __getitem__(self, index: SupportsIndex) -> int: ...

    @overload
    def __getitem__(self, index: slice) -> Secret: ...

    def __getitem__(self, index: SupportsIndex | slice) -> int | Secret:
        if isinstance(index, slice):
            part = self.view()[index]
            made = Secret(len(part))
            made.view()[:] = part
            return made
        return self._whole()[index]

    def _joined(self, first: memoryview, second: memoryview) -> Secret:
        made = Secret(len(first) + len(second))
        made.view()[: len(first)] = first
        made.view()[len(first) :] = second
        return made

    def __add__(self, other: Buffer) -> Secret:
        return self._joined(self.view(), _view(other))

    def __radd__(self, other: Buffer) -> Secret:
        return self._joined(_view(other), self.view())

    def __eq__(self, other: object) -> bool:
        """Compared in constant time."""
        try:
            return hmac.compare_digest(self.view(), _view(other))
        except (TypeError, ValueError):  # not octets; wiped
            return NotImplemented

    def copy(self) -> Secret:
        """Another secret with the same octets."""
        return Secret(self)

    def __repr__(self) -> str:
        return f"<Secret of {len(self)} octets{', wiped' if self._wiped else ''}>"

    __str__ = __repr__

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise TypeError("secrets are not pickled")

    def __getstate__(self) -> NoReturn:
        raise TypeError("secrets are not pickled")


def _view(octets: Any) -> memoryview:
    view = octets.view() if isinstance(octets, Secret) else memoryview(octets)
    return view.cast("B") if view.nbytes else memoryview(b"")


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
        view = self.data.view()
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
        return f"<Keys: {len(self)} of {self.key_len} octets{', wiped' if self.data._wiped else ''}>"
