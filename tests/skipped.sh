#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Says what the tests left out on this machine, and why. usage: skipped.sh FILE
# A line of FILE, which the tests append to, is "reason: test".
set -euo pipefail
(($# == 1)) || { echo "usage: skipped.sh FILE" >&2; exit 2; }
[[ -s $1 ]] || { echo "nothing was skipped"; exit 0; }
echo "skipped on this machine:"
sort -u "$1" | awk '{
	at = match($0, /: [^:]*$/)
	why = substr($0, 1, at - 1)
	if (!(why in first)) { order[++n] = why; first[why] = substr($0, at + 2) }
	times[why]++
} END { for (i = 1; i <= n; i++) {
	why = order[i]
	print "  " why ": " first[why] (times[why] > 1 ? " and " times[why] - 1 " more" : "")
} }'
