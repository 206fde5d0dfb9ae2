# `make demo` and `make test` need Python 3.11, 3.12 or 3.13, pip and a package index; everything else they fetch.
# The index is whatever your pip and uv settings say (UV_DEFAULT_INDEX, UV_INDEX_URL, PIP_INDEX_URL, …).

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules --no-print-directory

# The first of these that runs and has a version we support; looked for only when the environment is made.
PYTHON ?= $(shell for name in python3.11 python3.12 python3.13 python3; do \
	if $$name -c '$(SUPPORTED)' 2>/dev/null; then command -v $$name; break; fi; done)
SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
UV ?= .uv/bin/uv
VENV := .venv
BIN := $(VENV)/bin
OUT ?= runs/demo

# pip and uv both read an index from the environment, by different names. Nothing is configured where the user did not.
ifneq ($(PIP_INDEX_URL),)
ifeq ($(UV_DEFAULT_INDEX)$(UV_INDEX_URL),)
export UV_DEFAULT_INDEX := $(PIP_INDEX_URL)
endif
endif
# A Python that uv would download from elsewhere is not what "a package index is enough" means.
export UV_PYTHON_DOWNLOADS ?= never
# Reading the user's other virtual environment by accident would install into it.
unexport VIRTUAL_ENV CONDA_PREFIX PYTHONHOME PYTHONPATH

.PHONY: help
help: ## list the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# ---------------------------------------------------------------- what a visitor runs

.PHONY: demo
demo: $(VENV)/.demo ## install, find things in an example picture with the bundled models, write an overlay
	$(BIN)/genseg demo --out $(OUT)

.PHONY: test
test: $(VENV)/.test lint types ## install, then lint, types and every test, a file at a time on each of two cores
	$(BIN)/python -m pytest -n 2 --dist loadgroup --no-loadscope-reorder --durations 10

.PHONY: test-fast
test-fast: $(VENV)/.test ## the tests that start no engine, train nothing and launch no process of several
	$(BIN)/python -m pytest -n 2 --dist loadgroup -m "not slow"

.PHONY: install
install: $(VENV)/.demo ## add extras to .venv, as tested: make install EXTRAS=train,sam2
	$(UV) pip install --quiet --python $(BIN)/python --constraint requirements/test.txt \
		--override requirements/overrides.txt --editable ".[$(EXTRAS)]"

.PHONY: lint
lint: $(VENV)/.test ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

.PHONY: format
format: $(VENV)/.test ## ruff: mend what can be mended
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: types
types: $(VENV)/.test ## ty on the modules that need no torch
	$(BIN)/ty check --python $(VENV)

.PHONY: docs
docs: $(VENV)/.test ## write into docs/ what the code says: CLI reference, file tree
	$(BIN)/python docs/generate.py

.PHONY: bench
bench: $(VENV)/.test ## run every benchmark; each prints one table
	@for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python "$$script"; done

.PHONY: miniature
miniature: $(VENV)/.demo ## train the bundled models again, from nothing
	$(BIN)/python -m gensegcli.miniature

.PHONY: clean
clean: ## remove the environment and everything built
	rm -rf $(VENV) .uv build dist .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# ---------------------------------------------------------------- environment
# One pinned set, of which the others are parts: `make demo` after `make test` installs nothing, and the other way round
# only what is missing. Sets are flat and complete, hence --no-deps; `sync` also removes what no longer belongs.

INSTALL = $(UV) pip install --quiet --python $(BIN)/python --no-deps

$(VENV)/.demo: requirements/demo.txt pyproject.toml | $(BIN)/python
	@if [ $(VENV)/.test -nt requirements/test.txt ] && [ $(VENV)/.test -nt pyproject.toml ]; then exit; fi; \
	echo "installing what the demo needs (PyTorch is the large part) …"; \
	$(INSTALL) --requirements requirements/demo.txt && $(INSTALL) --editable .
	@touch $@

$(VENV)/.test: requirements/test.txt requirements/sam2.txt pyproject.toml | $(BIN)/python
	@echo "installing what the tests need (PyTorch and vLLM are the large parts) …"
	$(UV) pip sync --quiet --python $(BIN)/python requirements/test.txt
	@# Imports torch while it builds, so it comes second and builds in place. Without its CUDA extension, which only fills holes.
	SAM2_BUILD_CUDA=0 $(INSTALL) --no-build-isolation --requirements requirements/sam2.txt
	$(INSTALL) --no-build-isolation --editable .
	@touch $@

$(BIN)/python: | $(UV)
	@python="$(PYTHON)"; if ! "$${python:-false}" -c '$(SUPPORTED)' 2>/dev/null; then \
		echo "error: Python 3.11, 3.12 or 3.13 is needed; found $${python:-none of them}" >&2; \
		echo "hint: install one, or name it: make PYTHON=/path/to/python3.12" >&2; exit 3; fi; \
	$(UV) venv --quiet --clear --python "$$(command -v "$$python")" $(VENV)

# `pip --target` works as any user, without the venv module and on systems that manage their own Python (PEP 668).
.uv/bin/uv: requirements/uv.txt
	@rm -rf .uv
	@if python3 -m pip --version >/dev/null 2>&1; then \
		python3 -m pip install --quiet --disable-pip-version-check --target .uv --requirement requirements/uv.txt; \
	elif python3 -m venv .uv >/dev/null 2>&1; then \
		.uv/bin/python -m pip install --quiet --disable-pip-version-check --requirement requirements/uv.txt; \
	else \
		echo "error: python3 has neither pip nor venv, and uv is not there yet" >&2; \
		echo "hint: install pip (Debian: python3-pip), or name a uv you have: make UV=\$$(command -v uv)" >&2; exit 3; fi
	@touch $@

# ---------------------------------------------------------------- pinned sets

COMPILE = $(UV) pip compile --quiet --universal --python-version 3.11 --no-header --no-emit-index-url \
	--no-emit-find-links --override requirements/overrides.txt

.PHONY: requirements
requirements: | $(UV) ## resolve the pinned sets anew within the ranges of pyproject.toml (UPGRADE=1: newest)
	$(COMPILE) $(if $(UPGRADE),--upgrade) pyproject.toml requirements/test.in --extra local --extra train --group dev \
		--output-file requirements/test.txt
	$(COMPILE) pyproject.toml --constraint requirements/test.txt --extra local --output-file requirements/demo.txt
	$(COMPILE) pyproject.toml --constraint requirements/test.txt --output-file requirements/base.txt
