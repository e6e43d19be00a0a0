# Every target sets up what it needs in .venv and is quick when nothing changed. `make help` lists them.

PYTHON ?= $(shell for p in python3.12 python3.11 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' 2>/dev/null && echo $$p && break; done)
MODEL ?= demo
PORT ?= 8000
JOBS ?= auto
URL ?= http://localhost:$(PORT)
VENV := .venv
BIN := $(VENV)/bin
CLIENTS := .venv-clients
NODE_CLIENTS := tests/clients/node
FETCH_SECONDS ?= 300
FETCHING := $(shell command -v timeout >/dev/null && echo timeout --kill-after=10 $(FETCH_SECONDS))
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.DEFAULT_GOAL := help
.PHONY: help serve chat bench report docs test test-clients check kernels check-kernels gpu-check gpu-kernels gpu-bench \
	format demo-model lock clean

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

serve: $(VENV)/.runtime  ## Serve MODEL (default: the demo model) on PORT (default: 8000)
	exec $(BIN)/penstock serve $(MODEL) --port $(PORT)

chat: $(VENV)/.runtime  ## Chat in the terminal with the server at URL (default: http://localhost:PORT)
	exec $(BIN)/penstock chat --url $(URL)

bench: $(VENV)/.dev  ## Measure the server at BENCH_URL (default: the demo model, served for it); more flags in ARGS
	$(BIN)/python benchmarks/serving.py $(if $(BENCH_URL),--url $(BENCH_URL)) $(ARGS)

gpu-bench: $(VENV)/.dev  ## Measure the fused kernels and whole steps on this machine's NVIDIA GPU; less than nine minutes
	$(BIN)/python benchmarks/gpu_bench.py $(ARGS)

report: $(VENV)/.dev  ## Write docs/performance.md and its pictures from benchmarks/results
	$(BIN)/python benchmarks/report.py

docs: $(VENV)/.dev  ## Run the pages in PAGES (default: all) and write the output that was seen into them
	PYTHONPATH=tests $(BIN)/python -m executed_pages.update $(PAGES)

# They start a hundred processes: what Python compiles is kept, whatever the environment says, or each compiles it anew.
test: $(VENV)/.dev  ## Run the tests, on JOBS cores (default: all)
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -q --numprocesses $(JOBS) --dist loadfile $(TESTS)

# In a virtual environment of their own, with nothing of ours. What cannot be fetched, or not within FETCH_SECONDS, is told
# as skipped. Of a gigabyte of packages little is imported, so Python compiles what is, and keeps it.
test-clients: $(VENV)/.dev  ## Run other people's clients (from PyPI and npm) against a server
	@$(FETCHING) $(MAKE) --no-print-directory $(CLIENTS)/.installed || \
		echo "SKIPPED: not fetched from PyPI; of the clients for Python only openai is tested, as $(VENV) has it" >&2
	@$(FETCHING) $(MAKE) --no-print-directory $(NODE_CLIENTS)/node_modules/.installed || \
		echo "SKIPPED: not fetched by npm; the client for Node is not tested" >&2
	PYTHONDONTWRITEBYTECODE= \
	$$(test -e $(CLIENTS)/.installed && echo $(CLIENTS) || echo $(VENV))/bin/python -m pytest -q -rs \
		-c tests/clients/pytest.ini $(or $(TESTS),tests/clients)

check: $(VENV)/.dev  ## Check format, lint, types and import layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

kernels: $(VENV)/.dev  ## Compile the fused kernels for sm_80 and sm_90 and tabulate what they take; needs no GPU
	$(BIN)/python benchmarks/kernel_resources.py
	$(BIN)/python benchmarks/report.py

check-kernels: $(VENV)/.dev  ## Compare the fused kernels with the table of what they take, and compile a part anew
	$(BIN)/python benchmarks/kernel_resources.py --check

gpu-check: $(VENV)/.dev  ## Check the fused kernels, and all else with them, on this machine's NVIDIA GPU
	$(BIN)/python tests/gpu_check.py $(ARGS)

gpu-kernels:  ## The part of gpu-check that needs only torch, triton, numpy and pytest, in the interpreter PYTHON
	$(PYTHON) tests/gpu_check.py --only kernels bitwise sanitizer $(ARGS)

format: $(VENV)/.dev  ## Format the code and mend what lint can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

demo-model: $(VENV)/.dev  ## Train the shipped demo model from scratch (about an hour on two cores)
	PYTHONPATH=demo $(BIN)/python -m penstock_demo --output server/penstock_server/demo_model

lock: $(VENV)/.dev  ## Pin every dependency anew in the requirements' lock files
	$(BIN)/pip-compile $(LOCK_FLAGS) --output-file requirements.lock pyproject.toml requirements.in
	$(BIN)/pip-compile $(LOCK_FLAGS) --extra dev --output-file requirements-dev.lock pyproject.toml requirements.in
	$(BIN)/pip-compile $(LOCK_FLAGS) --output-file requirements-clients.lock requirements-clients.in
	sed -i 's/+cpu//' requirements.lock requirements-dev.lock

LOCK_FLAGS := --quiet --upgrade --strip-extras --allow-unsafe --no-header --no-annotate \
	--no-emit-index-url --no-emit-find-links --no-emit-trusted-host

clean:  ## Remove .venv and caches
	rm -rf $(VENV) $(CLIENTS) $(NODE_CLIENTS)/node_modules .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "Penstock needs Python 3.11 or 3.12 on the PATH (or: make PYTHON=/path/to/python)"; exit 1; }
	$(PYTHON) -m venv $(VENV)

# Stamps: one for what serving needs, one for what developing needs on top.
$(VENV)/.runtime: requirements.lock pyproject.toml | $(VENV)/bin/python
	@echo "setting up $(VENV) (once; minutes on a fresh machine)"
	$(PIP) install -r requirements.lock
	$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: requirements-dev.lock $(VENV)/.runtime
	$(PIP) install -r requirements-dev.lock
	@touch $@

$(CLIENTS)/.installed: requirements-clients.lock | $(VENV)/bin/python
	$(BIN)/python -m venv --clear $(CLIENTS)
	$(CLIENTS)/bin/python -m pip --disable-pip-version-check --quiet install --no-compile --retries 1 --timeout 30 \
		-r requirements-clients.lock
	@touch $@

$(NODE_CLIENTS)/node_modules/.installed: $(NODE_CLIENTS)/package-lock.json
	npm ci --prefix $(NODE_CLIENTS) --ignore-scripts --no-audit --no-fund --fetch-retries 1 --loglevel error
	@touch $@
