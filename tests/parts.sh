#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Runs parts of make test side by side. usage: parts.sh JOBS LOGDIR PART...
# A part is a target of make, in the order of which to begin; TARGET:OTHER,... begins when the others
# have ended, and TARGET:alone when all before it have. What a part says comes in one piece when it ends.
# The first part that fails ends the others, unless make was told to keep going (make -k): then all of
# them run, and those that failed are listed at the end.
set -uo pipefail
(($# > 2)) || { echo "usage: parts.sh JOBS LOGDIR PART..." >&2; exit 2; }
jobs=$1 logs=$2
shift 2
mkdir -p "$logs"
waiting=("$@")
declare -A running=() ended=() # by target: the process; 1
failed=()
keep= # make gives its flags of one letter first, in one word
[[ ! ${MAKEFLAGS:-} =~ ^[[:alpha:]]*k ]] || keep=1

stop() { for pid in "${running[@]}"; do kill -- "-$pid" 2>/dev/null; done; }
trap 'stop; exit 1' INT TERM

part() { # TARGET, in a process group of its own, so that it can be stopped as a whole
	local TIMEFORMAT='%0R s, %U s of CPU in user mode, %S in the kernel'
	{ time make --no-print-directory "$1" >"$logs/$1.log" 2>&1 </dev/null; } 2>"$logs/$1.time"
}
begin() { # the first part that may
	local i target after other
	for i in "${!waiting[@]}"; do
		target=${waiting[i]%%:*} after=
		[[ ${waiting[i]} != *:* ]] || after=${waiting[i]#*:}
		if [[ $after == alone ]]; then
			((${#running[@]} == 0 && i == 0)) || return 1
		fi
		for other in ${after//,/ }; do [[ $other == alone || ${ended[$other]:-} ]] || continue 2; done
		set -m
		part "$target" &
		running[$target]=$!
		set +m
		unset 'waiting[i]'
		waiting=("${waiting[@]}")
		return 0
	done
	return 1
}
# Only a part by itself is alone.
full() { ((${#running[@]} >= jobs)) || [[ ${alone:-} ]]; }
while ((${#waiting[@]} + ${#running[@]})); do
	while ((${#waiting[@]})) && ! full; do
		next=${waiting[0]}
		begin || break
		[[ $next != *:alone ]] || alone=1
	done
	((${#running[@]})) || { echo "parts.sh: nothing can begin of: ${waiting[*]}" >&2; exit 2; }
	wait -n -p pid "${running[@]}"
	status=$?
	alone=
	for target in "${!running[@]}"; do
		[[ ${running[$target]} == "${pid:-}" ]] || continue
		unset "running[$target]"
		ended[$target]=1
		echo "== $target: $(<"$logs/$target.time")"
		cat "$logs/$target.log"
		((status == 0)) || { failed+=("$target") && echo "FAIL $target"; }
	done
	if ((${#failed[@]})) && [[ ! $keep ]]; then
		stop
		exit 1
	fi
done
((${#failed[@]} == 0)) || { echo "${#failed[@]} of the parts failed: ${failed[*]} (what they said: $logs/PART.log)" && exit 1; }
