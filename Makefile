# Each target sets up the virtual environment .venv from the project's own files first.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
# Tests at the same time; each worker takes up to 3 GB.
WORKERS ?= 3

.PHONY: install demo check test lint bench torture

install: $(VENV)/installed

$(VENV)/installed: setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev]"
	touch $@

demo: install
	$(BIN)/python -m gmsrm_jax.main --config=configs/demo.py

test: install
	$(BIN)/python -m pytest --numprocesses=$(WORKERS) --dist=loadgroup --no-loadscope-reorder

# Before every push; `test` is all of the tests.
check: lint
	$(BIN)/python -m pytest -m "not slow" --numprocesses=$(WORKERS) --dist=loadgroup --no-loadscope-reorder

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy gmsrm_jax configs tools benchmarks

# Options, such as --method, --sections or --torch-python: make bench BENCH="..."
bench: install
	$(BIN)/python -m benchmarks.bench --json bench.json --markdown bench.md $(BENCH)

torture: install
	$(BIN)/python tools/torture.py $(TORTURE)
