#!/usr/bin/env bash
# Builds and runs the examples in README.md, and compares what they print with
# what it says. usage: tests/readme.sh CC STAGE WORKDIR
set -euo pipefail
if [ $# -ne 3 ]; then
	echo "usage: $0 CC STAGE WORKDIR" >&2
	exit 2
fi
cc=$1 stage=$(realpath "$2") work=$(realpath -m "$3")
cd "$(dirname "$0")/.."
rm -rf "$work"
mkdir -p "$work"
export PKG_CONFIG_PATH="$stage/lib/pkgconfig"

# The n-th fenced block of a language.
block() {
	awk -v open='```'"$1" -v n="$2" '
		inside && $0 == "```" { exit }
		inside { print; some = 1 }
		$0 == open && --n == 0 { inside = 1 }
		END { exit !some }' README.md || {
		echo "README.md: no $1 block number $2" >&2
		return 1
	}
}

same() {
	diff -u "$1" "$2" || {
		echo "README.md: $3" >&2
		return 1
	}
}

block c 1 >"$work/example.c"
same examples/c/minimal.c "$work/example.c" "the C example is not examples/c/minimal.c"
read -ra flags <<<"$(pkg-config --cflags --libs eesp)"
"$cc" -std=c11 -O2 -Wall -Wextra -Wpedantic -Werror -o "$work/example" "$work/example.c" "${flags[@]}" -Wl,-rpath,"$stage/lib"
block text 1 >"$work/c.expected"
"$work/example" >"$work/c.printed"
same "$work/c.expected" "$work/c.printed" "the C example prints something else"

block go 1 >"$work/example.go"
unformatted=$(gofmt -l "$work/example.go")
if [ -n "$unformatted" ]; then
	echo "README.md: the Go example is not as gofmt has it" >&2
	exit 1
fi
block text 2 >"$work/go.expected"
"${GO:-go}" run "$work/example.go" >"$work/go.printed"
same "$work/go.expected" "$work/go.printed" "the Go example prints something else"
echo "readme: the examples build and print what README.md says"
