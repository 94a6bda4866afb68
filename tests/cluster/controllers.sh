#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# A controller for each of two levels, and a host that has both: one is killed, the agent starts anew,
# the host is revoked at one. usage: tests/cluster/controllers.sh BIN WORK
set -euo pipefail
# shellcheck source=tests/cluster/lib.sh
source "${BASH_SOURCE%/*}/lib.sh"

# shellcheck disable=SC2317 # until_true's
{
	# what FIELDS: of the host's status; groups are "name seals level/generation ..."
	what() { host | python3 -c '
import json, sys
s = json.load(sys.stdin)
for g in s.get("groups", []): print(g["name"], g["seal"], *sorted("%s/%d" % (r["level"], r["current"]) for r in g["rings"]))
for c in s.get("controllers", []): print(c["levels"], "revoked" if c.get("revoked") else "online" if c["online"] else "away")'; }
	is() { [[ $'\n'$(what)$'\n' == *$'\n'"$1"$'\n'* ]]; }
}
agent() { background host host "$bin/eespd" agent --dir "$run/host/dir" --socket "$run/host/agent.sock"; }

port=$(ports)
for x in z=zone u=user; do
	name=${x%=*}
	"$bin/eespctl" init --dir "$name" --server "$name=127.0.0.1:$port" --level "${x#*=}" >/dev/null
	mv "$name/$name" "$run/$name"
	start "$name"
	((port++))
done
# The ring's controller prints what is to be typed at the group's.
command=$(ctl u group ring net --path-delay 100ms --min-interval 0s | grep -o 'group create net --ring user=[0-9a-f]*')
read -ra words <<<"$command"
ctl z "${words[@]}" --path-delay 100ms --min-interval 0s >/dev/null
ctl z group create inner --path-delay 100ms --min-interval 0s >/dev/null
mkdir -p "$run/host"
join() { "$bin/eespd" agent --dir "$run/host/dir" --join "$(ctl "$1" invite)" --join-only --name h "${@:2}" >>join.txt 2>&1; }
join z
join u --groups net
join u --groups net
grep -q "a member already; the invite is not used" join.txt || fail "joined twice: $(<join.txt)"
[[ $(ls "$run/host/dir/controllers") == user ]] || fail "controllers: $(ls "$run/host/dir/controllers")"
ctl z admit --all >/dev/null
ctl u admit --all >/dev/null
agent
until_true "the host seals" is "net yes user/1 zone/1"
until_true "the host seals" is "inner yes zone/1"
ctl u rotate net --watch --timeout 60s >/dev/null
ctl z rotate net --watch --timeout 60s >/dev/null
until_true "rotated by both" is "net yes user/2 zone/2"

# One is lost, and the host's agent begins anew.
crash u
stop host
agent
until_true "the host seals from its caches" is "net yes user/2 zone/2"
until_true "it sees who is away" is "user away"
ctl z rotate net --watch --timeout 60s >/dev/null
until_true "rotated by one" is "net yes user/2 zone/3"
start u
until_true "it is back" is "user online"
ctl u rotate net --watch --timeout 60s >/dev/null
until_true "rotated by the other" is "net yes user/3 zone/3"

# A group that is not the user level's to announce, and the host's word for it.
ctl u group create inner >/dev/null
refusal() { [[ $("$bin/eespctl" agent --status "$run/host/status.sock") == *"group inner is refused: another group has this name"* ]]; }
until_true "refused" refusal
is "inner yes zone/1" || fail "inner: $(what)"

# Revoked at one.
ctl u revoke h >/dev/null
until_true "revoked" is "user revoked"
until_true "it has no key of net" is "net no zone/3"
ctl z rotate inner --watch --timeout 60s >/dev/null
until_true "it goes on with the other's" is "inner yes zone/2"
kill -0 "${pid[host]}" || fail "the agent ended"
ctl z revoke h >/dev/null
rc=0
wait "${pid[host]}" || rc=$?
unset "pid[host]"
[[ $rc == 77 ]] || fail "revoked at both, the agent ends with $rc"
for x in z u; do ctl "$x" audit verify >/dev/null; done
echo "controllers: two levels; one was killed and came back, the host started anew, was revoked at one, then at both"
