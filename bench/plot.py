#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Charts of results.json: ns per packet and GB/s against size.

usage: plot.py DIRECTORY

For each work and key size measured over several sizes (burst 32, distinct
contexts, one thread) it writes WORK-AEAD.svg and .png beside results.json;
careful.svg, whole packets of each profile as careful and as bare users run
them, beside the best peer's kernels, and opening by number of flows; and flows.svg,
the latter alone.
"""
import json
import math
import pathlib
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

BLUES = ["#08306b", "#2171b5", "#6baed6"]
OTHERS = {"ipsec-mb": ["#d94801", "#fd8d3c", "#fdbe85"], "openssl": ["#238b45"], "go": ["#6a51a3"]}
TITLES = {
    "rekey-seal": "Seal, a fresh key for each packet (derive, expand, seal)",
    "rekey-open": "Open, a fresh key for each packet (derive, expand, open)",
    "cached-seal": "Seal, keys expanded beforehand",
    "packet-seal": "Whole packets: eesp_seal_burst",
    "packet-open": "Whole packets: eesp_open_burst",
    "proxy": "Whole packets: eesp_proxy_burst",
}


def kind(r):
    """What kind of packets, how carefully looked at, of how many flows; the kernels' works have none."""
    return r.get("profile", "stateless"), r.get("config", "bare"), r.get("flows", 0)


def series(results, work, aead):
    """{(peer, backend): [(size, median), ...]}, in order of appearance."""
    out = {}
    for r in results:
        if (r["work"], r["aead"], r["burst"], r["contexts"], r["threads"]) == (work, aead, 32, "distinct", 1):
            if r["size"] != "imix" and kind(r) == ("stateless", "bare", 0):
                out.setdefault((r["peer"], r["backend"]), []).append((r["size"], r["ns_median"]))
    return {k: sorted(v) for k, v in out.items() if len(v) > 1}


def styles(names):
    """A colour for each line: the library blue, from the fastest backend on."""
    used, out = {}, {}
    for peer, backend in names:
        i = used.get(peer, 0)
        used[peer] = i + 1
        if peer == "libeesp":
            generic = backend == "generic"
            out[peer, backend] = dict(color="#9aa5b1" if generic else BLUES[min(i, 2)], linewidth=1.5 if generic else 2.6,
                                      linestyle=":" if generic else "-", marker="o", markersize=5)
        else:
            colors = OTHERS.get(peer, ["black"])
            out[peer, backend] = dict(color=colors[min(i, len(colors) - 1)], linewidth=1.5,
                                      linestyle="--", marker="s", markersize=4)
    return out


def label_ends(axes, ends, style, log):
    """Names at the right end of the lines, pushed apart where they would touch."""
    low, high = axes.get_ylim()
    to = math.log if log else float
    span = to(high) - to(low)
    gap, last = 0.05, None
    for y, name in sorted(ends, key=lambda e: e[0]):
        at = (to(y) - to(low)) / span
        if last is not None:
            at = max(at, last + gap)
        last = at
        axes.annotate(f"{name[0]} {name[1]}", xy=(1.015, at), xycoords="axes fraction", color=style[name]["color"],
                      va="center", fontsize=9, fontweight="bold" if name[0] == "libeesp" else "normal")


def chart(lines, title, machine, path):
    note = f"{machine['cpu']}; bursts of 32, one thread, medians"
    portable = lines.get(("libeesp", "generic"))
    if portable and sum(peer == "libeesp" for peer, _ in lines) > 1:
        # It would take half of the axis: say it in words.
        lines = {k: v for k, v in lines.items() if k != ("libeesp", "generic")}
        (small, fast), (large, slow) = portable[0], portable[-1]
        note += f". Not drawn: libeesp generic, {fast:.0f} ns at {small} octets, {slow:.0f} at {large}"
    style = styles(lines)
    figure, (left, right) = plt.subplots(1, 2, figsize=(15, 6.2))
    sizes = sorted({p[0] for points in lines.values() for p in points})
    ends_left, ends_right = [], []
    for name, points in lines.items():
        x = [p[0] for p in points]
        left.plot(x, [p[1] for p in points], **style[name])
        speed = [p[0] / p[1] for p in points]
        right.plot(x, speed, **style[name])
        ends_left.append((points[-1][1], name))
        ends_right.append((speed[-1], name))
    left.set_yscale("log")
    left.set_title("ns per packet (lower is better)", fontsize=10)
    right.set_title("GB/s of payload (higher is better)", fontsize=10)
    right.set_ylim(bottom=0)
    left.yaxis.set_major_locator(matplotlib.ticker.LogLocator(subs=(1, 2, 5)))
    left.yaxis.set_major_formatter(matplotlib.ticker.FuncFormatter(lambda v, _: f"{v:g}"))
    for axes, ends, log in (left, ends_left, True), (right, ends_right, False):
        axes.set_xscale("log")
        axes.set_xticks(sizes, [str(s) for s in sizes], rotation=45)
        axes.minorticks_off()
        axes.set_xlabel("payload, octets")
        axes.grid(True, which="major", color="#e5e5e5")
        axes.set_axisbelow(True)
        for side in "top", "right":
            axes.spines[side].set_visible(False)
        label_ends(axes, ends, style, log)
    figure.suptitle(title, fontsize=14, fontweight="bold", x=0.05, ha="left")
    figure.text(0.05, 0.905, note, fontsize=9, color="#555555")
    figure.tight_layout(rect=(0, 0, 1, 0.91), w_pad=3)
    for kind in "svg", "png":
        figure.savefig(f"{path}.{kind}", dpi=110, bbox_inches="tight", metadata={"Date": None} if kind == "svg" else None)
    plt.close(figure)


