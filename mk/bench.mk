# Benchmarks.
.PHONY: bench-full bench-dpdk
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

# Tables and charts of the documents, from the outputs of runs: make figures FROM="out1 out2 out3".
FROM ?= $(BENCH_OUT)
figures:
	$(PYTHON) bench/figures.py $(FROM)

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

# tap_gw beside wireguard-go, in namespaces on this machine. Needs root, and Go's modules the first time.
bench-gateway:
	@scripts/deps.sh $(DEPS_BUILD) iperf3 iproute2 iputils-ping wireguard-tools python3 python3-matplotlib
	@$(MAKE) --no-print-directory $(BUILD)/bin/tap_gw
	cd bench/wireguard && $(GO) build $(GOFLAGS_BUILD) -o $(abspath $(BUILD))/bin/wireguard-go golang.zx2c4.com/wireguard
	$(PYTHON) bench/gateway.py $(BUILD)/bin/tap_gw $(BUILD)/bin/wireguard-go $(BENCH_OUT) --chart $(BENCH_OUT)/gateway.svg $(BENCH_FLAGS)
