#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# A server on an etcd that is there already (--endpoints): the one that is embedded
# in another cluster's server. It starts again, and goes on; and another server on
# the same etcd keeps to itself. usage: tests/cluster/endpoints.sh BIN WORK
set -euo pipefail
# shellcheck source=tests/cluster/lib.sh
source "${BASH_SOURCE%/*}/lib.sh"
cluster() {
	"$bin/eespctl" init --dir "$1" --server "s=127.0.0.1:$2" >/dev/null
	mv "$1/s" "$run/$1" # where etcd has its socket, too
}

port=$(ports)
cluster one "$port"
cluster two $((port + 1))
start one
etcd=unix://$run/one/etcd/client.sock
start two --endpoints "$etcd"
ctl one group create first >/dev/null
ctl two group create second >/dev/null
ctl two rotate second --watch --timeout 60s >/dev/null
kill "${pid[two]}"
wait "${pid[two]}" || fail "server two ended with $?"
start two --endpoints "$etcd"
[[ $(ctl two status) == *"second  steady  2 "* ]] || fail "after its start: $(ctl two status)"
[[ $(ctl one status) != *second* && $(ctl two status) != *first* ]] || fail "they see each other's rings"
ctl two audit verify >/dev/null
timeout 20 "$bin/eespd" server --dir "$run/two" --endpoints "$etcd" >again.log 2>&1 && fail "a second server with one directory"
grep -q "another process uses it" again.log || fail "a second server: $(cat again.log)"
echo "endpoints: one etcd, two clusters, each with its own"
