# What is generated and committed, and how it is formatted.
.PHONY: screenshot check-format check-lint check-generated generate-kernels generate-statuses
# The kernels, written by the programs in internal/gen: amd64's with avo, arm64's without.
KERNELS := $(wildcard internal/asm/*/kernels_amd64.s)
ARMV8   := internal/asm/armv8
generate: generate-kernels generate-statuses
generate-kernels: $(KERNELS:%/kernels_amd64.s=generate-%) generate-$(ARMV8)
# All lists of statuses, from internal/status/statuses.txt.
generate-statuses:
	$(GO) run ./scripts/statuses
generate-$(ARMV8):
	cd internal/gen && $(GO) run ./arm64 -out $(GENERATED)/$(ARMV8)/kernels_arm64.s -stubs $(GENERATED)/$(ARMV8)/stubs_arm64.go
generate-internal/asm/%:
	cd internal/gen && $(GO) run . -backend $* -pkg $* -out $(GENERATED)/internal/asm/$*/kernels_amd64.s -stubs $(GENERATED)/internal/asm/$*/stubs_amd64.go
GENERATED := $(CURDIR)

# Which kernel is fastest at which lengths, measured on this CPU and written to
# internal/asm/*/tuned_amd64.go, to be committed. Half a minute; the machine should be idle.
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
	@! git grep -nE '[^|]\| *grep -[a-zA-Z]*q' -- '*.sh' mk/test.mk || { echo "grep -q ends before it has read all, and pipefail calls what writes to it failed: >/dev/null"; exit 1; }
	@scripts/check_c.sh $$(git ls-files '*.c' '*.h')

# Staticcheck, of the version that internal/gen/go.mod names; a second where it has what it found before. Where it has not, etcd
# takes it minutes: control/ is for FULL=1 (make test-more).
check-lint:
	$(GO) -C internal/gen build -o $(abspath $(BUILD))/bin/staticcheck honnef.co/go/tools/cmd/staticcheck
	$(BUILD)/bin/staticcheck ./...
	cd internal/gen && $(abspath $(BUILD))/bin/staticcheck ./...
	$(if $(FULL),cd control && $(abspath $(BUILD))/bin/staticcheck ./...)

# The picture of docs/wireshark.md.
screenshot: stage
	@scripts/deps.sh wireshark xvfb xdotool imagemagick python3
	$(PYTHON_HERE) /usr/bin/python3 scripts/screenshot/capture.py $(BUILD)/four-profiles.pcap
	scripts/screenshot/screenshot.sh $(BUILD)/four-profiles.pcap $(BUILD)/screenshot docs/wireshark.png

fmt:
	gofmt -w $$(git ls-files '*.go')
