# SPDX-License-Identifier: BSD-3-Clause
"""Packets a second through Python, by burst size, beside pyca/cryptography's AESGCM with a key for each packet."""

from __future__ import annotations

import os
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from ._types import Level
from .library import thread_init
from .objects import Receiver, Sender, TrustGroup
from .packets import Packets

BURSTS = (1, 32, 1024, 65536)
IDS, FIRST_ID = 1024, 1 << 24
LONG_BURST, LONG_SIZE = 1024, 1400


@dataclass(frozen=True)
class Measured:
    """The median rate of one kind of call at one burst size."""

    way: str
    burst: int
    size: int
    threads: int
    packets_per_second: float


def _rate(call: Callable[[], object], burst: int, seconds: float) -> float:
    call()
    rounds = []
    end = time.perf_counter() + seconds
    while True:
        start = time.perf_counter()
        call()
        now = time.perf_counter()
        rounds.append(now - start)
        if now >= end:
            return burst / statistics.median(rounds)


def _threaded(calls: Sequence[Callable[[], object]], burst: int, seconds: float) -> float:
    """Packets a second of all threads together, each with its own call."""
    done = [0] * len(calls)
    barrier = threading.Barrier(len(calls) + 1)

    def work(i: int) -> None:
        try:
            thread_init()
            calls[i]()
        except BaseException:
            barrier.abort()
            raise
        barrier.wait()
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            calls[i]()
            done[i] += 1

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(calls))]
    for thread in threads:
        thread.start()
    barrier.wait()
    start = time.perf_counter()
    for thread in threads:
        thread.join()
    return sum(done) * burst / (time.perf_counter() - start)


def pyca_seal(size: int, count: int) -> Callable[[], object]:
    """Seals count packets, each with a key of its own."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    keys = [os.urandom(16) for _ in range(count)]
    payload, nonce, aad = os.urandom(size), os.urandom(12), os.urandom(16)
    return lambda: [AESGCM(key).encrypt(nonce, payload, aad) for key in keys]


def _long_burst(sender: Sender) -> Callable[[], object]:
    packets = Packets.join([os.urandom(LONG_SIZE)] * LONG_BURST)
    out = bytearray(sender.sealed_size(packets))
    return lambda: sender.seal_into(packets, out)


def measure(
    bursts: Sequence[int] = BURSTS,
    *,
    size: int = 64,
    seconds: float = 0.3,
    threads: int = 2,
    report: Callable[[Measured], None] = lambda measured: None,
) -> list[Measured]:
    """Runs all of it; report is called after each."""
    found: list[Measured] = []

    def note(way: str, burst: int, rate: float, count: int = 1, octets: int = size) -> None:
        found.append(Measured(way, burst, octets, count, rate))
        report(found[-1])

    try:
        import cryptography  # noqa: F401

        with_pyca = True
    except ImportError:
        with_pyca = False
    with TrustGroup() as group, ExitStack() as stack:
        group.generate_root_key(Level.ZONE, b"benchmark's zone")
        receiver = stack.enter_context(Receiver(group))
        # A sender has one ID, so a burst that it seals has one data key; opened are packets of many.
        senders = [stack.enter_context(Sender(group, id=FIRST_ID + i)) for i in range(min(max(bursts), IDS))]
        sender = senders[0]
        for burst in bursts:
            payloads = [os.urandom(size)] * burst
            packets = Packets.join(payloads)
            out = bytearray(sender.sealed_size(packets))
            note("seal_into", burst, _rate(lambda: sender.seal_into(packets, out), burst, seconds))
            note("seal, a list", burst, _rate(lambda: sender.seal(payloads), burst, seconds))
            sealed = [senders[i % len(senders)].seal_one(payloads[i]) for i in range(min(burst, IDS))]
            many = Packets.join([sealed[i % len(sealed)] for i in range(burst)])
            note("open_into", burst, _rate(lambda: receiver.open_into(many, out), burst, seconds))
            if burst == 1:
                note("seal_one", 1, _rate(lambda: sender.seal_one(payloads[0]), 1, seconds))
                note("open_one", 1, _rate(lambda: receiver.open_one(sealed[0]), 1, seconds))
            if with_pyca:
                note("pyca AESGCM", burst, _rate(pyca_seal(size, burst), burst, seconds))
        for count in sorted({1, threads}):
            calls = [_long_burst(sender) for _ in range(count)]
            note("seal_into", LONG_BURST, _threaded(calls, LONG_BURST, seconds), count, LONG_SIZE)
    return found
