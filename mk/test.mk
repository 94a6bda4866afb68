# The parts of `make test`, and tests beside it.
.PHONY: test-more test-go test-go-long test-python-long test-race test-fuzz test-arm64 test-arm64-c test-arm64-generic count-arm64 test-ports test-backends test-reference check-exports check-kernels test-c test-install test-dist \
	test-python test-abi abi-update test-example test-bench test-docs test-wireshark test-readme demo-live
# In the order in which they begin: long ones first, and ones that many wait for. "a:b,c": after b and c; "alone": while no other
# part runs.
TEST_PARTS := stage check-format test-arm64 test-control test-go demo-live:stage test-c:stage test-race test-ports test-python:stage \
	test-dist:stage,test-arm64 test-backends:test-c test-example:stage check-generated test-install:stage test-fuzz check-lint test-bench:stage \
	check-exports:stage check-kernels:stage test-abi:stage test-docs test-readme:stage test-reference
# How many run at a time: one more than CPUs, since most sometimes wait.
TEST_JOBS ?= $(shell n=$$(nproc); echo $$((n < 4 ? n + 1 : 4)))

# The part of make test-long that CI runs beside make test. What sends packets for a while, and may lose none, runs by itself.
MORE_PARTS := stage test-arm64 test-go-long test-race test-ports test-control test-python-long:stage test-backends:stage \
	test-fuzz check-lint test-clients:stage test-wireshark test-dist:test-arm64,test-python-long \
	test-arm64-generic test-arm64-c:test-arm64 test-servers:alone
test-more: export EESP_SKIPPED := $(abspath $(BUILD))/skipped-more
test-more: deps-test
	@mkdir -p $(BUILD) && : >$(EESP_SKIPPED)
	@FULL=1 SHORT= GUIDED=1 FUZZTIME=100000x tests/parts.sh $(TEST_JOBS) $(BUILD)/test-more $(MORE_PARTS)
	@tests/skipped.sh $(EESP_SKIPPED)
	@echo "left to make test-long: $(LEFT)"
	@echo "make test-more: all of it passed"

LEFT := long tests on arm64 without AES, whole models, a thousand rotations, Debian packages

test-go-long:
	EESP_TEST_LONG=1 $(GOTEST) -timeout 60m ./...
test-python-long: export EESP_TEST_LONG := 1
test-python-long: test-python

test-go:
	EESP_TEST_REQUIRE=vectors $(GOTEST) ./...
# Tests of internal/eesp about the content of packets: these run for other architectures. The others are about threads, files
# and arguments, which are the same everywhere; these run with the race detector.
DATA  := Vectors|LikeTheModel|RoundTrip|Bursts|Authenticated|StayInside|StaysIn|DataKey|Kernels|ProxyBetween|Drafts|UDPRandom|UDPWith|Order|Longest|Checksum|Allocat
# Long loops of one thread, which are slow with the race detector or under an emulator.
LOOPS := Strangers|LongChain|TestReuse|WholeWindow|TooLong|UDPGuarded
# Packages in which threads share data. Kernels and codecs do not.
test-race:
	CGO_ENABLED=1 $(GOTEST) -race -short $(if $(FULL),./...,-skip 'TestModel|$(LOOPS)|^Test[A-Z]*($(DATA))' . $(addprefix ./internal/,eesp burst counter fresh/... keys replay secmem))

# The Go tests for another architecture: GOARCH, emulator, arguments of go test.
go-emulated = EESP_RUNNER="$(2)" GOARCH=$(1) CGO_ENABLED=0 $(GOTEST) -exec "$(2)" $(3)
ARM64 := $(MAKE) --no-print-directory BUILD=$(BUILD)/arm64 CROSS=aarch64-linux-gnu- CC=aarch64-linux-gnu-gcc CXX=aarch64-linux-gnu-g++

