# SPDX-License-Identifier: BSD-3-Clause
"""python -m eesp: inspects captures, seals and opens them, derives keys, and tests the library."""

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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import reduce
from operator import or_
from typing import Any, TypeVar

from . import bench
from . import top as top_view
from ._abi import DRAFT_DEFAULT, MAX_LEN, PSP_UDP_PORT, TSS_UDP_PORT, UDP_PORT
from ._types import (
    Aead,
    AnyV,
    Combiner,
    Context,
    Encap,
    Generation,
    Level,
    Levels,
    Profile,
    PspVersion,
    Sskdf,
    Status,
    TssMode,
    TssV,
    Udp,
    UdpMode,
    V,
)
from ._version import __version__
from .errors import EespError, HeaderError
from .header import EespHeader, Header, PspHeader, TssHeader
from .library import backend, backends, library_path, library_version, self_test
from .objects import Receiver, Sender, TrustGroup
from .pcap import MAX_INNER, CaptureError, Frame, Reader, Writer, strip_outer
from .secret import Secret

T = TypeVar("T")
BURST = 256
MAX_ROOT_KEY_DER = 512
PORTS = {"stateless": UDP_PORT, "psp": PSP_UDP_PORT, "tss": TSS_UDP_PORT, "eesp": UDP_PORT}
V_NAMES: dict[str, Mapping[str, AnyV]] = {
    "stateless": V.__members__,
    "psp": PspVersion.__members__,
    "tss": TssV.__members__,
}
# Options that belong to some profiles only, in any command.
PROFILES_OF = {
    **dict.fromkeys(("zone", "user", "task", "combiner", "levels", "generation"), ("stateless",)),
    **dict.fromkeys(("no_options", "try_previous"), ("stateless",)),
    "key1": ("psp", "tss"),
    "key": ("psp", "tss", "eesp"),
    "domain": ("tss", "eesp"),
    "transport": ("psp", "eesp"),
    **dict.fromkeys(("mode", "rekey_mask", "rekey_shift", "rekey", "an"), ("tss",)),
    **dict.fromkeys(("sub_sas", "max_coffset", "no_sequence", "iv", "optimized", "align8", "sskdf"), ("eesp",)),
    **dict.fromkeys(("draft", "encap"), ("eesp",)),
    "epoch": ("stateless", "tss"),
    "v": ("stateless", "psp", "tss"),
}


class Failure(Exception):
    """An error that ends a command, with its message."""


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


FAULTS_SHOWN = 10


@contextmanager
def capture(path: str, wanted: bool | None) -> Iterator[Reader]:
    """Opens a capture. At the end, the first FAULTS_SHOWN faults are listed, and the others counted."""
    faults: list[str] = []
    with open(path, "rb") as file:
        progress = Progress(os.fstat(file.fileno()).st_size, wanted)
        try:
            yield Reader(file, progress, faults.append)
        except CaptureError as error:
            raise Failure(f"{path}: {error}") from None
        finally:
            progress.end()
            for text in faults[:FAULTS_SHOWN]:
                print(f"eesp: {path}: {text}", file=sys.stderr)
            if len(faults) > FAULTS_SHOWN:
                print(f"eesp: {path}: {len(faults) - FAULTS_SHOWN} more like that", file=sys.stderr)


@contextmanager
def written(name: str, source: str) -> Iterator[Writer]:
    """Writes a capture under a temporary name and renames it on success; in pcapng if its name says so.

    An existing file keeps its mode; it must not be the input.
    """
    path, pcapng, mode = os.path.realpath(name), name.endswith(".pcapng"), None
    with named(name):
        if os.path.exists(path):
            if os.path.samefile(path, source):
                raise Failure(f"{name}: this is the input")
            mode = os.stat(path).st_mode
    if mode is not None and not stat.S_ISREG(mode):
        with named(name), open(path, "wb") as file:
            yield Writer(file, pcapng)
        return
    with named(name):
        descriptor, part = tempfile.mkstemp(prefix=os.path.basename(path), suffix=".part", dir=os.path.dirname(path))
    try:
        with named(name), open(descriptor, "wb") as file:
            yield Writer(file, pcapng)
            os.fchmod(file.fileno(), 0o600 if mode is None else stat.S_IMODE(mode))
        with named(name):
            os.replace(part, path)
    except BaseException:
        os.unlink(part)
        raise


