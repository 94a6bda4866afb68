# The library, its installation, and the programs.
.PHONY: stage
$(SO): $(GOSRC) libeesp/libeesp.map
	@mkdir -p $(BUILD)
	@rm -f $(SO)
	$(write-overlay)
	CC="$(CC)" CGO_ENABLED=1 $(LIBRARY_GO) -buildmode=c-shared -ldflags "$(GOLINK) $(RUNTIME) -extldflags '$(LINK)'" -o $(SO) ./libeesp
	@rm -f $(BUILD)/libeesp.so.$(VERSION).h $(BUILD)/libeesp.so.$(VERSION:.=_).h $(BUILD)/libeesp.so.1.0.h
	ln -sf libeesp.so.$(VERSION) $(BUILD)/libeesp.so.$(MAJOR)
	ln -sf libeesp.so.$(MAJOR) $(BUILD)/libeesp.so

# One object in which all symbols except eesp_* are local, so that a program can link another
# Go archive, too. go.o comes first: load.c's constructor must run after Go's, and the order is
# that of the objects.
# (before: Debian's linker for arm64 works around an erratum of Cortex-A53, and crashes if the
# archive's text begins with Go's, or has debugging information.)
# After the shared one (|): two compilers at the same time would both compile all packages.
$(BUILD)/libeesp.a: $(GOSRC) | $(SO)
	@rm -rf $(BUILD)/archive && mkdir -p $(BUILD)/archive
	$(write-overlay)
	CC="$(CC)" CGO_ENABLED=1 $(LIBRARY_GO) -buildmode=c-archive -ldflags "$(GOLINK) $(RUNTIME)" -o $(BUILD)/archive/all.a ./libeesp
	@mkdir $(BUILD)/archive/x && printf '.text\n.balign 16\n.skip 16\n.section .note.GNU-stack,"",%%progbits\n' | $(CC) -c -x assembler -o $(BUILD)/archive/x/before -
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

# With a space in a path, uninstall would remove what is not the library's.
install-paths:
	@for d in '$(PREFIX)' '$(LIBDIR)' '$(INCLUDEDIR)' '$(MANDIR)' '$(DOCDIR)' '/$(DESTDIR)'; do \
	  case $$d in *[[:space:]]*|[!/]*|'') echo "PREFIX, LIBDIR, INCLUDEDIR, MANDIR, DOCDIR: absolute paths; no spaces, nor in DESTDIR" >&2; exit 2;; esac; done

LICENSE := LICENSE
CHANGELOG := CHANGELOG.md
INSTALLED_DOCS := $(LICENSE) $(CHANGELOG) README.md SECURITY.md $(addprefix docs/,c.md profiles.md dataplane.md control.md performance.md \
	careful.svg flows.svg gateway.svg)
# The library without symbols; debuggers find these in the .debug file beside it.
install: install-paths all $(MAN3).done
	install -d $(DESTDIR)$(LIBDIR)/pkgconfig $(DESTDIR)$(LIBDIR)/.debug $(DESTDIR)$(LIBDIR)/cmake/eesp $(DESTDIR)$(INCLUDEDIR) $(DESTDIR)$(MANDIR)/man3 $(DESTDIR)$(DOCDIR)
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
	install -m 644 packaging/eesp.supp $(DESTDIR)$(DOCDIR)/
	scripts/install_docs.sh $(DESTDIR)$(DOCDIR) $(INSTALLED_DOCS)

uninstall: install-paths
	rm -f $(DESTDIR)$(LIBDIR)/.debug/libeesp.so.$(VERSION).debug $(DESTDIR)$(LIBDIR)/libeesp.so* $(DESTDIR)$(LIBDIR)/libeesp.a $(DESTDIR)$(INCLUDEDIR)/eesp.h $(DESTDIR)$(INCLUDEDIR)/eesp_mbuf.h $(DESTDIR)$(LIBDIR)/pkgconfig/eesp.pc $(DESTDIR)$(MANDIR)/man3/eesp.3 $(DESTDIR)$(MANDIR)/man3/eesp_*.3
	rm -rf $(DESTDIR)$(LIBDIR)/cmake/eesp $(DESTDIR)$(DOCDIR)
	@rmdir $(DESTDIR)$(LIBDIR)/.debug 2>/dev/null || true

# A private installation that the examples, tests and benchmarks use.
stage: $(BUILD)/stage.done
$(BUILD)/stage.done: $(SO) $(BUILD)/libeesp.a packaging/eesp.pc.in include/eesp_mbuf.h packaging/eespConfig.cmake.in docs/eesp.3 scripts/install_docs.sh $(INSTALLED_DOCS)
	@$(MAKE) --no-print-directory -s install PREFIX=$(STAGE) DESTDIR=
	@touch $@

