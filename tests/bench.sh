#!/usr/bin/env bash
# The benchmark runs, its peers agree octet by octet (it fails if they do not),
# and what it writes has the promised fields. No time is asserted.
# usage: tests/bench.sh BIN-DIR WORK-DIR
set -euo pipefail
bin=$1 work=$2 python=${PYTHON:-/usr/bin/python3}
rm -rf "$work"
mkdir -p "$work"
"$bin/bench" --smoke --gopeer "$bin/gopeer" --out "$work" >"$work/table" 2>"$work/progress" || {
	tail -n 3 "$work/progress"
	exit 1
}
grep -q 'the same, octet by octet' "$work/progress"
grep -q 'rekey-seal aes-256-gcm' "$work/table"
"$python" - "$work" <<'EOF'
import json, pathlib, re, sys

work = pathlib.Path(sys.argv[1])
data = json.loads((work / "results.json").read_text())
assert set(data) == {"machine", "results", "tails"}, set(data)
assert {"cpu", "flags", "kernel", "compiler", "versions"} <= set(data["machine"])
works = {"derive", "rekey-seal", "rekey-open", "cached-seal", "packet-seal", "packet-open", "proxy"}
text = {"peer", "backend", "work", "aead", "contexts", "how"}
number = {"burst", "threads", "ns_median", "ns_min", "ns_max", "rounds"}
for r in data["results"]:
    assert text | number | {"size"} <= set(r), r
    assert all(isinstance(r[f], str) and r[f] for f in text), r
    assert all(r[f] > 0 for f in number), r
    assert r["peer"] in {"libeesp", "ipsec-mb", "openssl", "go"}, r
    assert r["work"] in works and r["aead"] in {"aes-128-gcm", "aes-256-gcm"}, r
    assert r["contexts"] in {"distinct", "equal", "zipf"}, r
    assert r["size"] == "imix" or r["size"] > 0, r
    assert r["ns_min"] <= r["ns_median"] <= r["ns_max"], r
    packets = r["work"] in {"packet-seal", "packet-open", "proxy"}
    assert packets == ("profile" in r) == ("config" in r) == ("flows" in r), r
kinds = {(r["work"], r["profile"], r["config"], r["flows"]) for r in data["results"] if "profile" in r}
for profile in ("stateless", "psp", "tss", "eesp"):
    for config in ("bare", "careful"):
        assert {("packet-seal", profile, config, 0), ("packet-open", profile, config, 0), ("packet-open", profile, config, 100)} <= kinds
assert {("packet-open", "stateless", "time", 100), ("packet-open", "stateless", "no-replay", 100)} <= kinds
ours = {(r["work"], r["aead"]) for r in data["results"] if r["peer"] == "libeesp"}
assert {w for w, _ in ours} == works and len(ours) == 14, ours
for peer in ("openssl", "go"):
    there = {r["work"] for r in data["results"] if r["peer"] == peer}
    assert there == {"derive", "rekey-seal", "rekey-open", "cached-seal"}, (peer, there)
for t in data["tails"]:
    assert {"peer", "workers", "gap_us", "calls", "ns_p999", "how"} <= set(t), t
    assert t["work"] == "rekey-seal" or {"profile", "config"} <= set(t), t
assert {t["gap_us"] for t in data["tails"]} == {0, 50, 1000, 20000}
lines = (work / "bench.txt").read_text().splitlines()
assert len([l for l in lines if l.startswith("Benchmark")]) == sum(r["rounds"] for r in data["results"])
assert all(re.fullmatch(r"Benchmark\S+ 1 [\d.]+ ns/op [\d.]+ GB/s|\w+: .*", l) for l in lines)
print(f"bench: {len(data['results'])} measurements, all peers agree")
EOF
# A peer that computes something else must not pass for one.
cat >"$work/liar" <<'EOF'
#!/usr/bin/env bash
printf '%-32s' liar
exec head -c 10000000 /dev/zero
EOF
chmod +x "$work/liar"
if "$bin/bench" --smoke --work derive --gopeer "$work/liar" >/dev/null 2>"$work/progress"; then
	echo "bench took wrong results for right ones"
	exit 1
fi
grep -q 'go crypto/cipher: .*octets are wrong' "$work/progress"
# The root package and crypto/cipher seal to the same octets; it fails if they do not.
"$bin/gotable" -smoke -out "$work" >/dev/null
test "$(grep -cE '^\| (seal|open) AES-(128|256) \| [0-9]+ \| [0-9]+ \| [0-9.]+ \| [0-9.]+x \|$' "$work/go.md")" -eq 16
if "$bin/gotable" more 2>/dev/null; then
	echo "gotable took wrong arguments"
	exit 1
fi
# A library that is installed elsewhere, here the system's own once more, is a peer under its version.
plugins=$(bench/plugin.sh "$work" /usr)
# shellcheck disable=SC2086
"$bin/bench" --smoke --work derive $plugins --out "$work/plugin" >"$work/table" 2>"$work/progress"
grep -qE '^peer: (ipsec-mb avx2|openssl evp) [0-9.]+$' "$work/progress"
grep -q '"[^"]*/peer-1.so": "' "$work/plugin/results.json"
if bench/plugin.sh "$work" "$work" 2>/dev/null || "$bin/bench" --smoke --peer /etc/passwd >/dev/null 2>&1; then
	echo "bench took for a library what is none"
	exit 1
