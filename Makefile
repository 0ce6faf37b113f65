GO ?= go
FUZZTIME ?= 20s
BENCHTIME ?= 200ms
STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.8.2

# Modules of their own, for their dependencies, and what of each is checked by
# staticcheck and tested for races: not what takes in all of Kubernetes' libraries
# once more each time. make module/examples/inference-gateway DEEP=./... does, and
# with MOELB_LONG=1 it adds the long tests.
MODULES = wrapper/prometheus examples/inference-gateway
DEEP_wrapper/prometheus = ./...
DEEP_examples/inference-gateway = ./ledger

.PHONY: check lint fmt vet staticcheck tidy deps api test race 386 arm64 wrapper modules cluster bench fuzz $(MODULES:%=module/%)

# Everything that must hold before a change is merged, and how long each part took.
CHECKS = lint api test race 386 arm64 wrapper modules
check:
	@set -e; for part in $(CHECKS); do \
		from=$$(date +%s); \
		$(MAKE) --no-print-directory $$part; \
		echo "make $$part: $$(($$(date +%s) - from)) s"; \
	done

lint: fmt vet staticcheck tidy deps

fmt:
	@out=$$(gofmt -l .); if [ -n "$$out" ]; then echo "gofmt would change:"; echo "$$out"; exit 1; fi

vet:
	$(GO) vet ./...

staticcheck:
	$(GO) run $(STATICCHECK) ./...

tidy:
	$(GO) mod tidy -diff

# What callers import brings nothing but the standard library and golang.org/x/exp.
deps:
	@out=$$($(GO) list -deps -f '{{if not .Standard}}{{.ImportPath}}{{end}}' ./placement/... ./eplb/... ./prefill/... ./decode/... \
		| grep -v -e '^github.com/moelb/moelb/' -e '^golang.org/x/exp/'); \
	if [ -n "$$out" ]; then echo "a library package depends on:"; echo "$$out"; exit 1; fi

# What has changed in the interface since the last release: docs/interfaces.md.
api:
	.ci/api

# MOELB_LONG=1 adds what go test ./... leaves out for its length: whole traces, many
# seeds, what other tools build and run (make wrapper). -timeout is for a machine
# under load.
test:
	MOELB_LONG=1 $(GO) test -timeout 30m -skip README $$($(GO) list ./... | grep -v $(WRAPPERS:%=-e %$$))

# Where something runs side by side. Of eplb that is layers, in one place, which these
# tests plan by one worker and by several, and the command stops; bench and examples
# only call it.
race:
	$(GO) test -race -short -timeout 30m $$($(GO) list ./... | grep -v -e /bench -e /examples -e /eplb -e /cmd)
	$(GO) test -race -short -timeout 30m -run 'SameBytes|Repeat|AfterDrift|Invariant|Stopped' ./eplb ./cmd/moelb

# The same answers with 32-bit integers, and where products and sums are fused: run
# where the machine or an emulator can, else built.
386 arm64: export GOARCH = $@
386 arm64: export CGO_ENABLED = 0
386 arm64:
	$(GO) build ./...
	$(if $(filter 386,$@),$(GO) vet ./...)
	@if $(GO) test -run '^$$' ./placement >/dev/null 2>&1; then \
		set -x; $(GO) test -short -timeout 30m ./placement/... ./eplb/... ./decode/... ./prefill/... ./internal/... ./bench/workload; \
	else echo "this machine does not run $@ programs: built only"; fi

# What other languages call: needs gcc, Python, numpy, torch, mypy and pip, and says
# what it skips where one is missing.
WRAPPERS = wrapper/c wrapper/python examples/python-dropin
wrapper:
	MOELB_LONG=1 $(GO) test -count=1 -v -timeout 30m $(WRAPPERS:%=./%)
	MOELB_LONG=1 $(GO) test -count=1 -v -timeout 30m -run README ./bench

modules: $(MODULES:%=module/%)

$(MODULES:%=module/%): module/%:
	cd $* && $(GO) mod tidy -diff
	cd $* && $(GO) vet ./...
	cd $* && $(GO) test -timeout 30m ./...
	cd $* && $(GO) run $(STATICCHECK) $(or $(DEEP),$(DEEP_$*))
	cd $* && $(GO) test -race -timeout 30m $(or $(DEEP),$(DEEP_$*))

# The endpoint picker in a cluster with an API server of its own, which takes nine
# minutes of processor time to build, once, and needs etcd. Not part of check.
cluster:
	cd examples/inference-gateway/cluster && $(GO) vet . && $(GO) test -count=1 -v -timeout 30m .

bench:
	$(GO) test -run '^$$' -bench . -benchtime $(BENCHTIME) ./bench

# Every fuzz target for FUZZTIME, one after the other.
fuzz:
	@set -e; for p in $$($(GO) list ./...); do \
		names=$$($(GO) test -list '^Fuzz' $$p); \
		for f in $$(echo "$$names" | grep '^Fuzz'); do \
			echo "$$p $$f"; \
			$(GO) test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) $$p; \
		done; \
	done
