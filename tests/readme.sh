#!/usr/bin/env bash
# Builds and runs the examples in README.md and docs/, and compares what they
# print with what these say. usage: tests/readme.sh CC STAGE WORKDIR
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
compile() { "$cc" -std=c11 -O2 -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Werror -o "$1" "$1.c" "${flags[@]}" -Wl,-rpath,"$stage/lib"; }

# The first C program of a page and what it prints.
first_c() {
	block c 1 >"$work/$1.c"
	compile "$work/$1"
	block text 1 >"$work/$1.expected"
	"$work/$1" >"$work/$1.printed"
	same "$work/$1.expected" "$work/$1.printed" "the C example prints something else"
}
first_c readme

python() { EESP_LIBRARY=$stage/lib/libeesp.so.1 PYTHONPATH=bindings/python/src PYTHONDONTWRITEBYTECODE=1 "${PYTHON:-/usr/bin/python3}" "$@"; }
block python 1 >"$work/readme.py"
[[ $(python "$work/readme.py") == "b'first' b'second'" ]] || {
	echo "$page: the Python example prints something else" >&2
	exit 1
}

# Go on this page is what a function has in it, and says what it prints behind its last line.
mkdir -p "$work/readme-go"
{
	printf 'package main\n\nimport (\n\t"fmt"\n\n\teesp "libeesp"\n)\n\nfunc main() {\n'
	block go 1
	printf '}\n'
} >"$work/readme-go/main.go"

page=docs/c.md
first_c c
same examples/c/minimal.c "$work/c.c" "the C example is not examples/c/minimal.c"

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
python -m eesp keygen "$work/zone.der" --id "zone of example 1" >/dev/null
[[ $(cd "$work" && ./file) == "zone of example 1" ]] || {
	echo "$page: the root key of a file is not read" >&2
	exit 1
}

page=docs/go.md
mkdir -p "$work/module"
block go 1 >"$work/module/example.go"
unformatted=$(gofmt -l "$work/module/example.go")
if [ -n "$unformatted" ]; then
	echo "$page: the Go example is not as gofmt has it" >&2
	exit 1
fi
block text 1 >"$work/go.expected"
# As a module of its own, by the lines that the page has; what it requires is in the cache by now.
cp go.sum "$work/module/"
lines=$(grep -E '^go mod (init|edit)' $page | sed "s|/path/to/libeesp|$PWD|")
run_go() { GOFLAGS="${GOFLAGS:-} -mod=mod" "${GO:-go}" run .; }
(cd "$work/module" && eval "${lines//go mod/\"${GO:-go}\" mod}" 2>/dev/null && grep -qx "replace libeesp => $OLDPWD" go.mod && run_go) >"$work/go.printed"
same "$work/go.expected" "$work/go.printed" "the Go example prints something else"
cp "$work/module/go.mod" "$work/module/go.sum" "$work/readme-go/"
sed -n 's|.*// \(hello.*\)|\1|p' "$work/readme-go/main.go" >"$work/readme-go.expected"
(cd "$work/readme-go" && run_go) >"$work/readme-go.printed"
same "$work/readme-go.expected" "$work/readme-go.printed" "README.md's Go example prints something else"

# Parts of data planes: one around dlopen, which runs, and one with DPDK's functions.
page=docs/dataplane.md
{
	printf '#define _GNU_SOURCE\n#include <dlfcn.h>\n#include <sched.h>\n#include <stdio.h>\n'
	printf 'int main(void)\n{\n\tcpu_set_t others;\n\tsched_getaffinity(0, sizeof others, &others);\n'
	block c 1
	printf '\treturn lib == NULL || puts("loaded") < 0;\n}\n'
} >"$work/load.c"
compile "$work/load"
[[ $("$work/load") == loaded ]] || {
	echo "$page: the library is not loaded" >&2
	exit 1
}
{
	printf '#include <eesp.h>\n#include <rte_cycles.h>\n#include <rte_ethdev.h>\n'
	printf 'void poll_queue(uint16_t port, uint16_t queue, void (*process)(struct rte_mbuf **, uint16_t));\n'
	printf 'void poll_queue(uint16_t port, uint16_t queue, void (*process)(struct rte_mbuf **, uint16_t))\n{\n'
	printf '\tstruct rte_mbuf *mbufs[32];\n\tuint64_t last = rte_rdtsc();\n'
	block c 2
	printf '}\n'
} >"$work/poll.c"
dpdk=2
if pkg-config --exists libdpdk; then
	read -ra dpdk_flags < <(pkg-config --cflags libdpdk | sed 's/\(^\| \)-I/\1-isystem /g')
	"$cc" -std=gnu11 -O2 -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Werror "${dpdk_flags[@]}" "${flags[@]}" -c -o "$work/poll.o" "$work/poll.c"
else
	echo "DPDK is not installed: the loop of $page" | tee -a "${EESP_SKIPPED:-/dev/null}"
	dpdk=1
fi
[[ $(grep -c '^```c$' $page) == 2 ]] || {
	echo "$page: more C than is tested here" >&2
	exit 1
}

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
echo "readme: $((programs + 6 + dpdk)) examples build and print what README.md, docs/c.md, docs/dataplane.md, docs/go.md and $page say"
