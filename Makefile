# The commands of kombify. `make up` runs it, `make test` proves it.

TOOLS := target/tools
VENV := $(TOOLS)/venv
GRPCURL := github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.4
GOBIN := $(CURDIR)/$(TOOLS)/bin
TOOLS_MARK := $(TOOLS)/.installed-$(firstword $(shell cat tools/requirements.txt Makefile | cksum))

.PHONY: up build test tools check

up: build
	target/debug/kombify up

build:
	cargo build --workspace

# What the tests need beside Rust, from the package registries, each version pinned: tools/requirements.txt, and GRPCURL.
tools: $(TOOLS_MARK)

$(TOOLS_MARK): tools/requirements.txt Makefile
	tools/install $(TOOLS) $(GRPCURL)
	touch $@

# Every check: format, contracts, lints, tests.
test: tools check
	KOMBIFY_TOOLS=$(CURDIR)/$(TOOLS) cargo test --workspace --features failpoints
	tools/check-up

check: tools
	cargo fmt --all --check
	$(VENV)/bin/buf lint
	$(VENV)/bin/buf format -d --exit-code
	tools/breaking $(VENV)/bin/buf
	cargo clippy --workspace --all-targets --features failpoints -- -D warnings
