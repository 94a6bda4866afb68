# libeesp. The two commands: `make run` and `make test`. See README.md.
# Targets that people use are here; the rest is in mk/.
SHELL       := bash
.SHELLFLAGS := -o pipefail -c
.DEFAULT_GOAL := all

include mk/settings.mk mk/deps.mk

help: ## this list
	@echo "libeesp $(VERSION). usage: make [target] [VARIABLE=value]"
	@sed -n 's/^\([a-z0-9-]*\)\( [a-z0-9-]*\)*:[^#]*## \(.*\)/\1|\3/p' Makefile | while IFS='|' read -r target text; do printf '  %-14s %s\n' "$$target" "$$text"; done
	@echo "Also: parts of the tests (test-go, test-c, test-python ...) in mk/test.mk, of the build in mk/build.mk."

all: $(SO) $(BUILD)/libeesp.a ## the library, shared and static (what make does by itself)

run: deps ## the example: tunnels a capture and compares what comes out
	@$(MAKE) --no-print-directory $(BUILD)/bin/pcap_tunnel
	@mkdir -p $(BUILD)/run
	$(BUILD)/bin/pcap_tunnel testdata/captures/mixed.pcap $(BUILD)/run

test: export EESP_SKIPPED := $(abspath $(BUILD))/skipped
test: deps-test ## all tests, some minutes on two cores; make -k test goes on after a part that failed
	@mkdir -p $(BUILD) && : >$(EESP_SKIPPED)
	@tests/parts.sh $(TEST_JOBS) $(BUILD)/test $(TEST_PARTS)
	@tests/skipped.sh $(EESP_SKIPPED)
	@echo "left to make test-more: every test on arm64 and riscv64, and of the C library with each backend; more rounds, examples and random bursts, fuzzing that is"
	@echo "  led by coverage, races in kernels, archives made twice, clients as processes, Wireshark's dissectors"
	@echo "left to make test-long: $(LEFT)"
	@echo "make test: all of it passed"

test-more: ## what takes too long for make test, as CI runs it: long runs, arm64, races, fuzzing
test-long: test-more ## that, and then long tests without AES on arm64, whole models, Debian packages
	@$(MAKE) --no-print-directory test-control-long test-deb
	@$(MAKE) --no-print-directory test-arm64-generic ALL=1

install: ## into PREFIX (/usr/local), under DESTDIR
uninstall: ## what install put there
bench: ## the benchmark beside its peers, minutes; results and charts in bench/out
bench-quick: ## the main figures only, in less than one minute
bench-gateway: ## the TUN gateway beside wireguard-go, through iperf3 and ping; root
figures: ## writes figures of the runs in FROM (bench/out by default) into README.md and docs/performance.md
bench-compare: ## this library beside that of revision BASE
generate: ## writes generated files: the kernels, and lists of statuses
tune: ## measures which kernel is fastest at which lengths on this CPU
fmt: ## gofmt
control: ## the control plane's programs: eespd, eespctl
demo-cluster: ## a cluster of three hosts in network namespaces, under traffic; root
dist: ## release archives and their checksums
deb: ## Debian packages
wheel: ## the Python package

clean: ## removes what was built
	rm -rf $(BUILD) bench/out

.PHONY: help all run test test-long install install-paths uninstall bench bench-quick bench-gateway bench-compare figures generate tune fmt control demo-cluster dist deb wheel clean

include mk/build.mk mk/bench.mk mk/package.mk mk/generate.mk mk/control.mk mk/test.mk