@contextmanager
def named(name: str) -> Iterator[None]:
    """Reports errors of a file under the name that the user gave, not that of a temporary file."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise Failure(f"{name}: {error.strerror}") from None


def in_bursts(items: Iterator[T]) -> Iterator[list[T]]:
    """Yields lists of up to BURST items."""
    burst: list[T] = []
    for item in items:
        burst.append(item)
        if len(burst) == BURST:
            yield burst
            burst = []
    if burst:
        yield burst


def show(args: argparse.Namespace, data: dict[str, Any], text: Callable[[], str]) -> None:
    """Prints one JSON object, or text."""
    print(json.dumps(data) if args.json else text())


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Formats columns, with numbers aligned to the right."""
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
    """Reads a root key file."""
    der = Secret(MAX_ROOT_KEY_DER + 1)
    with open(path, "rb", buffering=0) as file:
        size = file.readinto(der.view()) or 0
    with der:
        if size > MAX_ROOT_KEY_DER:
            raise Failure(f"{path} is too long for a key{looks_like(der)}")
        return der[:size]


def looks_like(key: Secret) -> str:
    """Says what a file contains, if not the key that is needed."""
    size, begin = len(key), bytes(key[:4].view())
    if begin in (b"\xd4\xc3\xb2\xa1", b"\xa1\xb2\xc3\xd4", b"\x4d\x3c\xb2\xa1", b"\xa1\xb2\x3c\x4d", b"\n\r\r\n"):
        return ": it is a capture"
    if begin == b"----":
        return ": it is PEM or another text, and DER is wanted"
    if begin[:2] in (b"\x30\x81", b"\x30\x82"):
        return ": it is DER, as a root key of profile stateless is"
    if size in (32, 48, 64):
        return f": it is {size} octets without form, as a key of psp, tss or eesp is"
    return ""


def check_options(args: argparse.Namespace) -> None:
    """Refuses options of other profiles."""
    for name, profiles in PROFILES_OF.items():
        if getattr(args, name, None) not in (None, False, []) and args.profile not in profiles:
            raise Failure(f"--{name.replace('_', '-')} goes with --profile {' or '.join(profiles)}")


def v_of(args: argparse.Namespace) -> AnyV | None:
    """Returns --v as the profile's enumeration."""
    if args.v is None:
        return None
    try:
        return V_NAMES[args.profile][args.v]
    except KeyError:
        names = ", ".join(V_NAMES[args.profile])
        raise Failure(f"--v {args.v} is not of profile {args.profile}, which has {names}") from None


def new_group(args: argparse.Namespace, v: AnyV | None) -> TrustGroup:
    """Makes a group without keys."""
    aead = None if args.aead is None else Aead[args.aead]
    if args.profile == "stateless":
        return TrustGroup(aead=aead, combiner=Combiner[args.combiner or "HKDF"])
    if args.profile == "psp":
        if isinstance(v, PspVersion):
            length = Aead(v & 1)
            if aead not in (None, length):
                raise Failure(f"--aead {args.aead} does not go with --v {v.name}")
            return TrustGroup(profile=Profile.PSP, aead=length, versions=(v,))
        # What is opened may be of any version.
        versions: Iterable[PspVersion] = () if hasattr(args, "id") else list(PspVersion)
        return TrustGroup(profile=Profile.PSP, aead=aead, versions=versions)
    if args.profile == "tss":
        return TrustGroup(
            profile=Profile.TSS,
            aead=aead,
            domain=args.domain or 0,
            mode=TssMode[args.mode or "CLUSTER"],
            rekey_mask=args.rekey_mask or 0,
            rekey_shift=args.rekey_shift or 0,
        )
    return TrustGroup(
        profile=Profile.EESP,
        aead=aead,
        domain=args.domain or 0,
        mode=Sskdf[args.sskdf or "HKDF_SHA2_256"],
        sequence=not args.no_sequence,
        iv=args.iv,
        optimized=args.optimized,
        align8=args.align8,
        max_coffset=args.max_coffset or 0,
        sub_sas=args.sub_sas or 0,
        draft=args.draft or DRAFT_DEFAULT,
        encap=encap_of(args),
    )


