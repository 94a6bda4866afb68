# Debian's packages that each part needs; scripts/deps.sh installs those that are missing.
.PHONY: deps deps-test
DEPS_BUILD := gcc libc6-dev binutils pkg-config
DEPS_TEST  := $(DEPS_BUILD) g++ spin python3 python3-cryptography python3-cryptography-vectors cmake abigail-tools mandoc shellcheck util-linux tcpdump iproute2 iputils-ping curl
# libipsec-mb is for amd64 only; without it the benchmark leaves it out.
DEPS_PEERS := libssl-dev $(if $(filter x86_64,$(shell uname -m)),libipsec-mb-dev)
DEPS_LIVE  := $(DEPS_BUILD) libdpdk-dev dpdk iperf3 iproute2 ethtool iputils-ping curl tcpdump python3
DEPS_WHEEL := $(DEPS_BUILD) python3 python3-build python3-setuptools python3-wheel
DEPS_PYTHON := $(DEPS_WHEEL) python3-venv mypy python3-pytest python3-hypothesis python3-numpy python3-cryptography python3-matplotlib python3-scapy
DEPS_CONTROL := $(DEPS_BUILD) spin python3 python3-cryptography util-linux iproute2
DEPS_BENCH := $(DEPS_BUILD) $(DEPS_PEERS) python3 python3-matplotlib python3-cryptography

# Other architectures, under emulation.
DEPS_ARM64 := qemu-user-static gcc-aarch64-linux-gnu g++-aarch64-linux-gnu libc6-dev-arm64-cross binutils-aarch64-linux-gnu

deps:
	@scripts/deps.sh $(DEPS_BUILD)
deps-test:
	@scripts/deps.sh $(DEPS_TEST) $(DEPS_PEERS) $(DEPS_LIVE) $(DEPS_PYTHON) $(DEPS_ARM64) $(DEPS_CONTROL)