# make test: kernels in short mode on a CPU with all extensions, where the tests of package armv8 also run the variant for CPUs
# without SHA-3; and tests of wiping. test-ports emulates the generic kernels and packages that do not depend on the
# architecture. FULL=1 (make test-more): every test on a CPU with all extensions, and on one without SHA-3.
SHORT ?= -short
FULL  ?=
test-arm64:
	@scripts/deps.sh $(DEPS_BUILD) $(DEPS_ARM64)
	EESP_TEST_REQUIRE=armv8,eor3,vectors $(call go-emulated,arm64,qemu-aarch64-static -cpu max,$(SHORT) $(if $(FULL),./...,-run '$(DATA)' ./internal/eesp))
	$(if $(FULL),,EESP_TEST_PACKETS=5000 EESP_TEST_REQUIRE=armv8$(comma)eor3 $(call go-emulated,arm64,qemu-aarch64-static -cpu max,$(SHORT) -skip TestBackends/generic ./internal/asm/... ./internal/secmem))
	$(if $(FULL),,$(call go-emulated,arm64,qemu-aarch64-static -cpu max,$(SHORT) -run 'Wiped|WipesToo|LongChain|StraysEndNoRun' ./internal/burst))
	$(if $(FULL),EESP_TEST_REQUIRE=armv8$(comma)vectors $(call go-emulated,arm64,qemu-aarch64-static -cpu neoverse-n1,$(SHORT) ./...))
	@mkdir -p $(BUILD)/arm64 && GOARCH=arm64 CGO_ENABLED=0 $(GO) build -o $(BUILD)/arm64/backends ./scripts/backends
	@$(call backends-arm64,max,armv8 generic)
	@$(call backends-arm64,neoverse-n1,armv8 generic)
	@export GODEBUG=cpu.aes=off; $(call backends-arm64,max,generic)
	@$(MAKE) --no-print-directory test-arm64-c CTESTS=kernels
# The library in C for arm64: with CTESTS=kernels what depends on kernels, otherwise all, and the examples.
test-arm64-c:
	@scripts/deps.sh $(DEPS_BUILD) $(DEPS_ARM64)
	EESP_RUNNER="qemu-aarch64-static -L /usr/aarch64-linux-gnu" $(ARM64) FULL= check-exports check-kernels test-c $(if $(CTESTS),CTESTS=$(CTESTS),test-example)
comma := ,
# Counts the instructions that kernels execute, for docs/arm64.md; minutes.
count-arm64:
	@scripts/deps.sh $(DEPS_BUILD) $(DEPS_ARM64) llvm-22
	@scripts/count_arm64.py $(BUILD)/count

# The Go tests on a CPU without AES, in short mode; ALL=1: as they are. QEMU has no such CPU: GODEBUG makes the library believe so.
test-arm64-generic:
	GODEBUG=cpu.aes=off EESP_TEST_REQUIRE=vectors $(call go-emulated,arm64,qemu-aarch64-static -cpu max,$(if $(ALL),,-short) ./...)

# The backends that a CPU model can run, best first.
backends-arm64 = b=$$(qemu-aarch64-static -cpu $(1) $(BUILD)/arm64/backends | xargs) && \
	test "$$b" = "$(2)" && echo "backends on $(1) $$GODEBUG: $$b" || { echo "backends on $(1) $$GODEBUG: $$b, not $(2)"; exit 1; }

# The generic code on a big-endian machine, with another compiler backend (FULL=1), and with pointers of 32 bits. 386 needs a
# kernel that runs its programs (QEMU runs no Go programs for 386). Otherwise arm is emulated, which also has pointers of 32
# bits; but two tests look at mappings, which differ in an emulator.
PORTABLE := $(addprefix ./internal/,asm generic hkdf keys wire $(if $(FULL),burst counter fresh/... replay secmem kerneltest))
# Tests of threads that share data, and a few long loops. They behave as on amd64, and are slow in an emulator: only with FULL=1,
# on 386 too.
THREADS := AtTheSameTime|AtOnce|Beside|Threads|UnderTraffic|Churn|ReadersAndWriter|Revived|LateRetirement|TestOnce|TestFirst|FoundWhileMoving|NeverTwice|Sleepers|TestModel|WhateverBefalls|NeverShare|UnderLoad|InARotation|TestKill
PORTABLE_FLAGS := $(SHORT) $(if $(FULL),,-skip '$(THREADS)')
define bits32
	set -e; export CGO_ENABLED=0 EESP_TEST_REQUIRE=vectors; \
	if GOARCH=386 $(GO) run ./scripts/backends >/dev/null 2>&1; then \
	  export GOARCH=386; echo "GOARCH=386 $(GOTEST)"; \
	  $(if $(FULL),$(GOTEST) -short ./internal/...,EESP_TEST_PACKETS=1000 $(GOTEST) -short -skip '$(THREADS)|$(LOOPS)' $$($(GO) list -f '{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}}{{end}}' ./internal/...)); \
	else \
	  export GOARCH=arm EESP_RUNNER=qemu-arm-static; \
	  echo "this kernel runs no programs of 386, arm is emulated: TestLocked and TestSeesFaults with 32 bits" >>$${EESP_SKIPPED:-/dev/null}; \
	  echo "GOARCH=arm $(GOTEST) -exec qemu-arm-static"; \
	  $(if $(FULL),$(GOTEST) -exec qemu-arm-static -run Vectors ./internal/eesp;) \
	  $(GOTEST) -exec qemu-arm-static -short -skip 'TestLocked|TestSeesFaults$(if $(FULL),,|$(THREADS)|$(LOOPS))' $(addprefix ./internal/,burst counter fresh generic keys replay secmem wire); \
	fi
