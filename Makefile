# libeesp. The two commands: `make run` and `make test`. See README.md.
SHELL       := bash
.SHELLFLAGS := -o pipefail -c

MAJOR   := 1
VERSION := $(shell sed -n 's/^\#define EESP_VERSION_\(MAJOR\|MINOR\|PATCH\) //p' include/eesp.h | paste -sd.)

PREFIX     ?= /usr/local
LIBDIR     ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include
MANDIR     ?= $(PREFIX)/share/man
DOCDIR     ?= $(PREFIX)/share/doc/eesp
DESTDIR    ?=

GO      ?= go
# For another architecture: CROSS=aarch64-linux-gnu-, and a BUILD of its own.
CROSS   :=
ifneq ($(CROSS),)
GOARCH  := $(patsubst x86_64,amd64,$(patsubst aarch64,arm64,$(firstword $(subst -, ,$(CROSS)))))
export GOARCH
endif
ifeq ($(origin CC),default)
CC      := $(CROSS)gcc
endif
ifeq ($(origin CXX),default)
CXX     := $(CROSS)g++
endif
AR      := $(CROSS)ar
LD      := $(CROSS)ld
NM      := $(CROSS)nm
OBJCOPY := $(CROSS)objcopy
READELF := $(CROSS)readelf
PYTHON  ?= /usr/bin/python3
BUILD   := build
STAGE   := $(abspath $(BUILD)/stage)
WARN    := -Wall -Wextra -Wpedantic -Werror
GOFLAGS_BUILD := -trimpath -buildvcs=false
GOSRC   := $(shell find . \( -path ./build -o -path ./control \) -prune -o \( -name '*.go' -o -name '*.s' -o -path './libeesp/*' -name '*.[cht]*' \) -print | grep -v '^./$(BUILD)') go.mod include/eesp.h
SO      := $(BUILD)/libeesp.so.$(VERSION)
LINK    := -Wl,--version-script=$(abspath libeesp/libeesp.map) -Wl,-soname,libeesp.so.$(MAJOR) -Wl,-z,relro,-z,now,-z,nodelete,-z,noexecstack -Wl,--build-id=sha1

