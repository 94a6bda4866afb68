#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Counts what the arm64 kernels execute for a packet, and estimates cycles from it.

usage: count_arm64.py WORK_DIR

Runs BenchmarkKernels of internal/asm once for each case under QEMU, which writes the
address of every instruction in the kernels, and prints a table in Markdown: instructions
by kind for a packet, and what llvm-mca's models of three CPUs say of the same sequence.
Nothing is timed: the numbers are the same on every machine.
"""
import collections
import os
import re
import subprocess
import sys

CPUS = ['neoverse-n1', 'neoverse-v1', 'neoverse-v2']
SIZES = [64, 256, 512, 1420]
BURST, BURSTS = 32, 8  # of BenchmarkKernels
MCA = ['llvm-mca-22', '-mtriple=aarch64', '-mattr=+aes,+sha3']
KINDS = [  # the first that matches
    ('AES', r'aes'), ('PMULL', r'pmull'), ('EOR3', r'eor3'), ('loads, stores', r'(ld|st)\w*\b'), ('other vector', r'.*\bv\d+\.'), ('other', r''),
]


def output(*command, **more):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, **more).stdout


class Kernels:
    """The test program, its assembly functions, and their instructions by address."""

    def __init__(self, work):
        self.work, self.program = work, os.path.join(work, 'asm.test')
        output('go', 'test', '-c', '-o', self.program, './internal/asm', env=dict(os.environ, GOARCH='arm64', CGO_ENABLED='0'))
        self.functions = []
        for line in output('go', 'tool', 'nm', '-n', '-size', self.program).splitlines():
            m = re.match(r' *([0-9a-f]+) +(\d+) [Tt] .*internal/asm/armv8\.((derive|expand|powers|seal|open)\w*)(\.abi0)?$', line)
            if m and int(m[2]) > 200:  # not the wrappers of assembly functions
                self.functions.append((int(m[1], 16), int(m[2]), m[3]))
        self.first = min(f[0] for f in self.functions)
        self.end = max(f[0] + f[1] for f in self.functions)
        self.at = {}
        listing = output('aarch64-linux-gnu-objdump', '-d', '--no-show-raw-insn', f'--start-address={self.first}', f'--stop-address={self.end}', self.program)
        for line in listing.splitlines():
            m = re.match(r' *([0-9a-f]+):\t(.*)', line)
            if m:
                self.at[int(m[1], 16)] = re.sub(r'\s*(<.*|//.*)', '', m[2]).replace('\t', ' ')
        self.name = {a: f[2] for f in self.functions for a in range(f[0], f[0] + f[1], 4)}

    def burst(self, model, what, aes, size):
        """The addresses of one burst, in order."""
        log = os.path.join(self.work, 'trace')
        output('qemu-aarch64-static', '-cpu', model, '-singlestep', '-d', 'exec,nochain', '-dfilter', f'{self.first:#x}+{self.end - self.first:#x}',
               '-D', log, self.program, '-test.run', '^$', '-test.benchtime', '1x', '-test.bench', f'^BenchmarkKernels$/^armv8$/^{what}$/^aes={aes}$/^size={size}$')
        with open(log) as f:
            trace = [int(m[1], 16) for m in (re.search(r'\[[0-9a-f]+/([0-9a-f]+)/', line) for line in f) if m]
        os.remove(log)
        # QEMU writes an instruction again if a signal kept it from running; none of these jumps to itself.
        trace = [pc for i, pc in enumerate(trace) if pc in self.name and (i == 0 or pc != trace[i - 1])]
        if what == 'rekey-seal':  # a burst begins with derive; not the last one, behind which comes other work
            starts = [i for i, pc in enumerate(trace) if self.name[pc] == 'derive' and (i == 0 or self.name[trace[i - 1]] != 'derive')]
            assert len(starts) == BURSTS, (what, aes, size, len(starts))
            bursts = [trace[a:b] for a, b in zip(starts, starts[1:])]
            assert all(b == bursts[0] for b in bursts)
            return bursts[0]
        trace = [pc for pc in trace if self.name[pc].startswith('seal')]  # the rest is Expand, for this size and others
        assert trace and len(trace) % BURSTS == 0, (what, aes, size, len(trace))
        one = trace[:len(trace) // BURSTS]
        assert one * BURSTS == trace
        return one


def cycles(instructions, cpu):
    """llvm-mca's cycles for a sequence; branches, which it does not follow, are left out."""
    straight = [i for i in instructions if not re.match(r'(b|b\.\w+|bl|blr|ret|cbn?z|tbn?z|adrp?)\b', i)]
    text = output(*MCA, '-mcpu=' + cpu, '-iterations=1', '-all-views=false', '-summary-view', '-', input='\n'.join(straight) + '\n')
    return int(re.search(r'Total Cycles: +(\d+)', text)[1])