endef
test-ports:
	@scripts/deps.sh $(DEPS_ARM64)
	EESP_TEST_REQUIRE=vectors $(call go-emulated,s390x,qemu-s390x-static,$(SHORT) -run Vectors ./internal/eesp)
	$(if $(FULL),,EESP_TEST_PACKETS=1000) EESP_TEST_REQUIRE=vectors $(call go-emulated,s390x,qemu-s390x-static,$(PORTABLE_FLAGS) $(PORTABLE))
	$(if $(FULL),EESP_TEST_REQUIRE=vectors $(call go-emulated,riscv64,qemu-riscv64-static,-run Vectors ./internal/eesp))
	$(if $(FULL),EESP_TEST_REQUIRE=vectors $(call go-emulated,riscv64,qemu-riscv64-static,$(PORTABLE_FLAGS) $(PORTABLE)))
	@$(call bits32)

# Other tests run with the backend that is chosen on this machine, and Go tests try each backend if kernels matter. Here C tests
# that depend on kernels run with the other backends. The generic one has no fast path: only with FULL=1.
test-backends: stage
	@set -e; for b in $$($(GO) run ./scripts/backends | tail -n +2 $(if $(FULL),,| grep -v generic)); do \
	  echo "EESP_BACKEND=$$b"; \
	  $(if $(FULL),EESP_BACKEND=$$b $(GOTEST) -short ./internal/eesp ./internal/burst;) \
	  $(if $(FULL),EESP_TEST_LONG=1) EESP_BACKEND=$$b tests/c/run.sh "$(CC)" "$(CXX)" $(STAGE) $(BUILD)/ctests $(if $(FULL),,kernels) | tail -n 1; \
	done

