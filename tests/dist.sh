#!/usr/bin/env bash
# Tests of the release archives: dist.sh DIST WORKDIR [dist|archive]
# Unpacks each, builds programs with what is in it and runs them, for arm64
# with the cross compiler and an emulator; then, if told to, makes the archives once
# more, all of them (dist) or the one of this machine (archive).
set -euo pipefail
export LC_ALL=C
dist=$(realpath "$1") work=$(realpath -m "$2") again=${3:-}
root=$(realpath "$(dirname "$0")/..")
unset PKG_CONFIG_PATH PKG_CONFIG_SYSROOT_DIR LD_LIBRARY_PATH
rm -rf "$work"
mkdir -p "$work"
version=$(sed -n 's/^#define EESP_VERSION_\(MAJOR\|MINOR\|PATCH\) //p' "$root/include/eesp.h" | paste -sd.)
major=${version%%.*}

fail() {
	echo "FAIL dist: $*" >&2
	exit 1
}
ok() { echo "ok   dist.sh: $*"; }

(cd "$dist" && sha256sum --quiet --strict -c SHA256SUMS) || fail "checksums"
diff <(cd "$dist" && ls -- *.tar.gz) <(awk '{print $2}' "$dist/SHA256SUMS") || fail "SHA256SUMS has not each archive once"
ok "checksums of $(wc -l <"$dist/SHA256SUMS") archives"

# Behind each name its kind and mode, or where it leads.
cat >"$work/expected" <<L
. d755
include d755
include/eesp.h f644
include/eesp_mbuf.h f644
lib d755
lib/.debug d755
lib/.debug/libeesp.so.$version.debug f644
lib/cmake d755
lib/cmake/eesp d755
lib/cmake/eesp/eespConfig.cmake f644
lib/cmake/eesp/eespConfigVersion.cmake f644
lib/libeesp.a f644
lib/libeesp.so -> libeesp.so.$major
lib/libeesp.so.$major -> libeesp.so.$version
lib/libeesp.so.$version f755
lib/pkgconfig d755
lib/pkgconfig/eesp.pc f644
share d755
share/doc d755
share/doc/eesp d755
share/doc/eesp/CHANGELOG.md f644
share/doc/eesp/LICENSE f644
share/doc/eesp/README.md f644
share/doc/eesp/SECURITY.md f644
share/doc/eesp/docs d755
share/doc/eesp/docs/c.md f644
share/doc/eesp/docs/careful.svg f644
share/doc/eesp/docs/control.md f644
share/doc/eesp/docs/dataplane.md f644
share/doc/eesp/docs/flows.svg f644
share/doc/eesp/docs/gateway.svg f644
share/doc/eesp/docs/performance.md f644
share/doc/eesp/docs/profiles.md f644
share/doc/eesp/eesp.supp f644
share/man d755
share/man/man3 d755
share/man/man3/eesp.3 f644
L
for f in $(sed -n 's/^ *\(eesp_[a-z0-9_]*\);/\1/p' "$root/libeesp/libeesp.map") $(sed -n 's/^static inline .* \(eesp_[a-z0-9_]*\)(.*/\1/p' "$root/include/eesp.h"); do
	echo "share/man/man3/$f.3 f644"
done >>"$work/expected"
sort -o "$work/expected" "$work/expected"
mkdir -p "$work/cmake"
cat >"$work/cmake/CMakeLists.txt" <<M
cmake_minimum_required(VERSION 3.16)
project(user C)
find_package(eesp $version EXACT REQUIRED)
add_executable(shared $root/examples/c/minimal.c)
target_link_libraries(shared eesp::eesp)
add_executable(static $root/examples/c/minimal.c)
target_link_libraries(static eesp::static)
M
says="sealed 32 octets into 88, opened: thirty-two octets to be sealed.."