$(BUILD)/bin/%: examples/c/%.c $(BUILD)/stage.done
	@mkdir -p $(BUILD)/bin
	$(CC) -std=c11 -O2 -g $(WARN) -Wconversion $$(pkg-config --cflags eesp) -o $@ $< $$(pkg-config --libs eesp) -Wl,-rpath,$(STAGE)/lib

$(BUILD)/bin/tap_gw: $(wildcard examples/tap/*.[ch] examples/common/*.[ch]) $(BUILD)/stage.done
	@mkdir -p $(BUILD)/bin
	$(CC) -std=gnu11 -O2 -g $(WARN) -Wconversion -Iexamples/common $$(pkg-config --cflags eesp) -o $@ $(filter %.c,$^) $$(pkg-config --libs eesp) -lpthread \
	  -Wl,-rpath,$(STAGE)/lib
# Clients of a granter, docs/control.md.
$(BUILD)/bin/answerer: examples/clients/answerer.c examples/clients/udp.h $(BUILD)/stage.done
	@mkdir -p $(BUILD)/bin
	$(CC) -std=gnu11 -O2 -g $(WARN) -Wconversion $$(pkg-config --cflags eesp) -o $@ $< $$(pkg-config --libs eesp) -Wl,-rpath,$(STAGE)/lib
$(BUILD)/bin/grant_client: examples/clients/client.c examples/clients/grant.c $(wildcard examples/clients/*.h) $(BUILD)/stage.done
	@mkdir -p $(BUILD)/bin
	$(CC) -std=gnu11 -O2 -g $(WARN) -Wconversion $$(pkg-config --cflags eesp openssl) -o $@ $(filter %.c,$^) $$(pkg-config --libs eesp openssl) -Wl,-rpath,$(STAGE)/lib
$(BUILD)/bin/segments_test: tests/tap/segments.c $(wildcard examples/tap/segments.*)
	@mkdir -p $(BUILD)/bin
	$(CC) -std=gnu11 -O2 -g $(WARN) -Wconversion -o $@ $(filter %.c,$^)

# DPDK's macros (SOCKET_ID_ANY, RTE_LCORE_FOREACH) convert -1 to unsigned.
$(BUILD)/bin/eesp_gw: $(wildcard examples/dpdk/*.[ch] examples/common/*.[ch]) $(BUILD)/stage.done
	@mkdir -p $(BUILD)/bin
	$(CC) -std=gnu11 -O2 -g $(WARN) -Wconversion -Wno-sign-conversion $$(pkg-config --cflags libdpdk | sed 's/\(^\| \)-I/\1-isystem /g') $$(pkg-config --cflags eesp) \
	  -Iexamples/common \
	  -o $@ $(filter %.c,$^) $$(pkg-config --libs eesp libdpdk) -Wl,-rpath,$(STAGE)/lib

$(BUILD)/bin/bench: $(filter-out bench/peer_boringssl.c,$(wildcard bench/*.c)) $(wildcard bench/*.h) $(BUILD)/stage.done
	@mkdir -p $(BUILD)/bin
	$(CC) -std=c11 -O2 -g $(WARN) $$(pkg-config --cflags eesp) -o $@ $(filter %.c,$^) $$(pkg-config --libs eesp) -lcrypto -lpthread \
	  $$(echo '#include <intel-ipsec-mb.h>' | $(CC) -E - >/dev/null 2>&1 && echo -lIPSec_MB) -rdynamic -Wl,--enable-new-dtags,-z,lazy,-rpath,$(STAGE)/lib
$(BUILD)/bin/mbuf_test: tests/dpdk/mbuf.c tests/c/test.h $(BUILD)/stage.done
	@mkdir -p $(BUILD)/bin
	$(CC) -std=gnu11 -O2 -g $(WARN) -Wconversion $$(pkg-config --cflags libdpdk | sed 's/\(^\| \)-I/\1-isystem /g') $$(pkg-config --cflags eesp) \
	  -o $@ $< $$(pkg-config --libs eesp libdpdk) -Wl,-rpath,$(STAGE)/lib
$(BUILD)/bin/dpdk_bench: bench/dpdk/dpdk_bench.c $(BUILD)/stage.done
	@mkdir -p $(BUILD)/bin
	$(CC) -std=c11 -O2 -g $(WARN) $$(pkg-config --cflags libdpdk | sed 's/\(^\| \)-I/\1-isystem /g') $$(pkg-config --cflags eesp) \
	  -o $@ $< $$(pkg-config --libs eesp libdpdk) -Wl,--enable-new-dtags,-rpath,$(STAGE)/lib
$(BUILD)/bin/gopeer $(BUILD)/bin/gotable: $(BUILD)/bin/%: bench/%/main.go $(GOSRC)
	@mkdir -p $(BUILD)/bin
	$(GO) build $(GOFLAGS_BUILD) -o $@ ./bench/$*
