#!/usr/bin/env bash
# Three hosts as network namespaces, each with a server, an agent and a gateway
# that sends all the while: ten rotations, an emergency, a host killed and back,
# the store's leader killed, a host added, and one revoked. Between two of them there
# is a tunnel of the TUN gateway besides, with ping, HTTP and iperf3 in it. Skipped
# where no namespaces can be had, for which it needs root.
#
#   tests/cluster/demo.sh BIN WORK [--json]
# (Called through traps and until_true.)
# shellcheck disable=SC2317
set -euo pipefail
# shellcheck source=tests/own_mounts.sh
source "$(dirname "$0")/../own_mounts.sh"
bin=$(realpath "$1")
work=$2
json=${3:-}
rm -rf "$work"
mkdir -p "$work"
work=$(realpath "$work")
# Paths of sockets are short.
run=$(mktemp -d /tmp/eesp-XXXXXX)
tag=${run##*-}
declare -A pid ns ip
hosts=(a b c)
failed=0

say() { if [ -z "$json" ]; then echo "$*"; else echo "$*" >&2; fi; }
fail() { say "FAILED: $*"; failed=1; }

cleanup() {
	local p
	exec 2>/dev/null # of the shell, on who was killed
	for p in "${pid[@]}"; do kill -9 "$p" || true; done
	for h in "${!ns[@]}"; do ip netns del "${ns[$h]}" 2>/dev/null || true; done
	ip netns del "sw$tag" 2>/dev/null || true
	rm -rf "$run"
}
trap cleanup EXIT

# host NAME NUMBER: a namespace on the common network.
host() {
	ns[$1]=$1$tag
	ip[$1]=10.77.0.$2
	ip netns add "${ns[$1]}"
	ip link add "v$1$tag" netns "sw$tag" type veth peer name eth0 netns "${ns[$1]}"
	ip -n "sw$tag" link set "v$1$tag" master br0 up
	ip -n "${ns[$1]}" addr add "${ip[$1]}/24" dev eth0
	ip -n "${ns[$1]}" link set eth0 up
	ip -n "${ns[$1]}" link set lo up
	mkdir -p "$run/$1"
}

# start WHAT HOST COMMAND...: in the host's namespace.
start() {
	local key=$1.$2 h=$2
	shift 2
	ip netns exec "${ns[$h]}" "$@" >>"$work/$key.out" 2>>"$work/$key.log" &
	pid[$key]=$!
}
server() { start server "$1" "$bin/eespd" server --dir "$work/cluster/$1"; }
agent() { start agent "$1" "$bin/eespd" agent --dir "$work/agent-$1" --socket "$run/$1/agent.sock" "${@:2}"; }
gateway() { start gw "$1" "$bin/eesp-demo" --socket "$run/$1/agent.sock" --tag "$2" --listen "${ip[$1]}:4500" --peers "$3" --pps 400 --start "$run/start"; }
# tunnel HOST NUMBER PEER NUMBER: a TUN gateway whose keys are the agent's.
tunnel() {
	printf '%s\n' "group net keys agent socket $run/$1/agent.sock" "local ${ip[$1]}" "tun t0" "lock-dir none" "stats 0" \
		"peer $3 address ${ip[$3]} group net routes 10.78.0.$4/32" >"$work/tunnel.$1.conf"
	start tunnel "$1" "$bin/tap_gw" "$work/tunnel.$1.conf"
	until_true 20 "the tunnel's device at $1" ip -n "${ns[$1]}" link show t0
	ip -n "${ns[$1]}" addr add "10.78.0.$2/24" dev t0
	ip -n "${ns[$1]}" link set t0 up
}
inside() { local h=$1; shift; ip netns exec "${ns[$h]}" "$@"; }
# fetches: gets a file through the tunnel again and again, and notes how often, and what went wrong.
fetches() {
	local n=0
	while [ ! -e "$run/stop" ]; do
		if inside a curl -sf --max-time 20 -o "$work/fetched" "http://10.78.0.3:8000/file" 2>>"$work/fetch.log" && cmp -s "$work/www/file" "$work/fetched"; then
			n=$((n + 1))
		else
			echo "fetch $n" >>"$work/fetch.failed"
		fi
		echo $n >"$work/fetch.count"
		sleep 0.2
	done
}
# measured: iperf3 through the tunnel. Its exit status does not tell whether there was a server.
measured() {
	rm -f "$work/iperf.json"
	inside a iperf3 -c 10.78.0.3 -t 3 --json --logfile "$work/iperf.json" || true
	grep -q sum_received "$work/iperf.json"
}
ctl() { local h=$1; shift; "$bin/eespctl" --socket "$run/$h.admin" "$@"; }

# until SECONDS WHAT COMMAND...
until_true() {
	local end=$((SECONDS + $1)) what=$2
	shift 2
	until "$@" >/dev/null 2>&1; do
		[ $SECONDS -lt $end ] || { fail "not in time: $what"; for f in "$work"/*.log; do say "--- $f"; tail -n 5 "$f" >&2; done; exit 1; }
		sleep 0.1
	done
}
field() { python3 -c "import json,sys; d=json.load(sys.stdin); print($1)"; }
# stats HOST EXPRESSION: of what its gateway counts now.
stats() {
	local n
	n=$(wc -l <"$work/gw.$1.out")
	kill -USR1 "${pid[gw.$1]}"
	until_true 5 "counts of $1" bash -c "[ \$(wc -l <'$work/gw.$1.out') -gt $n ]"
	tail -n 1 "$work/gw.$1.out" | field "$2"
}
has_keys() { [ "$(stats "$1" 'd["states"]')" -gt 0 ]; }
sends() { [ "$(stats "$1" 'd["sent"]')" -gt "${2:-0}" ]; }
opens() { [ "$(stats "$1" "d['opened'].get('$2',0)")" -gt "${3:-0}" ]; }
members() { ctl "$1" --json members | field "sum(m['state']=='$2' for m in d)"; }
all_active() { [ "$(members "$1" active)" -eq "$2" ]; }

if ! { [ -z "$no_own_mounts" ] && [ -c /dev/net/tun ] && ip netns add "sw$tag" && ip -n "sw$tag" link add br0 type bridge &&
	ip -n "sw$tag" link add probe type veth peer name other && ip -n "sw$tag" link del probe && ip netns exec "sw$tag" true; } 2>"$work/netns.err"; then
	why="no network namespaces with veth pairs, bridges and TUN devices here: $no_own_mounts$(cat "$work/netns.err")"
	echo "demo-cluster: skipped: $why"
	skipped "cluster/demo.sh" "$why"
	exit 0
fi
ip -n "sw$tag" link set br0 up
n=1
for h in "${hosts[@]}"; do host "$h" $n; n=$((n + 1)); done

say "A cluster of three servers"
echo "for a demonstration" >"$work/pass"
"$bin/eespctl" init --dir "$work/cluster" --passphrase-file "$work/pass" --server "a=${ip[a]}:7443" --server "b=${ip[b]}:7443" --server "c=${ip[c]}:7443" >"$work/init.out"
for h in "${hosts[@]}"; do
	sed -i "s|\"admin_socket\": .*|\"admin_socket\": \"$run/$h.admin\",|" "$work/cluster/$h/server.json"
	server "$h"
done
for h in "${hosts[@]}"; do until_true 60 "server $h" ctl "$h" status; done
ctl a group create net --path-delay 500ms --absent-after 5s --period 0s >/dev/null
ctl a rotate net --watch --timeout 20s >/dev/null # nobody is there yet: it is through at once

say "Three hosts join by an invite, and are admitted"
invite=$(ctl a invite --uses 8)
for h in "${hosts[@]}"; do agent "$h" --join "$invite" --name "$h"; done
until_true 30 "all have joined" bash -c "[ \$('$bin/eespctl' --socket '$run/a.admin' --json members | grep -c invited) -eq 3 ]"
ctl a admit --all >"$work/admit.out"
until_true 30 "all hosts active" all_active a 3
gateway a 1 "${ip[b]}:4500,${ip[c]}:4500"
gateway b 2 "${ip[a]}:4500,${ip[c]}:4500"
gateway c 3 "${ip[a]}:4500,${ip[b]}:4500"
for h in "${hosts[@]}"; do until_true 20 "$h has keys" has_keys "$h"; done
touch "$run/start" # all can open: what is sent from now on is counted
for h in "${hosts[@]}"; do until_true 20 "$h sends" sends "$h"; done

say "A tunnel between a and c: ping, and a file over HTTP, all the while"
tunnel a 1 c 3
tunnel c 3 a 1
mkdir "$work/www"
head -c 300000 /dev/urandom >"$work/www/file"
start http c python3 -m http.server -b 10.78.0.3 -d "$work/www" 8000
until_true 20 "HTTP through the tunnel" inside a curl -sf --max-time 2 -o "$work/first" http://10.78.0.3:8000/file
start ping a ping -n -i 0.05 10.78.0.3
fetches &
pid[fetches]=$!

say "Ten rotations by hand, under traffic"
for _ in $(seq 10); do ctl a rotate net --watch --timeout 60s >>"$work/rotate.out"; done
if command -v iperf3 >/dev/null; then
	start iperf c iperf3 -s -1
	until_true 30 "iperf3" measured &
	rate=$!
	ctl a rotate net --watch --timeout 60s >>"$work/rotate.out"
	wait $rate || fail "iperf3"
	say "iperf3 through the tunnel, and a rotation meanwhile: $(field 'round(d["end"]["sum_received"]["bits_per_second"]/1e6)' <"$work/iperf.json") Mbit/s"
fi
say "An emergency: short deadlines, and a new KEK"
ctl b rotate net --emergency --watch --timeout 60s --reason "demonstration" >>"$work/rotate.out"

say "Host b is killed; a rotation goes on without it"
disown "${pid[gw.b]}" "${pid[agent.b]}" # the shell has nothing to say of it
kill -9 "${pid[gw.b]}" "${pid[agent.b]}"
ctl a rotate net --watch --timeout 60s >>"$work/rotate.out"
[ "$(members a absent)" -eq 1 ] || fail "b is not absent"
agent b
until_true 60 "b is back" all_active a 3
gateway b 2 "${ip[a]}:4500,${ip[c]}:4500"
until_true 20 "a opens b's packets again" opens a 2
say "Host b is back"

say "Server a, and the store's member in it, is killed; b and c go on"
disown "${pid[server.a]}"
kill -9 "${pid[server.a]}"
until_true 60 "a rotation without server a" ctl b rotate net --watch --timeout 50s
server a
until_true 60 "server a is back" ctl a status
say "Server a is back"

say "A fourth host is added"
host d 4
agent d --join "$(ctl b invite --auto-admit)" --name d
until_true 60 "d is active" all_active b 4
gateway d 4 "${ip[a]}:4500"
until_true 20 "a opens d's packets" opens a 4
say "Host d is revoked"
ctl b revoke d --reason "demonstration" >/dev/null
until_true 60 "the rotation of the revocation" bash -c "'$bin/eespctl' --socket '$run/b.admin' --json status | python3 -c 'import json,sys; r=json.load(sys.stdin)[\"levels\"][0][\"rings\"][0]; sys.exit(r[\"state\"]!=\"steady\" or r.get(\"emergency\") or bool(r[\"waiting\"]))'"
before=$(stats a "d['opened'].get('4',0)")
sleep 1
[ "$(stats a "d['opened'].get('4',0)")" -eq "$before" ] || fail "packets of d still open"
wait "${pid[agent.d]}" && fail "d's agent goes on" || [ $? -eq 77 ] || fail "d's agent ended otherwise than revoked"

touch "$run/stop"
wait "${pid[fetches]}" || true
kill -INT "${pid[ping.a]}"
wait "${pid[ping.a]}" || true
pings=$(grep 'packets transmitted' "$work/ping.a.out") || pings="no summary"
say "ping: $pings; HTTP: $(cat "$work/fetch.count") times the same file"
case $pings in *" 0% packet loss"*) ;; *) fail "ping lost packets" ;; esac
[ ! -e "$work/fetch.failed" ] || fail "HTTP failed: $(cat "$work/fetch.failed")"
[ "$(cat "$work/fetch.count")" -gt 5 ] || fail "HTTP: too few"
for h in a c; do kill -TERM "${pid[tunnel.$h]}"; done

say "All stop; what was sent between a and c, which were there all the while, is counted"
for h in a c; do kill -TERM "${pid[gw.$h]}"; done
for h in a c; do wait "${pid[gw.$h]}" || true; done
read -r sent_a opened_c sent_c opened_a < <(python3 - "$work/gw.a.out" "$work/gw.c.out" <<'P'
import json, sys
a, c = (json.loads(open(f).read().splitlines()[-1]) for f in sys.argv[1:])
print(a["sent"], c["opened"].get("1", 0), c["sent"], a["opened"].get("3", 0))
P
)
lost=$((sent_a - opened_c + sent_c - opened_a))
say "a sent $sent_a packets, c opened $opened_c; c sent $sent_c, a opened $opened_a: $lost lost"
[ "$lost" -eq 0 ] || fail "$lost packets lost"
ctl a audit verify >"$work/audit.out" || fail "audit"
say "audit: $(cat "$work/audit.out")"
if [ -z "$json" ]; then
	ctl a status
	ctl a audit | tail -n 12
else
	printf '{"sent": %d, "lost": %d, "failed": %s, "status": %s}\n' "$((sent_a + sent_c))" "$lost" "$([ $failed -eq 0 ] && echo false || echo true)" "$(ctl a --json status)"
fi
exit $failed
