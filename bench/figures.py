#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Writes what the benchmark measured into README.md and docs/performance.md.

usage: figures.py DIRECTORY...

Each directory is the output of one run (make bench BENCH_OUT=DIRECTORY). Of several
the medians are taken, and ratios have their range behind them. The tables are
between the comments "figures: NAME" and "figures: end"; the charts of the first
directory, careful.svg and flows.svg, go to docs/.
"""
import json
import pathlib
import re
import shutil
import statistics
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROFILES = ["stateless", "psp", "tss", "eesp"]
KERNELS = {("eesp", "open"): "cached-seal", ("eesp", "seal"): "cached-seal"}  # else rekey-open, rekey-seal
FLOWS = [("bare", "bare"), ("no-replay", "careful, no replay protection"), ("time", "careful, by time"), ("careful", "careful, windows of 1024")]


class Run:
    def __init__(self, directory):
        data = json.loads((pathlib.Path(directory) / "results.json").read_text())
        self.machine = data["machine"]
        self.backend = data["results"][0]["backend"]  # the fastest is first
        self.results = data["results"]

    def ns(self, work, size, burst, aead=None, peer="libeesp", backend=None, profile="stateless", config="bare", flows=0):
        for r in self.results:
            if ((r["work"], r["size"], r["burst"], r["threads"], r["peer"]) == (work, size, burst, 1, peer)
                    and (r["contexts"] == "distinct" or profile != "stateless")
                    and r["backend"] == (backend or self.backend) and aead in (None, r["aead"])
                    and (r.get("profile", "stateless"), r.get("config", "bare"), r.get("flows", 0)) == (profile, config, flows)):
                return r["ns_median"]
        return None


def median(values):
    values = [v for v in values if v is not None]
    return statistics.median(values) if values else None


def aead_of(profile):
    return "aes-256-gcm" if profile == "tss" else "aes-128-gcm"


def whole(runs, profile, way, config, size, burst):
    """A packet's time, and what it is on top of the kernels."""
    work, kernels = f"packet-{way}", KERNELS.get((profile, way), f"rekey-{way}")
    ns = median(r.ns(work, size, burst, profile=profile, config=config) for r in runs)
    top = [(r.ns(work, size, burst, profile=profile, config=config), r.ns(kernels, size, burst, aead_of(profile))) for r in runs]
    top = median(a - b for a, b in top if a is not None and b is not None)
    return ns, top


def cell(ns, top):
    if ns is None:
        return ""
    return f"{ns:.0f}" + (f" ({top:+.0f})" if top is not None else "")


def readme(runs):
    out = ["| | open | seal |", "|---|---:|---:|"]
    for p in PROFILES:
        cells = []
        for way in "open", "seal":
            careful, bare = (whole(runs, p, way, c, 64, 32)[0] for c in ("careful", "bare"))
            cells.append("" if careful is None else f"{careful:.0f} ({bare:.0f})")
        out.append(f"| `{p}` | {' | '.join(cells)} |")
    return out


def packets(runs):
    out = ["| | 64, burst 32: careful | bare | 1420, burst 32: careful | bare | 64, one packet a call: careful | bare |", "|---|---:|---:|---:|---:|---:|---:|"]
    for p in PROFILES:
        for way in "open", "seal":
            cells = [cell(*whole(runs, p, way, c, size, burst)) for size, burst in ((64, 32), (1420, 32), (64, 1)) for c in ("careful", "bare")]
            out.append(f"| `{p}` {way} | {' | '.join(cells)} |")
    return out


def flows(runs):
    counts = sorted({r["flows"] for run in runs for r in run.results if r.get("flows")})
    if not counts:
        return None
    def ns(config, n):
        return median(r.ns("packet-open", 64, 32, config=config, flows=n) for r in runs)
    out = ["| flows | " + " | ".join(f"{n:,}" for n in counts) + " |", "|---|" + "---:|" * len(counts)]
    for config, text in FLOWS:
        cells = []
        for n in counts:
            here, without = ns(config, n), ns("no-replay", n)
            top = f" ({here - without:+.1f})" if config in ("time", "careful") and None not in (here, without) else ""
            cells.append("" if here is None else f"{here:.1f}{top}")
        out.append(f"| {text} | {' | '.join(cells)} |")
    return out + ["", "![opening, by number of flows](flows.svg)"]


