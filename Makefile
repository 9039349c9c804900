# Every task of the project. `make` alone lists them.
#
# dev, test and the checks set everything up by themselves: they need Python 3.11 or later, network or a filled pip
# cache for the first run, and nothing else. Extra arguments go in ARGS: make test ARGS="-k cron -x"

PYTHON ?= python3
ARGS ?=
# Most live tests wait for processes: six at once keep two cores busy. JOBS=0 for one after the other.
JOBS ?= 6

VENV := .venv
BIN := $(VENV)/bin
MADE := $(VENV)/.made
LOCKED := $(VENV)/.locked
READY := $(VENV)/.ready

# No "a new pip is out" lines between ours.
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Images for Python like to set it: each of the thousands of processes of the tests would then compile all our modules.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help dev test browser promtool check fmt fmt-check lint types arch audit cover bench bench-queue bench-ticks bench-isolation bench-overload bench-growth bench-recovery bench-start build image lock clean again

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' Makefile

# --- work --------------------------------------------------------------------------------------------------------

dev: $(READY) ## run the functions here, reloading on save
	@$(BIN)/fnrun dev $(ARGS)

test: $(READY) browser promtool ## run the tests
	@$(BIN)/python -m pytest -n $(JOBS) --dist worksteal $(ARGS)

# The tests of pages drive a real browser. Where none is, Debian's is installed if that can be done unasked: as root, with
# apt-get. A failure is only told here: without a browser those tests fail in CI and are skipped elsewhere.
browser: ## have the browser that the tests of pages drive
	@for name in "$$FNRUN_TEST_BROWSER" chromium chromium-browser google-chrome google-chrome-stable; do \
	  if command -v "$$name" >/dev/null 2>&1; then exit 0; fi; \
	done; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then \
	  echo "Installing chromium for the tests of pages (about half a minute)"; \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
	    chromium fonts-dejavu-core >/dev/null && exit 0; \
	fi; \
	echo "The tests of pages want a browser: install chromium (Debian: apt-get install chromium) or Chrome, or set" \
	  "FNRUN_TEST_BROWSER to the path of one." >&2

# Unpacked from Debian's package, not installed: that needs no root and starts no service. A failure is only told.
promtool: $(MADE) ## have the tool that judges what Prometheus is shown
	@if [ -x $(BIN)/promtool ] || command -v promtool >/dev/null 2>&1; then exit 0; fi; \
	folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && chmod 755 "$$folder" && to=$$PWD/$(BIN) && cd "$$folder" && \
	{ apt-get download -qq prometheus || { apt-get update -qq && apt-get download -qq prometheus; }; } >/dev/null 2>&1 && \
	dpkg-deb --fsys-tarfile prometheus_*.deb | tar -xf - ./usr/bin/promtool && mv usr/bin/promtool "$$to"/ && exit 0; \
	echo "One test wants promtool: install prometheus (Debian: apt-get install prometheus). It is skipped." >&2

check: fmt-check lint types arch audit cover ## everything that must pass before a merge

fmt: $(READY) ## format the code and fix what can be fixed safely
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .

fmt-check: $(READY)
	@$(BIN)/ruff format --check .

lint: $(READY) ## look for mistakes (ruff)
	@$(BIN)/ruff check .

types: $(READY) ## check the types (mypy, strict)
	@$(BIN)/mypy

# Where there is no network, that is said, and no fault.
audit: $(READY) ## look for known faults of what is shipped (pip-audit)
	@$(BIN)/python .ci/audit.py $(BIN)/pip-audit requirements.lock

arch: $(READY) ## check which module may import which (import-linter)
	@$(BIN)/lint-imports

# `coverage run` and not pytest's plugin: it measures from the first import on.
# The old data goes first, else it would be added to the new.
cover: $(READY) browser promtool ## run the tests and require 95 % branch coverage
	@$(BIN)/python -m coverage erase
	@$(BIN)/python -m coverage run -m pytest -n $(JOBS) --dist worksteal $(ARGS)
	@$(BIN)/python -m coverage combine --quiet
	@$(BIN)/python -m coverage report

# Some 15 minutes, and as many for the peers' environments the first time. ARGS="--quick" takes one.
bench: $(READY) ## measure HTTP and the queue beside all peers
	@$(BIN)/python -P -m benchmarks.compare $(ARGS)

