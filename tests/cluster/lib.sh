# shellcheck shell=bash
# SPDX-License-Identifier: BSD-3-Clause
# What the tests of real servers and agents have in common; to be sourced, with BIN WORK.
[ $# -ge 2 ] || { echo "usage: ${0##*/} BIN WORK" >&2; exit 2; }
bin=$(realpath "$1")
rm -rf "$2"
mkdir -p "$2"
cd "$2" || exit
run=$(mktemp -d /tmp/eesp-XXXXXX) # paths of sockets are short
declare -A pid ns                # processes by name; network namespaces by host, of hosts that have one
# shellcheck disable=SC2317 # a trap's
cleanup() {
	exec 2>/dev/null
	for p in "${pid[@]}"; do kill "$p" || true; done
	wait
	for n in "${ns[@]}"; do ip netns del "$n" || true; done
	rm -rf "$run"
}
trap cleanup EXIT
fail() {
	echo "${0##*/}: $*" >&2
	tail -n 5 ./*.log >&2
	exit 1
}
until_true() {
	local end=$((SECONDS + 60)) what=$1
	shift
	until "$@" >/dev/null 2>&1; do
		((SECONDS < end)) || fail "not in time: $what"
		sleep 0.1
	done
}
# ports: the first of three that nobody has now, as little as those 10,000 above, for etcd. They are not
# among those that the kernel gives to connections meanwhile.
ports() {
	python3 -c '
import random, socket
def free(port):
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_INET, kind) as s:
            try: s.bind(("127.0.0.1", port))
            except OSError: return False
    return True
first = int(open("/proc/sys/net/ipv4/ip_local_port_range").read().split()[0])
for _ in range(1000):
    port = random.randrange(4000, max(first, 20000) - 10003)
    if all(free(p + more) for p in range(port, port + 3) for more in (0, 10000)):
        print(port)
        break
else: raise SystemExit("no free ports")
'
}
export EESP_PASSPHRASE="for a test"
ctl() { "$bin/eespctl" --socket "$run/$1.sock" "${@:2}"; }
# background NAME HOST COMMAND...: runs it, in the host's namespace if it has one; NAME.out and NAME.log are its output.
background() {
	local name=$1 host=$2 enter=()
	shift 2
	[[ -z ${ns[$host]:-} ]] || enter=(ip netns exec "${ns[$host]}")
	"${enter[@]}" "$@" >>"$name.out" 2>>"$name.log" &
	pid[$name]=$!
}
# launch NAME [FLAG...]: begins a server; start waits for it, too.
launch() {
	sed -i "s|\"admin_socket\": .*|\"admin_socket\": \"$run/$1.sock\",|; s|\"metrics\": .*|\"metrics\": \"\",|" "$run/$1/server.json"
	background "$1" "$1" "$bin/eespd" server --dir "$run/$1" "${@:2}"
}
start() {
	launch "$@"
	until_true "server $1 begins" ctl "$1" status
}
# stop NAME...: all of them at once.
stop() {
	for p; do kill -TERM "${pid[$p]}"; done
	for p; do
		wait "${pid[$p]}" || true
		unset "pid[$p]"
	done
}
# crash NAME...: kills them without notice.
crash() {
	for p; do
		disown "${pid[$p]}" # the shell says nothing about it
		kill -KILL "${pid[$p]}"
		unset "pid[$p]"
	done
}
host() { "$bin/eespctl" --json agent --status "$run/host/status.sock" 2>/dev/null || echo "{}"; }
