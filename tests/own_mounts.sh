# shellcheck shell=bash
# SPDX-License-Identifier: BSD-3-Clause
# Sourced first by tests that make network namespaces: starts them once more with
# mounts of their own, for `ip netns` leaves some behind. Where that cannot be
# had, no_own_mounts says why.
# shellcheck disable=SC2034 # it is for who sources this
no_own_mounts=''
if [[ ${EESP_OWN_MOUNTS:-} != "$$" ]]; then
	if no_own_mounts=$(unshare -m true 2>&1); then
		EESP_OWN_MOUNTS=$$ exec unshare -m -- "$0" "$@"
	fi
else
	mkdir -p /run/netns
	mount -t tmpfs tmpfs /run/netns
fi
# skipped TEST REASON: for `make test` to say at its end.
skipped() { echo "${2//$'\n'/ }: $1" >>"${EESP_SKIPPED:-/dev/null}"; }