def encap_of(args: argparse.Namespace) -> Encap:
    """Returns the encapsulation mode: tunnel by default; draft -02 has none."""
    if args.encap:
        return Encap[args.encap]
    return Encap.TRANSPORT if args.draft == 2 or getattr(args, "transport", False) else Encap.TUNNEL


@contextmanager
def group_of(args: argparse.Namespace, v: AnyV | None = None) -> Iterator[TrustGroup]:
    """Makes the trust group for --profile and its options, with its key."""
    check_options(args)
    with new_group(args, v) as group:
        if args.profile == "stateless":
            names = [level.name.lower() for level in Level]
        else:
            names = ["key", "key1"]
        paths = [(place, getattr(args, name)) for place, name in enumerate(names)]
        if not any(path for _, path in paths):
            raise Failure("a root key is needed: --zone, --user or --task" if len(names) > 2 else "a key is needed: --key")
        for place, path in paths:
            if not path:
                continue
            with read_secret(path) as secret:
                stateless = args.profile == "stateless"
                try:
                    if stateless:
                        group.set_root_key_der(Level(place), secret)
                    else:
                        group.set_key(place, secret)
                except EespError as error:
                    what = "no root key in DER" if stateless else f"no key of profile {args.profile}"
                    known = looks_like(secret)
                    # Of the right kind, and not a good one: the error says why.
                    why = f": {error}" if not known or ("is DER" if stateless else "without form") in known else known
                    raise Failure(f"{path}: {what}{why}") from None
        yield group


def command_keygen(args: argparse.Namespace) -> int:
    """Writes a new key, readable by its owner only: a root key, or with --profile the octets of a key slot."""
    check_options(args)
    if args.profile != "stateless":
        if args.id is not None:
            raise Failure("--id goes with --profile stateless: keys of others have no name")
        size = 32
        if args.profile == "eesp":
            size = Sskdf[args.sskdf or "HKDF_SHA2_256"].key_len_with(Aead[args.aead or "AES_128_GCM"])
        with Secret(os.urandom(size)) as key:
            write_secret(args.file, key)
        show(args, {"file": args.file, "octets": size}, lambda: f"{args.file}: key of {size} octets")
        return 0
    if args.id is None:
        raise Failure("--id is needed: it names the root key, in 16 to 32 octets")
    with TrustGroup() as group:
        group.generate_root_key(Level.ZONE, args.id.encode())
        with group.root_key_der(Level.ZONE) as der:
            write_secret(args.file, der)
    show(args, {"file": args.file, "id": args.id}, lambda: f"{args.file}: root key {args.id!r}")
    return 0


def write_secret(path: str, secret: Secret) -> None:
    """Writes a secret to a new file."""
    target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(target, "wb", buffering=0) as file:
        file.write(secret.view())


def command_derive(args: argparse.Namespace) -> int:
    """Prints the data key of one context, and what is added to nonces, if anything."""
    check_options(args)
    v, tss = v_of(args), args.profile == "tss"
    if args.epoch is None and args.profile in PROFILES_OF["epoch"]:
        raise Failure("--epoch is needed")
    if tss and v is None:
        raise Failure("--v is needed: SSI, ADDR or ADDR_IPV6")
    with_addresses = args.profile == "stateless" or tss and v is not TssV.SSI
    context = Context(
        id=args.id | (args.rekey or 0) << 32,
        epoch=args.epoch or 0,
        v=v,
        levels=reduce(or_, (Levels[name] for name in args.levels), Levels.DEFAULT),
        generation=args.an if tss else Generation[args.generation or "CURRENT"],
        src=args.src if with_addresses else bytes(16),
        dst=args.dst if args.profile == "stateless" else bytes(16),
    )
    with group_of(args, v) as group, group.derive_keys([context]) as keys:
        key, salt = keys[0][: group.aead.key_len].hex(), keys[0][group.aead.key_len :].hex()
        data = {"id": args.id, "epoch": context.epoch, "key": key} | ({"salt": salt} if salt else {})
        show(args, data, lambda: f"{key}\n{salt}".rstrip())
    return 0


# ---- Captures --------------------------------------------------------------------------------------------------------


def no_tss(args: argparse.Namespace) -> None:
    """Refuses tss for seal and open: captures have no place for the prefix of its packets."""
    if args.profile == "tss":
        raise Failure("profile tss has no UDP tunnel: see derive and inspect, and the Python API")


