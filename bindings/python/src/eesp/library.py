# SPDX-License-Identifier: BSD-3-Clause
"""The library itself: version, backends, self-test."""

from __future__ import annotations

from itertools import count

from . import _abi
from .errors import check, check_not_forked


def library_path() -> str:
    """The file that was loaded, as passed to the dynamic loader."""
    return _abi.PATH


def library_version() -> str:
    """The version of the library that was loaded."""
    text: bytes = _abi.LIB.eesp_version_string()
    return text.decode()


def backend() -> str | None:
    """The backend in use, or None if none could be chosen."""
    name: bytes | None = _abi.LIB.eesp_backend_name()
    if name is None:
        check_not_forked()
        return None
    return name.decode()


def backends() -> dict[str, bool]:
    """All backends, the best first, and whether this machine can run them."""
    found: dict[str, bool] = {}
    for i in count():
        name: bytes | None = _abi.LIB.eesp_backend_at(i)
        if name is None:
            break
        found[name.decode()] = bool(_abi.LIB.eesp_backend_supported(name))
    if not any(found.values()):
        check_not_forked()
    return found


def select_backend(name: str = "auto") -> None:
    """Selects the backend of objects made from now on."""
    if "\0" in name:
        raise ValueError("name has a NUL in it")
    check(_abi.LIB.eesp_backend_select(name.encode()))


def self_test() -> None:
    """Runs the known-answer tests of every backend that this machine supports."""
    check(_abi.LIB.eesp_self_test())


def thread_init() -> None:
    """Sets up what the calling thread needs for bursts, so that its first burst does not have to."""
    check(_abi.LIB.eesp_thread_init())
