# Every target does one thing; `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
# Debian's own interpreter first: every user of the machine can run it.
PYTHON ?= $(shell for p in /usr/bin/python3 python3; do $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest -q

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  %-14s %s\n", $$1, $$2}'

.PHONY: setup setup-system python guest native
setup: setup-system python guest native bytecode ## all set-up: system packages, Python environment, guest images

setup-system: ## system packages (needs root once)
	@./scripts/setup-system

python: $(VENV)/.installed ## Python environment in .venv

$(VENV)/.installed: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is missing: sudo apt-get install -y python3 python3-venv" >&2; exit 3; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

.PHONY: bytecode
bytecode: python # so that the first start of each program is as quick as the next
	@$(BIN)/python -m compileall -q src/wisp

guest: ## guest images (Rust)
	@$(MAKE) --no-print-directory -C guest all
	@$(MAKE) --no-print-directory digests

native: ## keeper, delay line and relay (Rust)
	@$(MAKE) --no-print-directory -C native all
	@$(MAKE) --no-print-directory digests

.PHONY: digests
digests: # which Wisp's own programs are known by
	@cd src/wisp/_artifacts && sha256sum $$(ls | grep -E '\.elf$$|^wisp-native$$') >.SHA256SUMS && mv .SHA256SUMS SHA256SUMS

.PHONY: fmt check test contract fault integration
fmt: python ## format everything
	$(BIN)/ruff format src tests examples
	$(BIN)/ruff check --fix src tests examples

check: python ## ruff, mypy, import rules, clippy
	$(BIN)/ruff format --check src tests examples
	$(BIN)/ruff check src tests examples
	$(BIN)/mypy
	$(BIN)/lint-imports
	@$(MAKE) --no-print-directory -C guest check
	@$(MAKE) --no-print-directory -C native check

test: setup ## every test that fits in CI
	@$(MAKE) --no-print-directory -C guest test
	@$(MAKE) --no-print-directory -C native test
	$(PYTEST) -m 'not slow'

contract: setup ## the driver contract on every driver
	$(PYTEST) tests/contract

fault: setup ## the controller killed at fifty random moments
	$(PYTEST) tests/fault

integration: setup ## the real thing
	$(PYTEST) tests/integration

.PHONY: demo bench docs release clean
demo: setup ## the fog scenario: set-up, run, visible end
	$(BIN)/wisp demo

bench: setup ## every benchmark, JSON and PNG under .cache/bench
	@./scripts/bench

docs: python ## regenerate the reference pages
	$(BIN)/python -m wisp.interfaces.cli.reference docs/reference

release: setup ## the wheel, with guest images and their digests
	find examples -name __pycache__ -prune -exec rm -r {} +
	$(BIN)/python -m build --wheel
	$(BIN)/python scripts/check_wheel.py "$$(ls -t dist/*.whl | head -n 1)"

clean: ## remove what was built
	rm -rf $(VENV) dist src/wisp/_artifacts guest/target native/target
