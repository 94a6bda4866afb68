#!/usr/bin/env bash
# Makes mixed.pcap, truncated.pcap and not-a-pcap.bin in this directory (or in
# the directory given as the first argument).
#
# The traffic is real traffic of real programs, between two network namespaces
# joined by a veth pair; nothing leaves the machine. Needs root and: iproute2,
# ethtool, tcpdump, wireshark-common (capinfos), iperf3, dnsmasq, nginx, curl,
# dig, ping (iputils-ping), netcat-openbsd, python3.
#
# Bounded: the whole script re-runs itself under timeout(1), every transfer has
# a byte or packet count, tcpdump stops at MAXPKT, and the result is checked
# against the limits below before it replaces the old file.
set -euo pipefail

LIMIT_SECONDS=180
MAXPKT=20000
MIN_PACKETS=2500
MAX_PACKETS=5000
MAX_BYTES=4000000

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
out=$(cd "${1:-$here}" && pwd)

if [[ ${CAPTURE_BOUNDED:-} != 1 ]]; then
    CAPTURE_BOUNDED=1 exec timeout -k 10 "$LIMIT_SECONDS" bash "${BASH_SOURCE[0]}" "$out"
fi
[[ $(id -u) == 0 ]] || { echo "make-capture.sh: needs root" >&2; exit 1; }

C="eespc$$"            # client namespace; the capture is taken here
S="eesps$$"            # server namespace
C4=10.77.0.1 S4=10.77.0.2 C6=fd77::1 S6=fd77::2
CMAC=02:00:00:77:00:01 SMAC=02:00:00:77:00:02    # locally administered
NAME=www.example.test

tmp=$(mktemp -d /tmp/make-capture.XXXXXX)
chmod 755 "$tmp"       # the nginx and dnsmasq workers drop privileges
pids=()

cleanup() {
    set +e
    for p in "${pids[@]}"; do kill "$p" 2>/dev/null; done
    for p in "${pids[@]}"; do wait "$p" 2>/dev/null; done
    ip netns del "$C" 2>/dev/null
    ip netns del "$S" 2>/dev/null
    rm -rf "$tmp"
}
trap cleanup EXIT
trap 'exit 143' TERM
trap 'exit 130' INT

cl() { ip netns exec "$C" "$@"; }
sv() { ip netns exec "$S" "$@"; }
# `ip netns exec` execs its command, so $! is the program itself.
bg() { local ns=$1; shift; ip netns exec "$ns" "$@" >>"$tmp/log" 2>&1 & pids+=("$!"); }
step() { echo "-- $*" >&2; }

# ---- the two ends -----------------------------------------------------------
ip netns add "$C"
ip netns add "$S"
ip link add vc netns "$C" address $CMAC type veth peer name vs netns "$S" address $SMAC
for e in "$C vc $C4 $C6" "$S vs $S4 $S6"; do
    read -r ns dev a4 a6 <<<"$e"
    ip netns exec "$ns" sysctl -qw "net.ipv6.conf.$dev.accept_ra=0" \
        "net.ipv6.conf.$dev.router_solicitations=0" \
        net.ipv4.tcp_congestion_control=reno    # not the machine's own choice: iperf3 reports it
    # Offloads off: packets have wire sizes and complete checksums.
    ip netns exec "$ns" ethtool -K "$dev" tso off gso off gro off sg off \
        tx off rx off >>"$tmp/log"
    ip -n "$ns" link set lo up
    ip -n "$ns" link set "$dev" mtu 1500 up
    ip -n "$ns" addr add "$a4/24" dev "$dev"
    ip -n "$ns" addr add "$a6/64" dev "$dev" nodad
done

# ---- servers ----------------------------------------------------------------
mkdir "$tmp/www"
for n in 0 1 100 1000 4000 20000; do
    { yes 'The quick brown fox jumps over the lazy dog.' || true; } 2>/dev/null | head -c "$n" >"$tmp/www/f$n.txt"
