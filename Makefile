# Everything sets itself up in .venv from the hashed lock files; a second run starts at once.
.DEFAULT_GOAL := help
SHELL := /bin/sh

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
RUN := $(VENV)/.run
TEST := $(VENV)/.test

.PHONY: help demo serve test bench corpus check format lock clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(RUN) ## start a server, ask it about three real documents, print the answers
	@$(BIN)/python examples/demo.py

serve: $(RUN) ## run the server on 127.0.0.1:3000 with its data in ./docv2-data
	@$(BIN)/docv2 serve

test: $(TEST) ## run every check and every test
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest --numprocesses=2 --dist=loadgroup

bench: $(RUN) ## measure speed and memory beside what docs/performance.md holds them to
	@$(BIN)/python -m benchmarks

corpus: $(RUN) ## read every document below CORPUS=folder; fails where one crashes, hangs or takes too much
	@test -d "$(CORPUS)" || { echo "usage: make corpus CORPUS=folder" >&2; exit 2; }
	@$(BIN)/python -m tests.corpus "$(CORPUS)"

check: $(TEST) ## run the static checks alone: format, lint, types, layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(TEST) ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: $(TEST) ## resolve the dependencies anew into the lock files
	$(BIN)/python -m pip --quiet install uv
	@for target in "requirements.lock --extra reader" "requirements-test.lock --extra reader --extra test -c requirements.lock"; do \
		echo "setuptools >= 77" | $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
			--no-annotate --no-header setup.cfg - -o $$target || exit 1; done

clean: ## remove what the other targets made
	rm -rf $(VENV) build dist *.egg-info

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "docv2 needs Python 3.11 or later; set PYTHON=" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "docv2 needs Python's venv module (Debian: apt-get install python3-venv)" >&2; exit 1; }

$(RUN): $(VENV)/bin/python requirements.lock setup.cfg pyproject.toml
	@echo "setting up $(VENV)"
	@$(PIP) install --require-hashes -r requirements.lock
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(TEST): $(RUN) requirements-test.lock
	@$(PIP) install --require-hashes -r requirements-test.lock
	@touch $@
