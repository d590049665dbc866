# Two commands do everything on a bare machine with git, make and Python 3.11 to 3.13.
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3 python; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
OUT ?= demo-output
# One thread per process: tests run side by side, and more threads than cores make BLAS many times slower.
ENV := OMP_NUM_THREADS=1 MPLBACKEND=Agg

.PHONY: demo test lint types floors slow clean
.DELETE_ON_ERROR:

demo: $(VENV)/.demo  ## environment, then the main job on real scenes; results in $(OUT)
	$(ENV) $(BIN)/torchspectral demo -o $(OUT) --overwrite

test: $(VENV)/.dev  ## environment, then the default tests
	$(ENV) $(BIN)/python -m pytest -n auto --dist loadfile $(ARGS)

slow: $(VENV)/.dev  ## the tests that take minutes
	$(ENV) $(BIN)/python -m pytest -m slow $(ARGS)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/mypy

floors: $(VENV)/.dev  ## imports go down only, and never between two rooms
	$(BIN)/lint-imports

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "no Python 3.11, 3.12 or 3.13 found: install one, or call make PYTHON=/path/to/python3"; exit 2; }
	$(PYTHON) -m venv $(VENV)

# The stamps make the second call quick; a changed pyproject.toml installs again.
$(VENV)/.demo: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[demo]'
	@touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@ $(VENV)/.demo

clean:
	rm -rf $(VENV) $(OUT)
