#!/usr/bin/env bash
# Tests of the C ABI against an installation: run.sh CC CXX STAGE WORKDIR [kernels]
# Compiles every program here through pkg-config, runs it, and counts. For
# another architecture EESP_RUNNER is the emulator's command, and GOARCH is set.
# kernels: only what depends on kernels; programs that WORKDIR has are not compiled again.
set -euo pipefail
cc=$1 cxx=$2 stage=$(realpath "$3") work=$4 only=${5:-}
[[ $only == kernels || -z $only ]] || { echo "run.sh: no kind of tests $only" >&2; exit 2; }
here=$(dirname "$(realpath "$0")")
mkdir -p "$work"
work=$(realpath "$work")
export PKG_CONFIG_PATH=$stage/lib/pkgconfig
warn=(-Wall -Wextra -Wpedantic -Wshadow -Werror)
read -ra cflags < <(pkg-config --cflags eesp)
read -ra libs < <(pkg-config --libs eesp)
# Bound at once: the dynamic linker's lazy binding saves registers on the
# stack, and memory.c looks for what may have been in them.
link=("${libs[@]}" "-Wl,-rpath,$stage/lib" "-Wl,-z,now")
read -ra runner <<<"${EESP_RUNNER:-}"
passed=0
cd "$work" # where the tests put their files

# run NAME COMMAND...: prints what it prints, which must not take for ever.
run() {
	local name=$1 log
	shift
	log=$work/$name.log
	if ! timeout -k 5 600 "$@" >"$log" 2>&1; then
		cat "$log"
		echo "FAIL $name (exit status not 0, or later than 600 s)"
		echo "$passed passed, 1 failed"
		exit 1
	fi
	cat "$log"
	# For make test to say at its end.
	sed -n "s/^     \([a-z_]*\): not tested, \(.*\)/\2: $name, \1/p" "$log" >>"${EESP_SKIPPED:-/dev/null}"
	passed=$((passed + $(grep -c '^ok ' "$log" || true))) # some print none
}

# good NAME: counts a test that is one command.
good() {
	echo "ok   $1"
	passed=$((passed + 1))
}

# kept PROGRAM SOURCE...: it is newer than what it is made of.
kept() {
	[[ $only && -e $work/$1 ]] || return 1
	local program=$1 from
	shift
	for from in "$here/test.h" "$stage/lib/libeesp.so.1" "$@"; do [[ $work/$program -nt $from ]] || return 1; done
}
compile() { kept "$1" "$here/$1.c" || "$cc" -std=c11 -O1 -g "${warn[@]}" "${cflags[@]}" -o "$work/$1" "$here/$1.c" "${@:2}"; }

programs=(guard kernels memory quiet roundtrip udp)
if [[ -z $only ]]; then
	# The header alone, in every language that it is for.
	"$cc" -std=c99 "${warn[@]}" -Wconversion -Wsign-conversion "${cflags[@]}" -fsyntax-only -x c "$stage/include/eesp.h"
	good "eesp.h as C99"
	compile header "${link[@]}"
	"${runner[@]}" "$work/header"
	good "header.c as C11"
	for std in c++11 c++17; do
		"$cxx" -std=$std "${warn[@]}" "${cflags[@]}" -o "$work/header-$std" -x c++ "$here/header.c" -x none "${link[@]}"
		"${runner[@]}" "$work/header-$std"
		good "header.c as $std"
	done
	programs+=(arguments backend datakey follow fork host nonce reentry replay restart shared signals steady threads)
fi

for test in "${programs[@]}"; do
	compile "$test" "${link[@]}"
	run "$test" "${runner[@]}" "$work/$test"
done

compile choices
run choices "${runner[@]}" "$work/choices" "$here/../../internal/asm/vector/testdata/choices.txt"

compile registers "${link[@]}"
mapfile -t exported < <(sed -n 's/^ *\(eesp_[a-z0-9_]*\);/\1/p' "$here/../../libeesp/libeesp.map")
run registers "${runner[@]}" "$work/registers" "${exported[@]}"