# Settings of Go's runtime in the library, which load.c keeps the environment from changing.
# asyncpreemptoff: the preemption signal would save vector registers, and keys in them, on a signal stack that is
# neither locked nor left out of core dumps. containermaxprocs, updatemaxprocs: no descriptors of cgroup files are kept,
# which the host might close. gcshrinkstackoff: stacks keep the room that signal handlers need (process.go).
# (-buildid=: Go's own build ID depends on where the sources are, the linker's does not.)
RUNTIME := -X runtime.godebugDefault=asyncpreemptoff=1,containermaxprocs=0,updatemaxprocs=0,gcshrinkstackoff=1
# Files of Go's that others take the place of. Go refuses that beneath its module cache, where it keeps toolchains that
# it fetched by itself: then by way of a link.
OVERLAY := $(BUILD)/overlay.json
define write-overlay
@mkdir -p $(BUILD)
@root=$$($(GO) env GOROOT); case $$root in "$$($(GO) env GOMODCACHE)"/*) ln -sfn "$$root" $(BUILD)/goroot; root=$(abspath $(BUILD)/goroot);; esac; \
  printf '{"Replace": {"%s/src/runtime/netpoll_epoll.go": "%s/libeesp/netpoll.go.txt"}}\n' "$$root" "$(CURDIR)" >$(OVERLAY)
endef
# Go, to build the library.
LIBRARY_GO = $$(test ! -e $(BUILD)/goroot || echo env GOROOT=$(abspath $(BUILD)/goroot)) $(GO) build $(GOFLAGS_BUILD) -overlay $(abspath $(OVERLAY))

export PKG_CONFIG_PATH := $(STAGE)/lib/pkgconfig
export GOFLAGS := $(GOFLAGS) -buildvcs=false

DEPS_BUILD := gcc libc6-dev binutils pkg-config
DEPS_TEST  := $(DEPS_BUILD) g++ spin python3 python3-cryptography python3-cryptography-vectors cmake abigail-tools mandoc shellcheck util-linux tcpdump iproute2 iputils-ping curl
# libipsec-mb is for amd64 only; without it the benchmark leaves it out.
DEPS_PEERS := libssl-dev $(if $(filter x86_64,$(shell uname -m)),libipsec-mb-dev)
DEPS_LIVE  := $(DEPS_BUILD) libdpdk-dev dpdk iperf3 iproute2 ethtool iputils-ping curl tcpdump python3
DEPS_WHEEL := $(DEPS_BUILD) python3 python3-build python3-setuptools python3-wheel
DEPS_PYTHON := $(DEPS_WHEEL) python3-venv mypy python3-pytest python3-hypothesis python3-numpy python3-cryptography python3-matplotlib
DEPS_CONTROL := $(DEPS_BUILD) spin python3 python3-cryptography
DEPS_BENCH := $(DEPS_BUILD) $(DEPS_PEERS) python3 python3-matplotlib python3-cryptography

# Other architectures, under emulation.
DEPS_ARM64 := qemu-user-static gcc-aarch64-linux-gnu g++-aarch64-linux-gnu libc6-dev-arm64-cross binutils-aarch64-linux-gnu

.PHONY: all run demo-live test test-wireshark bench bench-quick bench-full bench-compare bench-dpdk test-bench install uninstall clean deps deps-test stage fmt \
	check-format check-generated generate generate-kernels generate-statuses tune check-exports test-go control demo-cluster test-cluster test-control test-control-fuzz test-backends test-race test-fuzz test-reference test-c test-install test-dist test-abi test-example test-docs test-readme abi-update wheel test-python \
	test-arm64 count-arm64 test-ports dist archive deb test-deb

all: $(SO) $(BUILD)/libeesp.a

deps:
	@scripts/deps.sh $(DEPS_BUILD)
deps-test:
	@scripts/deps.sh $(DEPS_TEST) $(DEPS_PEERS) $(DEPS_LIVE) $(DEPS_PYTHON) $(DEPS_ARM64) $(DEPS_CONTROL)

$(SO): $(GOSRC) libeesp/libeesp.map
	@mkdir -p $(BUILD)
	@rm -f $(SO)
	$(write-overlay)
	CC="$(CC)" CGO_ENABLED=1 $(LIBRARY_GO) -buildmode=c-shared -ldflags "-buildid= $(RUNTIME) -extldflags '$(LINK)'" -o $(SO) ./libeesp
	@rm -f $(BUILD)/libeesp.so.$(VERSION).h $(BUILD)/libeesp.so.$(VERSION:.=_).h $(BUILD)/libeesp.so.1.0.h
	ln -sf libeesp.so.$(VERSION) $(BUILD)/libeesp.so.$(MAJOR)
	ln -sf libeesp.so.$(MAJOR) $(BUILD)/libeesp.so

# One object in which all symbols but ours are local, so that a program may
# link it beside another Go archive's worth of names. go.o comes first: load.c's
# constructor is to run after Go's, and the order is that of the objects.
# (before: Debian's linker for arm64, which mends an erratum of Cortex-A53, crashes
# where the archive's text begins with Go's. Debugging information brings the same.)
$(BUILD)/libeesp.a: $(GOSRC)
	@rm -rf $(BUILD)/archive && mkdir -p $(BUILD)/archive
	$(write-overlay)
	CC="$(CC)" CGO_ENABLED=1 $(LIBRARY_GO) -buildmode=c-archive -ldflags "-buildid= $(RUNTIME)" -o $(BUILD)/archive/all.a ./libeesp
	@mkdir $(BUILD)/archive/x && printf '.text\n.balign 16\n.skip 16\n' | $(CC) -c -x assembler -o $(BUILD)/archive/x/before -
	cd $(BUILD)/archive && $(AR) x all.a && $(LD) -r -d -o eesp.o x/before go.o $$(ls *.o | grep -v '^go\.o$$') && $(OBJCOPY) --strip-debug --wildcard --keep-global-symbol='eesp_*' eesp.o
	@rm -f $@
	$(AR) rcsD $@ $(BUILD)/archive/eesp.o
	@rm -rf $(BUILD)/archive

# A page for each function, from the header's comments.
MAN3 := $(BUILD)/man3
$(MAN3).done: include/eesp.h docs/eesp.3 scripts/manpages/main.go
	@rm -rf $(MAN3)
	GOARCH= $(GO) run ./scripts/manpages include/eesp.h docs/eesp.3 $(MAN3)
	@touch $@

# The library without symbols; debuggers find them in .debug beside it.
install: all $(MAN3).done
	install -d $(DESTDIR)$(LIBDIR)/pkgconfig $(DESTDIR)$(LIBDIR)/.debug $(DESTDIR)$(LIBDIR)/cmake/eesp $(DESTDIR)$(INCLUDEDIR) $(DESTDIR)$(MANDIR)/man3 $(DESTDIR)$(DOCDIR)/docs
	$(OBJCOPY) --only-keep-debug $(SO) $(DESTDIR)$(LIBDIR)/.debug/libeesp.so.$(VERSION).debug
	@chmod 644 $(DESTDIR)$(LIBDIR)/.debug/libeesp.so.$(VERSION).debug
	$(OBJCOPY) --strip-unneeded --add-gnu-debuglink=$(DESTDIR)$(LIBDIR)/.debug/libeesp.so.$(VERSION).debug $(SO) $(DESTDIR)$(LIBDIR)/libeesp.so.$(VERSION)
	@chmod 755 $(DESTDIR)$(LIBDIR)/libeesp.so.$(VERSION)
	ln -sf libeesp.so.$(VERSION) $(DESTDIR)$(LIBDIR)/libeesp.so.$(MAJOR)
	ln -sf libeesp.so.$(MAJOR) $(DESTDIR)$(LIBDIR)/libeesp.so
	install -m 644 $(BUILD)/libeesp.a $(DESTDIR)$(LIBDIR)/
	install -m 644 include/eesp.h include/eesp_mbuf.h $(DESTDIR)$(INCLUDEDIR)/
	sed 's|@PREFIX@|$(PREFIX)|; s|@LIBDIR@|$(patsubst $(PREFIX)/%,$${prefix}/%,$(LIBDIR))|; s|@INCLUDEDIR@|$(patsubst $(PREFIX)/%,$${prefix}/%,$(INCLUDEDIR))|; s|@VERSION@|$(VERSION)|' packaging/eesp.pc.in >$(DESTDIR)$(LIBDIR)/pkgconfig/eesp.pc
	sed 's|@VERSION@|$(VERSION)|; s|@MAJOR@|$(MAJOR)|; s|@REL_INCLUDE@|$(shell realpath -m --relative-to=$(LIBDIR)/cmake/eesp $(INCLUDEDIR))|' packaging/eespConfig.cmake.in >$(DESTDIR)$(LIBDIR)/cmake/eesp/eespConfig.cmake
	sed 's|@VERSION@|$(VERSION)|; s|@MAJOR@|$(MAJOR)|' packaging/eespConfigVersion.cmake.in >$(DESTDIR)$(LIBDIR)/cmake/eesp/eespConfigVersion.cmake
	install -m 644 docs/eesp.3 $(MAN3)/*.3 $(DESTDIR)$(MANDIR)/man3/
	install -m 644 LICENSE README.md SECURITY.md CHANGELOG.md packaging/eesp.supp $(DESTDIR)$(DOCDIR)/
	install -m 644 docs/profiles.md docs/dataplane.md $(DESTDIR)$(DOCDIR)/docs/

uninstall:
	rm -f $(DESTDIR)$(LIBDIR)/.debug/libeesp.so.$(VERSION).debug $(DESTDIR)$(LIBDIR)/libeesp.so* $(DESTDIR)$(LIBDIR)/libeesp.a $(DESTDIR)$(INCLUDEDIR)/eesp.h $(DESTDIR)$(INCLUDEDIR)/eesp_mbuf.h $(DESTDIR)$(LIBDIR)/pkgconfig/eesp.pc $(DESTDIR)$(MANDIR)/man3/eesp.3 $(DESTDIR)$(MANDIR)/man3/eesp_*.3
	rm -rf $(DESTDIR)$(LIBDIR)/cmake/eesp $(DESTDIR)$(DOCDIR)
	@rmdir $(DESTDIR)$(LIBDIR)/.debug 2>/dev/null || true

# Release archives, and their checksums, in $(BUILD)/dist. The same sources give the same octets.
DIST := $(abspath $(BUILD)/dist)
SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || stat -c %Y CHANGELOG.md)
dist:
	@scripts/deps.sh $(DEPS_BUILD) $(DEPS_ARM64)
	@rm -rf $(DIST)
	@$(MAKE) --no-print-directory archive
	@$(ARM64) archive DIST=$(DIST) SOURCE_DATE_EPOCH=$(SOURCE_DATE_EPOCH)
	cd $(DIST) && sha256sum libeesp-*.tar.gz >SHA256SUMS
archive: NAME = libeesp-$(VERSION)-linux-$(or $(GOARCH),$(shell $(GO) env GOARCH))
archive: all
	@rm -rf $(BUILD)/unpacked && mkdir -p $(DIST)
	@$(MAKE) --no-print-directory -s install DESTDIR=$(abspath $(BUILD)/unpacked) PREFIX=/usr/local LIBDIR=/usr/local/lib \
	  INCLUDEDIR=/usr/local/include MANDIR=/usr/local/share/man DOCDIR=/usr/local/share/doc/eesp
	@mv $(BUILD)/unpacked/usr/local $(BUILD)/unpacked/$(NAME)
	tar -C $(BUILD)/unpacked --sort=name --format=ustar --owner=0 --group=0 --numeric-owner --mode=u=rwX,go=rX \
	  --mtime=@$(SOURCE_DATE_EPOCH) -cf - $(NAME) | gzip -9n >$(DIST)/$(NAME).tar.gz
	@rm -rf $(BUILD)/unpacked

# Debian packages of the sources as they are, in $(BUILD)/deb; test-deb uses them in a fresh system (debootstrap; root).
DEPS_DEB := $(DEPS_BUILD) debhelper dh-python dpkg-dev help2man libdpdk-dev lintian python3
deb:
	@scripts/deps.sh $(DEPS_DEB)
	SOURCE_DATE_EPOCH=$(SOURCE_DATE_EPOCH) scripts/deb.sh $(BUILD)/deb $(VERSION)
test-deb: deb
	@scripts/deps.sh debootstrap
	tests/deb.sh $(BUILD)/deb $(BUILD)/deb-test

# A private installation that the examples, tests and benchmarks use.
stage: $(BUILD)/stage.done
$(BUILD)/stage.done: $(SO) $(BUILD)/libeesp.a packaging/eesp.pc.in include/eesp_mbuf.h packaging/eespConfig.cmake.in docs/eesp.3 docs/profiles.md docs/dataplane.md
	@$(MAKE) --no-print-directory -s install PREFIX=$(STAGE) DESTDIR=
	@touch $@

$(BUILD)/bin/%: examples/c/%.c $(BUILD)/stage.done
	@mkdir -p $(BUILD)/bin
	$(CC) -std=c11 -O2 -g $(WARN) $$(pkg-config --cflags eesp) -o $@ $< $$(pkg-config --libs eesp) -Wl,-rpath,$(STAGE)/lib

$(BUILD)/bin/eesp_gw: $(wildcard examples/dpdk/*.[ch]) $(BUILD)/stage.done
	@mkdir -p $(BUILD)/bin
	$(CC) -std=gnu11 -O2 -g $(WARN) $$(pkg-config --cflags libdpdk | sed 's/\(^\| \)-I/\1-isystem /g') $$(pkg-config --cflags eesp) \
	  -o $@ $(filter %.c,$^) $$(pkg-config --libs eesp libdpdk) -Wl,-rpath,$(STAGE)/lib

$(BUILD)/bin/bench: $(filter-out bench/peer_boringssl.c,$(wildcard bench/*.c)) $(wildcard bench/*.h) $(BUILD)/stage.done
	@mkdir -p $(BUILD)/bin
	$(CC) -std=c11 -O2 -g $(WARN) $$(pkg-config --cflags eesp) -o $@ $(filter %.c,$^) $$(pkg-config --libs eesp) -lcrypto -lpthread \
	  $$(echo '#include <intel-ipsec-mb.h>' | $(CC) -E - >/dev/null 2>&1 && echo -lIPSec_MB) -rdynamic -Wl,--enable-new-dtags,-z,lazy,-rpath,$(STAGE)/lib
$(BUILD)/bin/mbuf_test: tests/dpdk/mbuf.c tests/c/test.h $(BUILD)/stage.done
	@mkdir -p $(BUILD)/bin
	$(CC) -std=gnu11 -O2 -g $(WARN) $$(pkg-config --cflags libdpdk | sed 's/\(^\| \)-I/\1-isystem /g') $$(pkg-config --cflags eesp) \
	  -o $@ $< $$(pkg-config --libs eesp libdpdk) -Wl,-rpath,$(STAGE)/lib
$(BUILD)/bin/dpdk_bench: bench/dpdk/dpdk_bench.c $(BUILD)/stage.done
	@mkdir -p $(BUILD)/bin
	$(CC) -std=c11 -O2 -g $(WARN) $$(pkg-config --cflags libdpdk | sed 's/\(^\| \)-I/\1-isystem /g') $$(pkg-config --cflags eesp) \
	  -o $@ $< $$(pkg-config --libs eesp libdpdk) -Wl,--enable-new-dtags,-rpath,$(STAGE)/lib
$(BUILD)/bin/gopeer $(BUILD)/bin/gotable: $(BUILD)/bin/%: bench/%/main.go $(GOSRC)
	@mkdir -p $(BUILD)/bin
	$(GO) build $(GOFLAGS_BUILD) -o $@ ./bench/$*

run: deps
	@$(MAKE) --no-print-directory $(BUILD)/bin/pcap_tunnel
	@mkdir -p $(BUILD)/run
	$(BUILD)/bin/pcap_tunnel testdata/captures/mixed.pcap $(BUILD)/run

# Real traffic through DPDK gateways between network namespaces. Needs root.
demo-live:
	@scripts/deps.sh $(DEPS_LIVE)
	@$(MAKE) --no-print-directory $(BUILD)/bin/eesp_gw
	PYTHON="$(PYTHON)" tests/live/demo.sh $(BUILD)/bin $(BUILD)/live

# bench: some minutes; bench-quick: the headline, in less than one; bench-full: every combination.
# BENCH_FLAGS: see `build/bin/bench --help`. BENCH_PEERS: prefixes under which other libraries are installed, each
# include/ and lib/: libipsec-mb, OpenSSL, AWS-LC or BoringSSL, measured beside the system's own.
BENCH_PEERS ?=
# The Python package as it is in the sources, with the library that is staged.
PYTHON_HERE := EESP_LIBRARY=$(STAGE)/lib/libeesp.so.$(MAJOR) PYTHONPATH=$(CURDIR)/bindings/python/src PYTHONDONTWRITEBYTECODE=1
BENCH_OUT ?= bench/out
bench bench-quick bench-full:
	@scripts/deps.sh $(DEPS_BENCH)
	@$(MAKE) --no-print-directory $(BUILD)/bin/bench $(BUILD)/bin/gopeer $(BUILD)/bin/gotable
	@mkdir -p $(BENCH_OUT)
	peers=$$(CC="$(CC)" bench/plugin.sh $(BUILD)/bin $(BENCH_PEERS)) && \
	  $(BUILD)/bin/bench $(patsubst bench-%,--%,$(filter-out bench,$@)) --gopeer $(BUILD)/bin/gopeer $$peers --out $(BENCH_OUT) $(BENCH_FLAGS)
	@$(PYTHON) bench/plot.py $(BENCH_OUT)
	@echo && $(BUILD)/bin/gotable $(if $(filter bench-quick,$@),-quick) -out $(BENCH_OUT)
	$(if $(filter bench-quick,$@),,$(PYTHON_HERE) $(PYTHON) -m eesp bench | tee $(BENCH_OUT)/python.txt)
	@if [ $@ = bench-quick ]; then :; \
	elif pkg-config --exists libdpdk; then $(MAKE) --no-print-directory bench-dpdk; \
	else echo "DPDK is left out: libdpdk-dev is not installed"; fi

# Cycles per packet in a DPDK loop, beside DPDK's own crypto devices; seconds.
bench-dpdk:
	@scripts/deps.sh $(DEPS_BUILD) $(DEPS_PEERS) libdpdk-dev
	@$(MAKE) --no-print-directory $(BUILD)/bin/dpdk_bench
	$(BUILD)/bin/dpdk_bench --out $(BENCH_OUT)

# The library of revision BASE and the one here, in alternating rounds.
bench-compare:
	@test -n "$(BASE)" || { echo "usage: make bench-compare BASE=revision"; exit 2; }
	@scripts/deps.sh $(DEPS_BUILD) $(DEPS_PEERS)
	@$(MAKE) --no-print-directory $(BUILD)/bin/bench
	@rm -rf $(BUILD)/base $(BUILD)/base-src && mkdir -p $(BUILD)/base-src
	git archive $(BASE) | tar -x -C $(BUILD)/base-src
	@$(MAKE) --no-print-directory -s -C $(BUILD)/base-src BUILD=build all
	@mv $(BUILD)/base-src/build $(BUILD)/base && rm -rf $(BUILD)/base-src
	$(BUILD)/bin/bench --compare $(BUILD)/base $(BUILD) $(BENCH_FLAGS)

fmt:
	gofmt -w $$(git ls-files '*.go')

test: export EESP_SKIPPED := $(abspath $(BUILD))/skipped
test: deps-test
	@mkdir -p $(BUILD) && : >$(EESP_SKIPPED)
	@$(MAKE) --no-print-directory check-format check-generated stage
	@$(MAKE) --no-print-directory test-go
	@$(MAKE) --no-print-directory test-race
	@$(MAKE) --no-print-directory test-fuzz
	@$(MAKE) --no-print-directory test-control
	@$(MAKE) --no-print-directory test-arm64 test-ports
	@$(MAKE) --no-print-directory test-reference
	@$(MAKE) --no-print-directory check-exports test-c test-backends test-install test-dist test-abi test-example test-docs test-readme test-bench test-python demo-live
	@tests/skipped.sh $(EESP_SKIPPED)
	@echo "make test: all of it passed"

# The kernels, written by the programs in internal/gen: amd64's with avo, arm64's without.
KERNELS := $(wildcard internal/asm/*/kernels_amd64.s)
ARMV8   := internal/asm/armv8
generate: generate-kernels generate-statuses
generate-kernels: $(KERNELS:%/kernels_amd64.s=generate-%) generate-$(ARMV8)
# What names statuses, from internal/status/statuses.txt.
generate-statuses:
	$(GO) run ./scripts/statuses
