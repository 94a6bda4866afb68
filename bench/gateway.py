#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Measures tap_gw beside wireguard-go and the bare wire: iperf3 and ping between two namespaces.

usage: gateway.py TAP_GW WIREGUARD_GO OUT_DIR [--rounds N] [--seconds S] [--chart FILE]

All three are measured in each round, one after the other, on the same pair of namespaces made anew.
Medians are printed, and all figures are in OUT_DIR/gateway.json. Needs root, iperf3 and wireguard-tools.
"""
from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NAMES = [f"eesp-bench{side}-{os.getpid()}" for side in (1, 2)]
WORKS = ("TCP, 1 stream", "TCP, 8 streams", "UDP, 1300 octets")
KINDS = ("bare veth", "wireguard-go", "tap_gw")


def run(*command: str, **how: Any) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, **how).stdout


def inside(side: int, *command: str) -> list[str]:
    return ["ip", "netns", "exec", NAMES[side], *command]


@contextlib.contextmanager
def started(side: int, log: Path, *command: str, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as to:
        process = subprocess.Popen(inside(side, *command), stdout=to, stderr=to, env=os.environ | environment)
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def until(what: str, test: Any) -> None:
    end = time.monotonic() + 15
    while not test():
        if time.monotonic() > end:
            raise SystemExit(f"gateway.py: {what} does not come")
        time.sleep(0.05)


@contextlib.contextmanager
def wire() -> Iterator[None]:
    """Two namespaces and a pair of interfaces."""
    try:
        for name in NAMES:
            run("ip", "netns", "add", name)
        run("ip", "-n", NAMES[0], "link", "add", "wire", "type", "veth", "peer", "name", "wire", "netns", NAMES[1])
        for side, name in enumerate(NAMES):
            run("ip", "-n", name, "link", "set", "lo", "up")
            run("ip", "-n", name, "addr", "add", f"192.0.2.{side + 1}/24", "dev", "wire")
            run("ip", "-n", name, "link", "set", "wire", "up")
        yield
    finally:
        for name in NAMES:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


def set_up(side: int, device: str) -> None:
    run("ip", "-n", NAMES[side], "addr", "add", f"10.9.0.{side + 1}/24", "dev", device)
    run("ip", "-n", NAMES[side], "link", "set", device, "up")


@contextlib.contextmanager
def tunnel(kind: str, args: argparse.Namespace, work: Path) -> Iterator[str]:
    """The tunnel of that kind; gives the address at its far end."""
    with contextlib.ExitStack() as stack:
        if kind == "bare veth":
            yield "192.0.2.2"
            return
        for side in (0, 1):
            log = work / f"{side}.log"
            if kind == "tap_gw":
                config = work / f"{side}.conf"
                config.write_text(
                    f"group bench aead aes-128-gcm\nroot-key bench zone {work}/zone.der\nlocal 192.0.2.{side + 1}\n"
                    f"peer other address 192.0.2.{2 - side} group bench\nlock-dir none\nstats 0\n"
                )
                stack.enter_context(started(side, log, args.tap_gw, str(config)))
                until("tap_gw", lambda log=log: b"\nready" in log.read_bytes())
                set_up(side, "eesp0")
            else:
                device = f"wg{side}-bench"
                stack.enter_context(started(side, log, args.wireguard_go, "-f", device, LOG_LEVEL="error"))
                until("wireguard-go", lambda side=side: Path(f"/var/run/wireguard/wg{side}-bench.sock").exists())
        if kind == "wireguard-go":
            keys = [run("wg", "genkey") for _ in (0, 1)]
            public = [run("wg", "pubkey", input=key).strip() for key in keys]
            for side in (0, 1):
                file = work / f"{side}.key"
                file.touch(mode=0o600)
                file.write_text(keys[side])
                run(*inside(side, "wg", "set", f"wg{side}-bench", "private-key", str(file), "listen-port", "51820", "peer",
                            public[1 - side], "allowed-ips", "0.0.0.0/0", "endpoint", f"192.0.2.{2 - side}:51820"))
                set_up(side, f"wg{side}-bench")
        yield "10.9.0.2"


def iperf(address: str, seconds: float, *options: str) -> dict[str, float]:
    end = json.loads(run(*inside(0, "iperf3", "-J", "-c", address, "-t", str(seconds), *options)))["end"]
    if "-u" in options:
        return {"gbit": end["sum"]["bits_per_second"] * (1 - end["sum"]["lost_percent"] / 100) / 1e9}
    return {"gbit": end["sum_received"]["bits_per_second"] / 1e9, "retransmitted": end["sum_sent"]["retransmits"]}


def measure(kind: str, args: argparse.Namespace) -> dict[str, dict[str, float]]:
    got: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as name, wire():
        work = Path(name)
        run(args.tap_gw, "make-key", "zone of benchmark", str(work / "zone.der"))
        with tunnel(kind, args, work) as address, started(1, work / "iperf3.log", "iperf3", "-s", "--forceflush"):
            until("an answer", lambda: not subprocess.run(
                inside(0, "ping", "-q", "-c", "1", "-W", "1", address), check=False, capture_output=True).returncode)
            until("iperf3", lambda: b"listening" in (work / "iperf3.log").read_bytes())
            for what, options in zip(WORKS, ([], ["-P", "8"], ["-u", "-b", "0", "-l", "1300"]), strict=True):
                got[what] = iperf(address, args.seconds, *options)
            with subprocess.Popen(inside(0, "iperf3", "-c", address, "-P", "8", "-t", str(args.seconds + 1)),
                                  stdout=subprocess.DEVNULL) as load:
                time.sleep(0.5)
                out = run(*inside(0, "ping", "-q", "-i", "0.02", "-c", str(int(args.seconds * 50)), "-W", "2", address))
                load.wait()
            times = re.search(r"= ([\d.]+)/([\d.]+)/([\d.]+)/", out)
            lost = re.search(r"([\d.]+)% packet loss", out)
            if times is None or lost is None:
                raise SystemExit(f"gateway.py: {kind}: no ping came back: {out}")
            got["ping"] = {"ms": float(times[2]), "most": float(times[3]), "lost": float(lost[1])}
    return got


def median(runs: list[dict[str, dict[str, float]]], what: str, which: str) -> float:
    return statistics.median(one[what][which] for one in runs)


def table(results: dict[str, list[dict[str, dict[str, float]]]]) -> str:
    lines = ["| | " + " | ".join(KINDS) + " | tap_gw : wireguard-go |", "| --- |" + " ---: |" * 4]
    for what in WORKS:
        row = [median(results[kind], what, "gbit") for kind in KINDS]
        lines.append(f"| {what}, Gbit/s | " + " | ".join(f"{n:.2f}" for n in row) + f" | {row[2] / row[1]:.1f} |")
    for what in WORKS[:2]:
        row = [median(results[kind], what, "retransmitted") for kind in KINDS]
        lines.append(f"| {what}, retransmissions | " + " | ".join(f"{n:.0f}" for n in row) + " | |")
    for key, what in (("ms", "mean"), ("most", "longest")):
        row = [median(results[kind], "ping", key) for kind in KINDS]
        lines.append(f"| ping beside 8 streams, {what}, ms | " + " | ".join(f"{n:.2f}" for n in row) + f" | {row[2] / row[1]:.2f} |")
    return "\n".join(lines)


def chart(results: dict[str, list[dict[str, dict[str, float]]]], path: str) -> None:
    import matplotlib  # noqa: PLC0415

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "eesp"
    from matplotlib import pyplot  # noqa: PLC0415

    figure, (rates, ping) = pyplot.subplots(1, 2, figsize=(9, 3.2), width_ratios=(3, 1))
    colours = {"wireguard-go": "#8a1c1c", "tap_gw": "#1f6f8b"}
    for i, kind in enumerate(colours):
        values = [median(results[kind], what, "gbit") for what in WORKS]
        bars = rates.bar([n + 0.4 * i for n in range(len(WORKS))], values, 0.38, label=kind, color=colours[kind])
        rates.bar_label(bars, fmt="%.2f", fontsize=8)
        bars = ping.bar([0.4 * i], [median(results[kind], "ping", "ms")], 0.38, color=colours[kind])
        ping.bar_label(bars, fmt="%.2f", fontsize=8)
    rates.set_xticks([n + 0.2 for n in range(len(WORKS))], WORKS)
    rates.set_ylabel("Gbit/s received")
    rates.legend(frameon=False)
    ping.set_xticks([0.2], ["ping beside 8 streams"])
    ping.set_ylabel("ms, mean")
    for axes in (rates, ping):
        axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tap_gw")
    parser.add_argument("wireguard_go")
    parser.add_argument("out", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--chart")
    args = parser.parse_args()
    args.tap_gw, args.wireguard_go = os.path.abspath(args.tap_gw), os.path.abspath(args.wireguard_go)
    if os.geteuid() != 0:
        sys.exit("gateway.py: needs root, for namespaces and devices")
    results: dict[str, list[dict[str, dict[str, float]]]] = {kind: [] for kind in KINDS}
    for nth in range(args.rounds):
        for kind in KINDS[nth % 3:] + KINDS[: nth % 3]:
            results[kind].append(measure(kind, args))
            print(f"round {nth + 1}, {kind}: " + ", ".join(
                f"{what} " + " ".join(f"{key} {value:.2f}" for key, value in figures.items())
                for what, figures in results[kind][-1].items()), flush=True)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "gateway.json").write_text(json.dumps(results, indent=1) + "\n")
    print("\n" + table(results))
    if args.chart:
        chart(results, args.chart)


if __name__ == "__main__":
    main()
