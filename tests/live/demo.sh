#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Real traffic through eesp_gw, between network namespaces. Usage: demo.sh BIN_DIR WORK_DIR
#
#   host A            middle: gateways on DPDK                   host B
#   a0 --- plain A [gateway A] wire --- wire [gateway B] plain B --- b0
#
# and then with an edge proxy between the gateways, in the other profiles, and with TAP devices.
set -euo pipefail
export LC_ALL=C PYTHONDONTWRITEBYTECODE=1

(($# == 2)) || { echo "usage: demo.sh BIN_DIR WORK_DIR" >&2; exit 2; }
# shellcheck disable=SC1091
. "$(dirname "$0")/../own_mounts.sh"
here=$(cd "$(dirname "$0")" && pwd)
gw=$(cd "$1" && pwd)/eesp_gw
python=${PYTHON:-/usr/bin/python3}
rm -rf "$2"
mkdir -p "$2"
cd "$2"
export RUNTIME_DIRECTORY=$PWD # of EAL
for tool in ip ethtool tcpdump iperf3 curl ping; do
	command -v "$tool" >/dev/null || { echo "demo.sh: $tool is needed" >&2; exit 1; }
done

prefix=eesp$$
A=$prefix-a M=$prefix-m B=$prefix-b
passed=0 failed=0
declare -A gateways=()

cleanup() {
	trap - EXIT INT TERM
	local pids
	pids=$(jobs -p)
	# shellcheck disable=SC2086 # one process each
	[[ -z $pids ]] || kill $pids 2>/dev/null || true
	wait 2>/dev/null || true
	for ns in "$A" "$M" "$B"; do ip netns del "$ns" 2>/dev/null || true; done
}
trap cleanup EXIT
trap 'exit 1' INT TERM

# Without the rights or the kernel for namespaces and veth pairs there is nothing to run on.
if ! { [[ -z $no_own_mounts ]] && ip netns add "$M" && ip -n "$M" link add probe type veth peer name ebrop &&
	ip -n "$M" link del probe && ip netns exec "$M" true; } 2>netns.err; then
	why="no network namespaces with veth pairs here: $no_own_mounts$(cat netns.err)"
	echo "demo-live: skipped: $why"
	skipped demo.sh "$why"
	exit 0
fi

on() { ip netns exec "$@"; }
# The same in the background; $! is the program itself.
spawn() { ip netns exec "$@" & }
pass() { passed=$((passed + 1)); echo "pass  $*"; }
miss() { failed=$((failed + 1)); echo "FAIL  $*"; }
# check TEXT COMMAND...: the command succeeds; the last line it prints is shown.
check() {
	local text=$1 out
	shift
	if out=$("$@" 2>&1); then pass "$text${out:+: ${out##*$'\n'}}"; else miss "$text: ${out##*$'\n'}"; fi
}
fails() { ! "$@" >/dev/null 2>&1; }
# within SECONDS COMMAND...: until it succeeds.
within() {
	local end=$((SECONDS + $1))
	shift
	until "$@" &>/dev/null; do
		((SECONDS < end)) || return 1
		sleep 0.05
	done
}

# ---- Interfaces

# The network stack must leave frames as the wire has them: AF_PACKET has no
# notion of checksums or segments that are still to be made.
raw() { on "$1" ethtool -K "$2" tx off rx off tso off gso off gro off sg off >/dev/null 2>&1; }
# link NS1 IF1 MAC1 NS2 IF2 MAC2
link() {
	on "$1" ip link add "$2" address "$3" type veth peer name "$5" address "$6" netns "$4"
	local ns name
	for ns in "$1 $2" "$4 $5"; do
		read -r ns name <<<"$ns"
		raw "$ns" "$name"
		on "$ns" ip link set "$name" up
	done
}
# host NS IF ADDRESS GATEWAY
host() {
	on "$1" ip addr add "$3/24" dev "$2"
	on "$1" ip link set "$2" mtu 1400 up
	on "$1" ip route add default via "$4"
}
mac() { echo "02:00:00:00:$1"; }

for ns in "$A" "$B"; do ip netns add "$ns"; done
for ns in "$A" "$M" "$B"; do
	on "$ns" sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1
	on "$ns" ip link set lo up
done
link "$A" a0 "$(mac 01:01)" "$M" ga0 "$(mac 0a:00)"
link "$B" b0 "$(mac 02:01)" "$M" gb0 "$(mac 0b:00)"
link "$M" ga1 "$(mac 0a:01)" "$M" gb1 "$(mac 0b:01)"
link "$M" ga2 "$(mac 0a:02)" "$M" pw "$(mac 0e:01)"
link "$M" gb2 "$(mac 0b:02)" "$M" pe "$(mac 0e:02)"
host "$A" a0 10.1.0.1 10.1.0.254
host "$B" b0 10.2.0.1 10.2.0.254

# ---- Gateways

cpus=$(nproc)
eal=(--no-huge -m 96 --no-pci --no-shconf --log-level error)
# start NAME CPUS EAL_OPTION...: runs NAME.conf, returns when it forwards.
start() {
	local name=$1 cpu=$2
	((cpus > 1)) || cpu=0
	shift 2
	spawn "$M" "$gw" "${eal[@]}" -l "$cpu" --file-prefix "$prefix-$name" "$@" -- "$name.conf" >>"$name.log" 2>&1
	gateways[$name]=$!
	within 20 up "$name" || true
	ctl "$name" stats >/dev/null 2>&1 || { echo "gateway $name does not start:"; cat "$name.log"; exit 1; }
}
# up NAME: answers commands, or has ended.
up() { ctl "$1" stats || ! kill -0 "${gateways[$1]}"; }
# stops NAME: the gateway ends by itself, with status 0 and without its socket.
stops() {
	local status=0
	wait "${gateways[$1]}" || status=$?
	check "gateway $1 stops" test "$status" -eq 0 -a ! -e "$1.sock"
}
stop_all() {
	local name
	for name; do kill "${gateways[$name]}"; done
	for name; do stops "$name"; done
}
af_packet() { echo "--vdev=net_af_packet$1,iface=$2,blocksz=65536,framesz=2048,framecnt=2048,qpairs=${3:-1}"; }
ctl() { "$gw" ctl "$1.sock" "${@:2}"; }
# quiet NAME...: none of the gateways has dropped anything because of keys or ICVs.
quiet() {
	local name stats
	for name; do
		stats=$(ctl "$name" stats) || return 1
		if grep dropped <<<"$stats" | grep -vE 'not for this gateway|queue full'; then
			ctl "$name" status | tr '\n' ';'
			return 1
		fi
	done
}
# show_cycles NAME LANE
show_cycles() {
	ctl "$1" stats | awk -v lane="$2" '$1 == lane { v[$2] = $3 } END { if (v["rx"])
		printf "      %s %s: %d cycles a packet, %d of them in the library, %.1f packets a burst\n",
			"'"$1"'", lane, v["cycles-per-packet"], v["library-cycles-per-packet"], v["rx"] / v["bursts"] }'
}
dropped() { ctl "$1" stats | sed -n "s/^$2 dropped \([0-9]*\): $3.*/\1/p"; }

# plain_port, wire_port: as gateway.conf explains them.
common() { printf 'control %s.sock\nidle-sleep 200\nstats 1\n' "$1"; }
"$gw" make-key "zone blue 000001" blue.der
"$gw" make-key "zone red 0000001" red.der
blue_id="zone blue 000001" red_id="zone red 0000001"
gateway_conf() { # NAME GROUP HOST_ADDRESS HOST_MAC WIRE_MAC ADDRESS PEER ID [EXTRA]
	cat <<-END
		group $2 id $8 v id-src-dst
		root-key ${2%% *} zone ${2%% *}.der
		port hosts device ${9:-net_af_packet0} address $3 next-hop $4 ${10:-}
		port net device ${11:-net_af_packet1} address $6 next-hop $5 ${12:-}
		peer other address $7 group ${2%% *}
		tunnel hosts net
		$(common "$1")
	END
}
gateway_conf A blue 10.1.0.254 "$(mac 01:01)" "$(mac 0b:01)" 192.0.2.1 192.0.2.2 0x101 >A.conf
gateway_conf B blue 10.2.0.254 "$(mac 02:01)" "$(mac 0a:01)" 192.0.2.2 192.0.2.1 0x102 >B.conf
start_A() { start A 0 "$(af_packet 0 ga0)" "$(af_packet 1 ga1)"; }
start_B() { start B 1 "$(af_packet 0 gb0)" "$(af_packet 1 gb1)"; }

# ---- Traffic

marker="known plaintext of the demo"
awk -v m="$marker" 'BEGIN { for (i = 0; i < 400000; i++) printf "%s %08d\n", m, i }' >file
sum=$(sha256sum <file)
spawn "$B" "$python" -m http.server --bind 10.2.0.1 8000 >http.log 2>&1
spawn "$B" iperf3 -s -B 10.2.0.1 >iperf3.log 2>&1
within 10 on "$B" curl -s -o /dev/null http://10.2.0.1:8000/ || { echo "no HTTP server: $(<http.log)"; exit 1; }

pings() { on "$A" ping -q -i 0.02 -c 25 -W 2 -s "$1" -p 6b6e6f776e20706c61696e7465787420 10.2.0.1 | grep -o '^25 packets.* 25 received'; }
fetch() { # [CURL_OPTION]...
	local got
	got=$(on "$A" curl -sS --max-time 40 "$@" http://10.2.0.1:8000/file | sha256sum)
	[[ $got == "$sum" ]] && echo "$(stat -c %s file) octets, SHA-256 ${sum:0:16}..."
}
iperf() { # JSON_EXPRESSION OPTION...
	on "$A" iperf3 -J -c 10.2.0.1 "${@:2}" >iperf3.json
	"$python" -c "import json
e = json.load(open('iperf3.json'))['end']
$1"
}
tcp() {
	iperf 'r = e["sum_received"]
print("%.0f Mbit/s" % (r["bits_per_second"] / 1e6))
assert r["bytes"] > 1 << 20' -n 24M # not by time: what captures hold has to be read
}
udp() {
	iperf 's = e["sum"]
print("%d packets, %.2f %% lost" % (s["packets"], s["lost_percent"]))
assert s["packets"] > 1000 and s["lost_percent"] < 10' -u -b 50M -l 1300 -t 2
}
# capture NS INTERFACE FILE [DIRECTION]: what comes in, since DPDK's sockets
# hide what they send.
capture() {
	spawn "$1" tcpdump -i "$2" -Q "${4:-in}" -s 256 -B 65536 -w "$3" -Z root >/dev/null 2>"$3.err"
	captures+=($!)
	within 5 grep -q 'listening on' "$3.err" || { echo "tcpdump: $(cat "$3.err")"; exit 1; }
}
captures=()
end_captures() {
	sleep 0.3
	kill "${captures[@]}"
	wait "${captures[@]}" || true
	captures=()
}
clean() { "$python" "$here/check_capture.py" --marker "$marker" --marker "known plaintext " --min-frames 500 "$@"; }

# ---- No gateway, for comparison: frames go through in clear

cat >F.conf <<END
port a device net_af_packet0 address 10.1.0.254 next-hop $(mac 01:01)
port b device net_af_packet1 address 10.2.0.254 next-hop $(mac 02:01)
forward a b
$(common F)
END
echo "== host A - DPDK in clear - host B"
start F 0 "$(af_packet 0 ga0)" "$(af_packet 1 gb0)"
check "ping" pings 56
check "TCP, iperf3" tcp
check "UDP, iperf3 at 50 Mbit/s" udp
show_cycles F 'a>b'
stop_all F

# ---- Two gateways

echo "== host A - gateway A - gateway B - host B"
capture "$M" ga1 to-A.pcap
capture "$M" gb1 to-B.pcap
capture "$A" a0 plain.pcap inout
start_A
start_B
# The library's threads must not run on the CPU of an lcore only.
threads() {
	local pid=${gateways[$1]} all free
	all=$(cat "/proc/$pid/task/"*/status | grep -c '^Cpus_allowed_list')
	free=$(cat "/proc/$pid/task/"*/status | grep -cx "$(grep '^Cpus_allowed_list' /proc/self/status)") || true
	echo "$all threads, $free of them on any CPU"
	((free >= 3)) && ! grep -qx "$(grep '^Cpus_allowed_list' /proc/self/status)" "/proc/$pid/status"
}
((cpus == 1)) || check "the lcore is pinned, the library's threads are not" threads A
check "ping, 56 octets" pings 56
check "ping, as long as the MTU allows" pings 1372
check "TCP, iperf3" tcp
check "UDP, iperf3 at 50 Mbit/s" udp
check "HTTP" fetch
check "no packet was dropped for its key or ICV" quiet A B
show_cycles A 'hosts>net'
show_cycles B 'net>hosts'

# ---- Rotation: gateway A has the new keys before gateway B

rotate() { # INDEX GATEWAY...
	local name
	(umask 077 && head -c 32 /dev/urandom >"value$1")
	for name in "${@:2}"; do
		[[ $(ctl "$name" rotate blue zone "$1" "value$1") == ok ]] || return 1
		sleep 0.3
	done
}
# A transfer comes in gusts; the pings make sure that each key seals something.
fetch --limit-rate 2M >fetch.out &
fetching=$!
on "$A" ping -q -i 0.02 -c 200 -W 2 10.2.0.1 >ping.out &
pinging=$!
sleep 0.5
check "rotation to root key 2 during a transfer" rotate 3 A B
check "rotation to root key 3, the other gateway first" rotate 4 B A
check "the transfer is still running" kill -0 "$fetching"
wait "$pinging" || true
check "no ping was lost during the rotations" grep -o '^200 packets.* 200 received' ping.out
if wait "$fetching"; then pass "transfer through both rotations: $(<fetch.out)"; else miss "transfer through both rotations"; fi
check "no packet was dropped for its key or ICV" quiet A B
check "both use root key 3" test "$(ctl A keys)$(ctl B keys)" = "$(printf 'blue zone previous 2 current 3 next 4%.0s' 1 2)"
check "gateway A saves its root keys" test "$(ctl A save blue zone blue.der)" = ok

# ---- A crash

fetch --limit-rate 5M >fetch.out &
fetching=$!
sleep 0.7
kill -KILL "${gateways[B]}"
wait "${gateways[B]}" 2>/dev/null || true
check "gateway B is killed: no answer" fails on "$A" ping -q -c 2 -i 0.1 -W 0.2 10.2.0.1
start_B
if wait "$fetching"; then pass "gateway B is back, the transfer went on: $(<fetch.out)"; else miss "transfer through the crash"; fi
check "ping" pings 56
check "no packet was dropped for its key or ICV" quiet A B
end_captures
check "capture: Security Headers and ciphertext only, no counter twice" clean --key-id "$blue_id" --ids 0x101,0x102 --indices 1,2,3 to-A.pcap to-B.pcap
check "the same checks find the plaintext on the host's side" fails clean plain.pcap
clean to-A.pcap to-A.pcap >twice.log 2>&1 || true
check "and counters that were used twice" grep -q 'counter [0-9]* a second time' twice.log

# ---- Wrong packets: each is counted under what is wrong with it

inject() { on "$M" "$python" "$here/inject.py" "$@"; }
counted() { # NAME LANE TEXT NUMBER
	within 5 test_counted "$@" || { ctl "$1" stats | grep dropped; return 1; }
}
test_counted() { (($(dropped "$1" "$2" "$3") == $4)); }
inject to-B.pcap 192.0.2.1 ga1 "$(mac 0b:01)" 192.0.2.2 damaged\*7 \
	other_key\*7 other_version\*7 reserved\*7 short\*7 empty\*7 contradiction\*7
check "damaged packets" counted B 'net>hosts' 'authentication failed' 7
inject to-B.pcap 192.0.2.1 ga1 "$(mac 0b:01)" 192.0.2.2 unchanged\*7
check "packets that come again" counted B 'net>hosts' 'replayed' 7
check "packets of an unknown root key" counted B 'net>hosts' 'no key for' 7
check "packets of another version" counted B 'net>hosts' 'header: unsupported Version' 7
check "packets whose Reserve is not zero" counted B 'net>hosts' 'header: Reserve' 7
check "packets that are short or empty" counted B 'net>hosts' 'packet too short' 14
check "packets whose lengths contradict each other" counted B 'net>hosts' malformed 7
inject to-B.pcap 192.0.2.1 gb1 "$(mac 0a:01)" 192.0.2.1/192.0.2.2 unchanged\*7
check "gateway A's own packets, sent back to it" counted A 'net>hosts' 'reflected' 7
inject to-B.pcap 192.0.2.1 ga1 "$(mac 0b:01)" 192.0.2.2 mutated\*10000
on "$A" "$python" "$here/inject.py" plain.pcap 10.1.0.1 a0 "$(mac 0a:00)" 10.2.0.1 mutated\*10000
check "ping after 10000 mutated packets on each side" pings 56
on "$A" ip link set a0 mtu 1500
check "sealed, it would be longer than the MTU: dropped" fails on "$A" ping -q -c 3 -i 0.02 -W 0.1 -s 1472 10.2.0.1
on "$A" ip link set a0 mtu 1400
check "and counted" counted A 'hosts>net' 'longer than the MTU' 3

# ---- DPDK's telemetry

telemetry() { "$python" "$here/telemetry.py" "dpdk/$prefix-A/dpdk_telemetry.v2" "$1"; }
# Gateway A refused packets of its own, and what is longer than the MTU is no refusal of the library's.
figures() {
	local answer before after
	sums() { ctl A status | sed -n 's/^peer other .* sealed \([0-9]*\) opened \([0-9]*\) .*/\1,\2/p'; }
	before=$(sums)
	answer=$(telemetry /eesp/peer,other) || return 1
	after=$(sums)
	echo "$answer"
	"$python" -c 'import json, sys
answer, before, after, reflected = map(json.loads, sys.argv[1:])
for i, name in enumerate(("sealed", "opened")):
    assert 1000 < before[i] <= answer[name] <= after[i], (before, answer, after)
assert answer["refused_%d" % reflected] == 7, answer' "$answer" "[$before]" "[$after]" "$reflected"
}
reflected=$(sed -n 's/.*EESP_ERR_REFLECTED = -\([0-9]*\),.*/\1/p' "$here/../../include/eesp.h")
check "telemetry names the commands" eval "telemetry / | grep -o '\"/eesp/peer\", \"/eesp/peers\"'"
check "telemetry names the peers" test "$(telemetry /eesp/peers)" = '["other"]'
check "telemetry has a peer's figures, as status does" figures
check "and none of a peer that is not there" test "$(telemetry /eesp/peer,nobody) $(telemetry /eesp/peer)" = 'null null'

# ---- Commands and configurations

answers() { [[ $(ctl "${@:2}" 2>&1) == "error: "*"$1"* ]]; }
check "wrong commands are refused" eval "
	answers 'is not a command' A no-such-command &&
	answers 'usage: rotate' A rotate blue zone 5 &&
	answers 'no group' A rotate green zone 5 value3 &&
	answers 'is not zone, user or task' A rotate blue town 5 value3 &&
	answers 'not an index' A rotate blue zone 5x value3 &&
	answers 'No such file' A rotate blue zone 5 no-such-file &&
	answers 'does not have 32 octets' A rotate blue zone 5 blue.der &&
	answers 'invalid' A rotate blue zone 4 value3"
"$gw" "${eal[@]}" -l 0 --file-prefix "$prefix-x" -- A.conf >second.log 2>&1 || true
check "a second gateway on the same socket is refused" grep -q 'A.sock: another gateway is running' second.log
refused() { # TEXT LINE_EDIT...: A.conf with an edit (sed) is refused with this text
	sed "$2" A.conf >bad.conf
	if "$gw" check bad.conf 2>bad.err || ! grep -q "^eesp_gw: bad.conf:$1" bad.err; then
		echo "$2: $(<bad.err)"
		return 1
	fi
}
check "wrong configurations: the error names the line" eval "
	'$gw' check A.conf &&
	refused '6: unknown statement .tunel.' 's/^tunnel/tunel/' &&
	refused '2: no-such.der: No such file' 's/blue.der/no-such.der/' &&
	refused '2: no group .green. above' 's/key blue/key green/' &&
	refused '2: .town. is not zone, user or task' 's/zone/town/' &&
	refused '2: value3: invalid root key' 's/blue.der/value3/' &&
	refused '1: aead: .des. is none of aes-128-gcm, aes-256-gcm' 's/^group blue/& aead des/' &&
	refused '3: next-hop: .* is not a MAC' 's/02:00:00:00:01:01/02:00/' &&
	refused '3: a port needs device' 's/device net_af_packet0//' &&
	refused '4: address: .192.0.2. is not' 's/192.0.2.1 /192.0.2 /' &&
	refused '4: address: .::1. is not an IPv4' 's/192.0.2.1 /::1 /' &&
	refused '1: .v. has no value' 's/ id-src-dst//' &&
	refused '4: .address. twice' 's/^port net/& address 192.0.2.3/' &&
	refused '5: a peer needs address' 's/ address 192.0.2.2//' &&
	refused '1: replay-window: .63. is neither' 's/id-src-dst/& replay-window 63/' &&
	refused '1: replay-window: .65537. is not' 's/id-src-dst/& replay-window 65537/' &&
	refused '6: no port .lan. above' 's/^tunnel hosts/tunnel lan/' &&
	refused '5: peer .other.: which port' 's/^tunnel/proxy/' &&
	refused '5: peer .other.: which port' '/^tunnel/d' &&
	refused '3: port .hosts. is not connected' '/^tunnel/d; /^peer/d' &&
	refused '4: port .net. has no peer' '/^peer/d' &&
	refused '8: idle-sleep: .-1. is not a number' 's/^idle-sleep.*/idle-sleep -1/' &&
	refused '1: group .blue. has no root key' '/^root-key/d'"
ctl A stop >/dev/null
stops A
stop_all B

# ---- An edge proxy joins two domains with different root keys

echo "== host A - gateway C [blue] edge [red] gateway D - host B"
proxy_conf() { # NAME WEST_MAC EAST_MAC [EXTRA]
	cat <<-END
		group blue id 0x109 v id-src-dst
		root-key blue zone blue.der
		group red aead aes-256-gcm combiner xor id 0x209 v long-id-src
		root-key red zone red.der
		port west device $4 address 192.0.2.9 next-hop $2
		port east device $5 address 198.51.100.9 next-hop $3
		peer c address 192.0.2.1 group blue port west
		peer d address 198.51.100.2 group red port east
		proxy west east
		$(common "$1")
	END
}
gateway_conf C blue 10.1.0.254 "$(mac 01:01)" "$(mac 0e:01)" 192.0.2.1 192.0.2.9 0x101 >C.conf
gateway_conf D "red aead aes-256-gcm combiner xor" 10.2.0.254 "$(mac 02:01)" "$(mac 0e:02)" 198.51.100.2 198.51.100.9 0x202 >D.conf
proxy_conf edge "$(mac 0a:02)" "$(mac 0b:02)" net_af_packet0 net_af_packet1 >edge.conf
capture "$M" ga2 to-C.pcap
capture "$M" pw to-west.pcap
capture "$M" pe to-east.pcap
capture "$M" gb2 to-D.pcap
both=$((cpus > 1 ? 2 : 1)) # gateway C has two lcores, if it may
start C 0-1 "$(af_packet 0 ga0 $both)" "$(af_packet 1 ga2 $both)"
start D 1 "$(af_packet 0 gb0)" "$(af_packet 1 gb2)"
start edge 0 "$(af_packet 0 pw)" "$(af_packet 1 pe)"
check "ping" pings 56
check "TCP, iperf3" tcp
check "HTTP" fetch
check "no packet was dropped for its key or ICV" quiet C D edge
end_captures
check "west of the proxy: domain blue only, no plaintext" clean --key-id "$blue_id" --ids 0x101,0x109 to-C.pcap to-west.pcap
check "east of the proxy: domain red only, no plaintext" clean --key-id "$red_id" --ids 0x202,0x209 to-D.pcap to-east.pcap
inject to-B.pcap 192.0.2.1 ga2 "$(mac 0e:01)" 192.0.2.9/192.0.2.77 unchanged\*7
check "packets from an address that is no peer's" counted edge 'west>east' 'no peer there' 7
check "and whose it is" eval "ctl edge status | grep -x 'stranger 192.0.2.77 refused 7: no peer has that address' >/dev/null"
inject to-east.pcap 198.51.100.2 ga2 "$(mac 0e:01)" 192.0.2.9/192.0.2.1 unchanged\*7
check "packets of domain red are none of domain blue" counted edge 'west>east' 'no key for' 7
stop_all C D edge

# ---- The other profiles, and a proxy from one to another

for key in psp-A psp-B tss sa-AB sa-BA; do "$gw" make-secret "$key.key"; done
# other_conf NAME KIND OTHER HOST_ADDRESS HOST_MAC WIRE_MAC ADDRESS PEER
other_conf() {
	case $2 in
	psp) printf 'group g profile psp spi-file %s.spi\nkey g 0 psp-%s.key\n' "$1" "$1" ;;
	tss) printf 'group g profile tss sdi 0x5d1 state %s.counters\nkey g 0 tss.key\n' "$1" ;;
	eesp)
		local pair out
		for pair in "$1$3" "$3$1"; do
			out=$([[ $pair == "$1$3" ]] && echo out || echo g)
			printf 'group %s profile eesp spi 0x%d\nkey %s 0 sa-%s.key\n' "$out" "$([[ $pair == AB ]] && echo 1001 || echo 1002)" "$out" "$pair"
		done
		;;
	esac
	cat <<-END
		port hosts device net_af_packet0 address $4 next-hop $5
		port net device net_af_packet1 address $7 next-hop $6
		tunnel hosts net
		peer other address $8 $([[ $2 == tss ]] && echo group g || echo receive g) $([[ $2 == psp ]] && echo send-key "to-$3.key") $([[ $2 == eesp ]] && echo send out)
		$(common "$1")
	END
}
for kind in psp tss eesp; do
	echo "== host A - gateway A - gateway B - host B, profile $kind"
	other_conf A $kind B 10.1.0.254 "$(mac 01:01)" "$(mac 0b:01)" 192.0.2.1 192.0.2.2 >A.conf
	other_conf B $kind A 10.2.0.254 "$(mac 02:01)" "$(mac 0a:01)" 192.0.2.2 192.0.2.1 >B.conf
	if [[ $kind == psp ]]; then
		"$gw" grant A.conf g to-A.key >/dev/null
		"$gw" grant B.conf g to-B.key >/dev/null
	fi
	start_A
	start_B
	check "ping, as long as the MTU allows" pings 1372
	check "HTTP" fetch
	check "no packet was dropped for its key or ICV" quiet A B
	check "gateway A knows its keys" eval "ctl A keys | grep -x 'g slot 0 in use' >/dev/null"
	stop_all A B
