# SPDX-License-Identifier: BSD-3-Clause
"""Kernels without packets: derives keys, and seals and opens bursts of messages with AES-GCM, each with its own key.

For formats other than the library's. The caller provides keys, nonces and AAD, and must make sure that no key seals two
messages with the same nonce.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable, Sequence
from ctypes import byref
from typing import Any, NamedTuple, SupportsIndex

from . import _abi
from ._types import Aead, Buffer, Status
from .errors import error_of
from .objects import _Object
from .packets import address_of, need, octets_of
from .secret import Keys, Secret

_LIB = _abi.LIB
NONCE_LEN = 12
CONTEXT_LEN = 16


class Message(NamedTuple):
    """One message: data is plaintext to seal, or ciphertext with the 16 octets of its tag to open."""

    nonce: Buffer
    data: Buffer
    aad: Buffer = b""
    key: int = 0  # which key of a set


def _lay_out(messages: Sequence[Message], opening: bool) -> tuple[Any, list[tuple[int, int]], bytearray, list[memoryview]]:
    """Returns jobs, the places of their results in a buffer, the buffer, and the objects that must live meanwhile."""
    jobs = (_abi.Job * len(messages))()
    sources = [octets_of(m.data, "data") for m in messages]
    aads = [octets_of(m.aad, "aad") for m in messages]
    places: list[tuple[int, int]] = []
    at = 0
    for i, (message, source) in enumerate(zip(messages, sources, strict=True)):
        nonce = octets_of(message.nonce, "nonce")
        if len(nonce) != NONCE_LEN:
            raise ValueError(f"message {i}: a nonce has {NONCE_LEN} octets, not {len(nonce)}")
        length = len(source) - (_abi.ICV_LEN if opening else 0)
        if length < 0:
            raise ValueError(f"message {i} is shorter than its tag")
        places.append((at, length))
        at += length + _abi.ICV_LEN
    out = bytearray(at)
    out_view = memoryview(out)
    base = address_of(out_view)
    for i, (message, job) in enumerate(zip(messages, jobs, strict=True)):
        start, length = places[i]
        job.aad, job.aad_len = address_of(aads[i]), len(aads[i])
        job.src, job.dst, job.len, job.key = address_of(sources[i]), base + start, length, message.key
        job.tag = base + start + length
        if opening:
            out_view[start + length : start + length + _abi.ICV_LEN] = sources[i][length:]
        job.nonce[:] = bytes(octets_of(message.nonce, "nonce"))
    return jobs, places, out, [*sources, *aads, out_view]


def _listed(messages: Iterable[Message], keys: int) -> list[Message]:
    """Returns a list of messages, after a check of their keys' numbers."""
    burst = list(messages)
    for i, message in enumerate(burst):
        need(message, Message, f"message {i}")
        need(message.key, SupportsIndex, f"message {i}: key")
        if not 0 <= message.key < keys:
            raise ValueError(f"message {i}: there is no key {message.key}")
    return burst


def _sealed(run: Callable[[Any, int], int], messages: Iterable[Message]) -> list[bytes]:
    burst = list(messages)
    jobs, places, out, kept = _lay_out(burst, False)
    if run(jobs, len(burst)) != len(burst):
        raise error_of(Status.ARGUMENT, _abi.LIB.eesp_last_error().decode())
    del kept
    return [bytes(out[at : at + length + _abi.ICV_LEN]) for at, length in places]


def _opened(run: Callable[[Any, int], int], messages: Iterable[Message]) -> list[bytes | None]:
    burst = list(messages)
    jobs, places, out, kept = _lay_out(burst, True)
    run(jobs, len(burst))  # what could be wrong with arguments was looked at before
    del kept
    return [bytes(out[at : at + length]) if job.ok == 1 else None for job, (at, length) in zip(jobs, places, strict=True)]


