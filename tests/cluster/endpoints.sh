#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# A server on an etcd that is there already (--endpoints): the one that is embedded
# in another cluster's server. It starts again, and goes on; and another server on
# the same etcd keeps to itself. usage: tests/cluster/endpoints.sh BIN WORK
set -euo pipefail
bin=$(realpath "$1")
rm -rf "$2"
mkdir -p "$2"
cd "$2"
run=$(mktemp -d /tmp/eesp-XXXXXX) # paths of sockets are short
declare -A pid
# shellcheck disable=SC2317 # a trap's
cleanup() {
	exec 2>/dev/null
	for p in "${pid[@]}"; do kill "$p" || true; done
	wait
	rm -rf "$run"
}
trap cleanup EXIT
fail() { echo "endpoints.sh: $*" >&2; exit 1; }
export EESP_PASSPHRASE="for a test"

# server NAME DIRECTORY FLAG...
server() {
	"$bin/eespd" server --dir "$2" "${@:3}" >>"$1.log" 2>&1 &
	pid[$1]=$!
	local end=$((SECONDS + 60))
	until "$bin/eespctl" --socket "$run/$1" status >/dev/null 2>&1; do
		((SECONDS < end)) || fail "server $1: $(tail -n 3 "$1.log")"
		sleep 0.1
	done
}
cluster() {
	"$bin/eespctl" init --dir "$1" --server "s=127.0.0.1:$2" >/dev/null
	sed -i "s|\"admin_socket\": .*|\"admin_socket\": \"$run/$1\",|; s|\"metrics\": .*|\"metrics\": \"\",|" "$1/s/server.json"
}
ctl() { "$bin/eespctl" --socket "$run/$1" "${@:2}"; }

port=$((20000 + $$ % 20000))
cluster one $port
cluster two $((port + 1))
mv one/s "$run/s" # where etcd has its socket
server one "$run/s"
etcd=unix://$run/s/etcd/client.sock
server two two/s --endpoints "$etcd"
ctl one group create first >/dev/null
ctl two group create second >/dev/null
ctl two rotate second --watch --timeout 60s >/dev/null
kill "${pid[two]}"
wait "${pid[two]}" || fail "server two ended with $?"
server two two/s --endpoints "$etcd"
[[ $(ctl two status) == *"second  steady  2 "* ]] || fail "after its start: $(ctl two status)"
[[ $(ctl one status) != *second* && $(ctl two status) != *first* ]] || fail "they see each other's rings"
ctl two audit verify >/dev/null
timeout 20 "$bin/eespd" server --dir two/s --endpoints "$etcd" >again.log 2>&1 && fail "a second server with one directory"
grep -q "another process uses it" again.log || fail "a second server: $(cat again.log)"
echo "endpoints: one etcd, two clusters, each with its own"
