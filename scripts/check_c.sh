#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Checks the format of C files. usage: check_c.sh FILE...
# Tabs of 8 indent, and spaces only behind them; no line is wider than 120; a space stands behind if, for, while and
# switch; a function's brace has a line of its own, else stands behind its brace; no white space at ends of lines, no
# two empty lines in a row, one newline at the end.
# clang-format is not used: it would break up tables, macros and one-line functions, which are easier to read as they
# are. .clang-format comes near to this format, for editors.
set -euo pipefail
(($#)) || { echo "usage: check_c.sh FILE..." >&2; exit 2; }
found=$(for f; do
	expand -t8 "$f" | awk -v f="$f" 'length($0) > 120 { print f ":" NR ": " length($0) " columns" }'
	[[ -z $(tail -c1 "$f") ]] || echo "$f: no newline at its end"
	awk -v f="$f" '
		function bad(what) { print f ":" FNR ": " what }
		/\r/ { bad("carriage return") }
		/[ \t]$/ { bad("white space at the end") }
		/^ +[^ *]/ { bad("indented by spaces") }
		/^\t* {8,}/ || /^\t* +\t/ { bad("spaces where a tab is meant") }
		{ code = $0; gsub(/"([^"\\]|\\.)*"/, "\"\"", code); sub(/\/\*.*/, "", code); sub(/^ \*.*/, "", code) }
		code ~ /(^|[^A-Za-z_0-9])(if|for|while|switch)\(/ { bad("no space in front of the bracket") }
		code ~ /^[A-Za-z_][A-Za-z_0-9 *]*\([^=]*\)[ \t]*\{$/ { bad("the brace of a function on its line") }
		before ~ /^\t*\}$/ && code ~ /^\t*else/ { bad("else below its brace") }
		/^$/ && empty { bad("a second empty line") }
		{ empty = /^$/; before = code }
		END { if (empty) bad("an empty line at the end") }' "$f"
done)
if [[ $found ]]; then
	echo "$found"
	exit 1
fi
echo "format of C: $# files"
