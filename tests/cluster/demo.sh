#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Three hosts as network namespaces, each with a server, an agent and a gateway that sends all
# the while: ten rotations, an emergency, a host killed and back, the store's leader killed, a
# host added, and one revoked. Between two of the hosts there is a tunnel of the TUN gateway
# besides, with ping, HTTP and iperf3 in it. Skipped where no namespaces can be had, for which
# it needs root.
#
#   tests/cluster/demo.sh BIN WORK [--json]
set -euo pipefail
# shellcheck source=tests/own_mounts.sh
source "${BASH_SOURCE%/*}/../own_mounts.sh"
json=${3:-}
# shellcheck source=tests/cluster/lib.sh
source "${BASH_SOURCE%/*}/lib.sh"
tag=${run##*-}
declare -A ip
hosts=(a b c)
say() { if [ -z "$json" ]; then echo "$*"; else echo "$*" >&2; fi; }

# add_host NAME NUMBER: a namespace on the common network.
add_host() {
	ns[$1]=$1$tag
	ip[$1]=10.77.0.$2
	ip netns add "${ns[$1]}"
	ip link add "v$1$tag" netns "${ns[switch]}" type veth peer name eth0 netns "${ns[$1]}"
	ip -n "${ns[switch]}" link set "v$1$tag" master br0 up
	ip -n "${ns[$1]}" addr add "${ip[$1]}/24" dev eth0
	ip -n "${ns[$1]}" link set eth0 up
	ip -n "${ns[$1]}" link set lo up
	mkdir -p "$run/host-$1"
}
agent() { background "agent.$1" "$1" "$bin/eespd" agent --dir "agent-$1" --socket "$run/host-$1/agent.sock" "${@:2}"; }
gateway() {
	background "gw.$1" "$1" "$bin/eesp-demo" --socket "$run/host-$1/agent.sock" --tag "$2" --listen "${ip[$1]}:4500" --peers "$3" \
		--pps 400 --start "$run/start"
}
# tunnel HOST NUMBER PEER NUMBER: a TUN gateway whose keys are the agent's.
tunnel() {
	printf '%s\n' "group net keys agent socket $run/host-$1/agent.sock" "local ${ip[$1]}" "tun t0" "lock-dir none" "stats 0" \
		"peer $3 address ${ip[$3]} group net routes 10.78.0.$4/32" >"tunnel.$1.conf"
	background "tunnel.$1" "$1" "$bin/tap_gw" "tunnel.$1.conf"
	until_true "the tunnel's device at $1" ip -n "${ns[$1]}" link show t0
	ip -n "${ns[$1]}" addr add "10.78.0.$2/24" dev t0
	ip -n "${ns[$1]}" link set t0 up
}
inside() { local h=$1; shift; ip netns exec "${ns[$h]}" "$@"; }
# fetches: gets a file through the tunnel again and again, and notes how often, and what went wrong.
fetches() {
	local n=0
	while [ ! -e "$run/stop" ]; do
		if inside a curl -sf --max-time 20 -o fetched "http://10.78.0.3:8000/file" 2>>fetch.log && cmp -s www/file fetched; then
			n=$((n + 1))
		else
			echo "fetch $n" >>fetch.failed
		fi
		echo $n >fetch.count
		sleep 0.2
	done
}
# measured: iperf3 through the tunnel. Its exit status does not tell whether there was a server.
measured() {
	rm -f iperf.json
	inside a iperf3 -c 10.78.0.3 -t 3 --json --logfile iperf.json || true
	grep -q sum_received iperf.json
}
field() { python3 -c "import json,sys; d=json.load(sys.stdin); print($1)"; }
# asked HOST LINES: its gateway, if it catches SIGUSR1 by now, is asked to count, and has printed more than so many lines.
asked() {
	local caught
	caught=$(sed -n 's/^SigCgt:\t//p' "/proc/${pid[gw.$1]}/status")
	((0x$caught & 0x200)) || return 1
	kill -USR1 "${pid[gw.$1]}"
	[ "$(wc -l <"gw.$1.out")" -gt "$2" ]
}
# stats HOST EXPRESSION: of what its gateway counts now.
stats() {
	local n
	n=$(wc -l <"gw.$1.out")
	until_true "counts of $1" asked "$1" "$n"
	tail -n 1 "gw.$1.out" | field "$2"
}
has_keys() { [ "$(stats "$1" 'd["states"]')" -gt 0 ]; }
sends() { [ "$(stats "$1" 'd["sent"]')" -gt "${2:-0}" ]; }
opens() { [ "$(stats "$1" "d['opened'].get('$2',0)")" -gt "${3:-0}" ]; }
members() { ctl "$1" --json members | field "sum(m['state']=='$2' for m in d)"; }
# are SERVER NUMBER STATE: so many members are in it.
are() { [ "$(members "$1" "$3")" -eq "$2" ]; }

# revoked_out: the rotation after a revocation is through.
revoked_out() {
	[ "$(ctl b --json status | field "(lambda r: r['state'] == 'steady' and not r.get('emergency') and not r['waiting'])(d['levels'][0]['rings'][0])")" = True ]
}

ns[switch]=sw$tag
if ! { [ -z "$no_own_mounts" ] && [ -c /dev/net/tun ] && ip netns add "${ns[switch]}" && ip -n "${ns[switch]}" link add br0 type bridge &&
	ip -n "${ns[switch]}" link add probe type veth peer name other && ip -n "${ns[switch]}" link del probe && ip netns exec "${ns[switch]}" true; } 2>netns.err; then
	why="no network namespaces with veth pairs, bridges and TUN devices here: $no_own_mounts$(cat netns.err)"
	echo "demo-cluster: skipped: $why"
	skipped "cluster/demo.sh" "$why"
	exit 0
fi
ip -n "${ns[switch]}" link set br0 up
n=1
for h in "${hosts[@]}"; do add_host "$h" $n; n=$((n + 1)); done

say "A cluster of three servers"
"$bin/eespctl" init --dir "cluster" --server "a=${ip[a]}:7443" --server "b=${ip[b]}:7443" --server "c=${ip[c]}:7443" >init.out
for h in "${hosts[@]}"; do
	mv "cluster/$h" "$run/$h"
	launch "$h"
done
for h in "${hosts[@]}"; do until_true "server $h" ctl "$h" status; done
ctl a group create net --path-delay 500ms --absent-after 5s --period 0s >/dev/null
ctl a rotate net --watch --timeout 20s >/dev/null # nobody is there yet: it is through at once

say "Three hosts join by an invite, and are admitted"
invite=$(ctl a invite --uses 8)
for h in "${hosts[@]}"; do agent "$h" --join "$invite" --name "$h"; done
until_true "all have joined" are a 3 invited
ctl a admit --all >admit.out
until_true "all hosts active" are a 3 active
gateway a 1 "${ip[b]}:4500,${ip[c]}:4500"
gateway b 2 "${ip[a]}:4500,${ip[c]}:4500"
gateway c 3 "${ip[a]}:4500,${ip[b]}:4500"
for h in "${hosts[@]}"; do until_true "$h has keys" has_keys "$h"; done
touch "$run/start" # all can open: what is sent from now on is counted
for h in "${hosts[@]}"; do until_true "$h sends" sends "$h"; done

say "A tunnel between a and c: ping, and a file over HTTP, all the while"
tunnel a 1 c 3
tunnel c 3 a 1
mkdir www
head -c 300000 /dev/urandom >www/file
background http.c c python3 -m http.server -b 10.78.0.3 -d www 8000
until_true "HTTP through the tunnel" inside a curl -sf --max-time 2 -o first http://10.78.0.3:8000/file
background ping.a a ping -n -i 0.05 10.78.0.3
fetches &
pid[fetches]=$!

say "Ten rotations by hand, under traffic"
for _ in $(seq 10); do ctl a rotate net --watch --timeout 60s >>rotate.out; done
if command -v iperf3 >/dev/null; then
	background iperf.c c iperf3 -s -1
	until_true "iperf3" measured &
	rate=$!
	ctl a rotate net --watch --timeout 60s >>rotate.out
	wait $rate || fail "iperf3"
	say "iperf3 through the tunnel, and a rotation meanwhile: $(field 'round(d["end"]["sum_received"]["bits_per_second"]/1e6)' <iperf.json) Mbit/s"
fi
say "An emergency: short deadlines, and a new KEK"
ctl b rotate net --emergency --watch --timeout 60s --reason "demonstration" >>rotate.out

say "Host b is killed; a rotation goes on without it"
crash gw.b agent.b
ctl a rotate net --watch --timeout 60s >>rotate.out
[ "$(members a absent)" -eq 1 ] || fail "b is not absent"
agent b
until_true "b is back" are a 3 active
gateway b 2 "${ip[a]}:4500,${ip[c]}:4500"
until_true "a opens b's packets again" opens a 2
say "Host b is back"

say "Server a, and the store's member in it, is killed; b and c go on"
crash a
until_true "a rotation without server a" ctl b rotate net --watch --timeout 50s
start a
say "Server a is back"

say "A fourth host is added"
add_host d 4
agent d --join "$(ctl b invite --auto-admit)" --name d
until_true "d is active" are b 4 active
gateway d 4 "${ip[a]}:4500"
until_true "a opens d's packets" opens a 4
say "Host d is revoked"
ctl b revoke d --reason "demonstration" >/dev/null
until_true "the rotation of the revocation" revoked_out
before=$(stats a "d['opened'].get('4',0)")
sleep 1
[ "$(stats a "d['opened'].get('4',0)")" -eq "$before" ] || fail "packets of d still open"
rc=0
wait "${pid[agent.d]}" || rc=$?
[ $rc -eq 77 ] || fail "revoked, d's agent ended with $rc"

touch "$run/stop"
wait "${pid[fetches]}" || true
kill -INT "${pid[ping.a]}"
wait "${pid[ping.a]}" || true
pings=$(grep 'packets transmitted' ping.a.out) || pings="no summary"
say "ping: $pings; HTTP: $(cat fetch.count) times the same file"
case $pings in *" 0% packet loss"*) ;; *) fail "ping lost packets" ;; esac
[ ! -e fetch.failed ] || fail "HTTP failed: $(cat fetch.failed)"
[ "$(cat fetch.count)" -gt 5 ] || fail "HTTP: too few"
stop tunnel.a tunnel.c

say "All stop; what was sent between a and c, which were there all the while, is counted"
stop gw.a gw.c # at once: each opens for two seconds more what the other one has sent
read -r sent_a opened_c sent_c opened_a < <(python3 - gw.a.out gw.c.out <<'P'
import json, sys
a, c = (json.loads(open(f).read().splitlines()[-1]) for f in sys.argv[1:])
print(a["sent"], c["opened"].get("1", 0), c["sent"], a["opened"].get("3", 0))
P
)
lost=$((sent_a - opened_c + sent_c - opened_a))
say "a sent $sent_a packets, c opened $opened_c; c sent $sent_c, a opened $opened_a: $lost lost"
[ "$lost" -eq 0 ] || fail "$lost packets lost"
ctl a audit verify >audit.out || fail "audit"
say "audit: $(cat audit.out)"
if [ -z "$json" ]; then
	ctl a status
	ctl a audit | tail -n 12
else
	printf '{"sent": %d, "lost": %d, "status": %s}\n' "$((sent_a + sent_c))" "$lost" "$(ctl a --json status)"
fi
