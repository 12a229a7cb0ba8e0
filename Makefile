# hw1: `make demo` and `make test` set up .venv by themselves; `make help` lists the rest.

.DEFAULT_GOAL := help
SHELL := /bin/sh

PYTHON ?= python3
EXTRAS ?= dev
ARGS ?=

VENV ?= .venv
BIN := $(VENV)/bin

# What .venv was made from: where it lies (its scripts hold the path), which Python, which
# packages. Contents, not dates: a checkout gives files any date.
MADE_FROM = $$({ pwd; echo "$(EXTRAS)"; $(PYTHON) -V; cat setup.cfg pyproject.toml constraints.txt; } | cksum)

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' Makefile
	@echo
	@echo "PYTHON=python3.12 makes .venv with another Python (3.11 or newer);"
	@echo "ARGS='…' goes to pytest (make test) or bench/run.py (make bench)."

.PHONY: demo
demo: venv ## classify the example photos through Ray, segment the example tiles
	@PATH="$(abspath $(BIN)):$$PATH" sh examples/demo.sh

.PHONY: test
test: venv ## the tests
	$(BIN)/python -m pytest $(ARGS)

.PHONY: mutants
mutants: venv ## mistakes put into the code, one after the other: do the tests notice?
	$(BIN)/python tests/mutants/run.py $(ARGS)

.PHONY: fuzz
fuzz: venv ## 20,000 damaged images, tables, ledgers and checkpoints (ARGS='CASES SEED')
	$(BIN)/python tests/fuzz/run.py $(ARGS)

.PHONY: lint
lint: venv ## ruff, its rules and its format
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .

.PHONY: types
types: venv ## mypy --strict, on a folder named hw1: the package's name is this folder's
	@mkdir -p build/types && ln -sfn "$(CURDIR)" build/types/hw1
	cd build/types && "$(abspath $(BIN))/python" -m mypy --explicit-package-bases \
		--config-file ../../pyproject.toml hw1

.PHONY: bench
bench: venv ## speed and memory, measured against plain scripts; takes a while (ARGS=--quick)
	$(BIN)/python bench/run.py $(ARGS)

.PHONY: chaos
chaos: venv ## disturb small jobs in every way we know, and compare; about half an hour
	$(BIN)/python tests/chaos/run.py $(ARGS)

.PHONY: clean
clean: ## remove what make made, .venv too
	rm -rf $(VENV) build .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: venv
venv: ## .venv alone
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		found=$$($(PYTHON) -V 2>/dev/null) || found="not there"; \
		echo "hw1 needs Python 3.11 or newer; $(PYTHON) is $$found. Name another:" \
			"make PYTHON=python3.12 …" >&2; exit 2; }
	@if [ "$$(cat $(VENV)/made-from 2>/dev/null)" != "$(MADE_FROM)" ] \
		|| ! $(BIN)/python -c '' 2>/dev/null; then \
		echo "making $(VENV), once: a few minutes (torch is large); pip writes to $(VENV)/pip.log" >&2; \
		rm -rf $(VENV) && $(PYTHON) -m venv $(VENV) \
		&& { $(BIN)/python -m pip install --disable-pip-version-check \
			-c constraints.txt -e ".[$(EXTRAS)]" > $(VENV)/pip.log 2>&1 \
			|| { tail -n 20 $(VENV)/pip.log >&2; false; }; } \
		&& echo "$(MADE_FROM)" > $(VENV)/made-from; \
	fi
