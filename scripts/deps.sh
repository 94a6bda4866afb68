#!/usr/bin/env bash
# Installs the Debian packages that are named and not there yet.
# Without root, or without a network, it says what is missing and fails.
set -euo pipefail
missing=()
for p in "$@"; do
	dpkg-query -W -f='${Status}' "$p" 2>/dev/null | grep 'ok installed' >/dev/null || missing+=("$p")
done
[ ${#missing[@]} -eq 0 ] && exit 0
echo "installing: ${missing[*]}"
as_root=()
if [ "$(id -u)" -ne 0 ]; then
	command -v sudo >/dev/null || { echo "please install as root: apt-get install ${missing[*]}" >&2; exit 1; }
	as_root=(sudo)
fi
install_them() {
	"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}" >build/apt.log 2>&1
}
mkdir -p build
install_them || { "${as_root[@]}" apt-get update -q >build/apt-update.log 2>&1 && install_them; } || {
	tail -n 5 build/apt.log >&2
	echo "could not install: ${missing[*]}" >&2
	exit 1
}
