# SPDX-License-Identifier: BSD-3-Clause
"""python -m eesp: look at captures, seal and open them, derive keys, ask and test the library."""

from __future__ import annotations

import argparse
import ipaddress
import json
import math
import os
import stat
import sys
import tempfile
import time
from collections import Counter as Tally
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import reduce
from operator import or_
from typing import Any, TypeVar

from . import bench
from ._abi import MAX_LEN, UDP_PORT
from ._types import Aead, Combiner, Context, Generation, Level, Levels, Status, V
from ._version import __version__
from .errors import EespError, HeaderError
from .header import Header
from .library import backend, backends, library_path, library_version, self_test
from .objects import Receiver, Sender, TrustGroup
from .packets import Result
from .pcap import MAX_INNER, CaptureError, Datagram, Frame, Reader, Writer, outer_headers, strip_outer
from .secret import Secret

T = TypeVar("T")
BURST = 256
MAX_ROOT_KEY_DER = 512


class Failure(Exception):
    """What stops a command, in words."""


class Progress:
    """A bar on the terminal, for captures that take a while."""

    WIDTH = 40

    def __init__(self, total: int, wanted: bool | None) -> None:
        self.total, self.done, self.shown = total, 0, -1
        self.on = sys.stderr.isatty() and total > 4 << 20 if wanted is None else wanted

    def __call__(self, octets: int) -> None:
        self.done += octets
        percent = 100 * self.done // self.total if self.total else 100
        if self.on and percent != self.shown:
            self.shown = percent
            bar = "#" * (self.WIDTH * percent // 100)
            sys.stderr.write(f"\r[{bar:<{self.WIDTH}}] {percent:3d}%")
            sys.stderr.flush()

    def end(self) -> None:
        """Clears the line."""
        if self.on:
            sys.stderr.write("\r" + " " * (self.WIDTH + 7) + "\r")


@contextmanager
def capture(path: str, wanted: bool | None) -> Iterator[Reader]:
    """Opens a capture."""
    with open(path, "rb") as file:
        progress = Progress(os.fstat(file.fileno()).st_size, wanted)
        try:
            yield Reader(file, progress)
        except CaptureError as error:
            raise Failure(f"{path}: {error}") from None
        finally:
            progress.end()


@contextmanager
def written(path: str) -> Iterator[Writer]:
    """Writes a capture under another name, which becomes path when all went well; keeps the mode of a file that is there."""
    path = os.path.realpath(path)
    mode = None
    if os.path.exists(path):
        if not os.path.isfile(path):
            with open(path, "wb") as file:
                yield Writer(file)
            return
        mode = stat.S_IMODE(os.stat(path).st_mode)
    descriptor, part = tempfile.mkstemp(prefix=os.path.basename(path), suffix=".part", dir=os.path.dirname(path))
    try:
        with open(descriptor, "wb") as file:
            yield Writer(file)
            os.fchmod(file.fileno(), 0o600 if mode is None else mode)
        os.replace(part, path)
    except BaseException:
        os.unlink(part)
        raise


def in_bursts(items: Iterator[T]) -> Iterator[list[T]]:
    """Items in lists of up to BURST."""
    burst: list[T] = []
    for item in items:
        burst.append(item)
        if len(burst) == BURST:
            yield burst
            burst = []
    if burst:
        yield burst


def show(args: argparse.Namespace, data: dict[str, Any], text: Callable[[], str]) -> None:
    """One JSON object, or text."""
    print(json.dumps(data) if args.json else text())


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Columns, numbers to the right."""
    cells = [list(head)] + [[str(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    right = [all(isinstance(row[i], (int, float)) for row in rows) for i in range(len(head))]
    lines = []
    for row in cells:
        parts = [c.rjust(w) if r else c.ljust(w) for c, w, r in zip(row, widths, right)]
        lines.append("  ".join(parts).rstrip())
    return "\n".join(lines)


# ---- Keys ------------------------------------------------------------------------------------------------------------


def read_secret(path: str) -> Secret:
    """A root key file."""
    der = Secret(MAX_ROOT_KEY_DER + 1)
    with open(path, "rb", buffering=0) as file:
        size = file.readinto(der) or 0
    if size > MAX_ROOT_KEY_DER:
        raise Failure(f"{path} is too long for a root key")
    with der:
        return Secret(memoryview(der)[:size])


@contextmanager
def group_of(args: argparse.Namespace) -> Iterator[TrustGroup]:
    """The trust group of --zone, --user and --task."""
    with TrustGroup(aead=Aead[args.aead], combiner=Combiner[args.combiner]) as group:
        given = [(level, getattr(args, level.name.lower())) for level in Level]
        if not any(path for _, path in given):
            raise Failure("a root key is needed: --zone, --user or --task")
        for level, path in given:
            if path:
                with read_secret(path) as der:
                    group.set_root_key_der(level, der)
        yield group


def command_keygen(args: argparse.Namespace) -> int:
    """Writes a new root key, readable by its owner only."""
    with TrustGroup() as group:
        group.generate_root_key(Level.ZONE, args.id.encode())
        with group.root_key_der(Level.ZONE) as der:
            target = os.open(args.file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(target, "wb", buffering=0) as file:
                file.write(der)
    show(args, {"file": args.file, "id": args.id}, lambda: f"{args.file}: root key {args.id!r}")
    return 0


def command_derive(args: argparse.Namespace) -> int:
    """Prints the data key of one context."""
    context = Context(
        id=args.id,
        epoch=args.epoch,
        v=V[args.v],
        levels=reduce(or_, (Levels[name] for name in args.levels), Levels.DEFAULT),
        generation=Generation[args.generation],
        src=args.src,
        dst=args.dst,
    )
    with group_of(args) as group, group.derive_keys([context]) as keys:
        show(args, {"id": args.id, "epoch": args.epoch, "key": keys[0].hex()}, keys[0].hex)
    return 0


# ---- Captures --------------------------------------------------------------------------------------------------------


def command_seal(args: argparse.Namespace) -> int:
    """Seals the IP packets of a capture."""
    src, dst = (ipaddress.ip_address(a).packed for a in (args.src, args.dst))
    if len(src) != len(dst):
        raise Failure("--src and --dst are not of one IP version")
    statuses: Tally[Status] = Tally()
    too_long = sealed_octets = 0
    with group_of(args) as group, Sender(group, args.id, v=V[args.v], options=not args.no_options) as sender:
        with capture(args.input, args.progress) as reader, written(args.output) as writer:
            for burst in in_bursts(iter(reader)):
                fits = [frame for frame in burst if len(frame.packet) <= MAX_INNER]
                too_long += len(burst) - len(fits)
                result = sender.seal([frame.packet for frame in fits], addresses=(src, dst))
                for frame, packet, status in zip(fits, result, result.status):
                    statuses[Status(status)] += 1
                    if status == Status.OK:
                        sealed_octets += len(packet)
                        writer.write(frame.time_ns, outer_headers(packet, src, dst, args.port), packet)
    return report(args, "sealed", statuses, sealed_octets, too_long=too_long, **asdict(reader.skipped))


def command_open(args: argparse.Namespace) -> int:
    """Opens the sealed packets of a capture."""
    statuses: Tally[Status] = Tally()
    octets = 0
    with group_of(args) as group, Receiver(group, try_previous=args.try_previous) as receiver:
        with capture(args.input, args.progress) as reader, written(args.output) as writer:
            other = Other()
            for burst in in_bursts(sealed_packets(reader, args.port, other)):
                result: Result = receiver.open(
                    [datagram.payload for _, datagram in burst],
                    addresses=[(datagram.src, datagram.dst) for _, datagram in burst],
                )
                for (frame, _), packet, status in zip(burst, result, result.status):
                    statuses[Status(status)] += 1
                    if status == Status.OK:
                        octets += len(packet)
                        writer.write(frame.time_ns, packet)
    return report(args, "opened", statuses, octets, other=other.packets, **asdict(reader.skipped))


@dataclass
class Other:
    """How many packets of a capture were not sealed ones."""

    packets: int = 0


def sealed_packets(reader: Reader, port: int, other: Other) -> Iterator[tuple[Frame, Datagram]]:
    """What goes to the UDP port."""
    for frame in reader:
        datagram = strip_outer(frame.packet, port)
        if datagram is None:
            other.packets += 1
        else:
            yield frame, datagram


def report(args: argparse.Namespace, what: str, statuses: Tally[Status], octets: int, **skipped: int) -> int:
    """The end of seal and open: 1 if a packet failed, or the capture ends inside a record."""
    good = statuses.pop(Status.OK, 0)
    failed = {status.name: n for status, n in statuses.items()}
    data = {what: good, "octets": octets, "failed": failed, "skipped": skipped}
    lines = [f"{what} {good} packets, {octets} octets, into {args.output}"]
    lines += [f"failed: {n} ({Status[name].describe()})" for name, n in failed.items()]
    lines += [f"left out: {n} ({name.replace('_', ' ')})" for name, n in skipped.items() if n]
    show(args, data, lambda: "\n".join(lines))
    return 1 if failed or skipped["truncated"] else 0


@dataclass
class Seen:
    """Packets of one ID, or of one ID in one epoch."""

    packets: int = 0
    octets: int = 0
    first: int = 0
    last: int = 0
    backwards: int = 0
    latest: int = field(default=-1, repr=False)

    def add(self, tsc: int, octets: int) -> None:
        """Counts a packet."""
        if not self.packets:
            self.first = self.last = tsc
        self.packets += 1
        self.octets += octets
        self.first, self.last = min(self.first, tsc), max(self.last, tsc)
        self.backwards += tsc <= self.latest
        self.latest = tsc


def command_inspect(args: argparse.Namespace) -> int:
    """Tells what the Security Headers of a capture say. No key is needed, and nothing is authenticated."""
    ids: dict[tuple[int, V], Seen] = {}
    epochs: dict[tuple[int, V, int], Seen] = {}
    roots: Tally[tuple[Level, bytes, int]] = Tally()
    errors: Tally[Status] = Tally()
    other, total = Other(), 0
    with capture(args.input, args.progress) as reader:
        for _, datagram in sealed_packets(reader, args.port, other):
            total += 1
            try:
                header = Header.parse(datagram.payload)
            except HeaderError as error:
                errors[error.status] += 1
                continue
            size = len(datagram.payload)
            ids.setdefault((header.id, header.v), Seen()).add(header.epoch << 48 | header.counter, size)
            epochs.setdefault((header.id, header.v, header.epoch), Seen()).add(header.counter, size)
            for option in header.options:
                roots[option.level, option.root_key_id, option.index] += 1
    epochs_of = Tally((i, v) for i, v, _ in epochs)
    id_rows = [
        {"id": i, "v": v.name, "packets": s.packets, "octets": s.octets, "not_ascending": s.backwards}
        | {"epochs": epochs_of[i, v]}
        for (i, v), s in sorted(ids.items())
    ]
    epoch_rows = [
        {"id": i, "v": v.name, "epoch": e, "packets": s.packets, "octets": s.octets}
        | {"first_counter": s.first, "last_counter": s.last}
        for (i, v, e), s in sorted(epochs.items())
    ]
    root_rows = [
        {"level": level.name, "root_key_id": root.hex(), "index": index, "packets": n}
        for (level, root, index), n in sorted(roots.items())
    ]
    data = {"packets": total, "malformed": {s.name: n for s, n in errors.items()}, "other": other.packets}
    data |= asdict(reader.skipped) | {"ids": id_rows, "epochs": epoch_rows, "root_keys": root_rows}

    def text() -> str:
        parts = [f"{total} sealed packets, {sum(errors.values())} malformed, {other.packets} other IP packets"]
        parts += [f"malformed: {n} ({status.describe()})" for status, n in errors.items()]
        if reader.skipped.truncated:
            parts.append("the capture ends inside a record")
        for title, rows in (("IDs", id_rows), ("Epochs", epoch_rows), ("Root keys", root_rows)):
            if rows:
                shown = [{k: f"{v:#x}" if k == "id" else v for k, v in row.items()} for row in rows]
                parts.append(f"\n{title}\n" + table(list(shown[0]), [list(row.values()) for row in shown]))
        return "\n".join(parts)

    show(args, data, text)
    return reader.skipped.truncated


# ---- The library -----------------------------------------------------------------------------------------------------


def command_backends(args: argparse.Namespace) -> int:
    """Tells which backends this machine can run, and which one is in force."""
    chosen = backend()
    rows = [{"name": name, "supported": can, "in_force": name == chosen} for name, can in backends().items()]
    data = {"library": library_path(), "version": library_version(), "backends": rows}

    def text() -> str:
        shown = [
            (r["name"], "yes" if r["supported"] else "no", "in force" if r["in_force"] else "") for r in rows
        ]
        return f"libeesp {library_version()}, {library_path()}\n" + table(("backend", "supported", ""), shown)

    show(args, data, text)
    return 0 if chosen else 1


def command_selftest(args: argparse.Namespace) -> int:
    """Known answers of every backend, and a packet there and back."""
    start = time.perf_counter()
    self_test()
    with TrustGroup() as group:
        group.generate_root_key(Level.ZONE, b"self-test's zone")
        with Sender(group, id=1, options=True) as sender, Receiver(group) as receiver:
            payloads = [bytes([i]) * i for i in range(256)]
            if [bytes(p) for p in receiver.open(sender.seal(payloads))] != payloads:
                raise Failure("packets do not open to what was sealed")
    tested = [name for name, can in backends().items() if can]
    data = {"passed": tested, "seconds": round(time.perf_counter() - start, 3)}
    show(args, data, lambda: f"passed: {', '.join(tested)}")
    return 0


def command_bench(args: argparse.Namespace) -> int:
    """Measures packets a second by burst size."""

    def line(m: bench.Measured) -> None:
        if not args.json:
            print(f"{m.way:<14} {m.size:>5} {m.burst:>6} {m.threads:>7} {m.packets_per_second:>12,.0f}", flush=True)

    if not args.json:
        print(f"{'way':<14} {'size':>5} {'burst':>6} {'threads':>7} {'packets/s':>12}")
    found = bench.measure(args.bursts, size=args.size, seconds=args.seconds, report=line)
    one, more = found[-2:]
    ratio = more.packets_per_second / one.packets_per_second if one.packets_per_second else 0.0
    if args.json:
        print(json.dumps({"backend": backend(), "results": [asdict(m) for m in found], "threads_ratio": ratio}))
    else:
        print(f"{more.threads} threads seal {ratio:.2f} times as many packets as one")
    return 0


def number(text: str) -> int:
    """Decimal, or hexadecimal after 0x."""
    return int(text, 0)


def packet_size(text: str) -> int:
    """Octets of a payload."""
    value = int(text)
    if not 0 <= value <= MAX_LEN:
        raise ValueError
    return value


def port(text: str) -> int:
    """A UDP port."""
    value = int(text)
    if not 1 <= value <= 0xFFFF:
        raise ValueError
    return value


def burst_size(text: str) -> int:
    """Packets of a burst."""
    value = number(text)
    if not 1 <= value <= 1 << 20:
        raise ValueError
    return value


def duration(text: str) -> float:
    """Seconds."""
    value = float(text)
    if not math.isfinite(value) or value < 0:
        raise ValueError
    return value


def parser() -> argparse.ArgumentParser:
    """The command line."""
    every = argparse.ArgumentParser(add_help=False)
    every.add_argument("--json", action="store_true", help="print one JSON object")
    keys = argparse.ArgumentParser(add_help=False)
    for level in Level:
        keys.add_argument(f"--{level.name.lower()}", metavar="FILE", help=f"{level.name.lower()} root key (DER)")
    keys.add_argument("--aead", choices=[a.name for a in Aead], default="AES_128_GCM")
    keys.add_argument("--combiner", choices=[c.name for c in Combiner], default="HKDF")
    files = argparse.ArgumentParser(add_help=False)
    files.add_argument("input", metavar="IN.pcap")
    files.add_argument("--port", type=port, default=UDP_PORT, help="UDP port of sealed packets (%(default)s)")
    files.add_argument(
        "--progress", action=argparse.BooleanOptionalAction, help="progress bar (default: long captures, on a terminal)"
    )
    ids = argparse.ArgumentParser(add_help=False)
    ids.add_argument("--id", type=number, required=True, help="DeviceID or ConnectionID")
    ids.add_argument("--v", choices=[v.name for v in V], default="ID", help="what the context is made of (%(default)s)")
    ids.add_argument("--src", default="192.0.2.1", metavar="ADDRESS", help="outer source (%(default)s)")
    ids.add_argument("--dst", default="192.0.2.2", metavar="ADDRESS", help="outer destination (%(default)s)")

    top = argparse.ArgumentParser(prog="eesp", description="Stateless packet encryption in bursts.")
    top.add_argument("--version", action="version", version=f"eesp {__version__}, libeesp {library_version()}")
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    def add(
        name: str, run: Callable[[argparse.Namespace], int], *parents: argparse.ArgumentParser
    ) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=run.__doc__, description=run.__doc__, parents=[*parents, every])
        command.set_defaults(run=run)
        return command

    add("inspect", command_inspect, files)
    seal = add("seal", command_seal, files, keys, ids)
    seal.add_argument("output", metavar="OUT.pcap")
    seal.add_argument("--no-options", action="store_true", help="headers do not say which root keys were used")
    opening = add("open", command_open, files, keys)
    opening.add_argument("output", metavar="OUT.pcap")
    opening.add_argument("--try-previous", action="store_true", help="without options, try the previous root keys too")
    derive = add("derive", command_derive, keys, ids)
    derive.add_argument("--epoch", type=number, required=True)
    derive.add_argument("--levels", nargs="*", default=[], choices=[level.name for level in Level])
    derive.add_argument("--generation", choices=[g.name for g in Generation], default="CURRENT")
    keygen = add("keygen", command_keygen)
    keygen.add_argument("file", metavar="FILE")
    keygen.add_argument("--id", required=True, help="names the root key: 16 to 32 octets")
    add("backends", command_backends)
    add("selftest", command_selftest)
    measuring = add("bench", command_bench)
    measuring.add_argument("--bursts", type=burst_size, nargs="+", default=list(bench.BURSTS))
    measuring.add_argument("--size", type=packet_size, default=64, help="octets of a payload (%(default)s)")
    measuring.add_argument("--seconds", type=duration, default=0.3, help="for each line (%(default)s)")
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; 0 if all went well, 1 if not, 2 for a wrong command line."""
    args = parser().parse_args(arguments)
    try:
        run: Callable[[argparse.Namespace], int] = args.run
        return run(args)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (Failure, EespError, OSError, ValueError) as error:
        print(f"eesp: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