generate-$(ARMV8):
	cd internal/gen && $(GO) run ./arm64 -out $(GENERATED)/$(ARMV8)/kernels_arm64.s -stubs $(GENERATED)/$(ARMV8)/stubs_arm64.go
generate-internal/asm/%:
	cd internal/gen && $(GO) run . -backend $* -pkg $* -out $(GENERATED)/internal/asm/$*/kernels_amd64.s -stubs $(GENERATED)/internal/asm/$*/stubs_amd64.go
GENERATED := $(CURDIR)

# From which lengths on which kernels are faster, measured on this CPU and written
# into internal/asm/*/tuned_amd64.go, to be committed. Half a minute; the machine should be idle.
tune:
	$(GO) run ./scripts/tune .

check-generated:
	@rm -rf $(BUILD)/_generated && mkdir -p $(patsubst %/kernels_amd64.s,$(BUILD)/_generated/%,$(KERNELS)) $(BUILD)/_generated/$(ARMV8)
	@$(GO) run ./scripts/statuses -check
	@$(MAKE) --no-print-directory -s generate-kernels GENERATED=$(abspath $(BUILD)/_generated)
	@for f in $(KERNELS) $(KERNELS:%/kernels_amd64.s=%/stubs_amd64.go) $(ARMV8)/kernels_arm64.s $(ARMV8)/stubs_arm64.go; do cmp $$f $(BUILD)/_generated/$$f || { echo "run make generate"; exit 1; }; done
	@echo "generated: $(words $(KERNELS) $(ARMV8)) backends are what internal/gen writes"

