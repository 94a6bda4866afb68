#!/usr/bin/env bash
# Tests of `make install` and of what users build with it: install.sh CC WORKDIR
# Calls make, with the variables of the make that called (BUILD among them).
set -euo pipefail
cc=$1 work=$2
root=$(realpath "$(dirname "$0")/..")
mkdir -p "$work"
work=$(realpath "$work")
unset PREFIX LIBDIR INCLUDEDIR MANDIR DOCDIR DESTDIR PKG_CONFIG_PATH PKG_CONFIG_SYSROOT_DIR LD_LIBRARY_PATH
rm -rf "${work:?}"/*
version=$(sed -n 's/^#define EESP_VERSION_\(MAJOR\|MINOR\|PATCH\) //p' "$root/include/eesp.h" | paste -sd.)
major=${version%%.*}

fail() {
	echo "FAIL install: $*" >&2
	exit 1
}
ok() { echo "ok   install.sh: $*"; }
quiet_make() {
	make -s --no-print-directory -C "$root" "$@" >"$work/make.log" 2>&1 || { cat "$work/make.log" >&2; fail "make $*"; }
}

# A program that uses the installed library, as a user would begin.
cat >"$work/user.c" <<'C'
#include <eesp.h>
#include <stdio.h>
#include <string.h>

int main(void)
{
	uint8_t room[EESP_MAX_SEALED_LEN(5)];
	const uint8_t id[16] = "a root key's ID";
	eesp_group *group;
	eesp_sender *sender;
	eesp_receiver *receiver;
	eesp_sender_config config = EESP_SENDER_CONFIG_INIT;
	eesp_pkt p = { .data = memcpy(room + EESP_MAX_HEADER, "hello", 5), .len = 5,
		       .headroom = EESP_MAX_HEADER, .tailroom = EESP_ICV_LEN };
	if (eesp_version() != EESP_VERSION || eesp_group_new(NULL, &group) ||
	    eesp_group_generate_root_key(group, EESP_LEVEL_ZONE, id, sizeof id) ||
	    eesp_sender_new(group, &config, &sender) || eesp_receiver_new(&group, 1, NULL, &receiver))
		return 1;
	if (eesp_seal_burst(sender, &p, 1) != 1)
		return 2;
	eesp_pkt q = { .data = p.out, .len = p.out_len };
	if (eesp_open_burst(receiver, &q, 1) != 1 || q.out_len != 5 || memcmp(q.out, "hello", 5) != 0)
		return 3;
	eesp_sender_free(sender);
	eesp_receiver_free(receiver);
	eesp_group_free(group);
	return puts(eesp_version_string()) < 0;
}
C
flags=(-std=c11 -O2 -Wall -Wextra -Wpedantic -Werror)
says_version() { # COMMAND...
	[ "$("$@")" = "$version" ] || fail "$* does not run, or is not $version"
}

# ---- Staged, as packagers do ----
dest=$work/dest
quiet_make install DESTDIR="$dest" PREFIX=/usr
cat >"$work/expected" <<L
/usr/include/eesp.h 644
/usr/include/eesp_mbuf.h 644
/usr/lib/.debug/libeesp.so.$version.debug 644
/usr/lib/cmake/eesp/eespConfig.cmake 644
/usr/lib/cmake/eesp/eespConfigVersion.cmake 644
/usr/lib/libeesp.a 644
/usr/lib/libeesp.so -> libeesp.so.$major
/usr/lib/libeesp.so.$major -> libeesp.so.$version
/usr/lib/libeesp.so.$version 755
/usr/lib/pkgconfig/eesp.pc 644
/usr/share/doc/eesp/CHANGELOG.md 644
/usr/share/doc/eesp/LICENSE 644
/usr/share/doc/eesp/README.md 644
/usr/share/doc/eesp/SECURITY.md 644
/usr/share/doc/eesp/docs/c.md 644
/usr/share/doc/eesp/docs/careful.svg 644
/usr/share/doc/eesp/docs/control.md 644
/usr/share/doc/eesp/docs/dataplane.md 644
/usr/share/doc/eesp/docs/flows.svg 644
/usr/share/doc/eesp/docs/gateway.svg 644
/usr/share/doc/eesp/docs/performance.md 644
/usr/share/doc/eesp/docs/profiles.md 644
/usr/share/doc/eesp/eesp.supp 644
/usr/share/man/man3/eesp.3 644
L
functions=$(sed -n 's/^ *\(eesp_[a-z0-9_]*\);/\1/p' "$root/libeesp/libeesp.map")
for f in $functions $(sed -n 's/^static inline .* \(eesp_[a-z0-9_]*\)(.*/\1/p' "$root/include/eesp.h"); do
	echo "/usr/share/man/man3/$f.3 644"
