# SPDX-License-Identifier: BSD-3-Clause
"""Shows a gateway in a terminal, from its OpenMetrics: peers, rates, and refused packets by reason."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass

_LINE = re.compile(r"([a-z_]+)(?:\{(.*)\})? (-?[0-9.e+]+)$")
_LABEL = re.compile(r'([a-z_]+)="((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True)
class Sample:
    """One line of metrics."""

    name: str
    labels: dict[str, str]
    value: float


def parse(text: str) -> list[Sample]:
    """Reads OpenMetrics; ValueError if it is cut, or none."""
    if not text.endswith("# EOF\n"):
        raise ValueError("these metrics are incomplete")
    found = []
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        match = _LINE.match(line)
        if match is None:
            raise ValueError(f"this is not a line of metrics: {line}")
        found.append(Sample(match[1], dict(_LABEL.findall(match[2] or "")), float(match[3])))
    return found


def fetch(where: str, timeout: float = 2) -> list[Sample]:
    """The metrics of the gateway that serves them at a Unix socket's path, a port of this host, or HOST:PORT."""
    host, _, port = where.rpartition(":")
    try:
        if port.isdigit() and "/" not in where:
            if not 0 < int(port) < 1 << 16:
                raise ValueError(f"{port} is not a port")
            connection = socket.create_connection((host or "127.0.0.1", int(port)), timeout)
        else:
            connection = socket.socket(socket.AF_UNIX)
            connection.settimeout(timeout)
            connection.connect(where)
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), where) from None
    with connection:
        connection.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    if b" 200 " not in head.split(b"\r\n")[0]:
        raise ValueError(f"{where}: {head.splitlines()[0].decode(errors='replace') if head else 'no answer'}")
    return parse(body.decode())


def _key(sample: Sample) -> tuple[str, tuple[tuple[str, str], ...]]:
    return sample.name, tuple(sorted(sample.labels.items()))


def render(now: list[Sample], before: list[Sample], seconds: float) -> Iterator[str]:
    """Formats rates since the last sample, and totals."""
    old = {_key(s): s.value for s in before}
    rates: dict[tuple[str, str, str], float] = {}
    totals: dict[tuple[str, str, str], float] = {}
    for s in now:
        if "peer" in s.labels and "what" in s.labels:
            at = s.name, s.labels["peer"], s.labels["what"]
            rates[at], totals[at] = (s.value - old.get(_key(s), s.value)) / seconds, s.value
    yield f"{'PEER':16} {'SEALED/s':>12} {'Mbit/s':>9} {'OPENED/s':>12} {'Mbit/s':>9} {'SEALED':>14} {'OPENED':>14}"
    for peer in dict.fromkeys(p for _, p, _ in totals):
        row = [
            (rates.get(("eesp_gateway_packets_total", peer, what), 0), rates.get(("eesp_gateway_octets_total", peer, what), 0))
            for what in ("sealed", "opened")
        ]
        sums = [totals.get(("eesp_gateway_packets_total", peer, what), 0) for what in ("sealed", "opened")]
        yield (
            f"{peer:16} {row[0][0]:12.0f} {row[0][1] * 8e-6:9.1f} {row[1][0]:12.0f} {row[1][1] * 8e-6:9.1f} "
            f"{sums[0]:14.0f} {sums[1]:14.0f}"
        )
    wrong = [s for s in now if s.value and s.name in ("eesp_gateway_refused_total", "eesp_gateway_strangers_total", "eesp_gateway_dropped_total")]
    if wrong:
        yield ""
        yield f"{'REFUSED/s':>12} {'REFUSED':>12}  WHY"
    for s in sorted(wrong, key=lambda s: -s.value):
        rate = (s.value - old.get(_key(s), s.value)) / seconds
        whose = " ".join(s.labels[k] for k in ("peer", "lane", "address") if k in s.labels)
        why = s.labels.get("reason", "no peer has that address")
        yield f"{rate:12.0f} {s.value:12.0f}  {whose}: {why}" if whose else f"{rate:12.0f} {s.value:12.0f}  {why}"
    held = [s for s in now if s.name == "eesp_gateway_key_index" and s.labels.get("generation") == "current"]
    if held:
        yield ""
        yield "root keys in use: " + ", ".join(f"{s.labels['group']} {s.labels['key']} {s.value:.0f}" for s in held)


def watch(where: str, interval: float, once: bool) -> int:
    """Prints the metrics repeatedly, or once."""
    before = fetch(where)
    while True:
        start = time.monotonic()
        time.sleep(interval)
        now = fetch(where)
        lines = "\n".join(render(now, before, time.monotonic() - start))
        print(lines if once else f"\x1b[H\x1b[2J{where}\n\n{lines}", flush=True)
        if once:
            return 0
        before = now