check-format:
	@bad=$$(gofmt -l $$(git ls-files '*.go')); test -z "$$bad" || { echo "gofmt: $$bad"; exit 1; }
	$(GO) vet ./...
	GOARCH=arm64 CGO_ENABLED=0 $(GO) vet ./internal/asm/...
	cd internal/gen && $(GO) vet ./...
	cd control && $(GO) vet ./...
	shellcheck $$(git ls-files '*.sh') .ci/run

test-go:
	EESP_TEST_REQUIRE=vectors $(GO) test ./...
test-race:
	CGO_ENABLED=1 $(GO) test -race -short ./...

# The Go tests of another architecture: GOARCH, emulator, what go test is told.
go-emulated = EESP_RUNNER="$(2)" GOARCH=$(1) CGO_ENABLED=0 $(GO) test -exec "$(2)" $(3)
ARM64 := $(MAKE) --no-print-directory BUILD=$(BUILD)/arm64 CROSS=aarch64-linux-gnu- CC=aarch64-linux-gnu-gcc CXX=aarch64-linux-gnu-g++

# On a CPU with all, one without SHA-3, and one without AES, of which QEMU has none: there the library only believes so.
# Kernels are tested like in short mode; `make test-arm64 SHORT=` takes all their cases, and ten minutes.
SHORT ?= -short
test-arm64:
	@scripts/deps.sh $(DEPS_BUILD) $(DEPS_ARM64)
	EESP_TEST_REQUIRE=armv8,eor3,vectors $(call go-emulated,arm64,qemu-aarch64-static -cpu max,$(SHORT) ./...)
	EESP_TEST_REQUIRE=armv8,vectors $(call go-emulated,arm64,qemu-aarch64-static -cpu max,-run Vectors .)
	EESP_TEST_REQUIRE=armv8,vectors $(call go-emulated,arm64,qemu-aarch64-static -cpu neoverse-n1,$(SHORT) ./...)
	@$(call backends-arm64,max,armv8 generic)
	@$(call backends-arm64,neoverse-n1,armv8 generic)
	@export GODEBUG=cpu.aes=off; $(call backends-arm64,max,generic)
	GODEBUG=cpu.aes=off EESP_TEST_REQUIRE=vectors $(call go-emulated,arm64,qemu-aarch64-static -cpu max,-short ./...)
	EESP_RUNNER="qemu-aarch64-static -L /usr/aarch64-linux-gnu" $(ARM64) check-exports test-c test-example
