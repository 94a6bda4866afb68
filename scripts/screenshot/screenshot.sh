#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# The picture of docs/wireshark.md: screenshot.sh CAPTURE WORK-DIR PNG. Wireshark on a display of its own (Xvfb), with our dissectors.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
capture=$(realpath "$1") png=$(realpath "$3")
rm -rf "$2"
mkdir -p "$2/home/.config/wireshark" "$2/run"
cd "$2"
chmod 700 run
export HOME=$PWD/home XDG_RUNTIME_DIR=$PWD/run
size=(1180 860)
cat >home/.config/wireshark/recent_common <<END
gui.geometry_main_x: 0
gui.geometry_main_y: 0
gui.geometry_main_width: ${size[0]}
gui.geometry_main_height: ${size[1]}
END
cat >home/.config/wireshark/preferences <<END
gui.column.format: "No.", "%m", "Time", "%t", "Protocol", "%p", "Length", "%L", "Info", "%i"
gui.layout_content_3: NONE
END
programs=()
# shellcheck disable=SC2317 # the trap
clean_up() {
	kill "${programs[@]}" 2>/dev/null || true
	wait
}
trap clean_up EXIT
Xvfb -displayfd 7 -screen 0 "${size[0]}x${size[1]}x24" 7>display >xvfb.log 2>&1 &
programs+=($!)
until [ -s display ]; do sleep 0.2; done
DISPLAY=:$(<display)
export DISPLAY
wireshark -X "lua_script:$root/wireshark/eesp.lua" -r "$capture" >wireshark.log 2>&1 &
programs+=($!)
for ((i = 0; i < 200; i++)); do
	window=$(xdotool search --onlyvisible --name "$(basename "$capture")" 2>/dev/null | head -n 1) || true
	[ -z "$window" ] || break
	sleep 0.5
done
[ -n "$window" ] || { tail -n 5 wireshark.log >&2; echo "screenshot.sh: Wireshark shows no window" >&2; exit 1; }
sleep 4
until xdotool windowfocus "$window" 2>/dev/null; do sleep 1; done
xdotool windowsize "$window" "${size[@]}"
sleep 2
# The first packet's details, all of them, from their end.
xdotool mousemove 500 600 click 1 key ctrl+Right
for _ in 1 2 3; do
	sleep 2
	xdotool key End
done
xdotool mousemove "$((size[0] - 10))" 30
sleep 2
import -window root +dither -colors 64 "$png"