fi
# The library beside itself: all rows, each with its figures.
lib=$(dirname "$bin")
row='^\|( +[^|]*\|){7} +[0-9.]+ \| +[0-9.]+ \| +[0-9.]+ \| [0-9.]+ - [0-9.]+ \|$'
"$bin/bench" --smoke --compare "$lib" "$lib" >"$work/compared"
"$python" - "$work/compared" <<'EOF'
import sys

lines = open(sys.argv[1]).read().splitlines()[2:]
rows = [tuple(x.strip() for x in line.split("|")[1:8]) for line in lines]
assert len(rows) == len(set(rows)) == 139, len(rows)
works = {(work, aead) for work, profile, config, flows, aead, size, burst in rows}
assert {w for w, _ in works} == {"derive", "rekey-seal", "rekey-open", "cached-seal", "packet-seal", "packet-open", "proxy"} and len(works) == 14
for profile in ("stateless", "psp", "tss", "eesp"):
    for config in ("bare", "careful"):
        for work in ("packet-seal", "packet-open"):
            there = {(size, burst) for w, p, c, flows, aead, size, burst in rows if (w, p, c, flows) == (work, profile, config, "")}
            assert {("64", "1"), ("64", "8"), ("64", "32"), ("1420", "32")} <= there, (profile, config, work)
EOF
test "$(grep -cE "$row" "$work/compared")" -eq 139
grep -qE '\.[0-9][1-9] \|' "$work/compared" # to a hundredth: keys take less than two
# Some of them.
"$bin/bench" --smoke --compare "$lib" "$lib" --work packet-open --profile stateless --sizes 256,imix >"$work/compared"
test "$(grep -cE "$row" "$work/compared")" -eq 4
test "$(grep -cE '^\| packet-open  \| stateless \| bare +\| +\| +(128|256) \| +(256|imix) \|' "$work/compared")" -eq 4
# A library that refuses what no row may need, a second tss sender of an ID, as older revisions do; and whose process
# ends in some rows: they say so, and the others are as before.
cat >"$work/older.c" <<'EOF'
#define _GNU_SOURCE
#include <dlfcn.h>
#include <eesp.h>
#include <stdlib.h>

int eesp_sender_new(eesp_group *group, const eesp_sender_config *config, eesp_sender **out)
{
	static unsigned char used[1 << 20];
	int (*next)(eesp_group *, const eesp_sender_config *, eesp_sender **);
	if (config->counter_mode == EESP_COUNTER_EXPLICIT && used[config->id % sizeof used]++)
		return EESP_ERR_EXISTS;
	*(void **)&next = dlsym(RTLD_NEXT, "eesp_sender_new");
	return next(group, config, out);
}

int eesp_proxy_new(eesp_receiver *receiver, eesp_sender *sender, eesp_proxy **out)
{
	(void)receiver, (void)sender, (void)out;
	exit(3);
}
EOF
"${CC:-gcc}" -shared -fPIC -Iinclude -o "$work/older.so" "$work/older.c"
if LD_PRELOAD=$(realpath "$work/older.so") "$bin/bench" --smoke --compare "$lib" "$lib" >"$work/compared" 2>"$work/progress"; then
	echo "bench --compare did not say by its status that rows failed"
	exit 1
fi
test "$(grep -cE '^\| proxy .*\| base failed +\|$' "$work/compared")" -eq 10
test "$(grep -cE "$row" "$work/compared")" -eq 129
grep -q '^bench: 10 of 139 rows failed$' "$work/progress"
for wrong in --no-such-option "--backend no-such" "--on-top --profile no-such" "--on-top --work derive" "--windows --work packet-open" "--profile psp" "--sizes 64" "--gap 5" \
	"--tails-only --gap 1000000" "--tails-only --seconds 0" "--tails-only --work proxy" \
	"--compare $lib $lib --sizes 65" "--compare $lib $lib --work derive --profile psp"; do
	# shellcheck disable=SC2086
	if "$bin/bench" $wrong >/dev/null 2>&1; then
		echo "bench took wrong arguments: $wrong"
		exit 1
	fi
done
test "$("$bin/bench" --on-top --profile tss --work packet-open --rounds 3 | grep -c '^| tss  *| packet-open')" = 3
test "$("$bin/bench" --windows --profile psp --rounds 3 | grep -c '^| psp ')" = 8
# Tails by turns: each callee, and what it is compared with.
"$bin/bench" --tails-only --gap 50 --seconds 0.3 --rounds 3 >"$work/tails"
tail='[0-9]+ \|( +[0-9]+\.[0-9]{2} \|){3} ipsec-mb (rekey|cached)-(seal|open) (128|256), (distinct|equal) +\| +[0-9.]+ \| +[0-9.]+ \| [0-9. ]+ +\|$'
if grep -q '^| ipsec-mb' "$work/tails"; then
	test "$(grep -cE "^\| (stateless|psp|tss|eesp) packet-(seal|open) careful +\| +$tail" "$work/tails")" = 8
fi
test "$("$bin/bench" --tails-only --gap 0 --seconds 0.1 --rounds 3 --profile psp --work packet-open | grep -c '^| psp packet-open careful')" = 1
if "$python" -c 'import matplotlib' 2>/dev/null; then
	"$python" bench/plot.py "$work"
	test -s "$work/rekey-seal-aes-128-gcm.svg"
	test -s "$work/packet-open-aes-256-gcm.png"
	test -s "$work/careful.svg"
	test -s "$work/flows.png"
else
	echo "bench: no charts drawn, python3-matplotlib is not there"
fi
