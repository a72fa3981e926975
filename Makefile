# `make demo` and `make test` are all a newcomer needs; `make help` lists the rest.
SHELL := /bin/bash
.DEFAULT_GOAL := help
VENV := .venv
PY := $(VENV)/bin/python
PYTHON ?= python3
# A registry that hiccups is back soon
PIP := $(PY) -m pip install --quiet --disable-pip-version-check --retries 10 --timeout 60
PROTOS := $(shell find protos -name '*.proto')

.PHONY: help setup demo demo-degradation test faults soak check lint types imports protos lock bench bench-commits simulate clean

help: ## What there is to make
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | column -t -s "$$(printf '\t')"

setup: $(VENV)/.installed ## Virtual environment with every locked dependency, and what is in C compiled
	@$(PY) -m libs.native.compiling

$(VENV)/.installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "K2 needs Python 3.11 or newer: say which with make PYTHON=python3.12"; exit 1; }
	@echo "installing the locked dependencies into $(VENV) (once, a minute or two)"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) --require-hashes -r requirements.lock
	@$(PIP) --no-deps --no-build-isolation -e .
	@command -v cc >/dev/null || $(PIP) --require-hashes -r requirements.zig.lock
	@touch $@

# DURATION=60 ends by itself, RECORDING="a.gz b.gz" replays, PACE=1|10|max, SEED=7
demo: setup ## The whole system on a generated session, with a proof at the end
	@$(VENV)/bin/k2 demo $(if $(DURATION),--duration $(DURATION)) $(if $(SEED),--seed $(SEED)) $(if $(PACE),--pace $(PACE)) $(foreach f,$(RECORDING),--recording $(f))

demo-degradation: setup ## All five levels by lag, then by memory, and back, with a proof (three minutes)
	@$(VENV)/bin/k2 demo degradation --quick --output table

# Three files at a time: most tests wait for processes more than they compute
test: setup ## Every test but the long faults
	@$(PY) -m pytest -n 3 --dist loadfile

faults: setup ## Every fault test, on real processes (half an hour)
	@$(PY) -m pytest -m "whole or not whole" tests/faults

# MINUTES=10, SEED=7 repeats one
soak: setup ## Faults at random on a running K2, and a proof at the end
	@$(PY) -m tests.faults.soak $(if $(MINUTES),--minutes $(MINUTES)) $(if $(SEED),--seed $(SEED))

# WRITERS=1000, HOURS=2, SEED=7
simulate: setup ## Hours of a fleet on a virtual clock, under the real control code
	@$(PY) -m tests.simulation $(if $(WRITERS),--writers $(WRITERS)) $(if $(HOURS),--hours $(HOURS)) $(if $(SEED),--seed $(SEED))

check: setup lint types imports test ## What CI runs

lint: setup ## ruff
	@$(VENV)/bin/ruff check . && $(VENV)/bin/ruff format --check .

types: setup ## mypy --strict
	@$(VENV)/bin/mypy

imports: setup ## Imports go downward only
	@$(VENV)/bin/lint-imports

protos: setup ## Generate the Protobuf and gRPC stubs
	@$(PY) -m tools.generate_protos

lock: setup ## Resolve the dependencies again and lock them with their hashes
	@$(PIP) uv
	@$(VENV)/bin/uv pip compile pyproject.toml --group dev --universal --python-version 3.11 --generate-hashes --upgrade \
		--no-emit-index-url --no-emit-find-links --no-header --no-annotate --quiet -o requirements.lock

bench: setup ## Throughput, latency, freshness, control and memory, measured now
	@$(PY) -m tests.benchmarks

# COMMITS=2000 is a try; SVG=curve.svg draws it
bench-commits: setup ## What a commit costs over 10,000 commits, with maintenance on
	@$(PY) -m tests.benchmarks.commits --commits $(or $(COMMITS),10000) $(if $(SVG),--svg $(SVG))

clean: ## Remove the data of demos and tests; keep what was downloaded
	@rm -rf .k2/bench .k2/chaos .k2/data .k2/demo .k2/query-spill .k2/test .k2/up .pytest_cache .mypy_cache .ruff_cache .hypothesis
