# Archives, Debian packages and the Python package.
.PHONY: archive test-deb
# Release archives, and their checksums, in $(BUILD)/dist. The same sources give the same octets.
DIST := $(abspath $(BUILD)/dist)
SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || stat -c %Y CHANGELOG.md)
dist:
	@scripts/deps.sh $(DEPS_BUILD) $(DEPS_ARM64)
	@rm -rf $(DIST)
	@$(MAKE) --no-print-directory archive BUILD=$(BUILD)/portable PACKED=no DIST=$(DIST)
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

# The Python package: a wheel with the library in it and an sdist without, in $(PYDIST)/dist.
PYDIST := $(BUILD)/python
WHEEL_SO := $(BUILD)/portable/libeesp.so.$(VERSION)
wheel:
	@scripts/deps.sh $(DEPS_WHEEL)
	@$(MAKE) --no-print-directory $(WHEEL_SO) BUILD=$(BUILD)/portable PACKED=no
	@rm -rf $(PYDIST) && mkdir -p $(PYDIST)/source/src/eesp/_lib
	tar -C bindings/python --exclude=__pycache__ --exclude='*.egg-info' -cf - . | tar -C $(PYDIST)/source -xf -
	cp LICENSE $(PYDIST)/source/ && cp LICENSE $(PYDIST)/source/src/eesp/_lib/
	strip --strip-unneeded -o $(PYDIST)/source/src/eesp/_lib/libeesp.so.$(MAJOR) $(WHEEL_SO)
	$(PYTHON) -m build --no-isolation --sdist --wheel --outdir $(PYDIST)/dist $(PYDIST)/source >$(PYDIST)/build.log 2>&1 || { tail -n 20 $(PYDIST)/build.log; exit 1; }
	@ls $(PYDIST)/dist