done >>"$work/expected"
{ find "$dest" -type l -printf '/%P -> %l\n'; find "$dest" -type f -printf '/%P %m\n'; } | LC_ALL=C sort >"$work/installed"
LC_ALL=C sort -o "$work/expected" "$work/expected"
diff "$work/expected" "$work/installed" || fail "other files than expected"
ok "DESTDIR has the files that it should have"

if grep -rIl -e "$work" -e '@[A-Z_]*@' "$dest/usr/include" "$dest/usr/lib/pkgconfig" "$dest/usr/lib/cmake"; then
	fail "these files name DESTDIR, or have a place that was not filled in"
fi
ok "no file names DESTDIR"

links=0
for page in "$dest"/usr/share/doc/eesp/*.md "$dest"/usr/share/doc/eesp/docs/*.md; do
	while read -r link; do
		[ -e "$(dirname "$page")/${link%%#*}" ] || fail "$page links to $link, which is not installed"
		links=$((links + 1))
	done < <(grep -oE '\]\([^)]+\)' "$page" | sed 's/^](//; s/)$//' | grep -vE '^([a-z]+:|#)' || true)
done
[ $links -gt 20 ] || fail "installed documents have $links links"
grep -q 'contributors (CONTRIBUTING.md)' "$dest/usr/share/doc/eesp/README.md" || fail "a link to a file that is not installed does not name it"
ok "installed documents link to $links installed files"

# Small, and debuggers find the symbols.
installed=$dest/usr/lib/libeesp.so.$version
size=$(stat -c %s "$installed") most=3800000
if readelf -dW "$installed" | grep -F "(RELR)" >/dev/null; then most=3500000; fi
[ "$size" -le "$most" ] || fail "the library has $size octets"
! readelf -SW "$installed" | grep '\.symtab\|\.debug_' >/dev/null || fail "the library is not stripped"
readelf -p .gnu_debuglink "$installed" | grep "libeesp.so.$version.debug" >/dev/null || fail "the library does not say where its symbols are"
[ "$(readelf -n "$installed" | grep 'Build ID')" = "$(readelf -n "$dest/usr/lib/.debug/libeesp.so.$version.debug" | grep 'Build ID')" ] ||
	fail "the symbols are of another library"
nm "$dest/usr/lib/.debug/libeesp.so.$version.debug" | grep ' eesp_seal_burst$' >/dev/null || fail "there are no symbols"
ok "stripped to $size octets, symbols in .debug"

soname=$(readelf -d "$dest/usr/lib/libeesp.so.$version" | sed -n 's/.*SONAME.*\[\(.*\)\]/\1/p')
[ "$soname" = "libeesp.so.$major" ] || fail "soname $soname"
needed=$(readelf -d "$dest/usr/lib/libeesp.so.$version" | sed -n 's/.*NEEDED.*\[\(.*\)\]/\1/p' | grep -v '^libc\.so\|^ld-linux\|^libpthread' || true)
[ -z "$needed" ] || fail "the library needs $needed"
readelf -lW "$dest/usr/lib/libeesp.so.$version" | grep 'GNU_STACK.* RW ' >/dev/null || fail "executable stack"
ok "soname, dependencies, stack"

pc() { PKG_CONFIG_PATH=$dest/usr/lib/pkgconfig PKG_CONFIG_SYSROOT_DIR=$dest pkg-config "$@" eesp; }
[ "$(pc --modversion)" = "$version" ] || fail "pkg-config --modversion"
read -ra use < <(pc --cflags --libs)
"$cc" "${flags[@]}" -I"$dest/usr/include" -L"$dest/usr/lib" -o "$work/user" "$work/user.c" "${use[@]}"
LD_LIBRARY_PATH=$dest/usr/lib says_version "$work/user"
readelf -d "$work/user" | grep "NEEDED.*\[libeesp.so.$major\]" >/dev/null || fail "the program does not need libeesp.so.$major"
ok "a program built in a sysroot runs"

# A page for each function, which says what the header says.
for page in "$dest"/usr/share/man/man3/eesp_*.3; do
	grep -q '^\.so ' "$page" && continue
	mandoc -T lint -W warning "$page" || fail "mandoc has complaints"
	grep -q '^\.It Threads$' "$page" || fail "$page does not say which threads may call the function"
	! grep -qE '^\.Nd [^()]*(\([^()]*\)[^()]*)*\([^()]*$' "$page" || fail "$page: its summary ends within parentheses"
done
man -P cat -l "$dest/usr/share/man/man3/eesp_open_burst.3" >"$work/page" 2>/dev/null ||
	mandoc -T ascii "$dest/usr/share/man/man3/eesp_open_burst.3" >"$work/page"
grep -q 'Opens n packets in order' "$work/page" || fail "the page of eesp_open_burst"
ok "a manual page for each function"

quiet_make uninstall DESTDIR="$dest" PREFIX=/usr
[ -z "$(find "$dest" ! -type d)" ] || fail "uninstall leaves $(find "$dest" ! -type d)"
[ -z "$(find "$dest" -type d -name eesp)" ] || fail "uninstall leaves $(find "$dest" -type d -name eesp)"
ok "uninstall leaves nothing"

# Paths that would not work, or with which uninstall would remove a user's files.
mkdir -p "$work/a"
echo mine >"$work/a/file"
for paths in PREFIX=relative "PREFIX=$work/a space" "DESTDIR=$work/a space" "LIBDIR=$work/a space" "DOCDIR=$work/a/ b" "LIBDIR=lib"; do
	for target in install uninstall; do
		if make -s --no-print-directory -C "$root" $target "$paths" >"$work/make.log" 2>&1; then
			fail "make $target $paths"
		fi
		grep -q 'absolute paths; no spaces' "$work/make.log" || fail "make $target $paths: $(cat "$work/make.log")"
	done
done
[ -e "$work/a/file" ] || fail "uninstall removes other files"
ok "paths with spaces and relative ones are refused"

# ---- In a prefix of its own ----
prefix=$work/prefix
quiet_make install PREFIX="$prefix"
pc() { PKG_CONFIG_PATH=$prefix/lib/pkgconfig pkg-config "$@" eesp; }
[ "$(pc --cflags | xargs)" = "-I$prefix/include" ] || fail "pkg-config --cflags: $(pc --cflags)"
[ "$(pc --libs | xargs)" = "-L$prefix/lib -leesp" ] || fail "pkg-config --libs: $(pc --libs)"
[ "$(pc --static --libs | xargs)" = "-L$prefix/lib -leesp -lpthread" ] || fail "pkg-config --static --libs: $(pc --static --libs)"
read -ra use < <(pc --cflags --libs)
"$cc" "${flags[@]}" -o "$work/user" "$work/user.c" "${use[@]}" "-Wl,-rpath,$(pc --variable=libdir)"
says_version "$work/user"
ok "a program built with pkg-config runs"
read -ra use < <(pc --static --cflags --libs)
"$cc" "${flags[@]}" -static -o "$work/user-static" "$work/user.c" "${use[@]}"
says_version "$work/user-static"
ok "a static program built with pkg-config --static runs"

# ---- CMake, also where the libraries are in a directory of their architecture, and after moving ----
mkdir -p "$work/cmake"
cat >"$work/cmake/CMakeLists.txt" <<'M'
cmake_minimum_required(VERSION 3.16)
project(user C)
find_package(eesp 1.0 REQUIRED)
add_executable(shared ../user.c)
target_link_libraries(shared eesp::eesp)
add_executable(static ../user.c)
target_link_libraries(static eesp::static)
find_package(eesp 1.0 REQUIRED) # a second time does no harm
foreach(wrong 0.9 1.99 2.0)
  find_package(eesp ${wrong} QUIET)
  if(eesp_FOUND)
    message(FATAL_ERROR "found as version ${wrong}")
  endif()
endforeach()
M
with_cmake() { # PREFIX
	rm -rf "$work/cmake/build"
	if ! { CC=$cc cmake -S "$work/cmake" -B "$work/cmake/build" -DCMAKE_PREFIX_PATH="$1" -DCMAKE_C_STANDARD=11 &&
		make -C "$work/cmake/build"; } >"$work/cmake.log" 2>&1; then
		cat "$work/cmake.log" >&2
		fail "CMake"
	fi
	says_version "$work/cmake/build/shared"
	says_version "$work/cmake/build/static"
	readelf -d "$work/cmake/build/shared" | grep "NEEDED.*\[libeesp.so.$major\]" >/dev/null || fail "eesp::eesp is not the shared library"
	! readelf -d "$work/cmake/build/static" | grep libeesp >/dev/null || fail "eesp::static is not the archive"
}
with_cmake "$prefix"
ok "CMake finds the targets eesp::eesp and eesp::static"

quiet_make uninstall PREFIX="$prefix"
[ -z "$(find "$prefix" ! -type d)" ] || fail "uninstall leaves $(find "$prefix" ! -type d)"
quiet_make install PREFIX="$prefix" LIBDIR="$prefix/lib/$("$cc" -print-multiarch)"
mv "$prefix" "$work/moved"
with_cmake "$work/moved"
ok "CMake finds them in LIBDIR, and moved elsewhere"

# ---- The manual page ----
page=$root/docs/eesp.3
if [ -s "$page" ]; then
	mandoc -T lint -W warning "$page" || fail "mandoc has complaints"
	[ "$(mandoc -T utf8 "$page" | wc -l)" -gt 50 ] || fail "the manual page is short"
	ok "the manual page"
else
	fail "docs/eesp.3 is empty"
fi