# What the kernels execute, for docs/arm64.md; minutes.
count-arm64:
	@scripts/deps.sh $(DEPS_BUILD) $(DEPS_ARM64) llvm-22
	@scripts/count_arm64.py $(BUILD)/count

# What a CPU model can run, best first.
backends-arm64 = b=$$(GOARCH=arm64 CGO_ENABLED=0 $(GO) run -exec "qemu-aarch64-static -cpu $(1)" ./scripts/backends | xargs) && \
	test "$$b" = "$(2)" && echo "backends on $(1) $$GODEBUG: $$b" || { echo "backends on $(1) $$GODEBUG: $$b, not $(2)"; exit 1; }

# 386 needs a kernel that runs its programs (QEMU runs none of Go's); without, arm has pointers of 32 bits as well, but
# an emulator's mappings are not those that two of the tests look at.
define bits32
	set -e; export CGO_ENABLED=0 EESP_TEST_REQUIRE=vectors; \
	if GOARCH=386 $(GO) run ./scripts/backends >/dev/null 2>&1; then \
	  echo "GOARCH=386 $(GO) test -short . ./internal/..."; GOARCH=386 $(GO) test -short . ./internal/...; \
	else \
	  export GOARCH=arm EESP_RUNNER=qemu-arm-static; \
	  echo "this kernel runs no programs of 386, arm is emulated: TestLocked and TestSeesFaults with 32 bits" >>$${EESP_SKIPPED:-/dev/null}; \
	  echo "GOARCH=arm $(GO) test -exec qemu-arm-static"; \
	  $(GO) test -exec qemu-arm-static -run Vectors .; \
	  $(GO) test -exec qemu-arm-static -short -skip 'TestLocked|TestSeesFaults' ./internal/...; \
	fi