def command_seal(args: argparse.Namespace) -> int:
    """Seals the IP packets of a capture, into a tunnel of UDP or behind their own IP headers."""
    no_tss(args)
    check_options(args)
    src, dst = (ipaddress.ip_address(a).packed for a in (args.src, args.dst))
    if len(src) != len(dst):
        raise Failure("--src and --dst must have the same IP version")
    udp, v = Udp(mode_of(args), src=src, dst=dst, dport=port_of(args)), v_of(args)
    options = args.profile == "stateless" and not args.no_options
    statuses: Tally[Status] = Tally()
    too_long = sealed_octets = 0
    with group_of(args, v) as group, Sender(group, args.id, v=v, options=options) as sender:
        with capture(args.input, args.progress) as reader, written(args.output, args.input) as writer:
            for burst in in_bursts(iter(reader)):
                fits = [frame for frame in burst if len(frame.packet) <= MAX_INNER]
                too_long += len(burst) - len(fits)
                result = sender.seal_udp([frame.packet for frame in fits], udp)
                for frame, packet, status in zip(fits, result, result.status):
                    statuses[Status(status)] += 1
                    if status == Status.OK:
                        sealed_octets += len(packet)
                        writer.write(frame.time_ns, packet)
    return report(args, "sealed", reader, statuses, sealed_octets, too_long=too_long)


def command_open(args: argparse.Namespace) -> int:
    """Opens the sealed packets of a capture."""
    no_tss(args)
    check_options(args)
    statuses: Tally[Status] = Tally()
    octets, udp = 0, Udp(mode_of(args), dport=port_of(args))
    with group_of(args) as group:
        with Receiver(group, try_previous=args.try_previous, replay_window=args.replay_window) as receiver:
            with capture(args.input, args.progress) as reader, written(args.output, args.input) as writer:
                other = Other()
                for burst in in_bursts(sealed_packets(reader, udp.dport, other)):
                    result = receiver.open_udp([frame.packet for frame, _ in burst], udp)
                    for (frame, _), packet, status in zip(burst, result, result.status):
                        statuses[Status(status)] += 1
                        if status == Status.OK:
                            octets += len(packet)
                            writer.write(frame.time_ns, packet)
    return report(args, "opened", reader, statuses, octets, other=other.packets)


def mode_of(args: argparse.Namespace) -> UdpMode:
    """Returns the UDP mode: --transport, or a tunnel."""
    if args.transport and args.optimized:
        raise Failure("--transport needs packets that name their protocol: not with --optimized")
    return UdpMode.TRANSPORT if args.transport else UdpMode.TUNNEL


def port_of(args: argparse.Namespace) -> int:
    """Returns --port, or the profile's port."""
    return PORTS[args.profile] if args.port is None else int(args.port)


@dataclass
class Other:
    """Counts the packets of a capture that were not sealed packets."""

    packets: int = 0


def sealed_packets(reader: Reader, port: int, other: Other) -> Iterator[tuple[Frame, memoryview]]:
    """Yields the frames to the UDP port, with the payloads of their datagrams."""
    for frame in reader:
        sealed = strip_outer(frame.packet, port)
        if sealed is None:
            other.packets += 1
        else:
            yield frame, sealed


def report(
    args: argparse.Namespace, what: str, reader: Reader, statuses: Tally[Status], octets: int, **skipped: int
) -> int:
    """Ends seal and open: returns 1 if a packet failed, or something is wrong with the capture."""
    skipped |= asdict(reader.skipped)
    good = statuses.pop(Status.OK, 0)
    failed = {status.name: n for status, n in statuses.items()}
    data = {what: good, "octets": octets, "failed": failed, "skipped": skipped, "times_clamped": reader.clamped}
    lines = [f"{what} {good} packets, {octets} octets, into {args.output}"]
    lines += [f"failed: {n} ({Status[name].describe()})" for name, n in failed.items()]
    lines += [f"left out: {n} ({name.replace('_', ' ')})" for name, n in skipped.items() if n]
    lines += [f"time stamps out of range, clamped: {reader.clamped}"] if reader.clamped else []
    show(args, data, lambda: "\n".join(lines))
    return 1 if failed or reader.skipped.faults else 0


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


