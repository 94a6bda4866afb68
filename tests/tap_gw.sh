#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Runs examples/tap/tap_gw: its tools, wrong arguments and configurations, and then
# live tunnels of all profiles between network namespaces. Skips these where there
# are none to be had. usage: tests/tap_gw.sh BIN_DIR WORK_DIR
# shellcheck disable=SC2016 # $a is sed's
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
	[[ $(head -n 1 err) == *"$text"* ]] || fail "$*: '$(cat err)' instead of '$text'"
	[[ ! -s out ]] || fail "$*: printed $(cat out)"
	((want != 1 || $(wc -l <err) == 1)) || fail "$*: more than one line: $(cat err)"
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

umask 022
"${gw[@]}" make-key "zone blue 000001" zone.der
[[ $(stat -c %a zone.der) == 600 ]] || fail "zone.der can be read by others"
cp -p zone.der before.der
fails 1 "zone.der: File exists" make-key "zone blue 000001" zone.der
cmp zone.der before.der || fail "zone.der was overwritten"
fails 1 "no-such-dir/k: No such file" make-key "zone blue 000001" no-such-dir/k
fails 1 "short: " make-key short k.der
[[ $(ls ./*.new 2>/dev/null) == "" ]] || fail "a temporary file is left"
cp zone.der open.der
chmod 640 open.der
head -c 30 zone.der >cut.der
chmod 600 cut.der
for name in psp1 psp1b psp2 tss tss1 sa12 sa21 sa12b sa21b; do "${gw[@]}" make-secret $name.key; done
[[ $(stat -c %a:%s psp1.key) == 600:32 ]] || fail "psp1.key: $(stat -c %a:%s psp1.key)"
fails 1 "psp1.key: File exists" make-secret psp1.key
ok

# ---- Wrong arguments and configurations

fails 2 "usage: tap_gw CONFIG"
fails 2 "usage: tap_gw CONFIG" --no-such-option
fails 2 "usage: tap_gw CONFIG" a b
fails 2 "tap_gw check: wrong number of arguments; usage:" check a b
fails 2 "tap_gw ctl: wrong number of arguments; usage:" ctl
fails 1 "none.conf: No such file" none.conf
fails 1 "no.sock: No such file" ctl no.sock status
[[ $("${gw[@]}" --help) == "usage: tap_gw "* ]] || fail "--help"

cat >good.conf <<END
group blue profile stateless aead aes-128-gcm
root-key blue zone zone.der
local 127.0.0.1
tun eesp0
peer b address 127.0.0.2 group blue routes 10.9.2.0/24,fd00::/8
control good.sock
lock-dir none
stats 0
END
"${gw[@]}" check good.conf || fail "good.conf is refused"
# refused LINE:TEXT EDIT...: good.conf with edits (sed; in which $a appends) is refused with this text.
refused() {
	local text=$1
	shift
	sed "$@" good.conf >bad.conf
	fails 1 "tap_gw: bad.conf:$text" check bad.conf
}
refused "3: unknown statement 'lokal'" 's/^local/lokal/'
refused "1: profile: 'ipsec' is none of stateless, psp, tss, eesp" 's/stateless/ipsec/'
refused "1: a group of profile stateless has no 'sdi'" 's/^group blue/& sdi 7/'
refused "1: a group of profile psp has no 'combiner'" 's/stateless/psp combiner xor/'
refused "1: a group of profile eesp is an SA, and needs its spi" 's/stateless/eesp/'
refused "1: keys: 'nowhere' is none of file, agent" 's/^group blue/& keys nowhere/'
refused "1: a group with keys of an agent has no 'profile': it comes from there" 's/^group blue/& keys agent/'
# How a group of an agent's is protected is the agent's to say; one that is played says it.
for kind in times plain; do
	/usr/bin/python3 "$root/bindings/python/tests/agent.py" "$PWD/$kind.sock" $kind &
	agents+=($!)
	until [ -S "$kind.sock" ]; do sleep 0.05; done
done
agent() { printf 's/^group.*/group net keys agent socket %s.sock %s/; s/group blue/group net/; /^root-key/d' "$1" "${*:2}"; }
for good in "times" "times max-age 50 max-rate 5000" "times replay time mark blue.mark" "times replay windows replay-window 64" "plain" "plain replay-window 64"; do
	# shellcheck disable=SC2086
	sed "$(agent $good)" good.conf >agent.conf
	"${gw[@]}" check agent.conf || fail "refused: keys of an agent, $good"
done
refused "1: a group with replay time has no 'replay-window'" "$(agent times replay-window 64)"
refused "1: a group with replay windows has no 'max-age'" "$(agent times replay windows max-age 50)"
refused "1: a group with replay windows has no 'max-age'" "$(agent plain max-age 50)"
refused "1: replay: counters of the cluster's group are not times" "$(agent plain replay time)"
refused "1: replay: a group with keys of an agent has windows, or time" "$(agent times replay off)"
refused "1: replay-window: a group with keys of an agent has windows, or time" "$(agent plain replay-window 0)"
kill "${agents[@]}"
wait "${agents[@]}" 2>/dev/null || true
refused "1: replay-window: '63' is neither 0 nor at least 64" 's/^group blue/& replay-window 63/'
refused "1: replay: 'clock' is none of windows, time, off" 's/^group blue/& replay clock/'
refused "1: a group of profile stateless has no 'max-rate'" 's/^group blue/& max-rate 5/'
refused "1: a group of profile stateless has no 'replay-window'" 's/^group blue/& replay time replay-window 64/'
refused "1: replay: counters of profile tss are not times" 's/stateless/tss replay time/'
refused "1: 'aead' twice" 's/^group.*/& aead aes-256-gcm/'
refused "1: group 'blue' has no root key" '/^root-key/d'
refused "2: no group 'red' above" 's/key blue/key red/'
refused "2: 'town' is not zone, user or task" 's/ zone / town /'
refused "2: none.der: No such file" 's/zone.der/none.der/'
refused "2: open.der: open to others" 's/zone.der/open.der/'
refused "2: cut.der: invalid root key" 's/zone.der/cut.der/'
refused "3: local: '127.0.0' is not an IP address" 's/127.0.0.1/127.0.0/'
refused "3: local has no 'port'" 's/^local.*/& port 7/'
refused "3: udp-port: '65536' is not a number from 1 to 65535" 's/^local.*/& udp-port 65536/'
refused "4: tun: 'a-name-too-long-x' is longer than 15" 's/eesp0/a-name-too-long-x/'
refused "4: mtu: '67' is not" 's/eesp0/& mtu 67/'
refused "5: a peer needs address, and group" 's/ group blue routes.*/ routes 0.0.0.0\/0/'
refused "5: routes: '33' is not a length" 's/\.0\/24/.0\/33/'
refused "5: routes: '10.9.2' is not an IP address" 's/10.9.2.0/10.9.2/'
refused "4: peer 'b': which port? There is not one only" '/^local/d'
refused "5: peer 'b': no port x" 's/^peer.*/& port x/'
refused "5: peer 'b': its address and this end's are not both IPv4" 's/address 127.0.0.2/address ::1/'
refused "5: peer 'b' has this end's own address" 's/127.0.0.2/127.0.0.1/'
refused "9: peer 'b' has the same address" '$a peer c address 127.0.0.2 group blue routes 10.1.0.0/16'
refused "9: peer 'b' gets all packets already" -e 's/ routes.*//' -e '$a peer c address 127.0.0.3 group blue'
refused "9: 'stats' again; it is in line 8 already" '$a stats 1'
refused "10: an SA has one direction" -e '$a group sa profile eesp spi 1\npeer c address 127.0.0.3 group sa'
refused "1: group 'blue' needs an id" -e 's/127.0.0.1/::1/; s/127.0.0.2/::2/'
refused "8: group 't' needs state" -e '/^peer/d' -e '$a group t profile tss\nkey t 0 tss.key\npeer c address 127.0.0.3 group t'
EESP_BACKEND=no-such-backend fails 1 "no-such-backend" check good.conf
ok

# psp's SPIs: each once, whatever happens.
cat >psp1.conf <<END
group mine profile psp aead aes-128-gcm spi-file psp1.spi
key mine 0 psp1.key
local 192.0.2.1
peer b address 192.0.2.2 receive mine send-key to-b.key
control gw1.sock
lock-dir locks
stats 0
END
sed 's/psp1/psp2/g; s/192.0.2.1/X/; s/192.0.2.2/192.0.2.1/; s/X/192.0.2.2/; s/peer b/peer a/; s/to-b/to-a/; s/gw1/gw2/' psp1.conf >psp2.conf
[[ $("${gw[@]}" grant psp2.conf mine to-b.key) == "SPI 1" ]] || fail "the first SPI"
[[ $("${gw[@]}" grant psp1.conf mine to-a.key) == "SPI 1" ]] || fail "the first SPI"
[[ $("${gw[@]}" grant psp1.conf mine again.key) == "SPI 2" ]] || fail "the second SPI"
[[ $(cat psp1.spi) == 2 && $(stat -c %a to-a.key) == 600 ]] || fail "psp1.spi: $(cat psp1.spi)"
fails 1 "to-a.key: File exists" grant psp1.conf mine to-a.key
[[ $(cat psp1.spi) == 3 ]] || fail "the SPI of a key that was not written counts as given out"
fails 1 "is not a group of profile psp" grant good.conf blue k
echo x >psp1.spi
fails 1 "psp1.spi: this is not the number of an SPI" grant psp1.conf mine k
echo 3 >psp1.spi

# ---- Live tunnels

skip() {
	echo "tap_gw: $checks checks; the live tunnels are SKIPPED: $*"
	skipped "tap_gw.sh, the live tunnels" "$*"
	exit 0
}
[[ ${#runner[@]} -eq 0 ]] || skip "QEMU 7.2 knows no IP_MTU"
((EUID == 0)) || skip "not root"
[[ -z $no_own_mounts ]] || skip "$no_own_mounts"
[[ -c /dev/net/tun ]] || skip "no /dev/net/tun"
for tool in ip ping curl tcpdump; do
	command -v "$tool" >/dev/null || skip "no $tool"
done

# Three hosts on a bridge, which is in a namespace of its own.
mid=eesp-gw0-$$ ns1=eesp-gw1-$$ ns2=eesp-gw2-$$ ns3=eesp-gw3-$$
declare -A pids=()
children=()
# Processes are started without functions, so that $! is theirs.
clean_up() {
	local pid
	for pid in "${children[@]}"; do
		kill "$pid" 2>/dev/null || true
	done
	wait
	for ns in "$mid" "$ns1" "$ns2" "$ns3"; do ip netns del "$ns" 2>/dev/null || true; done
}
trap clean_up EXIT
in1() { ip netns exec "$ns1" "$@"; }
in2() { ip netns exec "$ns2" "$@"; }

{ ip netns add "$mid" && ip -n "$mid" link add bridge type bridge && ip -n "$mid" link set bridge up &&
	ip -n "$mid" addr add 192.0.2.9/24 dev bridge && ip netns exec "$mid" true; } 2>err || skip "no namespaces: $(cat err)"
for side in 1 2 3; do
	ns=ns$side
	ip netns add "${!ns}"
	ip -n "$mid" link add "to$side" type veth peer name wire netns "${!ns}"
	ip -n "$mid" link set "to$side" master bridge up
	ip -n "${!ns}" link set lo up
	ip netns exec "${!ns}" sysctl -q net.ipv6.conf.wire.dad_transmits=0
	ip -n "${!ns}" addr add "192.0.2.$side/24" dev wire
	ip -n "${!ns}" addr add "2001:db8::$side/64" dev wire nodad
	ip -n "${!ns}" link set wire up
done

# start SIDE CONFIG: a gateway, its device up.
start() {
	local side=$1 ns=ns$1
	: >"gw$side.out"
	ip netns exec "${!ns}" "${gw[@]}" "$2" >"gw$side.out" 2>"gw$side.err" &
	pids[$side]=$!
	children+=($!)
	within 5 grep -q '^ready, ' "gw$side.out" || fail "gateway $side: $(cat "gw$side.err")"
	ip -n "${!ns}" addr add "10.9.$side.1/16" dev eesp0
	ip -n "${!ns}" addr add "fd09::$side/64" dev eesp0 nodad
	ip -n "${!ns}" link set eesp0 up
}
# stop SIDE: with SIGTERM.
stop() {
	local status=0
	kill "${pids[$1]}"
	wait "${pids[$1]}" || status=$?
	((status == 0)) || fail "gateway $1: status $status: $(cat "gw$1.err")"
}
ctl() { "${gw[@]}" ctl "gw$1.sock" "${@:2}"; }
done_ok() { [[ $(ctl "$@") == ok ]] || fail "$*: $(ctl "$@")"; }
pings() { in1 ping -q -c "${2:-3}" -i 0.02 -W 1 "$1" >>ping.out 2>&1; }
# refusals SIDE PEER TEXT NUMBER: so many packets of that peer were refused for that.
refusals() { ctl "$1" status | grep "^peer $2 refused $4: .*$3" >/dev/null; }
# The hosts' own IPv6 messages, of link-local addresses, are in no peer's network.
quiet() { ! ctl "$1" status | grep refused | grep -v 'inside is a network of another peer' || fail "gateway $1 refused packets: $(ctl "$1" status)"; }

cat >gw1.conf <<END
group blue profile stateless aead aes-128-gcm v id-src-dst
root-key blue zone zone.der
local 192.0.2.1
tun eesp0 queues 2
peer b address 192.0.2.2 group blue routes 10.9.2.0/24,fd09::2
peer c address 192.0.2.3 group blue routes 10.9.3.0/24
control gw1.sock
metrics gw1.metrics
lock-dir locks
stats 1
END
for side in 2 3; do
	cat >"gw$side.conf" <<-END
		group blue v id-src-dst
		root-key blue zone zone$side.der
		local 192.0.2.$side
		peer a address 192.0.2.1 group blue
		control gw$side.sock
		lock-dir locks
		stats 0
	END
	cp zone.der "zone$side.der"
done
ip netns exec "$ns1" tcpdump -i wire -B 65536 -w wire.pcap -U -s 0 udp port "$port" 2>tcpdump.err &
tcpdump_pid=$!
children+=($!)
within 5 grep -q 'listening on' tcpdump.err || fail "tcpdump: $(cat tcpdump.err)"
start 1 gw1.conf
start 2 gw2.conf
start 3 gw3.conf
# 1500 less IPv4 20, UDP 8, word and ID 8, option 20, padding 4, epoch and counter 8, ICV 16
grep -qx 'eesp0 has MTU 1416' gw1.out || fail "MTU: $(cat gw1.out)"
for to in 10.9.2.1 10.9.3.1 fd09::2; do
	pings "$to" 10 || fail "no ping to $to: $(cat ping.out gw?.err)"
done
in1 ping -q -c 1 -W 1 -M "do" -s 1388 10.9.2.1 >>ping.out || fail "no ping of the MTU's size: $(cat ping.out)"
ctl 1 status | grep '^peer b address 192.0.2.2 send blue receive blue sealed [1-9][0-9]* opened [1-9]' >/dev/null || fail "status: $(ctl 1 status)"
ok

secret='plaintext that nobody on the wire may see'
mkdir -p www
{ echo "$secret"; head -c 20000000 /dev/urandom; echo "$secret"; } >www/file
head -c 3000000 www/file >www/part
ip netns exec "$ns2" /usr/bin/python3 -m http.server --directory www 8000 >http.out 2>&1 &
children+=($!)
within 5 in1 curl -sf -o /dev/null http://10.9.2.1:8000/ || fail "no HTTP: $(cat http.out)"
# Transfers until the rotations are over, each compared with the original.
transfers() {
	until [[ -e rotated ]]; do
		curl -sf --limit-rate 5M -o got http://10.9.2.1:8000/file || return 1
		cmp got www/file || return 2
	done
}
export -f transfers
rm -f rotated
ip netns exec "$ns1" bash -c transfers &
transfers_pid=$!
children+=("$transfers_pid")
# Root keys of all ends, moved on twice while it passes; they need not do it at once.
rotate() { # INDEX SIDE...
	local side
	head -c 32 /dev/urandom >"value$1" && chmod 600 "value$1"
	for side in "${@:2}"; do
		done_ok "$side" rotate blue zone "$1" "value$1"
		pings 10.9.2.1 5 || fail "no ping after gateway $side has rotated: $(cat ping.out)"
	done
}
rotate 3 2 1 3
rotate 4 1 3 2
touch rotated
wait "$transfers_pid" || fail "a transfer failed (2: arrived changed): status $?"
for side in 1 2 3; do
	[[ $(ctl "$side" keys) == "blue zone previous 2 current 3 next 4" ]] || fail "keys of gateway $side: $(ctl "$side" keys)"
	quiet "$side"
done
done_ok 2 save blue zone zone2.der
ok

# Wrong commands change nothing.
answers() { [[ $(ctl 1 "${@:2}") == "error: "*"$1"* ]] || fail "${*:2}: $(ctl 1 "${@:2}")"; }
answers "is not a command" no-such
answers "usage: rotate" rotate blue zone 5
answers "no group 'red'" rotate red zone 5 value4
answers "is not zone" rotate blue town 5 value4
answers "not an index" rotate blue zone 5x value4
answers "No such file" rotate blue zone 5 none
answers "does not have 32 octets" rotate blue zone 5 zone.der
answers "root key" rotate blue zone 4 value4
answers "its keys are at levels" key blue 0 psp1.key
answers "no peer 'x'" send-key x to-b.key
answers "this is no data key of profile stateless" send-key b to-b.key
[[ $(ctl 1 keys) == "blue zone previous 2 current 3 next 4" ]] || fail "keys: $(ctl 1 keys)"
[[ $(ctl 1 help) == *$'\nrotate GROUP LEVEL INDEX FILE\n'* ]] || fail "help: $(ctl 1 help)"
ok

# A second gateway: of the same socket, and of the same ID.
status=0
timeout 10 ip netns exec "$ns1" "${gw[@]}" gw1.conf >again.out 2>again.err || status=$?
grep -q 'gw1.sock: another gateway is running' again.err || fail "a second gateway: $status, $(cat again.err)"
((status == 1)) || fail "a second gateway: status $status"
status=0
sed 's/gw1.sock/again.sock/' gw1.conf >again.conf
fails 1 'gw1.metrics: another gateway is running' again.conf
sed -i '/^metrics/d' again.conf
timeout 10 ip netns exec "$ns1" "${gw[@]}" again.conf >again.out 2>again.err || status=$?
grep -q 'in use by another sender of this host' again.err || fail "a second gateway of one ID: $status, $(cat again.err)"
((status == 1)) || fail "a second gateway of one ID: status $status"
pings 10.9.2.1 || fail "no ping after a second gateway was refused"
ok

# What is not from a peer, what a peer may not send, and what comes again.
/usr/bin/python3 - wire.pcap >packets.py <<'PY'
import struct, sys
octets, at, last = open(sys.argv[1], 'rb').read(), 24, {}
while at + 16 <= len(octets):
    kept, whole = struct.unpack_from('<II', octets, at + 8)
    frame = octets[at + 16:at + 16 + kept]
    if kept == whole == len(frame) < 300:  # a datagram by itself
        last[frame[29]] = frame[34:40] + bytes(2) + frame[42:]  # its checksum was left to a device
    at += 16 + kept
print('FROM =', last)
PY
raw() { # NAMESPACE CODE: with to(address, octets of UDP).
	ip netns exec "$1" /usr/bin/python3 -c "
import socket, struct
exec(open('packets.py').read())
s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
def to(source, destination, udp):
    s.sendto(struct.pack('>BBHHHBBH4s4s', 69, 0, 20 + len(udp), 1, 0, 64, 17, 0, socket.inet_aton(source), socket.inet_aton(destination)) + udp, (destination, 0))
def datagram(n):
    return struct.pack('>HHHH', $port, $port, 8 + n, 0) + bytes(n)
$2"
}
raw "$mid" "
for _ in range(5): to('192.0.2.9', '192.0.2.1', datagram(100))
for n in (0, 1, 15): to('192.0.2.2', '192.0.2.1', datagram(n))
for _ in range(3): to('192.0.2.2', '192.0.2.1', FROM[2])
for _ in range(2): to('192.0.2.2', '192.0.2.1', FROM[1])
to('192.0.2.2', '192.0.2.1', FROM[2][:-1] + b'x')"
within 5 refusals 1 b "replayed" 4 || true
ctl 1 status >status.out
grep -q '^stranger 192.0.2.9 refused 5: ' status.out || fail "strangers: $(cat status.out)"
grep -q '^peer b refused 3: packet too short' status.out || fail "short datagrams: $(cat status.out)"
grep -qE '^peer b refused [34]: replayed' status.out || fail "packets that came again: $(cat status.out)"
grep -q '^peer b refused 2: reflected' status.out || fail "this end's own packets: $(cat status.out)"
! grep '^peer c refused' status.out | grep -v 'inside is' >/dev/null || fail "it was not peer c: $(cat status.out)"
ip -n "$ns2" addr add 10.9.3.77/32 dev lo
in2 ping -q -c 9 -i 0.02 -W 0.1 -I 10.9.3.77 10.9.1.1 >>ping.out 2>&1 && fail "an address of another peer's network was let in"
(($(ctl 1 status | sed -n 's/^peer b refused \([0-9]*\): inside is a network of another peer/\1/p') >= 9)) || fail "another peer's address: $(ctl 1 status)"
in1 ping -q -c 2 -i 0.02 -W 0.1 10.9.77.1 >>ping.out 2>&1 && fail "a ping to nowhere"
(($(ctl 1 stats | sed -n 's/^dropped \([0-9]*\): no peer has a route.*/\1/p') >= 2)) || fail "no route: $(ctl 1 stats)"
pings 10.9.2.1 || fail "no ping after foreign datagrams"
ok

# The same over HTTP, for those who collect metrics.
curl -sf --unix-socket gw1.metrics http://gateway/metrics >metrics.out || fail "metrics: curl: $?"
/usr/bin/python3 - metrics.out <<'PY' || fail "no OpenMetrics: $(cat metrics.out)"
import re, sys
lines = open(sys.argv[1], encoding='utf-8').read().split('\n')
assert lines[-2:] == ['# EOF', ''], lines[-2:]
seen, kind, label = set(), {}, r'[a-z_]+="(?:[^"\\\n]|\\[\\"n])*"'
for line in lines[:-2]:
    if line.startswith('# '):
        _, what, name, text = line.split(' ', 3)
        if what == 'TYPE':
            assert name not in kind and text in ('counter', 'gauge'), line
            kind[name] = text
        else:
            assert what == 'HELP' and name == list(kind)[-1] and text, line
        continue
    name = list(kind)[-1] + ('_total' if list(kind.values())[-1] == 'counter' else '')
    assert re.fullmatch(name + r'(\{' + label + '(,' + label + r')*\})? -?[0-9]+(\.[0-9]+)?', line), line
    assert line.rsplit(' ', 1)[0] not in seen, line
    seen.add(line.rsplit(' ', 1)[0])
assert len(seen) > 20
PY
metric() { sed -n "s/^eesp_gateway_$1 //p" metrics.out; }
[[ $(tail -n 1 metrics.out) == "# EOF" && $(metric 'strangers_total{address="192.0.2.9"}') == 5 ]] || fail "metrics: $(cat metrics.out)"
(($(metric 'packets_total{peer="b",what="opened"}') > 10000)) || fail "metrics: $(cat metrics.out)"
[[ $(metric 'refused_total{peer="b",address="192.0.2.2",status="-5",reason="packet too short"}') == 3 ]] || fail "metrics: $(cat metrics.out)"
[[ $(metric 'key_index{group="blue",key="zone",generation="current"}') == 3 ]] || fail "metrics: $(cat metrics.out)"
(($(metric 'key_usage{group="blue",key="zone",generation="current",what="opened"}') > 0)) || fail "metrics: $(cat metrics.out)"
[[ $(curl -s --unix-socket gw1.metrics http://gateway/other) == "GET /metrics is what there is" ]] || fail "another path"
[[ $(ctl 1 metrics | grep -c '^# TYPE ') == "$(grep -c '^# TYPE ' metrics.out)" ]] || fail "the command metrics"
ok

kill "$tcpdump_pid"
wait "$tcpdump_pid" || fail "tcpdump: $(cat tcpdump.err)"
(($(stat -c %s wire.pcap) > 20000000)) || fail "the capture is too short"
! grep -qaF -e "$secret" -e "GET /file" -e "SimpleHTTP" wire.pcap || fail "clear text on the wire"
grep -qaF "$secret" got || fail "the file lacks the known text"
ok

# A restart with the keys that were saved; then a stranger's key, and another size.
stop 2
pings 10.9.2.1 1 && fail "ping without a peer"
start 2 gw2.conf
pings 10.9.2.1 || fail "no ping after a restart: $(cat ping.out)"
ctl 2 stop >/dev/null
wait "${pids[2]}" || fail "the command stop: $?"
[[ ! -e gw2.sock ]] || fail "the socket stays"
grep -q "^peer a address 192.0.2.1 " gw2.out || fail "no figures at the end: $(cat gw2.out)"
rm zone2.der
"${gw[@]}" make-key "zone red 0000001" zone2.der
start 2 gw2.conf
pings 10.9.2.1 1 && fail "a stranger's packet was taken"
refusals 2 a "no key for" "[1-9][0-9]*" || fail "no refusals counted: $(ctl 2 status)"
stop 2
done_ok 1 save blue zone zone2.der
sed 's/^group blue/& aead aes-256-gcm/' gw2.conf >gw2b.conf
start 2 gw2b.conf
pings 10.9.2.1 1 && fail "a packet under a key of another size was taken"
refusals 2 a "authentication failed" "[1-9][0-9]*" || fail "no refusals counted: $(ctl 2 status)"
stop 2
stop 3
(($(grep -c '^sealed ' gw1.out) > 1)) || fail "stats 1 printed nothing: $(cat gw1.out)"
stop 1
ok

# works WHAT: a ping, and a file, in the tunnel between 1 and 2.
works() {
	pings 10.9.2.1 5 || fail "$1: no ping: $(cat gw1.err gw2.err; ctl 1 status; ctl 2 status)"
	in1 curl -sf -o got http://10.9.2.1:8000/part || fail "$1: curl: status $?"
	cmp -s got www/part || fail "$1: the file arrived changed"
	quiet 1
	quiet 2
	ok
}

# Who follows an agent has the group's windows: how many, and how wide; or those that it asks for.
for kind in windows plain; do
	rm -f "$kind.sock"
	/usr/bin/python3 "$root/bindings/python/tests/agent.py" "$PWD/$kind.sock" $kind &
	children+=($!)
	within 5 test -S "$kind.sock" || fail "no agent"
done
for want in "windows:512 window 2048" "windows replay-window 64:512 window 64" "plain:4096 window 4096"; do
	{ sed 's/^group blue.*/group net keys agent socket '"${want%%:*}"'/; s/socket \([a-z]*\)/&.sock/; s/group blue/group net/; /^root-key/d' gw3.conf; } >agent3.conf
	start 3 agent3.conf
	ctl 3 status | sed -n 's/^end .* windows 0 of \(.*\) duplicates.*/\1/p' >windows.out
	[[ $(cat windows.out) == "${want#*:}" ]] || fail "windows of an agent's group, $want: $(ctl 3 status)"
	stop 3
done
ok

# By time: what is sent in the first moments is refused, and nothing else. A copy is, too.
cp -p zone.der zone2.der
for side in 1 2; do
	sed "s/^group blue.*/& replay time max-age 5000 max-rate 100000 mark gw$side.mark/" "gw$side.conf" >"time$side.conf"
	start "$side" "time$side.conf"
done
within 5 pings 10.9.2.1 1 || fail "by time: no ping: $(cat gw1.err gw2.err; ctl 1 status; ctl 2 status)"
pings 10.9.2.1 5 || fail "by time: a ping was lost: $(ctl 1 status; ctl 2 status)"
in1 curl -sf -o got http://10.9.2.1:8000/part || fail "by time: curl: status $?"
cmp -s got www/part || fail "by time: the file arrived changed"
for side in 1 2; do
	! ctl "$side" status | grep refused | grep -v 'inside is a network of another peer\|packet too old for the clock' ||
		fail "by time: gateway $side refused packets: $(ctl "$side" status)"
	stop "$side"
	[[ -s gw$side.mark ]] || fail "by time: no mark"
done
ok

start 1 psp1.conf
start 2 psp2.conf
works psp
# A new device key at 1, and a new key for 2 to send with.
cp -p psp1b.key new.key
done_ok 1 key mine 1 new.key
done_ok 1 use mine 1
sed -i 's/^key.*/key mine 1 new.key/' psp1.conf
[[ $("${gw[@]}" grant psp1.conf mine new-a.key) =~ ^SPI\ 21474[0-9]*$ ]] || fail "an SPI of the other device key"
done_ok 2 send-key a new-a.key
done_ok 1 drop mine 0
[[ $(ctl 1 keys) == "mine slot 1 in use" ]] || fail "keys of psp: $(ctl 1 keys)"
works "psp with its next key"
stop 1
stop 2

for side in 1 2; do
	cat >"tss$side.conf" <<-END
		group job profile tss sdi 0x5d1 state counters$side
		key job 0 tss.key
		local 192.0.2.$side
		peer other address 192.0.2.$((3 - side)) group job
		control gw$side.sock
		lock-dir locks
		stats 0
	END
	start "$side" "tss$side.conf"
done
works tss
for side in 1 2; do done_ok "$side" key job 1 tss1.key; done
for side in 2 1; do
	done_ok "$side" use job 1
	pings 10.9.2.1 || fail "tss: no ping while keys change"
done
for side in 1 2; do done_ok "$side" epoch job 3; done
[[ $(ctl 1 keys) == $'job slot 0\njob slot 1 in use\njob epoch 3' ]] || fail "keys of tss: $(ctl 1 keys)"
works "tss with its next key and epoch"
stop 1
stop 2 # before 1 begins: it seals with a key that 1 does not have then
start 1 tss1.conf
start 2 tss2.conf
works "tss, started again under the same key"
stop 1
stop 2

for side in 1 2; do
	out=$side$((3 - side)) in=$((3 - side))$side
	cat >"sa$side.conf" <<-END
		group out profile eesp spi 0x10$out
		key out 0 sa$out.key
		group in profile eesp spi 0x10$in
		key in 0 sa$in.key
		group out2 profile eesp spi 0x20$out
		group in2 profile eesp spi 0x20$in
		local 192.0.2.$side
		peer other address 192.0.2.$((3 - side)) send out receive in
		control gw$side.sock
		lock-dir locks
		stats 0
	END
	start "$side" "sa$side.conf"
done
works eesp
# The next SA of each direction: known to who opens before anybody seals with it.
for side in 1 2; do
	done_ok "$side" key in2 0 "sa$((3 - side))${side}b.key"
	done_ok "$side" key out2 0 "sa$side$((3 - side))b.key"
done
for side in 1 2; do
	done_ok "$side" send other out2
	pings 10.9.2.1 || fail "eesp: no ping while SAs change"
done
for side in 1 2; do done_ok "$side" drop in 0; done
works "eesp with the next SAs"
stop 1
stop 2

# Over IPv6, on another port, with addresses in the keys' context.
for side in 1 2; do
	cat >"six$side.conf" <<-END
		group blue v long-id-src-dst id 0x100000000$side aead aes-256-gcm combiner xor
		root-key blue zone zone.der
		local 2001:db8::$side udp-port 4500
		tun eesp0 mtu 1300
		peer other address 2001:db8::$((3 - side)) group blue
		control gw$side.sock
		lock-dir locks
		stats 0
	END
	start "$side" "six$side.conf"
done
works "stateless over IPv6"
pings fd09::2 || fail "IPv6 in IPv6"

# The device goes away: an error, not a loop.
ip -n "$ns1" link del eesp0
status=0
wait "${pids[1]}" || status=$?
((status == 1)) || fail "device gone: status $status"
grep -q '^tap_gw: tunnel device ' gw1.err || fail "device gone: $(cat gw1.err)"
ok
stop 2

echo "tap_gw: $checks checks"
