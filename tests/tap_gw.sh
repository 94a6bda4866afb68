#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Runs examples/c/tap_gw: wrongly used, then as a live tunnel between two network
# namespaces. Skips the second half where there are none to be had.
# usage: tests/tap_gw.sh BIN_DIR WORK_DIR
set -euo pipefail
export LC_ALL=C

(($# == 2)) || { echo "usage: tests/tap_gw.sh BIN_DIR WORK_DIR" >&2; exit 2; }
# shellcheck disable=SC1091
. "$(dirname "$0")/own_mounts.sh"
root=$(cd "$(dirname "$0")/.." && pwd)
read -ra runner <<<"${EESP_RUNNER:-}" # an emulator, for programs of another architecture
gw=("${runner[@]}" "$(cd "$1" && pwd)/tap_gw")
rm -rf "$2"
mkdir -p "$2"
cd "$2"
checks=0
port=$(sed -n 's/^#define EESP_UDP_PORT \([0-9]*\).*/\1/p' "$root/include/eesp.h")

fail() { echo "tap_gw.sh: $*" >&2; exit 1; }
ok() { checks=$((checks + 1)); }

# fails STATUS TEXT ARGUMENT...: the status, and TEXT in stderr's first line.
fails() {
	local want=$1 text=$2 got=0
	shift 2
	timeout 10 "${gw[@]}" "$@" >out 2>err || got=$?
	((got == want)) || fail "$*: status $got instead of $want: $(cat err)"
	[[ $(grep '^tap_gw: ' err) == *"$text"* ]] || fail "$*: '$(cat err)' instead of '$text'"
	[[ ! -s out ]] || fail "$*: printed $(cat out)"
	if ((want == 1)); then
		(($(wc -l <err) == 1)) || fail "$*: more than one line: $(cat err)"
	else
		grep -q '^usage: tap_gw ' err || fail "$*: no usage: $(cat err)"
	fi
	ok
}

# within SECONDS COMMAND...: until it succeeds.
within() {
	local end=$((SECONDS + $1))
	shift
	until "$@"; do
		((SECONDS < end)) || return 1
		sleep 0.05
	done
}

# ---- Keys

"${gw[@]}" --make-key zone.der
[[ $(stat -c %a zone.der) == 600 ]] || fail "zone.der can be read by others"
cp zone.der before.der
fails 1 "zone.der: File exists" --make-key zone.der
cmp zone.der before.der || fail "zone.der was overwritten"
fails 1 "no-such-dir/k.new: No such file" --make-key no-such-dir/k
"${gw[@]}" --rotate-key zone.der
! cmp -s zone.der before.der || fail "--rotate-key changed nothing"
[[ $(stat -c %a zone.der) == 600 ]] || fail "zone.der can be read by others"
[[ $(ls ./*.new 2>/dev/null) == "" ]] || fail "a temporary file is left"
fails 1 "none.der: No such file" --rotate-key none.der
cp zone.der open.der
chmod 640 open.der
fails 1 "open.der: open to others" --rotate-key open.der
head -c 30 zone.der >cut.der
chmod 600 cut.der
fails 1 "cut.der: " --rotate-key cut.der

# ---- Wrong arguments

good=(--key zone.der --id 1 --local 127.0.0.1 --peer 127.0.0.2)
fails 2 "are needed"
fails 2 "are needed" --key zone.der --id 1 --local 127.0.0.1
fails 2 "wrong option" "${good[@]}" --no-such-option
fails 2 "wrong option" "${good[@]}" --burst
fails 2 "options only" "${good[@]}" more
for n in 0 4294967296 -1 x 1x ''; do
	fails 2 "--id takes" "${good[@]}" --id "$n"
done
for n in 0 65 x; do
	fails 2 "--burst takes" "${good[@]}" --burst "$n"
done
for n in 63 65537 x; do
	fails 2 "--replay-window takes" "${good[@]}" --replay-window "$n"
done
for n in 127 192 257 x; do
	fails 2 "--aead takes" "${good[@]}" --aead "$n"
done
fails 2 "--port takes" "${good[@]}" --port 65536
fails 2 "--tun takes" "${good[@]}" --tun a-name-too-long-x
fails 2 "--tun takes" "${good[@]}" --tun ''
fails 2 "only one of" --make-key a.der --rotate-key b.der
fails 2 "only one of" "${good[@]}" --make-key a.der
fails 1 "none.der: No such file" "${good[@]}" --key none.der
fails 1 "cut.der: " "${good[@]}" --key cut.der
fails 1 "peer.example: " "${good[@]}" --peer peer.example
fails 1 "one is IPv4, one IPv6" "${good[@]}" --peer ::1
fails 1 "192.0.2.77 port $port: Cannot assign" "${good[@]}" --local 192.0.2.77
EESP_BACKEND=no-such-backend fails 1 "no-such-backend" "${good[@]}"
[[ $("${gw[@]}" --help) == "usage: tap_gw "* ]] || fail "--help"
ok

# ---- The tunnel

skip() {
	echo "tap_gw: $checks checks; the live tunnel is SKIPPED: $*"
	skipped "tap_gw.sh, the live tunnel" "$*"
	exit 0
}
[[ ${#runner[@]} -eq 0 ]] || skip "QEMU 7.2 knows no IP_MTU"
((EUID == 0)) || skip "not root"
[[ -z $no_own_mounts ]] || skip "$no_own_mounts"
[[ -c /dev/net/tun ]] || skip "no /dev/net/tun"
for tool in ip ping curl tcpdump; do
	command -v "$tool" >/dev/null || skip "no $tool"
done

ns1=eesp-gw1-$$ ns2=eesp-gw2-$$ pid1=''
children=()
# Processes are started without functions, so that $! is theirs.
clean_up() {
	local pid
	for pid in "${children[@]}"; do
		kill "$pid" 2>/dev/null || true
	done
	wait
	ip netns del "$ns1" 2>/dev/null || true
	ip netns del "$ns2" 2>/dev/null || true
}
trap clean_up EXIT
in1() { ip netns exec "$ns1" "$@"; }

{ ip netns add "$ns1" && ip netns add "$ns2" &&
	ip -n "$ns1" link add wire type veth peer name wire netns "$ns2" && in1 true; } 2>err || skip "no namespaces: $(cat err)"
for side in 1 2; do
	ns=ns$side
	ip -n "${!ns}" link set lo up
	ip -n "${!ns}" addr add "192.0.2.$side/24" dev wire
	ip -n "${!ns}" link set wire up
done

# start SIDE ID OPTION...: a gateway, its device up. Its process is pid$SIDE.
start() {
	local side=$1 id=$2 ns=ns$1
	shift 2
	: >"gw$side.out"
	ip netns exec "${!ns}" "${gw[@]}" --lock-dir "$PWD/locks" --key "key$side.der" --id "$id" --local "192.0.2.$side" \
		--peer "192.0.2.$((3 - side))" "$@" >"gw$side.out" 2>"gw$side.err" &
	printf -v "pid$side" %s $!
	children+=($!)
	within 5 grep -q '^ready, ' "gw$side.out" || fail "gateway $side: $(cat "gw$side.err")"
	ip -n "${!ns}" addr add "198.51.100.$side/24" dev eesp0
	ip -n "${!ns}" link set eesp0 up
}
# stop SIDE: with SIGTERM.
stop() {
	local pid=pid$1 status=0
	kill "${!pid}"
	wait "${!pid}" || status=$?
	((status == 0)) || fail "gateway $1: status $status: $(cat "gw$1.err")"
}
# count SIDE WHAT: a number of the statistics that a stopped gateway printed.
count() { grep "^sealed " "gw$1.out" | tail -n 1 | grep -oE "\b$2 [0-9]+" | cut -d" " -f2; }
pings() { in1 ping -q -c "${1:-1}" -i 0.02 -W 1 198.51.100.2 >>ping.out 2>&1; }

cp zone.der key1.der
cp zone.der key2.der
ip netns exec "$ns1" tcpdump -i wire -B 65536 -w wire.pcap -U -s 0 udp port "$port" 2>tcpdump.err &
tcpdump_pid=$!
children+=($!)
within 5 grep -q 'listening on' tcpdump.err || fail "tcpdump: $(cat tcpdump.err)"

start 1 1 -v
start 2 2 --burst 64
# 1500 less IPv4 20, UDP 8, word and ID 8, option 20, padding 4, epoch and counter 8, ICV 16
grep -qx 'eesp0 has MTU 1416' gw1.out || fail "MTU: $(cat gw1.out)"
pings 20 || fail "no ping: $(cat ping.out gw1.err gw2.err)"
in1 ping -q -c 1 -W 1 -M "do" -s 1388 198.51.100.2 >>ping.out || fail "no ping of the MTU's size: $(cat ping.out)"
ok

secret='plaintext that nobody on the wire may see'
mkdir -p www
{ echo "$secret"; head -c 20000000 /dev/urandom; echo "$secret"; } >www/file
ip netns exec "$ns2" /usr/bin/python3 -m http.server --bind 198.51.100.2 --directory www 8000 >http.out 2>&1 &
children+=($!)
within 5 in1 curl -sf -o /dev/null http://198.51.100.2:8000/ || fail "no HTTP: $(cat http.out)"

# A file, and the root keys of both ends moved on twice while it passes.
ip netns exec "$ns1" curl -sf --limit-rate 4M -o got http://198.51.100.2:8000/file &
curl_pid=$!
children+=("$curl_pid")
rotate() {
	"${gw[@]}" --rotate-key key1.der
	cp key1.der key2.der
	local side pid
	for side in "$@"; do
		pid=pid$side
		kill -HUP "${!pid}"
		pings 5 || fail "no ping after gateway $side has rotated: $(cat ping.out)"
	done
}
rotate 2 1
rotate 1 2
kill -0 "$curl_pid" || fail "the transfer ended before the rotations"
wait "$curl_pid" || fail "curl: status $?"
[[ $(sha256sum <got) == "$(sha256sum <www/file)" ]] || fail "the file arrived changed"
for side in 1 2; do
	(($(grep -c '^root key read again$' "gw$side.out") == 2)) || fail "gateway $side: $(cat "gw$side.out" "gw$side.err")"
done
ok

# A key file that is not sound leaves the keys in force.
cp key1.der kept.der
cp cut.der key1.der
kill -HUP "$pid1"
within 5 grep -q 'key1.der: ' gw1.err || fail "a bad key file is not reported"
pings 5 || fail "no ping after a bad key file"
cp kept.der key1.der
ok

# What is not from the tunnel is refused, and the tunnel goes on.
in1 /usr/bin/python3 - "$port" <<'PY'
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP)
for n in (0, 1, 15, 40, 1400):
    s.sendto(int(sys.argv[1]).to_bytes(2, 'big') * 2 + (8 + n).to_bytes(2, 'big') + bytes(2) + bytes(n), ('192.0.2.2', 0))
PY
pings 5 || fail "no ping after foreign datagrams"
ok

# Nor is a packet that was taken before.
in1 /usr/bin/python3 - wire.pcap <<'PY'
import socket, struct, sys
octets, at, last = open(sys.argv[1], 'rb').read(), 24, None
while at + 16 <= len(octets):
    kept, whole = struct.unpack_from('<II', octets, at + 8)
    frame = octets[at + 16:at + 16 + kept]
    # The datagrams above are zeros, and may be the last that are in the file yet.
    if kept == whole == len(frame) and frame[26:30] == bytes([192, 0, 2, 1]) and any(frame[42:]):
        last = frame[34:40] + bytes(2) + frame[42:]  # its checksum was left to a device
    at += 16 + kept
s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP)
for _ in range(3):
    s.sendto(last, ('192.0.2.2', 0))
PY
pings 5 || fail "no ping after a packet that came again"
ok

kill "$tcpdump_pid"
wait "$tcpdump_pid" || fail "tcpdump: $(cat tcpdump.err)"
(($(stat -c %s wire.pcap) > 20000000)) || fail "the capture is too short"
! grep -qaF -e "$secret" -e "GET /file" -e "SimpleHTTP" wire.pcap || fail "clear text on the wire"
grep -qaF "$secret" got || fail "the file lacks the known text"
ok

stop 2
grep -q '^refused 3: replayed' gw2.out || fail "packets that came again: $(cat gw2.out)"
pings 1 && fail "ping without a peer"
start 2 2
pings 5 || fail "no ping after a restart: $(cat ping.out)"
stop 2
# The ID of the other end: the host's locks refuse it. On another host it would start.
status=0
timeout 10 ip netns exec "$ns2" "${gw[@]}" --key key2.der --id 1 --local 192.0.2.2 --peer 192.0.2.1 --lock-dir "$PWD/locks" \
	>again.out 2>again.err || status=$?
if ((status != 1)) || ! grep -q "in use by another sender of this host" again.err; then
	fail "a second gateway of one ID: $status, $(cat again.err)"
fi
start 2 1 --lock-dir none
pings 1 && fail "an end's own ID was taken"
stop 2
stop 1
grep -q "^refused [1-9][0-9]*: reflected" gw1.out || fail "no reflected packets counted: $(tail gw1.out)"
(($(grep -c '^sealed ' gw1.out) > 1)) || fail "-v printed nothing: $(cat gw1.out)"
# How many of the transfer's packets TCP acknowledges at a time is up to it.
(($(count 1 sealed) > 100 && $(count 1 opened) > 10000 && $(count 1 refused) > 0)) || fail "statistics: $(tail gw1.out)"
ok

# Another key, and another key size: nothing passes.
rm key2.der
"${gw[@]}" --make-key key2.der
start 1 1
start 2 2
pings 1 && fail "a stranger's packet was taken"
stop 2
grep -q '^refused [1-9][0-9]*: no key for' gw2.out || fail "no refusals counted: $(cat gw2.out)"
cp key1.der key2.der
start 2 2 --aead 256
pings 1 && fail "a packet under a key of another size was taken"
stop 2
grep -q '^refused [1-9][0-9]*: authentication failed' gw2.out || fail "no refusals counted: $(cat gw2.out)"

# The device goes away: an error, not a loop.
in1 ip link del eesp0
status=0
wait "$pid1" || status=$?
((status == 1)) || fail "device gone: status $status"
grep -q '^tap_gw: tunnel device: ' gw1.err || fail "device gone: $(cat gw1.err)"
ok

echo "tap_gw: $checks checks"