def finish(figure, title, note, path):
    figure.suptitle(title, fontsize=14, fontweight="bold", x=0.05, ha="left")
    figure.text(0.05, 0.905, note, fontsize=9, color="#555555")
    figure.tight_layout(rect=(0, 0, 1, 0.91))
    for suffix in "svg", "png":
        figure.savefig(f"{path}.{suffix}", dpi=110, bbox_inches="tight", metadata={"Date": None} if suffix == "svg" else None)
    plt.close(figure)


def plain(axes):
    axes.grid(True, axis="y", color="#e5e5e5")
    axes.set_axisbelow(True)
    for side in "top", "right":
        axes.spines[side].set_visible(False)


def careful_chart(results, machine, path):
    """Bars: each profile's packets, careful and bare, beside the best peer that seals or opens with fresh keys.
    Beside them, where it was measured, opening by number of flows."""
    def best(peers, work, **fields):
        found = [r["ns_median"] for r in results if r["work"] == work and (r["peer"] == "libeesp") != peers and r["size"] == 64
                 and r["burst"] == 32 and r["threads"] == 1 and all(r.get(k) == v for k, v in fields.items())]
        return min(found, default=None)

    flows = by_flows(results)
    columns = 3 if flows else 2
    figure, panels = plt.subplots(1, columns, figsize=(7.5 * columns, 6.2))
    panels[1].sharey(panels[0])
    for axes, work, kernel in zip(panels, ("packet-open", "packet-seal"), ("rekey-open", "rekey-seal")):
        bars = []
        for profile in "stateless", "psp", "tss", "eesp":
            aead = "aes-256-gcm" if profile == "tss" else "aes-128-gcm"
            contexts = "distinct" if work == "packet-open" or profile == "stateless" else "equal"
            for config in "careful", "bare":
                ns = best(False, work, profile=profile, config=config, aead=aead, flows=0, contexts=contexts)
                bars.append((f"{profile}\n{config}", ns, BLUES[1] if config == "careful" else BLUES[2]))
        bars.append(("libeesp\nkernels", best(False, kernel, aead="aes-128-gcm", contexts="distinct"), "#9aa5b1"))
        bars.append(("best peer\nkernels", best(True, kernel, aead="aes-128-gcm", contexts="distinct"), OTHERS["ipsec-mb"][0]))
        bars = [b for b in bars if b[1]]
        drawn = axes.bar([b[0] for b in bars], [b[1] for b in bars], color=[b[2] for b in bars])
        axes.bar_label(drawn, fmt="%.0f", fontsize=9)
        axes.tick_params(axis="x", labelsize=8)
        axes.set_title(f"{work}, ns per packet of 64 octets (lower is better)", fontsize=10)
        plain(axes)
    if flows:
        draw_flows(panels[2], flows)
    finish(figure, "Whole packets, as careful users run them",
           f"{machine['cpu']}; bursts of 32, one thread, medians; careful: replay windows, own IDs, two groups, options", path)


FLOW_LABELS = {"careful": "careful, replay windows", "time": "careful, replay protection by time", "no-replay": "careful, no replay protection", "bare": "bare"}


def by_flows(results):
    """Lines of (flows, ns) by profile and configuration."""
    lines = {}
    for r in results:
        if r["work"] == "packet-open" and r.get("flows") and r["size"] == 64 and r["burst"] == 32 and r["threads"] == 1:
            lines.setdefault((r["profile"], r["config"]), []).append((r["flows"], r["ns_median"]))
    return {k: sorted(v) for k, v in lines.items() if len(v) > 1}


def draw_flows(axes, lines):
    colors = {"stateless": BLUES[1], "psp": "#238b45", "tss": "#6a51a3", "eesp": "#d94801"}
    for (profile, config), points in lines.items():
        axes.plot([p[0] for p in points], [p[1] for p in points], color=colors[profile], marker="o", markersize=5,
                  linestyle={"careful": "-", "time": "--", "no-replay": "-."}.get(config, ":"), linewidth=2.2, label=f"{profile}, {FLOW_LABELS[config]}")
    axes.set_xscale("log")
    flows = sorted({p[0] for points in lines.values() for p in points})
    axes.set_xticks(flows, [f"{n:,}" for n in flows])
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    axes.set_xlabel("flows, from which packets come at random")
    axes.set_title("opening by number of flows, ns per packet of 64 octets", fontsize=10)
    axes.legend(frameon=False, fontsize=9)
    plain(axes)


def flows_chart(results, machine, path):
    lines = by_flows(results)
    if not lines:
        return False
    figure, axes = plt.subplots(figsize=(11, 6.2))
    draw_flows(axes, lines)
    finish(figure, "Opening, by number of flows", f"{machine['cpu']}; bursts of 32, one thread, medians", path)
    return True


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    directory = pathlib.Path(sys.argv[1])
    data = json.loads((directory / "results.json").read_text())
    made = 0
    for work, title in TITLES.items():
        for aead in "aes-128-gcm", "aes-256-gcm":
            lines = series(data["results"], work, aead)
            if lines:
                chart(lines, f"{title}, {aead.upper()}", data["machine"], directory / f"{work}-{aead}")
                made += 1
    if any(kind(r)[1] == "careful" for r in data["results"]):
        careful_chart(data["results"], data["machine"], directory / "careful")
        made += 1
    made += flows_chart(data["results"], data["machine"], directory / "flows")
    print(f"charts: {made}, as SVG and PNG, in {directory}")


if __name__ == "__main__":
    main()
