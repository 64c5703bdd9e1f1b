# Everything needs only Python >= 3.11, make and a package index. `make` alone lists the targets.
PYTHON ?= python3
BIN := .venv/bin
# Tests mostly wait for servers, so more of them than there are cores.
AT_ONCE ?= 4
AUDIT := build/audit/bin
.DEFAULT_GOAL := help

.PHONY: help bench up test check lint types tests debian format lock sbom audit clean

help:  ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

.venv/run.stamp: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: run 'make PYTHON=/path/to/python3.11 ...'"; exit 1; }
	@echo "==> making .venv and installing the locked dependencies (a few minutes the first time)"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv || { echo "No venv module: on Debian, 'apt-get install python3-venv'"; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock || { echo "The package index could not be reached or refused a hash: check the network, then run make again"; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

.venv/dev.stamp: .venv/run.stamp requirements-dev.lock
	@echo "==> installing what the tests need"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock || { echo "The package index could not be reached or refused a hash: check the network, then run make again"; exit 1; }
	@touch $@

bench: .venv/run.stamp  ## the main job: backends on an embedded stack, side by side
	$(BIN)/streamgauge bench $(ARGS)

up: .venv/run.stamp  ## start the whole system on this machine; Ctrl-C stops it
	$(BIN)/streamgauge up $(ARGS)

check: lint types  ## format, lint, types, import contracts, generated files

lint: .venv/dev.stamp
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports --no-logo
	$(BIN)/python -m dashboards.render --check
	$(BIN)/python -m ops.prometheus.render --check

types: .venv/dev.stamp
	$(NICE) $(BIN)/mypy

# Types are checked beside the tests, which leave the processor room, and out of their way.
test: lint debian  ## check, and run every test
	@$(MAKE) --no-print-directory --jobs=2 NICE='nice -n 19' types tests

# Tests start our processes hundreds of times: without bytecode on disk each would compile every module of ours.
# Files keep the order that tests/conftest.py gives them: the longest begin first.
tests: .venv/dev.stamp
	env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m pytest --numprocesses=$(AT_ONCE) --dist=loadfile --no-loadscope-reorder $(ARGS)

# No wheel carries these. RUNLEVEL=1: only the programs are wanted, not their services.
debian:  ## install Debian's servers, tools and Chromium for the tests, where that is allowed
	@for want in redis-server:redis-server promtool:prometheus amtool:prometheus-alertmanager nginx:nginx-light pgbouncer:pgbouncer chromium:chromium \
	    $(foreach of,redis postgres,prometheus-$(of)-exporter:prometheus-$(of)-exporter); do \
	  PATH="$$PATH:/usr/sbin" command -v $${want%:*} >/dev/null && continue; package=$${want#*:}; \
	  { test "$$(id -u)" = 0 && echo "==> installing Debian's $$package" && apt-get update -qq \
	    && RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $$package >/dev/null; } \
	  || echo "==> WITHOUT $$package: its tests will be skipped (with CI=true: fail). The fix: apt-get install $$package"; \
	done

format: .venv/dev.stamp  ## rewrite the code in the house format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock:  ## resolve pyproject.toml anew into the two lock files (needs uv)
	uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header -o requirements.lock
	uv pip compile pyproject.toml --group dev -c requirements.lock --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header -o requirements-dev.lock

# In a venv of their own: they are no part of what they look at.
$(AUDIT)/pip-audit: Makefile
	$(PYTHON) -m venv build/audit
	$(AUDIT)/python -m pip install --quiet --disable-pip-version-check pip-audit==2.10.1 cyclonedx-bom==7.5.0
	@touch $@

sbom: $(AUDIT)/pip-audit  ## write what is installed as a bill of materials, build/sbom.json
	$(AUDIT)/cyclonedx-py requirements requirements.lock --output-format JSON --output-file build/sbom.json

# Without --strict a package that the database does not answer for counts as one without a vulnerability.
audit: sbom  ## sbom, then look both locks up in the advisories of pypi.org, which a mirror of the index need not have
	$(AUDIT)/pip-audit --strict --disable-pip --require-hashes -r requirements.lock -r requirements-dev.lock

clean:  ## remove what make and the runs left here
	rm -rf .venv .streamgauge results build *.egg-info
	$(PYTHON) ops/clean.py
