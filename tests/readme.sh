#!/usr/bin/env bash
# Builds and runs the examples in README.md and docs/profiles.md, and compares
# what they print with what these say. usage: tests/readme.sh CC STAGE WORKDIR
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

page=README.md

# The n-th fenced block of a language on the page.
block() {
	awk -v open='```'"$1" -v n="$2" '
		inside && $0 == "```" { exit }
		inside { print; some = 1 }
		$0 == open && --n == 0 { inside = 1 }
		END { exit !some }' "$page" || {
		echo "$page: no $1 block number $2" >&2
		return 1
	}
}

same() {
	diff -u "$1" "$2" || {
		echo "$page: $3" >&2
		return 1
	}
}

read -ra flags <<<"$(pkg-config --cflags --libs eesp)"
compile() { "$cc" -std=c11 -O2 -Wall -Wextra -Wpedantic -Werror -o "$1" "$1.c" "${flags[@]}" -Wl,-rpath,"$stage/lib"; }

block c 1 >"$work/example.c"
same examples/c/minimal.c "$work/example.c" "the C example is not examples/c/minimal.c"
compile "$work/example"
block text 1 >"$work/c.expected"
"$work/example" >"$work/c.printed"
same "$work/c.expected" "$work/c.printed" "the C example prints something else"

# The root key of a file, in a function around it.
{
	printf '#define _DEFAULT_SOURCE\n#include <eesp.h>\n#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n'
	printf 'static void check(int status) { if (status) { puts(eesp_last_error()); exit(1); } }\n'
	printf 'int main(void)\n{\n\teesp_group *group;\n\tcheck(eesp_group_new(NULL, &group));\n'
	block c 2
	printf '\teesp_root_key_info info;\n\tcheck(eesp_group_get_root_key_info(group, EESP_LEVEL_ZONE, &info));\n'
	printf '\treturn printf("%%.*s\\n", (int)info.id_len, (char *)info.id) < 0;\n}\n'
} >"$work/file.c"
compile "$work/file"
EESP_LIBRARY=$stage/lib/libeesp.so.1 PYTHONPATH=bindings/python/src PYTHONDONTWRITEBYTECODE=1 \
	"${PYTHON:-/usr/bin/python3}" -m eesp keygen "$work/zone.der" --id "zone of example 1" >/dev/null
[[ $(cd "$work" && ./file) == "zone of example 1" ]] || {
	echo "README.md: the root key of a file is not read" >&2
	exit 1
}

mkdir -p "$work/module"
block go 1 >"$work/module/example.go"
unformatted=$(gofmt -l "$work/module/example.go")
if [ -n "$unformatted" ]; then
	echo "README.md: the Go example is not as gofmt has it" >&2
	exit 1
fi
block text 2 >"$work/go.expected"
# As a module of its own, by the lines that the page has; what it requires is in the cache by now.
cp go.sum "$work/module/"
lines=$(grep -E '^go mod (init|edit)' README.md | sed "s|/path/to/libeesp|$PWD|")
(cd "$work/module" && eval "${lines//go mod/\"${GO:-go}\" mod}" 2>/dev/null && grep -qx "replace libeesp => $OLDPWD" go.mod &&
	GOFLAGS="${GOFLAGS:-} -mod=mod" "${GO:-go}" run .) >"$work/go.printed"
same "$work/go.expected" "$work/go.printed" "the Go example prints something else"

# All C on this page is whole programs, each with what it prints behind it.
page=docs/profiles.md
programs=$(grep -c '^```c$' $page)
for ((i = 1; i <= programs; i++)); do
	block c $i >"$work/profile$i.c"
	compile "$work/profile$i"
	block text $i >"$work/profile$i.expected"
	"$work/profile$i" >"$work/profile$i.printed"
	same "$work/profile$i.expected" "$work/profile$i.printed" "the program number $i prints something else"
done
echo "readme: $((programs + 2)) examples build and print what README.md and $page say"