@dataclass(frozen=True)
class Read:
    """The fields of a header of any profile."""

    id: int
    tsc: int
    v: AnyV | None = None
    domain: int | None = None
    key: int | None = None  # slot
    next_header: int | None = None
    roots: tuple[tuple[Level, bytes, int], ...] = ()


def read_header(args: argparse.Namespace, packet: memoryview) -> Read:
    """Reads a header of the profile."""
    if args.profile == "psp":
        psp = PspHeader.parse(packet)
        return Read(psp.spi, psp.iv, psp.version, key=psp.spi >> 31, next_header=psp.next_header)
    if args.profile == "tss":
        tss = TssHeader.parse(packet)
        v = TssV.ADDR if tss.ssi is None else TssV.SSI
        return Read(tss.ssi or 0, tss.epoch << 48 | tss.counter, v, tss.sdi, tss.an)
    if args.profile == "eesp":
        tunnel = hasattr(args, "encap") and encap_of(args) is Encap.TUNNEL and not args.max_coffset
        eesp = EespHeader.parse(
            packet,
            sequence=not args.no_sequence,
            iv=args.iv,
            optimized=args.optimized or tunnel,
            draft=args.draft or 3,
        )
        number = eesp.iv if eesp.sequence is None else eesp.sequence
        return Read(eesp.session, number or 0, domain=eesp.spi)
    header = Header.parse(packet)
    roots = tuple((option.level, option.root_key_id, option.index) for option in header.options)
    return Read(header.id, header.epoch << 48 | header.counter, header.v, roots=roots)


def command_inspect(args: argparse.Namespace) -> int:
    """Prints the header fields in a capture. No key is needed, and nothing is authenticated."""
    check_options(args)
    if args.profile == "eesp" and args.no_sequence and not args.iv:
        raise Failure("packets have a sequence number or an IV: --no-sequence goes with --iv")
    ids: dict[tuple[int | None, int, AnyV | None], Seen] = {}
    epochs: dict[tuple[int | None, int, AnyV | None, int], Seen] = {}
    roots: Tally[tuple[Level, bytes, int]] = Tally()
    slots: Tally[tuple[int | None, int]] = Tally()
    protocols: Tally[int] = Tally()
    errors: Tally[Status] = Tally()
    other, total = Other(), 0
    with capture(args.input, args.progress) as reader:
        for _, sealed in sealed_packets(reader, port_of(args), other):
            total += 1
            try:
                read = read_header(args, sealed)
            except HeaderError as error:
                errors[error.status] += 1
                continue
            name, epoch = (read.domain, read.id, read.v), read.tsc >> 48
            ids.setdefault(name, Seen()).add(read.tsc, len(sealed))
            epochs.setdefault((*name, epoch), Seen()).add(read.tsc & (1 << 48) - 1, len(sealed))
            roots.update(read.roots)
            if read.key is not None:
                slots[read.domain, read.key] += 1
            if read.next_header is not None:
                protocols[read.next_header] += 1

    def named(domain: int | None, id: int, v: AnyV | None) -> dict[str, Any]:
        return ({} if domain is None else {"domain": domain}) | {"id": id} | ({} if v is None else {"v": v.name})

    def order(item: tuple[tuple[Any, ...], Seen]) -> tuple[int, ...]:
        return tuple(part or 0 for part in item[0])

    epochs_of = Tally(name[:3] for name in epochs)
    id_rows = [
        named(*name)
        | {"packets": s.packets, "octets": s.octets, "not_ascending": s.backwards, "epochs": epochs_of[name]}
        for name, s in sorted(ids.items(), key=order)
    ]
    epoch_rows = [
        named(*name[:3])
        | {"epoch": name[3], "packets": s.packets, "octets": s.octets}
        | {"first_counter": s.first, "last_counter": s.last}
        for name, s in sorted(epochs.items(), key=order)
    ]
    root_rows = [
        {"level": level.name, "root_key_id": root.hex(), "index": index, "packets": n}
        for (level, root, index), n in sorted(roots.items())
    ]
    slot_rows = [
        ({} if domain is None else {"domain": domain}) | {"key": slot, "packets": n}
        for (domain, slot), n in sorted(slots.items())
    ]
    protocol_rows = [{"next_header": protocol, "packets": n} for protocol, n in sorted(protocols.items())]
    data = {"packets": total, "malformed": {s.name: n for s, n in errors.items()}, "other": other.packets}
    data |= asdict(reader.skipped) | {"ids": id_rows, "epochs": epoch_rows}
    if args.profile == "stateless":
        data |= {"root_keys": root_rows}
    elif args.profile != "eesp":
        data |= {"keys": slot_rows}
    if args.profile == "psp":
        data |= {"next_headers": protocol_rows}

    def text() -> str:
        parts = [f"{total} sealed packets, {sum(errors.values())} malformed, {other.packets} other IP packets"]
        parts += [f"malformed: {n} ({status.describe()})" for status, n in errors.items()]
        if reader.skipped.truncated:
            parts.append("the capture ends inside a record")
        if reader.skipped.malformed_frames:
            parts.append(f"malformed frames: {reader.skipped.malformed_frames}")
        tables = {"IDs": id_rows, "Epochs": epoch_rows, "Root keys": root_rows}
        for title, rows in (tables | {"Keys": slot_rows, "Protocols": protocol_rows}).items():
            if rows:
                shown = [{k: f"{v:#x}" if k in ("id", "domain") else v for k, v in row.items()} for row in rows]
                parts.append(f"\n{title}\n" + table(list(shown[0]), [list(row.values()) for row in shown]))
        return "\n".join(parts)

    show(args, data, text)
    return 1 if reader.skipped.faults else 0


