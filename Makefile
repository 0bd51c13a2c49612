# Needs only make and Python 3.11 or newer, with venv and pip. `make help` lists the targets.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Tests mostly wait for servers.
WORKERS ?= 6
CONFORMANCE ?= tests/conformance
BENCH ?=
# Real servers that the tests talk to, on 127.0.0.1; `python -m tests.servers` starts them by hand.
SERVERS = ceph moto gcs azurite sshd asyncssh nginx postgres
LONG_SERVERS = $(SERVERS) gcs_emulator
# What tests start by themselves: clients of resumable uploads, and a browser.
CLIENTS = tus_clients
BENCH_SERVERS = ceph nginx rclone gcs azurite sshd
BENCH_UPLOADS_SERVERS = ceph postgres tus_peers
CODE = $(wildcard trove_async pytest_trove_async.py tests examples benchmarks)
PYTEST = $(BIN)/python -m pytest
PIP_INSTALL = $(BIN)/python -m pip install --quiet --no-input --disable-pip-version-check --progress-bar off -c constraints.txt
# The tests start hundreds of processes, which should not recompile all modules.
unexport PYTHONDONTWRITEBYTECODE
SUITE = $(PYTEST) -n $(WORKERS) --dist worksteal
WITH_SERVERS = trap '$(BIN)/python -m tests.servers down $(SERVERS)' EXIT; trap 'exit 130' INT TERM; \
	echo "== servers: starting $(SERVERS)"; $(BIN)/python -m tests.servers up $(SERVERS) >/dev/null &&
INSTALL_HELP = { echo "The installation failed (above). Check the network, and any proxy or index in pip's settings, then run make again." >&2; exit 1; }

.DEFAULT_GOAL := help
.PHONY: help setup demo servers test test-long lint format types imports collect unit conformance capabilities bench bench-uploads clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(VENV)/.dev ## create .venv with the library and every tool

demo: $(VENV)/.demo ## copy a real tree into a local store, and show the library's features
	@echo "== demo: python -m examples.demo"
	@$(BIN)/python -m examples.demo

servers: $(VENV)/.dev ## install the servers and clients that the tests need (Debian packages, PyPI, npm)
	@echo "== servers: installing $(SERVERS) $(CLIENTS)"
	@$(BIN)/python -m tests.servers install $(SERVERS) $(CLIENTS)
	@date +%s > $(VENV)/.servers

test: $(VENV)/.dev ## all checks and tests, as CI runs them
	@$(MAKE) --no-print-directory -j3 --output-sync=line servers types collect lint imports
	@$(WITH_SERVERS) echo "== tests: pytest on $(WORKERS) processes" && $(SUITE) --trove-capabilities=build tests
	@echo "== capabilities: docs/capabilities.md agrees with the tests"
	@$(BIN)/python -m tests.capabilities --check
	@echo "== test: $$(($$(date +%s) - $$(cat $(VENV)/.servers))) s since the servers were installed"

test-long: SERVERS := $(LONG_SERVERS)
test-long: servers types lint imports ## all tests on every server, layer, await point, and on uvloop (hours)
	@$(WITH_SERVERS) echo "== tests: pytest --trove-long" && \
		$(SUITE) --trove-long --trove-capabilities=build tests && \
		$(BIN)/python -m tests.capabilities --check --all && \
		echo "== tests: pytest --trove-loop=uvloop" && \
		$(SUITE) --trove-loop=uvloop tests

lint: $(VENV)/.dev ## check style (ruff)
	@echo "== lint: ruff check, ruff format --check"
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check . || { echo "Run 'make format' to fix the layout." >&2; exit 1; }

format: $(VENV)/.dev ## format the code and fix what ruff can
	@echo "== format: ruff format, ruff check --fix"
	@$(BIN)/ruff check --fix --exit-zero --quiet .
	@$(BIN)/ruff format .

types: $(VENV)/.dev ## check types (mypy --strict)
	@echo "== types: mypy --strict $(CODE)"
	@$(BIN)/mypy $(CODE)

imports: $(VENV)/.dev ## check which package imports which (import-linter)
	@echo "== imports: lint-imports"
	@$(BIN)/lint-imports

collect: $(VENV)/.dev ## import all tests, and keep the bytecode for the processes that run them
	@echo "== collect: pytest --collect-only"
	@$(PYTEST) --collect-only -qq tests >/dev/null || $(PYTEST) --collect-only -qq tests

unit: servers ## run the tests, without the conformance suite
	@$(WITH_SERVERS) echo "== unit: pytest, without $(CONFORMANCE)" && $(SUITE) --ignore=$(CONFORMANCE) tests

conformance: servers ## run the conformance suite; the table goes to build/
	@$(WITH_SERVERS) echo "== conformance: pytest $(CONFORMANCE)" && $(SUITE) --trove-capabilities=build $(CONFORMANCE)

capabilities: servers ## write docs/capabilities.md from the suite on all servers
	@$(WITH_SERVERS) echo "== capabilities: pytest --trove-long $(CONFORMANCE)" && \
		$(SUITE) --trove-long --trove-stack=plain --trove-capabilities=build $(CONFORMANCE)
	@echo "== capabilities: writing docs/capabilities.md"
	@$(BIN)/python -m tests.capabilities --write
	@$(BIN)/python -m tests.readme

bench: $(VENV)/.bench ## measure against the peers; the tables and the picture go to build/benchmark
	@echo "== servers: installing $(BENCH_SERVERS)"
	@$(BIN)/python -m tests.servers install $(BENCH_SERVERS)
	@echo "== bench: python -m benchmarks $(BENCH)"
	@$(BIN)/python -m benchmarks $(BENCH)

bench-uploads: $(VENV)/.bench ## measure resumable uploads against other servers; the table goes to build/benchmark
	@echo "== servers: installing $(BENCH_UPLOADS_SERVERS)"
	@$(BIN)/python -m tests.servers install $(BENCH_UPLOADS_SERVERS)
	@echo "== bench-uploads: python -m benchmarks.uploads $(BENCH)"
	@$(BIN)/python -m benchmarks.uploads $(BENCH)

clean: ## remove .venv, build products and caches
	@$(PYTHON) -m tests.servers down
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# An incomplete environment has no stamp, and is created again.
$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Python 3.11 or newer is needed, but '$(PYTHON)' is older or missing. Name one: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@echo "== setup: creating $(VENV)"
	@$(PYTHON) -m venv --clear $(VENV) || { \
		echo "Python's venv module is missing: apt-get install python3-venv (or the equivalent for your system)" >&2; exit 1; }
	@touch $@

$(VENV)/.demo: pyproject.toml constraints.txt | $(VENV)/.made
	@echo "== setup: installing the library into $(VENV)"
	@$(PIP_INSTALL) -e '.[local,checksums,web]' || $(INSTALL_HELP)
	@touch $@

$(VENV)/.bench: pyproject.toml constraints.txt | $(VENV)/.made
	@echo "== setup: installing the library and its peers into $(VENV)"
	@$(PIP_INSTALL) -e '.[bench]' || $(INSTALL_HELP)
	@touch $(VENV)/.demo $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/.made
	@echo "== setup: installing the library and its tools into $(VENV) (a minute or so the first time)"
	@$(PIP_INSTALL) -e '.[dev]' || $(INSTALL_HELP)
	@touch $(VENV)/.demo $@