# Fuzzing by count: with a time limit, Go 1.26 sometimes fails without a failing input (golang/go#75804).
# GUIDED=1 (make test-more): inputs that reach new code are kept, which needs another compilation of all packages.
FUZZTIME ?= 5000x
GUIDED   ?=
test-fuzz: MODULE := .
test-fuzz test-control-fuzz:
	@set -e; mkdir -p $(BUILD)/fuzz; cd $(MODULE); for d in $$(grep -rl --include='*_test.go' --exclude-dir=$(notdir $(BUILD)) $(if $(filter .,$(MODULE)),--exclude-dir=control) '^func Fuzz' . | xargs -n 1 dirname | sort -u); do \
	  p=$(abspath $(BUILD))/fuzz/$$(basename $$d); $(GOTEST) -c $(if $(GUIDED),-fuzz '^Fuzz') -o $$p ./$$d; \
	  for t in $$(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' $$d/*_test.go); do \
	    echo "fuzz $$t $(FUZZTIME)"; \
	    (cd $$d && $$p -test.run '^$$' -test.fuzz "^$$t\$$" -test.fuzztime $(FUZZTIME) -test.fuzzminimizetime 1x -test.fuzzcachedir $$p.cache) >$$p.log 2>&1 || { cat $$p.log; exit 1; }; \
	    tail -n 2 $$p.log | head -n 1; \
	  done; done

test-reference:
	cd testdata/reference && $(PYTHON) -m unittest 2>&1 | tail -n 3
	cd testdata/reference && $(PYTHON) generate.py --check

# The library exports the symbols that the map lists and the header declares, and no others.
check-exports: stage
	@$(NM) -D --defined-only $(SO) | awk '$$2 != "A" {sub(/@.*/, "", $$3); print $$3}' | sort >$(BUILD)/exported
	@sed -n 's/^ *\(eesp_[a-z0-9_]*\);/\1/p' libeesp/libeesp.map | sort >$(BUILD)/listed
	@grep -v '^ \*' include/eesp.h | tr '\n' ' ' | grep -oE 'EESP_API [^;(]*\(' | grep -oE 'eesp_[a-z0-9_]+\($$' | tr -d '(' | sort >$(BUILD)/declared
	diff $(BUILD)/listed $(BUILD)/exported
	diff $(BUILD)/listed $(BUILD)/declared
	@$(READELF) -d $(SO) | grep 'SONAME.*\[libeesp.so.$(MAJOR)\]' >/dev/null
	@test -z "$$($(NM) --extern-only --defined-only $(BUILD)/libeesp.a | awk 'NF==3 && $$3 !~ /^eesp_/ {print $$3}')" || { echo "libeesp.a has other global symbols"; exit 1; }
	@echo "exports: $$(wc -l <$(BUILD)/exported) symbols, all of them eesp_*"

# Kernels in the built library use no Go functions, since C calls them.
check-kernels: $(SO)
	@scripts/check_kernels.sh $(NM) $(OBJDUMP) $(SO)

# CTESTS=kernels: only programs whose results depend on kernels.
test-c: stage
	tests/c/run.sh "$(CC)" "$(CXX)" $(STAGE) $(BUILD)/ctests $(CTESTS)

test-install: all
	tests/install.sh "$(CC)" $(BUILD)/install-test

# The archives as users get them. FULL=1: a second build in another directory gives the same archives.
test-dist: dist
	tests/dist.sh $(DIST) $(BUILD)/dist-test $(if $(FULL),dist)

# Types, and all tests with the wheel in a fresh environment; only the test tools are Debian's.
test-python: wheel
	@scripts/deps.sh $(DEPS_PYTHON)
	$(PYTHON) -m venv --system-site-packages $(PYDIST)/venv
	$(PYDIST)/venv/bin/python -m pip install -q --no-index --no-deps $(PYDIST)/dist/eesp-$(VERSION)-py3-none-manylinux*.whl
	bindings/python/tests/run.sh $(PYDIST)/venv/bin/python $(PYDIST)

# Any difference fails, even an addition: read it, then run make abi-update.
test-abi: $(SO)
	abidiff --harmless --no-architecture --exported-interfaces-only libeesp/libeesp.abi $(SO)
	@echo "abi: as in libeesp/libeesp.abi"
abi-update: $(SO)
	abidw --exported-interfaces-only --no-show-locs --no-comp-dir-path --no-corpus-path --out-file libeesp/libeesp.abi $(SO)

test-example: $(BUILD)/bin/pcap_tunnel $(BUILD)/bin/minimal $(BUILD)/bin/tap_gw $(BUILD)/bin/segments_test
	tests/example.sh $(BUILD)/bin $(BUILD)/example-test
	$$EESP_RUNNER $(BUILD)/bin/segments_test
	$(if $(CROSS),$(if $(FULL),tests/tap_gw.sh $(BUILD)/bin $(BUILD)/tap-test),tests/tap_gw.sh $(BUILD)/bin $(BUILD)/tap-test)
	@if test -n "$(CROSS)"; then echo "eesp_mbuf.h: not tested for another architecture, whose DPDK is not there"; \
	elif pkg-config --exists libdpdk; then \
	  $(MAKE) --no-print-directory $(BUILD)/bin/mbuf_test && $(BUILD)/bin/mbuf_test; \
	else why="libdpdk-dev is not installed"; echo "eesp_mbuf.h: not tested, $$why"; echo "$$why: eesp_mbuf.h" >>$${EESP_SKIPPED:-/dev/null}; fi

# The benchmark's peers agree, and its results are well-formed. Nothing is timed.
test-bench: $(BUILD)/bin/bench $(BUILD)/bin/gopeer $(BUILD)/bin/gotable
	PYTHON="$(PYTHON)" tests/bench.sh $(BUILD)/bin $(BUILD)/bench-test
	@if pkg-config --exists libdpdk; then \
	  $(MAKE) --no-print-directory $(BUILD)/bin/dpdk_bench && PYTHON="$(PYTHON)" tests/dpdk_bench.sh $(BUILD)/bin $(BUILD)/dpdk-bench-test; \
	else why="libdpdk-dev is not installed"; echo "dpdk_bench: not tested, $$why"; echo "$$why: dpdk_bench" >>$${EESP_SKIPPED:-/dev/null}; fi

# The documents say what the code does, and their examples run.
test-docs:
	tests/docs.sh
# The Wireshark dissectors against the vectors, with Debian's tshark; not part of make test.
DEPS_WIRESHARK := tshark python3
test-wireshark:
	@if why=$$(scripts/deps.sh $(DEPS_WIRESHARK) 2>&1 | tail -n 1); then /usr/bin/python3 tests/wireshark.py tshark $(BUILD)/wireshark; \
	else echo "test-wireshark: skipped: $$why"; echo "$$why: wireshark.py" >>$${EESP_SKIPPED:-/dev/null}; fi
test-readme: stage
	GO="$(GO)" tests/readme.sh "$(CC)" $(STAGE) $(BUILD)/readme-test

# Real traffic through DPDK gateways between network namespaces. Needs root.
demo-live:
	@scripts/deps.sh $(DEPS_LIVE)
	@$(MAKE) --no-print-directory $(BUILD)/bin/eesp_gw
	PYTHON="$(PYTHON)" tests/live/demo.sh $(BUILD)/bin $(BUILD)/live