def main():
    work = os.path.abspath(sys.argv[1])
    os.makedirs(work, exist_ok=True)
    kernels = Kernels(work)

    print('| reciprocal throughput in the model |', ' | '.join(CPUS), '|')
    print('| --- |', ' --- |' * len(CPUS))
    for i in ['aese v0.16b, v1.16b', 'aesmc v0.16b, v0.16b', 'pmull v0.1q, v1.1d, v2.1d', 'eor v0.16b, v1.16b, v2.16b', 'eor3 v0.16b, v1.16b, v2.16b, v3.16b', 'ldr q0, [x0]', 'str q0, [x0]']:
        row = []
        for cpu in CPUS:
            if i.startswith('eor3') and cpu == 'neoverse-n1':
                row.append('not there')
                continue
            text = output(*MCA, '-mcpu=' + cpu, '-instruction-tables', '-', input=i + '\n')
            row.append(re.search(r'\n +\d+ +\d+ +([0-9.]+) ', text)[1])
        print(f'| `{i.split()[0]}{" q" if i[2] == "r" else ""}` |', ' | '.join(row), '|')

    limits = []
    for model, variant in ('max', 'with EOR3'), ('neoverse-n1', 'without EOR3'):
        cpus = CPUS[1:] if model == 'max' else CPUS[:1]
        print(f'\n{variant}\n\n| work, key, octets |', ' | '.join(k for k, _ in KINDS), '| all | for an octet |', ' | '.join(f'{c}, cycles' for c in cpus), '|')
        print('| --- |', ' --- |' * (len(KINDS) + 2 + len(cpus)))
        for what in 'rekey-seal', 'cached-seal':
            for aes in 128, 256:
                for size in SIZES:
                    trace = [kernels.at[pc] for pc in kernels.burst(model, what, aes, size)]
                    kinds = collections.Counter(next(k for k, p in KINDS if re.match(p, i)) for i in trace)
                    row = [f'{kinds[k] / BURST:.0f}' for k, _ in KINDS] + [f'{len(trace) / BURST:.0f}', f'{len(trace) / BURST / size:.2f}']
                    estimates = [f'{cycles(trace, c) / BURST:.0f}' for c in cpus]
                    row += estimates
                    if (what, aes, size) == ('rekey-seal', 128, 1420):
                        pair, rest = kinds['AES'] / BURST, kinds['PMULL'] / BURST
                        if model == 'max':
                            rest += (kinds['EOR3'] + kinds['other vector']) / BURST
                        pipes = 4 if model == 'max' else 1
                        for c, e in zip(cpus, estimates):
                            limits.append((c, 'vector instructions, four pipes' if model == 'max' else 'AES and PMULL, one pipe',
                                           f'{(pair + rest) / pipes:.0f}', e, f'{(pair / 2 + rest) / pipes:.0f}'))
                    print(f'| {what} {aes}, {size} |', ' | '.join(row), '|', flush=True)

    print('\n| | what shares what | cycles at least | llvm-mca | at least, if pairs are one |\n| --- | --- | --- | --- | --- |')
    for limit in limits:
        print('|', ' | '.join(limit), '|')


if __name__ == '__main__':
    main()
