#!/usr/bin/env bash
# Builds Debian packages of the sources as they are: deb.sh OUT-DIR VERSION
set -euo pipefail
root=$(realpath "$(dirname "$0")/..") out=$1 version=$2
rm -rf "$out"
mkdir -p "$out/libeesp-$version"
out=$(realpath "$out")
tree=$out/libeesp-$version
# What git knows, as it is here; an unpacked archive has no git, and nothing else either.
if git -C "$root" rev-parse --git-dir >/dev/null 2>&1; then
	git -C "$root" ls-files -z | tar -C "$root" --exclude=testdata --null -T - -cf - | tar -C "$tree" -xf -
else
	tar -C "$root" --exclude=./build --exclude=./testdata -cf - . | tar -C "$tree" -xf -
fi
mv "$tree/packaging/debian" "$tree/debian"
cat >"$tree/debian/changelog" <<C
libeesp ($version-1) unstable; urgency=medium

  * See CHANGELOG.md, in libeesp-dev.

 -- $(sed -n 's/^Maintainer: //p' "$tree/debian/control")  $(date -R -d "@${SOURCE_DATE_EPOCH:-$(date +%s)}")
C
# debhelper gives builds a home of their own, in which Go would have no settings and no modules.
for v in GOCACHE GOMODCACHE GOPROXY GOSUMDB GOPRIVATE; do
	declare -x "$v=$(go env "$v")"
done
unset MAKEFLAGS MFLAGS MAKELEVEL GOFLAGS PKG_CONFIG_PATH
(cd "$tree" && dpkg-buildpackage -b -us -uc >"$out/build.log" 2>&1) || {
	tail -n 30 "$out/build.log" >&2
	exit 1
}
ls "$out"/*.deb