done
touch -d '2020-01-01 00:00:00 UTC' "$tmp"/www/*
chmod -R a+rX "$tmp/www"
cat >"$tmp/nginx.conf" <<CONF
daemon off; master_process off; pid $tmp/nginx.pid; error_log $tmp/nginx.log;
events { worker_connections 64; }
http { access_log off; server_tokens off; default_type text/plain;
  client_body_temp_path $tmp/b; proxy_temp_path $tmp/p; fastcgi_temp_path $tmp/f;
  uwsgi_temp_path $tmp/u; scgi_temp_path $tmp/s;
  server { listen $S4:80; listen [$S6]:80; server_name $NAME; root $tmp/www; } }
CONF
bg "$S" nginx -e "$tmp/nginx.log" -c "$tmp/nginx.conf"

long=$(head -c 240 < <(yes 'padding ' | tr -d '\n'))
bg "$S" dnsmasq --keep-in-foreground --conf-file=/dev/null --no-resolv --no-hosts \
    --pid-file= --port=53 --bind-interfaces --listen-address=$S4 --listen-address=$S6 \
    --local=/example.test/ --host-record=$NAME,$S4,$S6 \
    --cname=alias.example.test,$NAME \
    --txt-record=example.test,"v=spf1 -all" \
    --txt-record=long.example.test,"$long","$long","$long" --edns-packet-max=1232
bg "$S" iperf3 -s

cat >"$tmp/udp.py" <<'PY'
# udp.py serve | udp.py send ADDR SIZE...   A lockstep UDP echo on port 7007.
import select, socket, sys
def fam(a): return socket.AF_INET6 if ":" in a else socket.AF_INET
if sys.argv[1] == "serve":
    socks = []
    for a in sys.argv[2:]:
        s = socket.socket(fam(a), socket.SOCK_DGRAM); s.bind((a, 7007)); socks.append(s)
    while True:
        for s in select.select(socks, [], [])[0]:
            d, peer = s.recvfrom(65536)
            s.sendto(d, peer)
s = socket.socket(fam(sys.argv[2]), socket.SOCK_DGRAM)
s.settimeout(2); s.connect((sys.argv[2], 7007))
for n in map(int, sys.argv[3:]):
    d = bytes(i & 255 for i in range(n))
    s.send(d)
    assert s.recv(65536) == d, n
PY
bg "$S" python3 "$tmp/udp.py" serve $S4 $S6

# ---- capture ----------------------------------------------------------------
# Not --immediate-mode: there libpcap sizes its frames by the MTU of the moment
# and would cut the packets of phase 2.
bg "$C" tcpdump -i vc -Z root -n -U -s 262144 -B 16384 \
    --time-stamp-precision=micro -c $MAXPKT -w "$tmp/mixed.pcap"
dump=${pids[-1]}

for i in $(seq 50); do     # until every server answers
    if [[ -s $tmp/mixed.pcap ]] \
        && sv ss -Hltn | grep ':5201' >/dev/null && sv ss -Hltn | grep ":80 " >/dev/null \
        && sv ss -Hlun | grep ":53 " >/dev/null && sv ss -Hlun | grep ':7007' >/dev/null; then break; fi
    [[ $i -lt 50 ]] || { cat "$tmp/log" >&2; echo "servers did not start" >&2; exit 1; }
    sleep 0.2
done

ping_sizes() { local a=$1 n; shift; for n; do cl ping -q -n -c 2 -i 0.005 -W 2 -s "$n" "$a" >/dev/null; done; }
nc_to_server() { # family server-address port bytes: one bounded transfer
    sv timeout 10 nc -"$1" -l "$2" "$3" >/dev/null & local l=$!; pids+=("$l"); sleep 0.3
    head -c "$4" /dev/zero | cl timeout 10 nc -"$1" -N "$2" "$3"; wait "$l"
}

step "phase 1: MTU 1500"
ping_sizes $S4 0 1 8 56 100 200 400 576 800 1000 1200 1400 1471 1472
ping_sizes $S6 0 1 8 56 100 200 400 576 800 1000 1200 1400 1451 1452

for a in $S4 $S6; do
    for _ in 1 2 3 4 5; do
        for q in "A $NAME" "AAAA $NAME" "TXT example.test" "A alias.example.test" "A missing.example.test"; do
            # shellcheck disable=SC2086 # type and name are two words
            cl dig +tries=1 +time=2 +nocookie @"$a" $q >/dev/null
        done
    done
    cl dig +tries=1 +time=2 +nocookie @"$a" TXT long.example.test >/dev/null
    cl dig +tries=1 +time=2 +nocookie +noedns @"$a" TXT long.example.test >/dev/null   # truncated, then TCP
    cl dig +tries=1 +time=2 +nocookie +tcp @"$a" A $NAME >/dev/null
done

for _ in 1 2; do
    for n in 0 1 100 1000 4000 20000; do
        cl curl -sS -m 5 -A test -o /dev/null --resolve "$NAME:80:$S4" "http://$NAME/f$n.txt"
        cl curl -sS -m 5 -A test -o /dev/null --resolve "$NAME:80:[$S6]" "http://$NAME/f$n.txt"
    done
done

cl python3 "$tmp/udp.py" send $S4 $(seq 0 128) $(seq 136 8 1464) 1470 1471 1472
cl python3 "$tmp/udp.py" send $S6 $(seq 0 128) $(seq 136 8 1448) 1450 1451 1452

iperf() { cl timeout 20 iperf3 --repeating-payload "$@" >>"$tmp/log" 2>&1 || { cat "$tmp/log" >&2; return 1; }; }
iperf -4 -c $S4 -n 400K -l 8K
iperf -6 -c $S6 -n 400K -l 8K
iperf -4 -c $S4 -u -b 10M -l 160 -n 32K
iperf -6 -c $S6 -u -b 10M -l 160 -n 32K
nc_to_server 4 $S4 7100 100000
nc_to_server 6 $S6 7100 100000

step "phase 2: MTU 9000"
ip -n "$S" link set vs mtu 9000
ip -n "$C" link set vc mtu 9000
ping_sizes $S4 1473 2000 4000 6000 8000 8972
ping_sizes $S6 1453 2000 4000 6000 8000 8952
cl python3 "$tmp/udp.py" send $S4 1473 $(seq 2000 1000 8000) 8972
cl python3 "$tmp/udp.py" send $S6 1453 $(seq 2000 1000 8000) 8952
nc_to_server 4 $S4 7101 250000
nc_to_server 6 $S6 7101 250000

# ---- end and check ----------------------------------------------------------
sleep 1.5      # tcpdump reads the ring in blocks
kill -INT "$dump"
wait "$dump"
tail -n 4 "$tmp/log" | grep -E 'packets' >&2 || true
grep -qE '^0 packets dropped by kernel' "$tmp/log" || { cat "$tmp/log" >&2; echo "the capture lost packets" >&2; exit 1; }

python3 - "$tmp" $MIN_PACKETS $MAX_PACKETS $MAX_BYTES <<'PY'
import os, struct, sys
tmp, lo, hi, most = sys.argv[1], *map(int, sys.argv[2:])
b = open(tmp + "/mixed.pcap", "rb").read()
magic, _, _, _, _, snap, link = struct.unpack("<IHHiIII", b[:24])
assert magic == 0xa1b2c3d4 and link == 1, (hex(magic), link)
off, starts = 24, []
while off < len(b):
    _, _, cap, orig = struct.unpack("<IIII", b[off:off + 16])
    assert cap == orig <= 9014, (len(starts), cap, orig)
    starts.append(off)
    off += 16 + cap
assert off == len(b)
assert lo <= len(starts) <= hi, len(starts)
assert len(b) < most, len(b)
# truncated.pcap: 20 whole records, then record 21 cut in the middle of its data.
s = starts[20]
cap = struct.unpack("<I", b[s + 8:s + 12])[0]
open(tmp + "/truncated.pcap", "wb").write(b[:s + 16 + cap // 2])
open(tmp + "/not-a-pcap.bin", "wb").write(b"not a pcap\n")
print(len(starts), "packets,", len(b), "octets", file=sys.stderr)
PY
capinfos "$tmp/mixed.pcap" >/dev/null
for f in mixed.pcap truncated.pcap not-a-pcap.bin; do install -m 644 "$tmp/$f" "$out/$f"; done
