#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Builds a plugin of the benchmark for each library that is installed under a
# prefix of its own, and prints the options that load them. A prefix is one of
# libipsec-mb (include/intel-ipsec-mb.h), AWS-LC or BoringSSL
# (include/openssl/aead.h), or OpenSSL 3 (include/openssl/evp.h).
# usage: bench/plugin.sh OUT-DIR [PREFIX...]
set -euo pipefail
here=$(dirname "$0") out=$1
shift
n=0
for prefix in "$@"; do
	include=$prefix/include
	if [ -e "$include/intel-ipsec-mb.h" ]; then
		source=ipsec library=IPSec_MB
	elif [ -e "$include/openssl/aead.h" ]; then
		source=boringssl library=crypto
	elif [ -e "$include/openssl/evp.h" ]; then
		source=openssl library=crypto
	else
		echo "plugin.sh: $prefix: include/ has neither intel-ipsec-mb.h nor openssl/evp.h" >&2
		exit 1
	fi
	file=
	for dir in lib lib64 "lib/$("${CC:-gcc}" -print-multiarch)" "lib/$("${CC:-gcc}" -print-multiarch)/android"; do
		[ ! -e "$prefix/$dir/lib$library.so" ] || file=$prefix/$dir/lib$library.so
	done
	if [ -z "$file" ]; then
		echo "plugin.sh: $prefix: there is no lib$library.so in lib or lib64" >&2
		exit 1
	fi
	n=$((n + 1))
	# All plugins have the same two entry points.
	"${CC:-gcc}" -std=c11 -O2 -g -Wall -Wextra -shared -fPIC -I "$include" -D${source}_peers=plugin_entry_peers \
		-D${source}_version=plugin_entry_version -o "$out/peer-$n.so" "$here/peer_$source.c" "$file" -Wl,-rpath,"$(dirname "$file")" >&2
	echo "--peer $out/peer-$n.so"
done
