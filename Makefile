# `make help` lists the targets. Those that build install the Debian packages they need first.
.PHONY: help demo test test-simulator corpus mutations lint sdk bench fuzz soak recordings fresh-check \
	check-server-alone mutations-ledger power-cuts ledger-sizes set-up
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c

help: ## list the targets
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)/  make \1|\2/p' Makefile | column -t -s '|'

set-up:
	@.make/set-up

demo: set-up ## build, and tell the story on software TPMs
	for product in holdfast holdfast-server holdfast-demo; do swift build --product $$product; done
	.build/debug/holdfast-demo

test: set-up ## build and run all tests; a skipped test is a failure
	swift build --build-tests
	.make/run-tests

test-simulator: set-up ## run the tests on another TPM; SIMULATOR=PROGRAM, see docs/simulators.md
	swift build --build-tests
	.make/test-simulator $(SIMULATOR)

corpus: ## let other verifiers judge a generated corpus beside ours; docs/corpus.md
	@.make/set-up python3-venv python3-dev gcc
	swift build --build-tests
	.make/corpus

mutations: set-up ## take checks out, one at a time, and see their tests fail; MUTATIONS=NAME
	.make/mutations $(MUTATIONS)

mutations-ledger: set-up ## change ledgers behind their backs; COUNT=1000000, SEED=N
	swift build -c release --product holdfast-soak
	.build/release/holdfast-soak mutations $${COUNT:+--count $$COUNT} $${SEED:+--seed $$SEED}

power-cuts: set-up ## cut the power at every write of ledgers and records; POINTS=10000, SEED=N
	swift build -c release --product holdfast-soak
	.build/release/holdfast-soak power-cuts $${POINTS:+--points $$POINTS} $${SEED:+--seed $$SEED}

ledger-sizes: set-up ## verify ledgers of 10,000 to 10,000,000 events; LARGEST=N
	swift build -c release --product holdfast-soak
	.build/release/holdfast-soak ledger-sizes $${LARGEST:+--largest $$LARGEST}

lint: ## check the format of the sources and the syntax of the scripts
	swift format lint --strict --recursive --parallel Package.swift Sources Tests
	for script in .ci/run docs/hooks/predict-update docs/hooks/kernel-postinst $$(grep -l '^#!/bin/bash' .make/*); do bash -n "$$script"; done

sdk: set-up ## build libholdfast, and install it with its header; DIRECTORY=/usr/local
	swift build -c release --product HoldfastLibrary
	.make/install-sdk .build/release $(or $(DIRECTORY),/usr/local)

bench: set-up ## measure against the same raw TPM commands; BENCH=NAME runs one row
	for product in holdfast holdfast-server holdfast-bench; do swift build -c release --product $$product; done
	.make/build-peers
	.build/release/holdfast-bench $(BENCH)

fuzz: set-up ## fuzz all parsers, 10 s each; MINUTES=10 longer, TARGET=NAME one
	.make/fuzz

soak: set-up ## ten minutes of faults between a device and its TPM; MINUTES=N, SEED=N
	for product in holdfast holdfast-server holdfast-soak; do swift build --product $$product; done
	.build/debug/holdfast-soak --seconds $$(( $${MINUTES:-10} * 60 )) $${SEED:+--seed $$SEED}

fresh-check: ## run demo and test in a new minimal Debian root (as root; not in CI)
	.make/fresh-check $(DIRECTORY)

RECORDINGS ?= recordings
recordings: set-up ## judge event logs, IMA lists and certificates; RECORDINGS=DIR
	swift build --product holdfast-server
	.build/debug/holdfast-server verify folder --if-present "$(RECORDINGS)"

check-server-alone: set-up ## build what must need neither TSS nor udev with both hidden
	.make/check-server-alone
