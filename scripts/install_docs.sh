#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Installs documents so that all their links lead to installed files: install_docs.sh DIR PAGE...
# Run it at the top of the sources. Each file keeps its place below DIR. A link to a file that is not among them becomes
# text, with the file's path in the sources; such a picture is left out.
set -euo pipefail
(($# > 1)) || { echo "usage: install_docs.sh DIR PAGE..." >&2; exit 2; }
to=$1
shift
for page; do
	install -d "$to/$(dirname "$page")"
	if [[ $page != *.md ]]; then
		install -m 644 "$page" "$to/$page"
		continue
	fi
	rm -f "$to/$page"
	awk -v page="$page" -v pages="$*" '
		# The path in the sources of what a page in the folder from links to.
		function path(from, link,    part, n, i, deep, up) {
			sub(/#.*/, "", link)
			n = split(from link, part, "/")
			for (i = 1; i <= n; i++)
				if (part[i] == "..") deep--
				else if (part[i] != "") up[++deep] = part[i]
			for (i = 2; i <= deep; i++) up[1] = up[1] "/" up[i]
			return up[1]
		}
		BEGIN {
			n = split(pages, list, " ")
			for (i = 1; i <= n; i++) installed[list[i]] = 1
			from = page
			sub(/[^\/]*$/, "", from)
		}
		/^```/ { code = !code }
		code { print; next }
		{
			out = ""
			rest = $0
			while (match(rest, /!?\[[^][]*\]\([^()]*\)/)) {
				whole = substr(rest, RSTART, RLENGTH)
				text = link = whole
				sub(/^!?\[/, "", text)
				sub(/\]\([^()]*\)$/, "", text)
				sub(/^.*\]\(/, "", link)
				sub(/\)$/, "", link)
				source = path(from, link)
				if (link ~ /^[a-z]+:/ || link ~ /^#/ || source in installed) new = whole
				else {
					if (whole ~ /^!/) new = ""
					else if (source == text || source "/" == text || source == text "/README.md") new = text
					else if (substr(source, length(source) - length(text)) == "/" text) new = source
					else new = text " (" source ")"
					unlinked = 1
				}
				out = out substr(rest, 1, RSTART - 1) new
				rest = substr(rest, RSTART + RLENGTH)
			}
			out = out rest
			if (out != "" || $0 == "") print out
		}
		END { if (unlinked) print "\nFiles that this page names without a link are in the sources of libeesp." }' "$page" >"$to/$page"
	chmod 644 "$to/$page"
done
