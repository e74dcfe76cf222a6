# What contributors and CI run. Needs Python >= 3.10 and make; everything else is installed into .venv.

VENV := .venv
PIP := $(VENV)/bin/python -m pip
TEST := $(VENV)/.installed-test
LINT := $(VENV)/.installed-lint

# `make test ARGS="-k streamed"`, `make bench ARGS=--all`; `make PYTHON=/path/to/python3.12 test`.
ARGS ?=
PYTHON ?=
export PYTHON
# Real servers wait, too; two processes keep a processor busy. 24 at most.
WORKERS ?= $(shell cores=$$(nproc); echo $$((cores < 12 ? 2 * cores : 24)))

# What servers of tests import: they write no bytecode, so that each would compile it anew.
IN_SERVERS := otel_canonical demo tests/server/programs
# Compiled by pytest, which keeps what it compiles: processes that begin together would each do all of it.
TESTS := tests/unit 'tests/server tests/docs'
COMPILED := $(VENV)/.compiled-tests

.DEFAULT_GOAL := help
.PHONY: help venv demo test otelcol lint typecheck imports docstrings docs docs-check check wheel-test matrix soak mutants bench instructions clean

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

venv: $(TEST) $(LINT) ## Install the package, what its tests need and the linters into .venv

demo: $(TEST) ## Start the demo shop under a real Gunicorn and show the line of every kind of request
	@$(VENV)/bin/python demo/show.py $(ARGS)

test: $(TEST) $(COMPILED) ## Run the tests side by side (WORKERS=...); what needs a missing Go, Node, strace, PostgreSQL or MariaDB is skipped and says so
	@$(VENV)/bin/python -m compileall -q $(IN_SERVERS)
	@$(VENV)/bin/python -m pytest --numprocesses $(WORKERS) --dist loadgroup $(ARGS)

otelcol: $(TEST) ## Build the OpenTelemetry Collector that the tests talk to, and say where it is; needs Go
	@$(VENV)/bin/python -m tests.support.peers.collector

lint: $(LINT) ## Check style and formatting (ruff)
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .

typecheck: $(LINT) $(TEST) ## Check types (mypy --strict): the package, and a user's code against it
	@$(VENV)/bin/mypy

imports: $(LINT) $(TEST) ## Check that modules import only what lies below them (import-linter)
	@$(VENV)/bin/lint-imports

docstrings: $(LINT) ## Check that every public name says what it promises (interrogate)
	@$(VENV)/bin/interrogate otel_canonical

docs: $(TEST) ## Write the tables of docs/ anew, from the code
	@$(VENV)/bin/python docs/generate.py

docs-check: $(TEST) ## Fail if those tables are not what the code says
	@$(VENV)/bin/python docs/generate.py --check

check: lint typecheck imports docstrings docs-check ## All of the above that runs no server

wheel-test: $(TEST) ## Build the wheel, install it elsewhere, test it without the source tree
	@$(VENV)/bin/python tools/try_wheel.py

matrix: $(TEST) ## Smoke-test the wheel: Pythons that are here, Djangos, Gunicorns; ARGS=--corners for few
	@$(VENV)/bin/python tools/try_wheel.py --matrix $(ARGS)

soak: $(TEST) ## The long versions: chaos, kills, timeouts, reloads, ill collectors, others' applications, Django's own tests
	@OTEL_CANONICAL_SOAK=1 $(VENV)/bin/python -m pytest -s -p no:randomly -m soak $(ARGS)
	@$(VENV)/bin/python tools/strangers/compare.py
	@$(VENV)/bin/python tools/strangers/django_suite.py

mutants: $(TEST) ## Change the code in small ways and see whether unit tests notice; ARGS="stacks/location.py --all"
	@$(VENV)/bin/python tools/mutants.py $(ARGS)

bench: $(TEST) ## Measure what a request costs, ours and others; ARGS=--help lists the options
	@$(VENV)/bin/python benchmarks/overhead.py $(ARGS)

instructions: $(TEST) ## Fail if a request adds more instructions than it is allowed to; needs valgrind
	@$(VENV)/bin/python benchmarks/instructions.py --check --venv $(VENV) $(ARGS)

clean: ## Remove everything that was made here: .venv, caches, builds
	rm -rf $(VENV) .cache build dist .hypothesis .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Installed anew when pyproject.toml changes. Dependency groups need pip >= 25.1.
$(TEST): pyproject.toml
	@tools/make-venv $(VENV)
	@echo "Installing the package and what its tests need into $(VENV)"
	@$(PIP) install --quiet 'pip>=25.1'
	@$(PIP) install --quiet --editable . --group test
	@touch $@

# Whoever runs the tests says what can't be compiled.
$(COMPILED): $(TEST) $(shell find tests -name '*.py')
	@printf '%s\n' $(TESTS) | PYTHONDONTWRITEBYTECODE= xargs -P 2 -L 1 \
		$(VENV)/bin/python -m pytest --collect-only -qq >/dev/null || true
	@touch $@

$(LINT): pyproject.toml
	@tools/make-venv $(VENV)
	@echo "Installing the linters into $(VENV)"
	@$(PIP) install --quiet 'pip>=25.1'
	@$(PIP) install --quiet --group lint
	@touch $@