class Kdf(_Object):
    """A key of the key-derivation function, AES-256-CMAC (NIST SP 800-108, counter mode), in locked memory."""

    def __init__(self, key: Buffer, aead: Aead = Aead.AES_128_GCM) -> None:
        """key: 32 octets. aead: the AEAD that the derived keys are for."""
        octets = octets_of(key, "key")
        if len(octets) != 32:
            raise ValueError(f"the key of a Kdf has 32 octets, not {len(octets)}")
        self._aead = Aead(aead)
        self._make("eesp_kdf_free", lambda to: _LIB.eesp_kdf_new(address_of(octets), to))

    def _contexts(self, contexts: Iterable[Buffer]) -> bytes:
        rows = [bytes(octets_of(c, "context")) for c in contexts]
        for i, row in enumerate(rows):
            if len(row) != CONTEXT_LEN:
                raise ValueError(f"context {i} has {len(row)} octets, not {CONTEXT_LEN}")
        return b"".join(rows)

    def derive(self, contexts: Iterable[Buffer]) -> Keys:
        """Derives the keys of contexts of 16 octets. The first octet is the KDF's counter and is ignored."""
        octets = self._contexts(contexts)
        count, size = len(octets) // CONTEXT_LEN, 32 if self._aead == Aead.AES_256_GCM else 16
        keys = Secret(count * size)
        view = keys.view()
        status = self._call(_LIB.eesp_kdf_derive, self._aead, octets, count, address_of(view), len(keys))
        if status:
            raise error_of(status, _LIB.eesp_last_error().decode())
        return Keys(keys, size)

    def _run(self, function: Any, contexts: Iterable[Buffer], count: int) -> Callable[[Any, int], int]:
        octets = self._contexts(contexts)
        if len(octets) != count * CONTEXT_LEN:
            raise ValueError(f"{count} messages, but {len(octets) // CONTEXT_LEN} contexts")
        return lambda jobs, n: int(self._call(function, self._aead, octets, byref(jobs), n))

    def seal(self, contexts: Iterable[Buffer], messages: Iterable[Message]) -> list[bytes]:
        """Seals each message with the key of its context: ciphertext, and 16 octets of tag behind it."""
        burst = _listed(messages, 1)
        return _sealed(self._run(_LIB.eesp_kdf_seal, contexts, len(burst)), burst)

    def open(self, contexts: Iterable[Buffer], messages: Iterable[Message]) -> list[bytes | None]:
        """Opens each message; None where the tag is wrong."""
        burst = _listed(messages, 1)
        return _opened(self._run(_LIB.eesp_kdf_open, contexts, len(burst)), burst)


class KeySet(_Object):
    """Data keys, expanded, in locked memory: up to 65,536."""

    def __init__(self, keys: Keys | Iterable[Buffer], aead: Aead | None = None) -> None:
        """keys: each has 16 octets (AES-128-GCM), or each has 32 (AES-256-GCM)."""
        rows = [octets_of(k, "key") for k in keys]
        if not rows or len({len(row) for row in rows}) != 1 or len(rows[0]) not in (16, 32):
            raise ValueError("keys: one or more, all of 16 or all of 32 octets")
        chosen = Aead.AES_128_GCM if len(rows[0]) == 16 else Aead.AES_256_GCM
        if aead is not None and aead != chosen:
            raise ValueError(f"keys of {len(rows[0])} octets are not for {Aead(aead).name}")
        self._count = len(rows)
        with Secret(len(rows) * len(rows[0])) as all_of_them:
            view = all_of_them.view()
            for i, row in enumerate(rows):
                view[i * len(row) : (i + 1) * len(row)] = row
            self._make("eesp_keyset_free", lambda to: _LIB.eesp_keyset_new(chosen, address_of(view), len(rows), to))

    def __len__(self) -> int:
        return self._count

    def seal(self, messages: Iterable[Message]) -> list[bytes]:
        """Seals each message with its key: ciphertext, and 16 octets of tag behind it."""
        burst = _listed(messages, self._count)
        return _sealed(lambda jobs, n: int(self._call(_LIB.eesp_keyset_seal, byref(jobs), n)), burst)

    def open(self, messages: Iterable[Message]) -> list[bytes | None]:
        """Opens each message; None where the tag is wrong."""
        burst = _listed(messages, self._count)
        return _opened(lambda jobs, n: int(self._call(_LIB.eesp_keyset_open, byref(jobs), n)), burst)
