# The commands that people and CI use. Everything is set up inside .venv, from hashed lock files.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: help servers setup demo test check bench chaos lock format clean

help: ## Say what there is
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

setup: $(READY) ## Install everything into .venv

$(READY): requirements-dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Firedoor needs Python 3.11 or newer; name one with: make PYTHON=python3.12"; exit 2; }
	@echo "Installing into $(VENV) (a minute or two, once) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

servers: ## Install nginx and wrk for the live tests, where apt-get and the right to do so are there
	@if command -v nginx >/dev/null && command -v wrk >/dev/null; then \
	  echo "nginx and wrk are here."; \
	elif command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends nginx-light wrk >/dev/null; \
	else echo "Not installed: the tests of nginx and of load are skipped, and say so."; fi

demo: $(READY) ## Run the main job once, by itself, on real parts
	@$(BIN)/firedoor demo

test: $(READY) ## Run the tests
	@$(BIN)/python -m pytest -n 2 --dist loadfile

check: $(READY) ## Format, lint, types, import contracts, lock files
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/firedoor check runbooks/api1-bola.yaml
	$(BIN)/python -m pytest -q tests/unit/test_packaging.py

chaos: $(READY) ## Kill workers at every boundary and at random; an hour on two cores
	@$(BIN)/python -m tests.chaos

bench: $(READY) ## Measure; writes bench-results.json
	@$(BIN)/python -m tests.bench

format: $(READY) ## Format and mend what the linter can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

LOCK := $(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-header \
        --no-annotate --no-emit-index-url --no-emit-find-links --quiet

lock: ## Bring the lock files in step with pyproject.toml
	$(LOCK) pyproject.toml --extra postgres --extra envoy-ads -o requirements.lock
	$(LOCK) pyproject.toml --extra postgres --extra envoy-ads --extra sandbox --group dev -c requirements.lock -o requirements-dev.lock
	for asked in tests/bench/peers/*/requirements.in; do \
	  $(LOCK) $$asked -o $${asked%.in}.txt || exit; done

clean: ## Remove what the commands made
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache demo-out bench-results.json .bench
