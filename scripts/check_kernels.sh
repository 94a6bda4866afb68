#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Checks that kernels need nothing of Go, since C calls them on any thread and stack: check_kernels.sh NM OBJDUMP LIBRARY
# Refuses, in each of them, calls, jumps out of it, system calls, other threads' state (thread-local storage,
# control registers), a stack pointer that moves, and on arm64 the goroutine's register and the platform's.
set -euo pipefail
nm=$1 objdump=$2 library=$3

# violations ARCHITECTURE <LISTING: prints refused instructions of a listing by objdump, and the number of its kernels.
violations() {
	awk -v arch="$1" '
	/^[0-9a-f]+ <.*>:$/ {
		name = $2
		gsub(/[<>:]/, "", name)
		kernel = name ~ /\/internal\/asm\/(aesni|vaes256|vaes512|armv8)\.[A-Za-z0-9_]+\.abi0$/
		seen += kernel
		next
	}
	kernel && /^ *[0-9a-f]+:/ {
		text = $0
		sub(/^ *[0-9a-f]+:[ \t]*/, "", text)
		op = text
		sub(/[ \t].*/, "", op)
		bad = op ~ (arch == "amd64" ? "^(call|syscall|sysenter|int$|ud2|std|ldmxcsr|push|pop|wr|xrstor)" : "^(bl|blr|br|blraa.*|svc|hvc|hlt|brk|msr|mrs)$") || op ~ /bad/
		if (arch == "amd64")
			bad = bad || text ~ /%[fg]s:/ || text ~ /,%[er]?sp$/ || text ~ /^jmp[ \t]+\*/
		else
			bad = bad || text ~ /[ ,\t[][xw](18|28)([^0-9]|$)/ || text ~ /^[a-z0-9.]+[ \t]+sp,/ || text ~ /\[sp[^\]]*\]!/ || text ~ /\[sp\],/
		if (op ~ (arch == "amd64" ? "^(j|loop)" : "^(b|b\\..*|cbn?z|tbn?z)$") && index(text, "<" name "+") == 0 && index(text, "<" name ">") == 0)
			bad = 1
		if (bad)
			print name ": " text
	}
	END { print seen + 0 }'
}

# A test of violations: it finds each kind of fault, and nothing in a right listing.
finds() {
	local arch=$1 line
	while IFS= read -r line; do
		printf '0000 <x/internal/asm/%s.f.abi0>:\n 10:\t%s\n' "$([ "$arch" = amd64 ] && echo aesni || echo armv8)" "$line"
	done | violations "$arch" | sed '$d' | wc -l
}
declare -A wrong right
wrong[amd64]=$'call 10 <x>\nsyscall\nmov %fs:0x0,%rax\nmov %rax,%rsp\nsub $0x8,%rsp\njmp *%rax\njmp 20 <other>\njne 20 <other+0x4>\nud2\nstd\nldmxcsr (%rax)\npush %rax'
wrong[arm64]=$'bl 10 <x>\nblr x0\nbr x1\nsvc #0x0\nldr x0, [x28, #16]\nmov x28, x0\nadd x18, x18, #1\nmrs x0, tpidr_el0\nmsr fpcr, x0\nsub sp, sp, #16\nstp x0, x1, [sp, #-16]!\nldr x0, [sp], #16\nb 20 <other>\ncbz x0, 20 <other+0x4>\nb.ne 20 <other>\nbrk #0x1'
right[amd64]=$'mov 0x8(%rsp),%rdi\nvpxor %ymm15,%ymm14,%ymm13\nmov %r14,%rax\njne 20 <x/internal/asm/aesni.f.abi0+0x10>\nret\nint3'
right[arm64]=$'ldr x19, [sp, #8]\nldr x8, [x0]\nmov v18.16b, v28.16b\naese v18.16b, v28.16b\nldr q28, [x0, #18]\nb.ne 20 <x/internal/asm/armv8.f.abi0+0x10>\nret'
for arch in amd64 arm64; do
	[ "$(finds $arch <<<"${wrong[$arch]}")" = "$(wc -l <<<"${wrong[$arch]}")" ] || { echo "check_kernels.sh overlooks some of what $arch must not have"; exit 1; }
	[ "$(finds $arch <<<"${right[$arch]}")" = 0 ] || { echo "check_kernels.sh refuses some of what $arch may have"; exit 1; }
done

case $("$objdump" -f "$library") in
*x86-64*) arch=amd64 least=50 ;;
*aarch64*) arch=arm64 least=30 ;;
*)
	echo "kernels: none for this architecture"
	exit 0
	;;
esac
read -r first last < <("$nm" -n "$library" | awk '$3 ~ /\/internal\/asm\/(aesni|vaes256|vaes512|armv8)\./ { if (!a) a = $1; found = 1; next } found { z = $1; found = 0 } END { print "0x" a, "0x" z }')
found=$("$objdump" -d --no-show-raw-insn --start-address="$first" --stop-address="$last" "$library" | violations $arch)
seen=$(tail -n 1 <<<"$found") found=$(sed '$d' <<<"$found")
[ -z "$found" ] || { echo "$found" | head -20; echo "these kernels cannot be called without a goroutine"; exit 1; }
[ "$seen" -ge $least ] || { echo "only $seen kernels found in $library"; exit 1; }
echo "kernels: $seen functions for $arch need nothing of Go"
