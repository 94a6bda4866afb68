#!/usr/bin/env bash
# Compares the documents with the code: docs/eesp.3 with include/eesp.h, its
# example with examples/c/minimal.c, and links with the files they point to.
set -euo pipefail
cd "$(dirname "$0")/.."
man=docs/eesp.3
failed=0

complain() {
	echo "$*" >&2
	failed=1
}

# Differences between two lists, if any, under a heading.
compare() {
	local d
	d=$(diff <(sort -u <<<"$2") <(sort -u <<<"$3")) || complain "$1:"$'\n'"$d"
}

declarations=$(grep -v '^ \*' include/eesp.h | tr '\n' ' ')
functions=$(grep -oE '(EESP_API|static inline) [^;({]*\(' <<<"$declarations" | grep -oE 'eesp_[a-z0-9_]+\($' | tr -d '(')
compare "functions: include/eesp.h against the synopsis of $man" "$functions" \
	"$(sed -n '/^\.Sh SYNOPSIS/,/^\.Sh DESCRIPTION/s/^\.F[no] \(eesp_[a-z0-9_]*\).*/\1/p' $man)"
# Every function is described, not only declared.
body=$(sed -n '/^\.Sh DESCRIPTION/,$p' $man)
for f in $functions; do
	grep -qw "Fn $f" <<<"$body" || complain "$man does not describe $f"
done

constants=$(sed -n 's/^#define \(EESP_[A-Z0-9_]*\).*/\1/p; s/^\t\(EESP_[A-Z0-9_]*\) = .*/\1/p' include/eesp.h |
	grep -vE '^EESP_(H|API|MUST_CHECK|ASSERT_|VERSION_.*)$')
for c in $constants; do
	grep -q "\b$c\b" $man || complain "$man does not name $c"
done

compare "example of $man against examples/c/minimal.c" "$(cat -n examples/c/minimal.c)" \
	"$(sed -n '/^\.Sh EXAMPLES/,/^\.Sh /{/^\.Bd/,/^\.Ed/{/^\.[BE]d/!p}}' $man | sed 's/\\e/\\/g' | cat -n)"

lint=$(mandoc -T lint $man 2>&1 | grep -v 'referenced manual not found\|outdated mandoc.db' || true)
[ -z "$lint" ] || complain "$lint"

for page in ./*.md docs/*.md examples/*/*.md; do
	while read -r link; do
		[ -e "$(dirname "$page")/${link%%#*}" ] || complain "$page: no such file: $link"
	done < <(grep -oE '\]\([^)]+\)' "$page" | sed 's/^](//; s/)$//' | grep -vE '^(https?:|#)' || true)
done

# Tests and make targets that the documents name.
while read -r t; do
	grep -rqE --include='*_test.go' "^func $t\(" . || complain "the documents name $t, which is not there"
done < <(grep -ohE '\b(Test|Fuzz)[A-Z][A-Za-z0-9]+' ./*.md docs/*.md | sort -u)
while read -r t; do
	grep -qE "^([a-z0-9-]+ )*$t( [a-z0-9-]+)*:" Makefile mk/*.mk || complain "the documents name make $t, which is not there"
done < <(grep -ohE '`make [a-z0-9][a-z0-9-]*' ./*.md docs/*.md | sed 's/`make //' | sort -u)

[ $failed -eq 0 ] || exit 1
echo "docs: $(wc -w <<<"$functions") functions, $(wc -w <<<"$constants") constants, the example and the links are as in the code"
