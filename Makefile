# make help lists the targets. Everything else is in scripts/, which work by themselves too.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := build

PROGRAMS := sallyport sallyport-control sallyport-sidecar
# Static, without the paths of this machine, and stamped with the commit.
BUILD := CGO_ENABLED=0 go build -trimpath -buildvcs=auto -ldflags='-s -w'

.PHONY: help build demo test peers lint bench attack upgrade fuzz images sbom reproducible generate clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "%-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## build the three programs into bin/
	@mkdir -p bin
	$(BUILD) -o bin/ $(PROGRAMS:%=./cmd/%)

demo: ## an agent calls Stripe's API with a key that is nowhere in its sandbox
	@scripts/setup demo
	@GOFLAGS="$${GOFLAGS:-} -pgo=off" $(MAKE) --no-print-directory build # by the profile it takes minutes
	@scripts/demo

test: ## every test, unit to end to end, with the race detector
	@scripts/setup test
	@scripts/test

peers: ## the tests against real servers that take long to build
	@scripts/setup test
	@scripts/peers

lint: ## formatting, vet, staticcheck, gosec, govulncheck, shellcheck, generated code, go.mod
	@scripts/setup lint
	@scripts/lint

fuzz: ## every fuzz target in turn, for FUZZTIME each (default 20s)
	@scripts/setup test
	@scripts/fuzz

bench: build ## the benchmarks, beside other proxies, as root; writes docs/benchmarks.md
	@scripts/setup bench
	go test -run='^$$' -bench=. -benchmem ./...
	go run ./e2e/bench -out docs/benchmarks -doc docs/benchmarks.md

# TARGET=http://HOST:PORT attacks another proxy; ATTACK has further flags: docs/attacks.md.
attack: build ## the corpora of attacks, as root; fails when one of them succeeds
	@scripts/setup test
	go run ./e2e/attack $(if $(TARGET),-target $(TARGET)) $(ATTACK)

# FROM is a commit; without it, the newest tag before this one.
upgrade: ## the programs of an earlier commit beside these, on one database, as root
	@scripts/setup test
	@scripts/upgrade $(FROM)

images: build ## build the images sallyport-sandbox and sallyport-control
	@scripts/setup test
	@scripts/images

sbom: build ## list what the programs are made of, in bin/*.cdx.json (CycloneDX)
	@scripts/sbom

reproducible: ## build the commit twice from nothing; fails unless both are the same
	@scripts/reproducible

generate: ## write control/api's generated code anew
	@scripts/setup lint
	PATH=$(CURDIR)/.cache/bin:$$PATH go generate ./control/api

clean: ## remove what was built and fetched
	rm -rf bin .cache e2e/node/node_modules