# ---- The library -----------------------------------------------------------------------------------------------------


def command_backends(args: argparse.Namespace) -> int:
    """Prints which backends this machine can run, and which one is in use."""
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
    """Runs the known answers of every backend, and seals and opens a packet."""
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


def command_top(args: argparse.Namespace) -> int:
    """Shows a gateway's peers, rates, and refused packets by reason."""
    try:
        return top_view.watch(args.where, args.interval, args.once)
    except KeyboardInterrupt:
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
    formats = argparse.ArgumentParser(add_help=False)
    formats.add_argument(
        "--profile",
        choices=list(PORTS),
        default="stateless",
        help="packet format: stateless (draft-xia-ipsecme-eesp-stateless-encryption-02; the default), psp, tss, eesp",
    )
    form = argparse.ArgumentParser(add_help=False)
    form.add_argument("--no-sequence", action="store_true", help="eesp: packets have no sequence number")
    form.add_argument("--iv", action="store_true", help="eesp: packets have an IV")
    form.add_argument("--optimized", action="store_true", help="eesp: no Payload Info Header")
    form.add_argument("--draft", type=int, choices=(2, 3), help="eesp: which draft packets are of (3)")
    keys = argparse.ArgumentParser(add_help=False, parents=[formats, form])
    for level in Level:
        keys.add_argument(f"--{level.name.lower()}", metavar="FILE", help=f"{level.name.lower()} root key (DER)")
    keys.add_argument("--key", metavar="FILE", help="psp, tss, eesp: the key of slot 0")
    keys.add_argument("--key1", metavar="FILE", help="psp, tss: the key of slot 1")
    keys.add_argument("--aead", choices=[a.name for a in Aead], help="AES_128_GCM; tss: AES_256_GCM")
    keys.add_argument("--combiner", choices=[c.name for c in Combiner], help="stateless: HKDF if not given")
    keys.add_argument("--domain", type=number, help="tss: SDI; eesp: SPI")
    keys.add_argument("--mode", choices=[m.name for m in TssMode], help="tss: CLUSTER if not given")
    keys.add_argument("--rekey-mask", type=number, help="tss")
    keys.add_argument("--rekey-shift", type=number, help="tss")
    keys.add_argument("--sskdf", choices=[m.name for m in Sskdf], help="eesp: HKDF_SHA2_256 if not given")
    keys.add_argument("--encap", choices=[e.name for e in Encap], help="eesp, draft 3: decides the format (TUNNEL)")
    keys.add_argument("--sub-sas", type=number, help="eesp: Session IDs are below this")
    keys.add_argument("--max-coffset", type=number, help="eesp: greatest CryptOffset")
    keys.add_argument("--align8", action="store_true", help="eesp: payloads begin at a multiple of 8 octets")
    files = argparse.ArgumentParser(add_help=False)
    files.add_argument("input", metavar="IN.pcap", help="pcap or pcapng")
    ports = ", ".join(f"{profile} {n}" for profile, n in PORTS.items())
    files.add_argument("--port", type=port, help=f"UDP port of sealed packets (if not given: {ports})")
    files.add_argument(
        "--progress", action=argparse.BooleanOptionalAction, help="progress bar (default: long captures, on a terminal)"
    )
    ids = argparse.ArgumentParser(add_help=False)
    ids.add_argument("--id", type=number, required=True, help="DeviceID, ConnectionID; SPI, SSI, Session ID")
    names = [name for kind in V_NAMES.values() for name in kind]
    ids.add_argument("--v", choices=names, help="stateless, tss: what the context is made of; psp: the version")
    ids.add_argument("--src", default="192.0.2.1", metavar="ADDRESS", help="outer source of a tunnel (%(default)s)")
    ids.add_argument("--dst", default="192.0.2.2", metavar="ADDRESS", help="outer destination of a tunnel (%(default)s)")

    top = argparse.ArgumentParser(prog="eesp", description="Stateless packet encryption in bursts.")
    top.add_argument("--version", action="version", version=f"eesp {__version__}, libeesp {library_version()}")
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    def add(
        name: str, run: Callable[[argparse.Namespace], int], *parents: argparse.ArgumentParser
    ) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=run.__doc__, description=run.__doc__, parents=[*parents, every])
        command.set_defaults(run=run)
        return command

    add("inspect", command_inspect, files, formats, form)
    seal = add("seal", command_seal, files, keys, ids)
    seal.add_argument("output", metavar="OUT.pcap", help="pcapng if it is called so")
    seal.add_argument("--no-options", action="store_true", help="headers do not say which root keys were used")
    opening = add("open", command_open, files, keys)
    opening.add_argument("output", metavar="OUT.pcap", help="pcapng if it is called so")
    opening.add_argument("--try-previous", action="store_true", help="without options, try the previous root keys too")
    opening.add_argument("--replay-window", type=number, default=0, metavar="PACKETS", help="refuse what came before")
    for command in (seal, opening):
        command.add_argument("--transport", action="store_true", help="psp, eesp: behind the packets' own IP headers")
    derive = add("derive", command_derive, keys, ids)
    derive.add_argument("--epoch", type=number, help="stateless, tss")
    derive.add_argument("--levels", nargs="*", default=[], choices=[level.name for level in Level])
    derive.add_argument("--generation", choices=[g.name for g in Generation], help="CURRENT if not given")
    derive.add_argument("--an", type=int, choices=(0, 1), default=0, help="tss: which key (%(default)s)")
    derive.add_argument("--rekey", type=number, help="tss: what rekey_mask picks of the counter")
    keygen = add("keygen", command_keygen, formats)
    keygen.add_argument("file", metavar="FILE")
    keygen.add_argument("--id", help="stateless: names the root key, 16 to 32 octets")
    keygen.add_argument("--sskdf", choices=[m.name for m in Sskdf], help="eesp: says how long the key is")
    keygen.add_argument("--aead", choices=[a.name for a in Aead], help="eesp with --sskdf NONE: so does this")
    add("backends", command_backends)
    add("selftest", command_selftest)
    viewing = add("top", command_top)
    viewing.add_argument("where", metavar="SOCKET|PORT|HOST:PORT", help="what the gateway's metrics statement says")
    viewing.add_argument("--interval", type=duration, default=1, help="seconds between two looks (%(default)s)")
    viewing.add_argument("--once", action="store_true", help="print it once, and end")
    measuring = add("bench", command_bench)
    measuring.add_argument("--bursts", type=burst_size, nargs="+", default=list(bench.BURSTS))
    measuring.add_argument("--size", type=packet_size, default=64, help="octets of a payload (%(default)s)")
    measuring.add_argument("--seconds", type=duration, default=0.3, help="for each line (%(default)s)")
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command. Returns 0 on success, 1 on failure, 2 for a wrong command line."""
    args = parser().parse_args(arguments)
    try:
        if sys.stdout is None:  # closed by the caller: print() would say nothing of it
            raise Failure("standard output is closed")
        run: Callable[[argparse.Namespace], int] = args.run
        return run(args)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        print(f"eesp: {error.filename or 'standard output'}: {error.strerror}", file=sys.stderr)
        return 1
    except (Failure, EespError, ValueError) as error:
        print(f"eesp: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
