# Tools, directories and flags.
MAJOR   := 1
VERSION := $(shell sed -n 's/^\#define EESP_VERSION_\(MAJOR\|MINOR\|PATCH\) //p' include/eesp.h | paste -sd.)

PREFIX     ?= /usr/local
LIBDIR     ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include
MANDIR     ?= $(PREFIX)/share/man
DOCDIR     ?= $(PREFIX)/share/doc/eesp
DESTDIR    ?=

GO      ?= go
# Without vet, which check-format runs on everything; and it runs what it ran before. All of a package takes its time where it is emulated.
GOTEST   = $(GO) test -vet=off -count=1 $(if $(FULL),-timeout 60m)
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
OBJDUMP := $(CROSS)objdump
READELF := $(CROSS)readelf
PYTHON  ?= /usr/bin/python3
BUILD   := build
STAGE   := $(abspath $(BUILD)/stage)
WARN    := -Wall -Wextra -Wpedantic -Wshadow -Werror
GOFLAGS_BUILD := -trimpath -buildvcs=false
GOSRC   := $(shell find . \( -path ./build -o -path ./control \) -prune -o \( -name '*.go' -o -name '*.s' -o -path './libeesp/*' -name '*.[cht]*' \) -print | grep -v '^./$(BUILD)') go.mod include/eesp.h
SO      := $(BUILD)/libeesp.so.$(VERSION)
# Relative relocations are packed, into 3 KB instead of 0.3 MB, where the linker can do so and the C library understands it
# (glibc 2.36). PACKED=no: not, for a library that is to run on other systems.
comma    := ,
PACKED   := yes
RELR     := $(if $(filter-out yes,$(PACKED))$(CROSS),,$(shell echo __GLIBC_MINOR__ | $(CC) -include features.h -E -P - 2>/dev/null | tail -n 1 | grep -E '^(3[6-9]|[4-9].)$$' >/dev/null && \
  $(LD) --help | grep pack-relative-relocs >/dev/null && echo -z,pack-relative-relocs))
LINK    := -Wl,--version-script=$(abspath libeesp/libeesp.map) -Wl,-soname,libeesp.so.$(MAJOR) -Wl,-z,relro,-z,now,-z,nodelete,-z,noexecstack$(addprefix $(comma),$(RELR)) -Wl,--build-id=sha1

# Settings of Go's runtime in the library; load.c hides the environment's from it.
# asyncpreemptoff: the preemption signal would save vector registers, and keys in them, on a signal stack that is
# neither locked nor left out of core dumps. containermaxprocs, updatemaxprocs: the runtime keeps no descriptors of
# cgroup files, which the program might close. gcshrinkstackoff: stacks keep the space that signal handlers need
# (process.go). (-buildid=: Go's own build ID depends on the path of the sources, the linker's does not.)
RUNTIME := -X runtime.godebugDefault=asyncpreemptoff=1,containermaxprocs=0,updatemaxprocs=0,gcshrinkstackoff=1
# Functions in Go are aligned to 16 octets, not 32; kernels set their own alignment.
GOLINK  := -buildid= -funcalign=16
# Files of Go's that others take the place of. Go refuses that beneath its module cache, where it keeps toolchains that
# it fetched by itself: then by way of a link.
OVERLAY := $(BUILD)/overlay.json
define write-overlay
@mkdir -p $(BUILD)
@root=$$($(GO) env GOROOT); case $$root in "$$($(GO) env GOMODCACHE)"/*) ln -sfn "$$root" $(BUILD)/goroot; root=$(abspath $(BUILD)/goroot);; esac; \
  printf '{"Replace": {"%s/src/runtime/netpoll_epoll.go": "%s/libeesp/netpoll.go.txt"}}\n' "$$root" "$(CURDIR)" >$(OVERLAY).$$$$ && mv -f $(OVERLAY).$$$$ $(OVERLAY)
endef
# Go, to build the library. The tag leaves out what only the root package, for Go, has.
LIBRARY_GO = $$(test ! -e $(BUILD)/goroot || echo env GOROOT=$(abspath $(BUILD)/goroot)) $(GO) build $(GOFLAGS_BUILD) -tags eesp_c -overlay $(abspath $(OVERLAY))

export PKG_CONFIG_PATH := $(STAGE)/lib/pkgconfig
# -trimpath: clones share compiled packages, and so do the library and the tests.
export GOFLAGS := $(GOFLAGS) -buildvcs=false -trimpath