endef
# The generic code where octets have another order, where the compiler is another, and where pointers have 32 bits.
test-ports:
	@scripts/deps.sh $(DEPS_ARM64)
	EESP_TEST_REQUIRE=vectors $(call go-emulated,s390x,qemu-s390x-static,-run Vectors .)
	EESP_TEST_REQUIRE=vectors $(call go-emulated,s390x,qemu-s390x-static,-short ./internal/...)
	EESP_TEST_REQUIRE=vectors $(call go-emulated,riscv64,qemu-riscv64-static,-run Vectors .)
	EESP_TEST_REQUIRE=vectors $(call go-emulated,riscv64,qemu-riscv64-static,-short ./internal/...)
	@$(call bits32)

# All else runs with the backend that is chosen here; with the others, this.
test-backends: stage
	@set -e; for b in $$($(GO) run ./scripts/backends | tail -n +2); do \
	  echo "EESP_BACKEND=$$b"; \
	  EESP_BACKEND=$$b $(GO) test -short . ./internal/burst; \
	  EESP_BACKEND=$$b tests/c/run.sh "$(CC)" "$(CXX)" $(STAGE) $(BUILD)/ctests | tail -n 1; \
	done

# By count: at the end of a time, Go 1.26 fails now and then without a failing input (golang/go#75804).
FUZZTIME ?= 10000x
test-fuzz: MODULE := .
test-fuzz test-control-fuzz:
	@set -e; mkdir -p $(BUILD); cd $(MODULE); for f in $$(grep -rl --include='*_test.go' $(if $(filter .,$(MODULE)),--exclude-dir=control) '^func Fuzz' . | sort); do \
	  for t in $$(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' $$f); do \
	    echo "fuzz $$t $(FUZZTIME)"; \
	    $(GO) test -run '^$$' -fuzz "^$$t\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 1x ./$$(dirname $$f) >$(abspath $(BUILD))/fuzz.log 2>&1 || { cat $(abspath $(BUILD))/fuzz.log; exit 1; }; \
	    tail -n 1 $(abspath $(BUILD))/fuzz.log; \
	  done; done

# The control plane, a module of its own (control/README.md).
test-control:
	@scripts/deps.sh $(DEPS_CONTROL)
	cd control && CGO_ENABLED=1 $(GO) test -race -short ./...
	@$(MAKE) --no-print-directory test-control-fuzz
test-control-fuzz: MODULE := control

CONTROL := $(addprefix $(BUILD)/bin/,eespd eespctl eesp-demo)
control: $(CONTROL)
$(CONTROL) &: $(shell find control -name '*.go') control/go.mod
	@mkdir -p $(BUILD)/bin
	cd control && CGO_ENABLED=0 $(GO) build $(GOFLAGS_BUILD) -o $(abspath $(BUILD))/bin/ ./cmd/...

# Three hosts as network namespaces, under traffic. Needs root.
demo-cluster: $(CONTROL)
	@scripts/deps.sh $(DEPS_BUILD) iproute2 python3
	tests/cluster/demo.sh $(BUILD)/bin $(BUILD)/cluster
# All of the control plane's tests, minutes: a thousand rotations under load, emergencies, more of the model, the demonstration.
test-cluster: test-control $(CONTROL)
	cd control && EESP_TEST_LONG=1 EESP_TEST_ROTATIONS=1000 $(GO) test -timeout 60m ./...
	tests/cluster/demo.sh $(BUILD)/bin $(BUILD)/cluster --json

test-reference:
	cd testdata/reference && $(PYTHON) -m unittest 2>&1 | tail -n 3
	cd testdata/reference && $(PYTHON) generate.py --check

# What the library exports is what the map lists and what the header declares.
check-exports: stage
	@$(NM) -D --defined-only $(SO) | awk '$$2 != "A" {sub(/@.*/, "", $$3); print $$3}' | sort >$(BUILD)/exported
	@sed -n 's/^ *\(eesp_[a-z0-9_]*\);/\1/p' libeesp/libeesp.map | sort >$(BUILD)/listed
	@grep -v '^ \*' include/eesp.h | tr '\n' ' ' | grep -oE 'EESP_API [^;(]*\(' | grep -oE 'eesp_[a-z0-9_]+\($$' | tr -d '(' | sort >$(BUILD)/declared
	diff $(BUILD)/listed $(BUILD)/exported
	diff $(BUILD)/listed $(BUILD)/declared
	@$(READELF) -d $(SO) | grep -q 'SONAME.*\[libeesp.so.$(MAJOR)\]'
	@test -z "$$($(NM) --extern-only --defined-only $(BUILD)/libeesp.a | awk 'NF==3 && $$3 !~ /^eesp_/ {print $$3}')" || { echo "libeesp.a has other global symbols"; exit 1; }
	@echo "exports: $$(wc -l <$(BUILD)/exported) symbols, all of them eesp_*"

test-c: stage
	tests/c/run.sh "$(CC)" "$(CXX)" $(STAGE) $(BUILD)/ctests

test-install: all
	tests/install.sh "$(CC)" $(BUILD)/install-test

# The archives as users have them, and made once more elsewhere.
test-dist: dist
	tests/dist.sh $(DIST) $(BUILD)/dist-test

# The Python package: a wheel with the library in it and an sdist without, in $(PYDIST)/dist.
PYDIST := $(BUILD)/python
wheel: $(SO)
	@scripts/deps.sh $(DEPS_WHEEL)
	@rm -rf $(PYDIST) && mkdir -p $(PYDIST)/source/src/eesp/_lib
	tar -C bindings/python --exclude=__pycache__ --exclude='*.egg-info' -cf - . | tar -C $(PYDIST)/source -xf -
	cp LICENSE $(PYDIST)/source/ && cp LICENSE $(PYDIST)/source/src/eesp/_lib/
	strip --strip-unneeded -o $(PYDIST)/source/src/eesp/_lib/libeesp.so.$(MAJOR) $(SO)
	$(PYTHON) -m build --no-isolation --sdist --wheel --outdir $(PYDIST)/dist $(PYDIST)/source >$(PYDIST)/build.log 2>&1 || { tail -n 20 $(PYDIST)/build.log; exit 1; }
	@ls $(PYDIST)/dist

# Types, and all tests with the wheel in a fresh environment; only the test tools are Debian's.
test-python: wheel
	@scripts/deps.sh $(DEPS_PYTHON)
	$(PYTHON) -m venv --system-site-packages $(PYDIST)/venv
	$(PYDIST)/venv/bin/python -m pip install -q --no-index --no-deps $(PYDIST)/dist/eesp-$(VERSION)-py3-none-manylinux*.whl
	bindings/python/tests/run.sh $(PYDIST)/venv/bin/python $(PYDIST)

# Any difference fails, an addition too: then read it, and make abi-update.
test-abi: $(SO)
	abidiff --harmless --no-architecture --exported-interfaces-only libeesp/libeesp.abi $(SO)
	@echo "abi: as in libeesp/libeesp.abi"
abi-update: $(SO)
	abidw --exported-interfaces-only --no-show-locs --no-comp-dir-path --no-corpus-path --out-file libeesp/libeesp.abi $(SO)

test-example: $(BUILD)/bin/pcap_tunnel $(BUILD)/bin/minimal $(BUILD)/bin/tap_gw
	tests/example.sh $(BUILD)/bin $(BUILD)/example-test
	tests/tap_gw.sh $(BUILD)/bin $(BUILD)/tap-test
	@if pkg-config --exists libdpdk; then \
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
# The dissectors against the vectors, with Debian's tshark; not part of make test.
DEPS_WIRESHARK := tshark python3
test-wireshark:
	@scripts/deps.sh $(DEPS_WIRESHARK)
	/usr/bin/python3 tests/wireshark.py tshark $(BUILD)/wireshark
test-readme: stage
	GO="$(GO)" tests/readme.sh "$(CC)" $(STAGE) $(BUILD)/readme-test

clean:
	rm -rf $(BUILD) bench/out