bench-queue: $(READY) ## measure the queue alone
	@$(BIN)/python -P benchmarks/queue.py $(ARGS)

bench-ticks: $(READY) ## measure schedules beside Celery beat
	@$(BIN)/python -P benchmarks/ticks.py $(ARGS)

bench-isolation: $(READY) ## measure processes of functions' own beside threads and pools
	@$(BIN)/python -P benchmarks/isolation.py $(ARGS)

bench-overload: $(READY) ## measure HTTP with several times the load it can do
	@$(BIN)/python -P benchmarks/overload.py $(ARGS)

bench-growth: $(READY) ## measure whether costs stay flat as functions, runs and processes grow
	@$(BIN)/python -P benchmarks/growth.py $(ARGS)

bench-recovery: $(READY) ## measure how soon work goes on after a kill
	@$(BIN)/python -P benchmarks/recovery.py $(ARGS)

bench-start: $(READY) ## measure cold starts and idle memory
	@$(BIN)/python -P benchmarks/start.py $(ARGS)

# Without isolation: the backend is the locked one.
build: $(READY) ## make the wheel and the source archive in dist/
	@$(BIN)/python -m build --no-isolation $(ARGS)

image: ## build the container image with docker or podman
	@for engine in docker podman; do \
	  if command -v $$engine >/dev/null 2>&1; then set -x; exec $$engine build -t fnrun $(ARGS) .; fi; \
	done; \
	echo "make image needs docker or podman: install one of them, or put it on PATH." >&2; exit 1

# pip's constraints and mirrors are not uv's, so the files hold names, versions and hashes only.
# The second file is held to the first: what is tested is what is shipped.
COMPILE = $(BIN)/python -m uv pip compile pyproject.toml --quiet --universal --python-version 3.11 --generate-hashes \
  --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" $(ARGS)

lock: $(MADE) ## write both lock files again (ARGS=--upgrade for newer versions)
	@$(BIN)/python -c "import uv" 2>/dev/null || $(BIN)/python -m pip install --quiet uv
	@$(COMPILE) --output-file requirements.lock
	@$(COMPILE) --group dev --constraints requirements.lock --output-file requirements-dev.lock

clean: ## remove what the other targets made; .fnrun, with keys and data, stays
	@rm -rf $(VENV) .venv-bench dist build .coverage .coverage.* htmlcov .pytest_cache .mypy_cache .ruff_cache .hypothesis \
	  .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# --- set-up ------------------------------------------------------------------------------------------------------
#
# Three stamps, each made from the one before:
#   .made    an empty environment; holds the folder it was made for
#   .locked  exactly the locked packages, in a fresh environment, so that none stays from an older lock
#   .ready   the project itself, editable; after a change of pyproject.toml only this is done again

# An environment does not survive a move of its folder, nor the end of the Python it was made from.
WELL := $(shell [ "`cat $(MADE) 2>/dev/null`" = "$(CURDIR)" ] && $(BIN)/python -c "" 2>/dev/null && echo yes)

ifneq ($(WELL),yes)
$(MADE): again
endif

# The asked-for Python, or else the newest on PATH that is new enough.
define make_venv
for python in "$(PYTHON)" python3.13 python3.12 python3.11; do \
  if "$$python" -c "import sys; sys.exit(sys.version_info < (3, 11))" 2>/dev/null; then found=$$python; break; fi; \
done; \
if [ -z "$$found" ]; then \
  echo "fnrun needs Python 3.11 or later and found none: install one, or name it: make PYTHON=/path/to/python3.11" >&2; \
  exit 1; \
fi; \
rm -rf $(VENV); \
if ! "$$found" -m venv $(VENV); then \
  rm -rf $(VENV); \
  echo "$$found cannot make a virtual environment: install its venv module (on Debian and Ubuntu: python3-venv)." >&2; \
  exit 1; \
fi; \
printf '%s\n' "$(CURDIR)" > $(MADE)
endef

$(MADE):
	@$(make_venv)

$(LOCKED): requirements-dev.lock $(MADE)
	@echo "Setting up $(VENV) (about a minute the first time)"
	@[ ! -e $@ ] || { $(make_venv); }
	@$(BIN)/python -m pip install --quiet --require-hashes -r requirements-dev.lock
	@touch $@

$(READY): pyproject.toml $(LOCKED)
	@$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@
