# The control plane, a module of its own (docs/control-packages.md).
.PHONY: test-clients test-servers test-cluster test-control test-control-long test-control-fuzz
# etcd is compiled once, for go vet and for this. With the race detector in etcd too it takes minutes more (FULL=1). So are
# packages without tests, which go test would compile, and etcd for them.
test-control:
	@scripts/deps.sh $(DEPS_CONTROL)
	cd control && $(GOTEST) -short ./store/etcd
	cd control && CGO_ENABLED=1 $(GOTEST) -race -short $(if $(FULL),./...,$$($(GO) list -f '{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}}{{end}}' ./... | grep -v 'etcd$$'))
	@$(MAKE) --no-print-directory test-control-fuzz
test-control-fuzz: MODULE := control

CONTROL := $(addprefix $(BUILD)/bin/,eespd eespctl eesp-demo)
control: $(CONTROL)
$(CONTROL) &: $(shell find control -name '*.go') control/go.mod
	@mkdir -p $(BUILD)/bin
	cd control && CGO_ENABLED=0 $(GO) build $(GOFLAGS_BUILD) -o $(abspath $(BUILD))/bin/ ./cmd/...

# Three hosts as network namespaces, under traffic. Needs root.
demo-cluster: $(CONTROL) $(BUILD)/bin/tap_gw
	@scripts/deps.sh $(DEPS_BUILD) iproute2 iputils-ping curl iperf3 python3
	tests/cluster/demo.sh $(BUILD)/bin $(BUILD)/cluster
# Clients outside the cluster, in C and Python.
test-clients: $(CONTROL) $(BUILD)/bin/answerer $(BUILD)/bin/grant_client
	@scripts/deps.sh $(DEPS_BUILD) libssl-dev python3
	EESP_LIBRARY=$(abspath $(SO)) PYTHONPATH=$(abspath bindings/python/src) tests/cluster/clients.sh $(BUILD)/bin $(BUILD)/clients
# Servers and hosts as processes, the alert rules, and the demonstration, which is skipped where no namespaces can be had.
test-servers: $(CONTROL) $(BUILD)/bin/tap_gw
	@if p=$$(scripts/promtool.sh $(BUILD)/tools/promtool); then $$p check rules packaging/eespd.rules.yml packaging/eesp-gateway.rules.yml && $$p test rules packaging/eespd.rules.test.yml; \
	else why="no promtool here, and Debian's package cannot be had"; echo "     alert rules: not checked, $$why"; echo "$$why: alert rules" >>$${EESP_SKIPPED:-/dev/null}; fi
	tests/cluster/servers.sh $(BUILD)/bin $(BUILD)/servers
	tests/cluster/controllers.sh $(BUILD)/bin $(BUILD)/controllers
	tests/cluster/endpoints.sh $(BUILD)/bin $(BUILD)/endpoints
	tests/cluster/demo.sh $(BUILD)/bin $(BUILD)/cluster --json
# A thousand rotations under load, emergencies, and more of the model, whose largest takes 4 GB.
test-control-long:
	cd control && EESP_TEST_LONG=1 EESP_TEST_ROTATIONS=1000 EESP_TEST_AGENTS=1000 $(GOTEST) -timeout 180m ./...
# All of the control plane's tests.
test-cluster: test-control test-clients test-servers test-control-long
