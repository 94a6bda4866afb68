#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Clients outside a cluster, in C and in Python, get data keys from a granter and talk
# to a program of its host, through a rotation; then one is not let in any more.
#
#   tests/cluster/clients.sh BIN WORK [PYTHON]
set -euo pipefail
python=${3:-python3}
here=$(dirname "$(realpath "$0")")
# shellcheck source=tests/cluster/lib.sh
source "$here/lib.sh"
work=$PWD
server=$(ports)
grants=127.0.0.1:$((server + 1))
udp=127.0.0.1:$((server + 2))
background dev host "$bin/eespd" dev --dir "$run" --port "$server" --grants "$grants"
until_true "a cluster" ctl admin status
until_true "the agent's socket" test -S "$run/agent.sock"
for c in c python; do
	ctl admin --json grant client "$c" --out "$work/$c" >"$work/$c.json"
done
python3 - "$work" "$run/agent/policy.json" <<'PY'
import json, sys
rules = [dict(json.load(open(f"{sys.argv[1]}/{c}.json"))["rule"], groups=["dev"]) for c in ("c", "python")]
json.dump({"detach_grace": 30, "client_lease": 4, "clients": rules}, open(sys.argv[2], "w"))
PY
ctl admin grant host dev >"$work/grant.out"
background answerer host "$bin/answerer" "$run/agent.sock" dev "$udp"
until_true "the answerer" grep -q ready "$work/answerer.out"

# Some 6 s each: leases of 4 s are renewed, and a rotation comes in between.
through_rotation() {
	local c=$1
	shift
	"$@" "$work/$c" dev "$grants" dev "$udp" 250 >"$work/$c.out" 2>"$work/$c.log" &
	local client=$!
	until_true "$c has keys" grep -q "^client $c:" "$work/answerer.out"
	ctl admin rotate dev --watch --timeout 60s >"$work/rotate.out" || fail "the rotation"
	grep -q "leases" "$work/rotate.out" || fail "the rotation did not wait for leases: $(cat "$work/rotate.out")"
	wait $client || fail "the client $c: $(cat "$work/$c.out")"
	[ "$(grep -c pair "$work/$c.out")" -ge 2 ] || fail "$c: not two pairs: $(cat "$work/$c.out")"
	grep -q "250 packets, 250 answered" "$work/$c.out" || fail "$c: $(cat "$work/$c.out")"
}
through_rotation c "$bin/grant_client"
through_rotation python "$python" "$here/../../examples/clients/client.py"

# What a client is refused, and told.
! "$bin/grant_client" "$work/c" somebody "$grants" dev "$udp" 1 2>"$work/other.log" || fail "another granter"
grep -q "another host than the granter" "$work/other.log" || fail "another granter"
! "$bin/grant_client" "$work/c" dev "$grants" other "$udp" 1 2>"$work/other.log" || fail "another group"
grep -q "for group other" "$work/other.log" || fail "another group"
ctl admin grant host dev --off >"$work/off.out"
until_true "no granter" bash -c "! '$bin/grant_client' '$work/c' dev '$grants' dev '$udp' 1 >/dev/null 2>'$work/off.log' && grep -q 'no granter' '$work/off.log'"
echo "clients: C and Python: 250 packets each, 250 answered, through rotations that waited for their leases"
