#!/usr/bin/env bash
# The DPDK benchmark's loops seal and open what they say they do (it fails if
# not), and what it writes has the promised fields. No time is asserted.
# usage: tests/dpdk_bench.sh BIN-DIR WORK-DIR
set -euo pipefail
bin=$1 work=$2 python=${PYTHON:-/usr/bin/python3}
rm -rf "$work"
mkdir -p "$work"
timeout 60 "$bin/dpdk_bench" --smoke --out "$work" >"$work/table" 2>"$work/errors" || {
	cat "$work/errors"
	exit 1
}
"$python" - "$work" <<'EOF_PYTHON'
import json, pathlib, re, sys

work = pathlib.Path(sys.argv[1])
data = json.loads((work / "dpdk.json").read_text())
table = (work / "table").read_text()
assert set(data) == {"versions", "backend", "tsc_hz", "results"}, set(data)
assert {"dpdk", "ipsec-mb", "libeesp"} == set(data["versions"])
for r in data["results"]:
    assert r["work"] in {"seal", "open"} and r["size"] in {64, 256, 1420}, r
    assert r["burst"] == 32 and r["rounds"] == 1 and r["how"], r
    assert 0 < r["cycles_min"] <= r["cycles_median"] <= r["cycles_max"], r
    assert r["cycles_on_top"] == 0 or r["peer"] != "none", r
    assert f"| {r['name']} " in table, r
seen = {(r["peer"], r["work"], r["size"], r["name"]) for r in data["results"]}
assert len(seen) == len(data["results"])
peers = {p for p, *_ in seen}
left_out = set(re.findall(r"^(\w+) is left out", table, re.M))
assert peers | left_out == {"none", "libeesp", "crypto_aesni_mb", "crypto_aesni_gcm"} and not peers & left_out, (peers, left_out)
for peer, works in (("none", 2), ("libeesp", 4), ("crypto_aesni_mb", 10), ("crypto_aesni_gcm", 10)):
    assert peer in left_out or sum(p == peer for p, *_ in seen) == 3 * works, peer
# Each but the two bases, before and after: two bursts of 32.
checked = int(re.search(r"^checked before and after timing: (\d+) packets", table, re.M)[1])
assert checked == (len(seen) - 6) * 2 * 2 * 32, checked
print(f"dpdk_bench: {len(seen)} measurements, {checked} packets checked")
EOF_PYTHON
if timeout 60 "$bin/dpdk_bench" --rounds 0 >/dev/null 2>&1 || timeout 60 "$bin/dpdk_bench" --no-such-option >/dev/null 2>&1; then
	echo "dpdk_bench took wrong arguments"
	exit 1
fi