# archive GOARCH MACHINE CC RUNNER...
archive() {
	local machine=$2 cc=$3 name=libeesp-$version-linux-$1 dir at=$work/$1/some-where static use
	shift 3
	mkdir -p "$at"
	tar -C "$at" -xzf "$dist/$name.tar.gz"
	dir=$at/$name
	[ "$(ls "$at")" = "$name" ] || fail "$name has more than its directory"
	diff "$work/expected" <(cd "$dir" && find . \( -type l -printf '%P -> %l\n' -o -printf '%P %y%m\n' \) | sed 's/^ /. /' | sort) ||
		fail "$name has other files"
	[ "$(tar -tzf "$dist/$name.tar.gz")" = "$(tar -tzf "$dist/$name.tar.gz" | sort)" ] || fail "$name is not in order"
	[ -z "$(find "$dir" ! -newermt "@$((epoch - 1))" -o -newermt "@$epoch")" ] || fail "$name has other times than $epoch"
	[ "$(tar --numeric-owner -tvzf "$dist/$name.tar.gz" | awk '{print $2}' | sort -u)" = 0/0 ] || fail "$name has owners"
	! grep -rlF -e "$root" -e "${dist%/*}" "$dir" || fail "$name says where it was made"
	readelf -h "$dir/lib/libeesp.so" | grep "Machine:.*$machine" >/dev/null || fail "$name is for another machine"
	for f in include/eesp.h LICENSE CHANGELOG.md docs/eesp.3; do
		cmp "$root/$f" "$(find "$dir" -name "${f##*/}")" || fail "$name: $f"
	done
	ok "$name: $(wc -l <"$work/expected") files and directories"

	! readelf -dW "$dir/lib/libeesp.so.$major" | grep -F '(RELR)' >/dev/null || fail "$name: the library's relocations are packed, which needs glibc 2.36"

	pc() { PKG_CONFIG_LIBDIR=$dir/lib/pkgconfig pkg-config --define-prefix "$@" eesp; }
	[ "$(pc --modversion)" = "$version" ] || fail "pkg-config --modversion"
	read -ra use < <(pc --cflags --libs)
	"$cc" -std=c11 -O2 -Wall -Wextra -Werror -o "$at/user" "$root/examples/c/minimal.c" "${use[@]}"
	[ "$(LD_LIBRARY_PATH=$dir/lib "$@" "$at/user")" = "$says" ] || fail "$name: the program says something else"
	readelf -d "$at/user" | grep "NEEDED.*\[libeesp.so.$major\]" >/dev/null || fail "$name: the program is not linked with the library"
	read -ra static < <(pc --static --cflags --libs)
	"$cc" -std=c11 -O2 -Wall -Wextra -Werror -static -o "$at/static" "$root/examples/c/minimal.c" "${static[@]}"
	[ "$("$@" "$at/static")" = "$says" ] || fail "$name: the static program says something else"
	! readelf -d "$at/static" | grep NEEDED >/dev/null || fail "$name: the static program is not static"
	readelf -lW "$at/static" | grep GNU_STACK | grep ' RW ' >/dev/null || fail "$name: the static program's stack is executable"
	ok "$name: pkg-config --define-prefix, and --static"

	if ! { cmake -S "$work/cmake" -B "$at/build" -DCMAKE_PREFIX_PATH="$dir" -DCMAKE_C_COMPILER="$cc" -DCMAKE_SYSTEM_NAME=Linux \
		-DCMAKE_C_STANDARD=11 && make -C "$at/build"; } >"$work/cmake.log" 2>&1; then
		cat "$work/cmake.log" >&2
		fail "$name: CMake"
	fi
	for program in shared static; do
		[ "$("$@" "$at/build/$program")" = "$says" ] || fail "$name: CMake's $program program says something else"
	done
	ok "$name: CMake"
}
epoch=$(tar -tvzf "$dist/libeesp-$version-linux-amd64.tar.gz" --full-time --utc | awk 'NR == 1 {print $4 " " $5 " UTC"}')
epoch=$(date -d "$epoch" +%s)
archive amd64 X86-64 "${CC:-gcc}"
archive arm64 AArch64 aarch64-linux-gnu-gcc qemu-aarch64-static -L /usr/aarch64-linux-gnu

# From the same sources in another place.
[[ $again ]] || exit 0
mkdir -p "$work/again"
tar -C "$root" --exclude=./.git --exclude=./build --exclude=./bench/out -cf - . | tar -C "$work/again" -xf -
env -u MAKEFLAGS -u MAKELEVEL make -s -C "$work/again" "$again" BUILD=build PACKED=no SOURCE_DATE_EPOCH="$epoch" >"$work/again.log" 2>&1 ||
	{ cat "$work/again.log" >&2; fail "make dist"; }
n=0
for f in "$work/again/build/dist/"*.tar.gz; do
	cmp "$f" "$dist/${f##*/}" || fail "made once more, ${f##*/} is another"
	n=$((n + 1))
done
rm -rf "$work/again"
ok "made once more elsewhere, archives are the same ($n)"
