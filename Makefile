# The two commands of the README. Each sets up what it needs in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-slow test-soak setup format clean

demo: $(VENV)/installed
	$(BIN)/grumo demo

test: $(VENV)/installed-for-tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python -m pytest -n 2 --dist loadfile -m 'not slow and not soak'

test-slow: $(VENV)/installed-for-tests
	$(BIN)/python -m pytest -n 2 --dist load -m slow
	XLA_DEFAULTS=1 $(BIN)/python -m pytest -n 2 --dist loadfile -m defaults tests

# Before a release, and after changes to what survives a kill or to experiments.
test-soak: $(VENV)/installed-for-tests
	$(BIN)/python -m pytest -m soak tests

setup: $(VENV)/installed-for-tests

format: $(VENV)/installed-for-tests
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/installed-for-tests: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	touch $@ $(VENV)/installed

clean:
	rm -rf $(VENV) build dist
