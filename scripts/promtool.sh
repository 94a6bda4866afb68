#!/usr/bin/env bash
# Says where promtool is: on the PATH, or taken out of Debian's package, without its
# server and its service. usage: scripts/promtool.sh WHERE-TO-PUT-IT
set -euo pipefail
command -v promtool && exit 0
if [ ! -x "$1" ]; then
	d=$(mktemp -d)
	trap 'rm -rf "$d"' EXIT
	chmod 755 "$d" # apt fetches as another user
	(cd "$d" && { apt-get download -q prometheus || { apt-get update -q && apt-get download -q prometheus; }; }) >&2
	dpkg-deb --fsys-tarfile "$d"/prometheus_*.deb | tar -C "$d" -x ./usr/bin/promtool
	mkdir -p "$(dirname "$1")"
	mv "$d/usr/bin/promtool" "$1"
fi
realpath "$1"