ROWS = [("rekey-seal AES-128, bursts of 32", "rekey-seal", 128, 32, None), ("rekey-seal AES-256", "rekey-seal", 256, 32, None),
        ("rekey-open AES-128", "rekey-open", 128, 32, None), ("cached-seal AES-128", "cached-seal", 128, 32, None),
        ("cached-seal AES-256", "cached-seal", 256, 32, None), ("rekey-seal AES-128, bursts of 8", "rekey-seal", 128, 8, None),
        ("rekey-seal AES-128, one packet", "rekey-seal", 128, 1, None), ("rekey-seal AES-256, one packet", "rekey-seal", 256, 1, None),
        ("`vaes256`, rekey-seal AES-128, bursts of 32", "rekey-seal", 128, 32, "vaes256"), ("`vaes256`, one packet", "rekey-seal", 128, 1, "vaes256"),
        ("`aesni`, rekey-seal AES-128, bursts of 32", "rekey-seal", 128, 32, "aesni"), ("`aesni`, one packet", "rekey-seal", 128, 1, "aesni")]


def ratio(run, work, aead, size, burst, backend):
    """The better one of ipsec-mb's codes at this size : libeesp."""
    ours = run.ns(work, size, burst, aead, backend=backend)
    theirs = [run.ns(work, size, burst, aead, "ipsec-mb", b) for b in ("avx512", "avx2")]
    theirs = [x for x in theirs if x]
    return min(theirs) / ours if ours and theirs else None


def peers(runs):
    out = ["| | 64 octets | 256 | 1420 | 8942 | imix |", "|---|---:|---:|---:|---:|---:|"]
    for name, work, bits, burst, backend in ROWS:
        cells = []
        for size in 64, 256, 1420, 8942, "imix":
            found = [x for x in (ratio(r, work, f"aes-{bits}-gcm", size, burst, backend) for r in runs) if x]
            cells.append("" if not found else f"{statistics.median(found):.2f}" + (f" ({min(found):.2f}-{max(found):.2f})" if len(found) > 1 else ""))
        if any(cells):
            out.append(f"| {name} | {' | '.join(cells)} |")
    return out


def machine(runs):
    m = runs[0].machine
    v = m["versions"]
    n = {1: "one run", 2: "two runs"}.get(len(runs), f"{len(runs)} runs")
    return [f"{m['cpus']} CPUs of {m['cpu']}; {v.get('go', '')}, ipsec-mb {v.get('ipsec-mb', 'none')}, {v.get('openssl', '')}; backend `{runs[0].backend}`; medians of {n}."]


def put(path, name, lines):
    text = path.read_text()
    if lines is None:
        print(f"{path.name}: {name}: not measured, left as it is")
        return
    new, n = re.subn(rf"(<!-- figures: {name} -->\n).*?(<!-- figures: end -->\n)", lambda m: m[1] + "\n".join(lines) + "\n" + m[2], text, flags=re.S)
    if n != 1:
        sys.exit(f"{path.name}: {n} places for {name}")
    path.write_text(new)


def main():
    if len(sys.argv) < 2 or any(a.startswith("-") for a in sys.argv[1:]):
        sys.exit(__doc__)
    runs = [Run(d) for d in sys.argv[1:]]
    performance = ROOT / "docs" / "performance.md"
    put(ROOT / "README.md", "packets", readme(runs) + [""] + machine(runs))
    put(performance, "machine", machine(runs))
    put(performance, "packets", packets(runs))
    put(performance, "flows", flows(runs))
    put(performance, "peers", peers(runs))
    for chart in "careful.svg", "flows.svg":
        source = pathlib.Path(sys.argv[1]) / chart
        if source.exists():
            shutil.copyfile(source, ROOT / "docs" / chart)
    print("written: README.md, docs/performance.md; read what stands around the tables")


if __name__ == "__main__":
    main()
