# What can be done here. Each target installs what it needs and is missing.
SHELL := /bin/bash
CARGO ?= cargo
export PATH := $(CURDIR)/target/tools/bin:$(HOME)/.cargo/bin:$(PATH)

.PHONY: demo test fmt clippy nextest doc soak zoo bench ready ready-tests

demo: ready
	$(CARGO) build --locked -p syncline-cli -p syncline-testkit --bins
	demo/run.sh

test: ready-tests fmt clippy nextest doc

fmt:
	$(CARGO) fmt --all --check

clippy:
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings

nextest:
	$(CARGO) build --locked --workspace --bins
	$(CARGO) nextest run --locked --workspace --no-fail-fast

doc:
	$(CARGO) test --locked --workspace --doc

# All that takes hours: every triple of small trees, every kill point, a thousand power cuts, ten million entries, all that tests leave out.
soak: ready-tests
	$(CARGO) build --locked --release --workspace --bins
	SYNCLINE_EXHAUSTIVE=all $(CARGO) test --locked --release -p syncline-model --test exhaustive_merge --test exhaustive_moves -- --nocapture
	$(CARGO) nextest run --locked --workspace --release --run-ignored all --no-fail-fast
	target/release/kill-rig
	$(CARGO) build --locked -p syncline-cli -p syncline-rigs --bins
	target/debug/kill-rig --by disk
	target/release/cut-rig --cuts 1000
	target/release/memory-rig

# Bugs switched back in, one after the other: each must be found.
zoo: ready-tests
	$(CARGO) run --locked -p syncline-rigs --bin zoo

bench: ready-tests
	$(CARGO) build --locked --release -p syncline-cli -p syncline-testkit -p syncline-rigs --bins
	python3 bench/bench.py --binary target/release/syncline
	target/release/memory-rig

ready:
	.ci/install build

ready-tests:
	.ci/install build tests
