#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# A cluster of one server gets a second and a third while a host follows it; the first is
# killed and removed; the others go on. usage: tests/cluster/servers.sh BIN WORK
set -euo pipefail
# shellcheck source=tests/cluster/lib.sh
source "${BASH_SOURCE%/*}/lib.sh"
# shellcheck disable=SC2317 # until_true's
{
	knows() { [[ $(host | python3 -c 'import json,sys; print(len(json.load(sys.stdin).get("servers", [])))') == "$1" ]]; }
	seals() { [[ $(host | python3 -c 'import json,sys; s=json.load(sys.stdin); g=s.get("groups"); print(g and (s["online"], g[0]["seal"], g[0]["rings"][0]["current"]))') == "(True, 'yes', $1)" ]]; }
	listed() { (($("$bin/eespctl" --json --socket "$run/$1.sock" server list | grep -c '"addr"') == $2)); }
}

port=$(ports)
"$bin/eespctl" init --dir one --server "a=127.0.0.1:$port" >/dev/null
mv one/a "$run/a"
start a
ctl a group create net --path-delay 100ms --min-interval 0s >/dev/null
invite=$(ctl a invite --auto-admit)
mkdir -p "$run/host"
background host host "$bin/eespd" agent --dir "$run/host/dir" --socket "$run/host/agent.sock" --join "$invite" --name h
until_true "the host seals" seals 1

# The first of two has to listen for the other's store: it says so, once.
rc=0
ctl a server add "b=127.0.0.1:$((port + 1))" --roots one/roots --out new --dir "$run/a" --etcd-port $((port + 10000)) >add.txt 2>&1 || rc=$?
[[ $rc == 3 && $(<add.txt) == *"Start it again"* ]] || fail "server add, alone: $rc: $(<add.txt)"
stop a
start a
for n in b c; do
	((port++))
	ctl a server add "$n=127.0.0.1:$port" --roots one/roots --out new --dir "$run/a" --etcd-port $((port + 10000)) >>add.txt
	mv "new/$n" "$run/$n"
	rc=0
	ctl a server add "$n=127.0.0.1:$port" --roots one/roots --out new --dir "$run/a" >again.txt 2>&1 || rc=$?
	[[ $rc == 1 && $(<again.txt) == *"there is a server named $n"* ]] || fail "added twice: $rc: $(<again.txt)"
	start "$n"
done
until_true "all say where they are" listed c 3
until_true "the host knows all" knows 3
ctl c rotate net --watch --timeout 60s >/dev/null
until_true "rotated by the third" seals 2
ctl b audit verify >/dev/null

# The first is lost: the others have a quorum, remove it, and rotate to keys that it never had.
crash a
ctl b rotate net --watch --timeout 60s >/dev/null
until_true "rotated by two of three" seals 3
ctl b server remove a --roots one/roots >remove.txt
ctl b server remove a --roots one/roots >twice.txt
[[ $(<twice.txt) == "no level's delegation named a" ]] || fail "removed twice: $(<twice.txt)"
until_true "rotated after the removal" seals 4
[[ $(ctl c server list) != *"127.0.0.1:$((port - 2))"* ]] || fail "it is listed: $(ctl c server list)"
until_true "the host forgets it" knows 2
ctl c audit verify >/dev/null
[[ $(ctl c audit) == *"removed a"* ]] || fail "the log does not say it: $(ctl c audit)"
[[ $(ctl c audit) == *"added b"* ]] || fail "the log does not say it: $(ctl c audit)"
# It comes back: its store does not let it in.
timeout 20 "$bin/eespd" server --dir "$run/a" >back.log 2>&1 && fail "the removed server works"
# A server that is removed while it runs says so, and takes no hosts.
ctl b server remove c --roots one/roots >>remove.txt
until_true "rotated by one" seals 5
# Two of two, one removed: the store of the last has its own quorum.
ctl b rotate net --watch --timeout 60s >/dev/null
until_true "rotated by the last" seals 6
echo "servers: one, three, one again; the host followed through 5 rotations"
