#!/usr/bin/env bash
# Installs the Debian packages in a fresh system, uses them as their users would, and removes them: deb.sh DEB-DIR WORK-DIR
# Needs root, and Debian's mirror. Nothing is mounted.
set -euo pipefail
debs=$(realpath "$1") work=$2
root=$(realpath "$(dirname "$0")/..")
fail() {
	echo "FAIL deb: $*" >&2
	exit 1
}
ok() { echo "ok   deb.sh: $*"; }

found=$(lintian "$debs"/*.changes 2>&1 | grep -E '^[EW]:' || true)
[ -z "$found" ] || fail "lintian: $found"
ok "lintian has no errors and no warnings"

rm -rf "$work"
mkdir -p "$work"
work=$(realpath "$work")
suite=$(sed -n 's,^VERSION_CODENAME=,,p' /etc/os-release)
mirror=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/*.{list,sources} 2>/dev/null |
	sed -n 's/^URIs: *\([^ ]*\).*/\1/p; s/^deb \(\[[^]]*\] \)\?\([^ ]*\).*/\2/p' | sed -n 1p) || true # of these files some are not there
[ -n "$mirror" ] || fail "no mirror is named in /etc/apt"
debootstrap --variant=minbase --include=gcc,libc6-dev,pkg-config,python3 "$suite" "$work/system" "$mirror" >"$work/debootstrap.log" 2>&1 || {
	tail -n 5 "$work/debootstrap.log" >&2
	fail "debootstrap"
}
cp -rT /etc/apt "$work/system/etc/apt"
cp /etc/resolv.conf "$work/system/etc/"
there() { chroot "$work/system" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive ${http_proxy:+http_proxy="$http_proxy"} "$@"; }
quiet() { there "$@" >"$work/log" 2>&1 || { tail -n 10 "$work/log" >&2; fail "$*"; }; }
there find / -xdev -not -path '/var/*' -not -path '/tmp/*' | sort >"$work/before"

mkdir "$work/system/tmp/debs"
cp "$debs"/*.deb "$root/examples/c/minimal.c" "$root/testdata/captures/mixed.pcap" "$work/system/tmp/debs/"
quiet apt-get update
quiet sh -c 'apt-get install -y --no-install-recommends /tmp/debs/*.deb'
ok "the packages are installed, with what they depend on"
# shellcheck disable=SC2016
there sh -c 'gcc -Wall -Wextra -Wpedantic -Werror /tmp/debs/minimal.c $(pkg-config --cflags --libs eesp) -o /tmp/minimal && /tmp/minimal' |
	grep -q 'opened: thirty-two octets' || fail "a program built with pkg-config"
ok "a program built with pkg-config runs"
there eesp selftest >"$work/log" || fail "eesp selftest"
there sh -c 'cd /tmp && mkdir out && eesp-pcap-tunnel debs/mixed.pcap out' | grep 'all equal to the originals' >/dev/null || fail "eesp-pcap-tunnel"
there eesp-tap-gw --help | grep '^usage: ' >/dev/null || fail "eesp-tap-gw"
there eespd --help >"$work/log" 2>&1 || fail "eespd"
there eespctl --help >"$work/log" 2>&1 || fail "eespctl"
there eesp-gw check /usr/share/doc/eesp-tools/examples/gateway.conf >"$work/log" 2>&1 || grep -q 'gateway.conf' "$work/log" || fail "eesp-gw check"
for page in man3/eesp.3 man3/eesp_seal_burst.3 man1/eesp-tap-gw.1 man1/eesp-gw.1 man1/eesp.1; do
	grep -q "/usr/share/man/$page.gz$" <(there dpkg -L libeesp-dev eesp-tools python3-eesp) || fail "no manual page $page"
done
# Where Wireshark looks, as `tshark -G folders` says.
there dpkg -L eesp-tools | grep -E '^/usr/lib/[^/]*-linux-gnu[^/]*/wireshark/plugins/eesp.lua$' >/dev/null || fail "no dissectors"
ok "tools, the Python package, dissectors and manual pages"

quiet apt-get purge -y libeesp1 libeesp1-dbg libeesp-dev eesp-tools eesp-control python3-eesp
quiet apt-get autoremove --purge -y
there find / -xdev -not -path '/var/*' -not -path '/tmp/*' | sort >"$work/after"
left=$(comm -13 "$work/before" "$work/after" | grep eesp || true)
[ -z "$left" ] || fail "purging leaves $left"
ok "purging leaves nothing"
rm -rf "$work/system"
