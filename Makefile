# make install      .venv from the locked requirements of the Python found (3.11 or 3.12; choose one with PYTHON=…)
# make quickstart   installs if needed, then trains, evaluates and exports a small PaLI on the embedded data set
# make test         installs if needed, then all but slow tests; make test-slow and make test-long run those
# make test-parity  installs torch and transformers too, and compares models and weights with theirs, freshly made
# make lint         ruff
# make lock         resolves requirements.in anew for both Pythons; make lock UPGRADE=--upgrade takes newer versions

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help install quickstart test test-slow test-long test-parity lint lock clean

VERSION_OF = import sys; print(*sys.version_info[:2], sep=".")
# The first that runs and is a version that paligax is locked for.
PYTHON ?= $(shell for p in python3 python3.12 python3.11; do \
	v="$$($$p -c '$(VERSION_OF)' 2>/dev/null)"; \
	if [ "$$v" = 3.11 ] || [ "$$v" = 3.12 ]; then echo $$p; break; fi; done)
VERSION := $(shell test -n "$(PYTHON)" && $(PYTHON) -c '$(VERSION_OF)' 2>/dev/null)
LOCK := requirements-$(VERSION).lock
STAMP := .venv/installed-$(VERSION)
BIN := .venv/bin
PYTEST = $(BIN)/python -m pytest -n 2 --dist loadfile

help:
	@sed -n '/^# /!q; s/^# //p' Makefile

install: $(STAMP)

# Installed again only where the lock or setup.py changed. uv does it; where uv can't run, pip does.
$(STAMP): requirements-3.11.lock requirements-3.12.lock setup.py
	@if [[ ! -f "$(LOCK)" ]]; then \
		echo "paligax needs Python 3.11 or 3.12; '$(or $(PYTHON),python3)' is $(or $(VERSION),none of them)." \
			"Install one, or name it: make install PYTHON=/path/to/python3.12" >&2; exit 1; fi
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON) comes without venv. On Debian and Ubuntu: apt-get install python$(VERSION)-venv" >&2; exit 1; }
	@rm -f .venv/installed-*
	@[[ "$$($(BIN)/python -c '$(VERSION_OF)' 2>/dev/null)" == "$(VERSION)" ]] || $(PYTHON) -m venv --clear .venv
	@echo "Installing $(LOCK) into .venv"
	@sed -n '/^uv==/,/[^\\]$$/p' $(LOCK) > .venv/uv.lock
	@if $(BIN)/python -m pip install -q --disable-pip-version-check -r .venv/uv.lock \
		&& VIRTUAL_ENV="$$PWD/.venv" $(BIN)/uv pip install -q --no-deps -r $(LOCK); then :; else \
		echo "uv can't install here; pip does, which takes a few minutes"; \
		$(BIN)/python -m pip install --disable-pip-version-check --no-deps -r $(LOCK); fi
	@$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

# Huge pages (glibc 2.35 and later): else each step of XLA on a CPU spends a third of its time on page faults.
quickstart: install
	GLIBC_TUNABLES=glibc.malloc.hugetlb=1 $(BIN)/python -m tasks.mini.quickstart

test: install
	$(PYTEST) -m "not slow and not long"

test-slow: install
	$(PYTEST) -m "slow and not long"

test-long: install
	$(PYTEST) -m "long"

# pip and not uv: a wheel of torch for CPUs that pip is configured to find is taken before the one with CUDA.
test-parity: install
	$(BIN)/python -m pip install -q --disable-pip-version-check torch==2.13.0 transformers==5.23.0
	$(PYTEST) -m "not long" tests/interop

lint: install
	$(BIN)/ruff check .

lock: install
	for v in 3.11 3.12; do $(BIN)/uv pip compile -q --no-header --no-annotate --generate-hashes --no-emit-package paligax \
		--override requirements-overrides.txt --python-version $$v $(UPGRADE) requirements.in -o requirements-$$v.lock; done

clean:
	rm -rf .venv build *.egg-info .pytest_cache .ruff_cache