done
echo "== host A - gateway C [stateless] edge [tss] gateway D - host B"
gateway_conf C blue 10.1.0.254 "$(mac 01:01)" "$(mac 0e:01)" 192.0.2.1 192.0.2.9 0x101 >C.conf
other_conf D tss E 10.2.0.254 "$(mac 02:01)" "$(mac 0e:02)" 198.51.100.2 198.51.100.9 >D.conf
cat >edge.conf <<END
group blue id 0x109 v id-src-dst
root-key blue zone blue.der
group g profile tss sdi 0x5d1 state edge.counters
key g 0 tss.key
port west device net_af_packet0 address 192.0.2.9 next-hop $(mac 0a:02)
port east device net_af_packet1 address 198.51.100.9 next-hop $(mac 0b:02)
peer c address 192.0.2.1 group blue port west
peer d address 198.51.100.2 group g port east
proxy west east
$(common edge)
END
start C 0 "$(af_packet 0 ga0)" "$(af_packet 1 ga2)"
start D 1 "$(af_packet 0 gb0)" "$(af_packet 1 gb2)"
start edge 0 "$(af_packet 0 pw)" "$(af_packet 1 pe)"
check "ping" pings 1372
check "HTTP" fetch
check "no packet was dropped for its key or ICV" quiet C D edge
stop_all C D edge

