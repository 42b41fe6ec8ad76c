# The commands of kombify. `make up` runs it, `make test` proves it, `make proof` proves it for longer.

TOOLS := target/tools
VENV := $(TOOLS)/venv
GRPCURL := github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.4
CUE := cuelang.org/go/cmd/cue@v0.17.1
GOBIN := $(CURDIR)/$(TOOLS)/bin
TOOLS_INPUTS := Makefile tools/install tools/requirements.txt tools/package.json tools/package-lock.json tools/.npmrc \
	$(wildcard tools/flagd-oracle/*)
TOOLS_MARK := $(TOOLS)/.installed-$(firstword $(shell cat $(TOOLS_INPUTS) | cksum))

.PHONY: up build test proof tools check

up: build
	target/debug/kombify up

build:
	cargo build --workspace

# What the tests need beside Rust, from the package registries, each version pinned: tools/requirements.txt,
# tools/package.json, tools/flagd-oracle/go.mod, GRPCURL and CUE; and Debian's chromium and docker-compose, whichever is
# current.
tools: $(TOOLS_MARK)

$(TOOLS_MARK): $(TOOLS_INPUTS)
	tools/install $(TOOLS) $(GRPCURL) $(CUE)
	touch $@

# Every check: format, contracts, lints, tests.
test: tools check
	KOMBIFY_TOOLS=$(CURDIR)/$(TOOLS) cargo test --workspace --features failpoints
	tools/fuzz 30
	tools/check-up

# What is too long for every change; prints what it saw. The storm again: KOMBIFY_SEED=<as printed> make proof
proof: tools
	KOMBIFY_TOOLS=$(CURDIR)/$(TOOLS) KOMBIFY_KILLS=200 \
	  cargo test --workspace --features failpoints --test it -- --nocapture a_stack_that_is_killed
	KOMBIFY_TENANTS=10000 cargo bench --workspace --bench tenants
	tools/fuzz 1800

check: tools
	cargo fmt --all --check
	cargo fmt --manifest-path fuzz/Cargo.toml --check
	$(VENV)/bin/buf lint
	$(VENV)/bin/buf format -d --exit-code
	tools/breaking $(VENV)/bin/buf
	cargo clippy --workspace --all-targets --features failpoints -- -D warnings
