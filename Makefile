GO ?= go
FUZZTIME ?= 20s
BENCHTIME ?= 200ms
STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.8.2

# Modules of their own, for their dependencies, and what of each is checked by
# staticcheck and tested for races: not what takes in all of Kubernetes' libraries
# once more each time. make module/examples/inference-gateway DEEP=./... does.
MODULES = wrapper/prometheus examples/inference-gateway
DEEP_wrapper/prometheus = ./...
DEEP_examples/inference-gateway = ./ledger

.PHONY: check lint fmt vet staticcheck tidy test race 386 wrapper modules bench fuzz $(MODULES:%=module/%)

# Everything that must hold before a change is merged.
check: lint test race 386 wrapper modules

lint: fmt vet staticcheck tidy

fmt:
	@out=$$(gofmt -l .); if [ -n "$$out" ]; then echo "gofmt would change:"; echo "$$out"; exit 1; fi

vet:
	$(GO) vet ./...

staticcheck:
	$(GO) run $(STATICCHECK) ./...

tidy:
	$(GO) mod tidy -diff

# MOELB_LONG=1 adds what go test ./... leaves out for its length: whole traces, many
# seeds, what other tools build and run. -timeout is for a machine under load.
test:
	MOELB_LONG=1 $(GO) test -timeout 30m ./...

race:
	$(GO) test -race -short -timeout 30m ./...

# The same answers with 32-bit integers: run where the machine can, else build.
386: export GOARCH = 386
386: export CGO_ENABLED = 0
386:
	$(GO) build ./...
	$(GO) vet ./...
	@if $(GO) test -run '^$$' ./placement >/dev/null 2>&1; then \
		echo "$(GO) test -short -timeout 30m ./placement/... ./eplb/... ./decode ./prefill ./internal/... ./bench/workload (GOARCH=386)"; \
		$(GO) test -short -timeout 30m ./placement/... ./eplb/... ./decode ./prefill ./internal/... ./bench/workload; \
	else echo "this machine does not run 386 programs: built and vetted only"; fi

# What other languages call: needs gcc, valgrind, Python, numpy and torch, and
# skips what is missing.
wrapper:
	MOELB_LONG=1 $(GO) test -count=1 -v -timeout 30m ./wrapper/c ./wrapper/python ./examples/python-dropin
	MOELB_LONG=1 $(GO) test -count=1 -v -timeout 30m -run README ./bench

modules: $(MODULES:%=module/%)

$(MODULES:%=module/%): module/%:
	cd $* && $(GO) mod tidy -diff
	cd $* && $(GO) vet ./...
	cd $* && $(GO) test ./...
	cd $* && $(GO) run $(STATICCHECK) $(or $(DEEP),$(DEEP_$*))
	cd $* && $(GO) test -race $(or $(DEEP),$(DEEP_$*))

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