# ---- TAP devices, with mbufs so short that packets come in chains

echo "== the same on TAP devices, with chained mbufs"
# tap NUMBER INTERFACE MAC
tap() { echo "--vdev=net_tap$1,iface=$2,mac=$3"; }
gateway_conf T blue 10.1.0.254 "$(mac 03:01)" "$(mac 0e:05)" 192.0.2.1 192.0.2.9 0x101 \
	net_tap0 "mac $(mac 0a:05) mbuf-data 512" net_tap1 "mac $(mac 0a:06) mbuf-data 512" >T.conf
gateway_conf U "red aead aes-256-gcm combiner xor" 10.2.0.254 "$(mac 04:01)" "$(mac 0e:06)" 198.51.100.2 198.51.100.9 0x202 \
	net_tap0 "mac $(mac 0b:05) mbuf-data 512" net_tap1 "mac $(mac 0b:06) mbuf-data 512" >U.conf
proxy_conf V "$(mac 0a:06)" "$(mac 0b:06)" "net_tap0 mac $(mac 0e:05) mbuf-data 512" "net_tap1 mac $(mac 0e:06) mbuf-data 512" >V.conf
start T 0 "$(tap 0 t0 "$(mac 03:01)")" "$(tap 1 t1 "$(mac 03:02)")"
start U 1 "$(tap 0 u0 "$(mac 04:01)")" "$(tap 1 u1 "$(mac 04:02)")"
start V 0 "$(tap 0 v0 "$(mac 05:01)")" "$(tap 1 v1 "$(mac 05:02)")"
for bridge in west t1 v0 east v1 u1; do
	case $bridge in
	west | east) name=$bridge; on "$M" ip link add "$name" type bridge; on "$M" ip link set "$name" up ;;
	*) on "$M" ip link set "$bridge" master "$name" up ;;
	esac
done
on "$A" ip addr flush dev a0
on "$B" ip addr flush dev b0
on "$M" ip link set t0 netns "$A"
on "$M" ip link set u0 netns "$B"
host "$A" t0 10.1.0.1 10.1.0.254
host "$B" u0 10.2.0.1 10.2.0.254
check "ping, as long as the MTU allows" pings 1372
check "TCP, iperf3" tcp
check "HTTP" fetch
check "no packet was dropped for its key or ICV" quiet T U V
chains() {
	local n
	n=$(for name in T V U; do ctl "$name" stats | grep -E "$1" | sed -n 's/ chained//p'; done | tr '\n' ' ')
	echo "$n"
	! grep -qE ' 0 ' <<<"$n "
}
check "packets in chains were sealed, proxied and opened" chains 'T|hosts>net|west>east|net>hosts'
stop_all T U V
echo
echo "$passed passed, $failed failed"
((failed == 0))