# With the library's inner names, of which an installation has none, and inside.c's functions; what is undefined in C
# ends these programs.
root=$(cd "$here/../.." && pwd)
mkdir -p inner
{ cat "$root/libeesp/shim.c" && sed "s|^#include \"|&$root/tests/c/|" "$root/tests/c/inside.c"; } >inner/shim.c
printf '{"Replace": {"%s": "%s"}}\n' "$root/libeesp/shim.c" "$work/inner/shim.c" >inner/overlay.json
kept inner/eesp.a "$root/libeesp/shim.c" "$here/inside.c" "$root/libeesp/direct.c" "$root"/libeesp/*.h "$root/libeesp/outer.c" "$root/libeesp/known.c" || (cd "$root" && CC=$cc CGO_ENABLED=1 CGO_CFLAGS="-O2 -g -Wshadow -Werror -fsanitize=undefined -fsanitize-undefined-trap-on-error" "${GO:-go}" build -trimpath -buildvcs=false -overlay "$work/inner/overlay.json" -tags eesp_c -buildmode=c-archive -o "$work/inner/eesp.a" ./libeesp)
for test in direct times known kept; do
	case $test in # functions in front of which the test puts its own
	direct | times | kept) wrap=(eespGoSealBurst eespGoSealTaken eespGoOpenBurst eespGoUDPSealBurst eespGoUDPOpenBurst eespGoProxyBurst) ;;
	known) wrap=(known_new direct_seal direct_open) ;;
	*) wrap=() ;;
	esac
	compile $test "${wrap[@]/#/-Wl,--wrap=}" "-Wl,--whole-archive" "$work/inner/eesp.a" "-Wl,--no-whole-archive" -lpthread
	run $test "${runner[@]}" "$work/$test"
done

if [[ $only ]]; then
	echo "$passed passed, 0 failed"
	exit 0
fi

compile loading
run loading "${runner[@]}" "$work/loading" "$stage/lib/libeesp.so.1"

# Under a filter of the system calls that the documents list. Emulators make calls of their own.
if [ -z "${EESP_RUNNER:-}" ]; then
	for list in load:AT_LOAD later:LATER state:STATE time:TIME; do
		read -ra calls < <(sed -n "s/^    ${list%:*}: //p" "$here/../../docs/dataplane.md")
		for call in "${calls[@]}"; do
			printf '#ifdef SYS_%s\n{ %s, SYS_%s },\n#endif\n' "$call" "${list#*:}" "$call"
		done
	done >syscalls.h
	compile syscalls -I"$work"
	run syscalls "$work/syscalls" "$stage/lib/libeesp.so.1"
fi

# With what is installed for Valgrind, a program has no errors but its own. Its CPU has few backends: the best of them.
if [ "${EESP_RUNNER:-}" ]; then
	echo "     memcheck: not under an emulator"
elif command -v valgrind >/dev/null; then
	"$cc" -std=c11 -O1 -g "${warn[@]}" "${cflags[@]}" -o "$work/minimal" "$here/../../examples/c/minimal.c" "${link[@]}"
	if ! env -u EESP_BACKEND timeout 170 valgrind -q --suppressions="$stage/share/doc/eesp/eesp.supp" --error-exitcode=9 --leak-check=full \
		--errors-for-leak-kinds=definite,possible "$work/minimal" >"$work/memcheck.log" 2>&1; then
		cat "$work/memcheck.log"
		echo "FAIL minimal.c under memcheck"
		exit 1
	fi
	good "minimal.c under memcheck"
else
	echo "     memcheck: not tested, valgrind is not installed"
	echo "valgrind is not installed: minimal.c under memcheck" >>"${EESP_SKIPPED:-/dev/null}"
fi

# Loaded while one CPU is allowed; then with one CPU, or with all of them.
cpu=$(taskset -cp $$ | sed 's/.*: *\([0-9]*\).*/\1/')
echo "     on CPU $cpu only"
run threads-pinned taskset -c "$cpu" "${runner[@]}" "$work/threads"
run threads-unpinned taskset -c "$cpu" "${runner[@]}" "$work/threads" unpin

# Linked statically, the library alone and the program as a whole.
read -ra static < <(pkg-config --static --libs eesp)
compile roundtrip "-Wl,-Bstatic" "${libs[@]}" "-Wl,-Bdynamic" -lpthread
if readelf -d "$work/roundtrip" | grep libeesp >/dev/null; then
	echo "FAIL roundtrip is not linked with libeesp.a"
	exit 1
fi
echo "     with libeesp.a"
run roundtrip-archive "${runner[@]}" "$work/roundtrip"
compile fork -static "${static[@]}"
echo "     linked with -static"
run fork-static "${runner[@]}" "$work/fork"

# The archive beside another one with a Go runtime of its own.
mkdir -p other
cat >other/go.mod <<'M'
module other
M
cat >other/main.go <<'G'
package main

import "C"

//export OtherGo
func OtherGo(n C.int) C.int {
	c := make(chan C.int)
	go func() { c <- n + 1 }()
	return <-c
}

func main() {}
G
(cd other && CC=$cc CGO_ENABLED=1 GOFLAGS='' "${GO:-go}" build -trimpath -buildvcs=false -buildmode=c-archive -o other.a .)
"$cc" -std=c11 "${warn[@]}" "${cflags[@]}" -o "$work/beside" "$here/beside.c" "$stage/lib/libeesp.a" other/other.a -lpthread
run beside "${runner[@]}" "$work/beside"

echo "$passed passed, 0 failed"
