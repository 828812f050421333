# Every target sets up .venv by itself; `make` alone prints what there is.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
CORE   := $(VENV)/.core

.DEFAULT_GOAL := help
.PHONY: help demo test check fix bench serve

help: ## show this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

demo: $(CORE) ## run 8 workflow jobs end to end against a simulated GitHub, on this machine
	$(BIN)/mayfly demo

serve: $(CORE) ## run the control plane with ./mayfly.toml
	$(BIN)/mayfly serve

test: $(STAMP) ## run every test
	$(BIN)/pytest -n auto

check: $(STAMP) ## lint, types and import rules; changes nothing
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fix: $(STAMP) ## format and apply the safe lint fixes
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(STAMP) ## measure; results are printed with their ratios, never asserted
	$(BIN)/python -m bench

$(CORE): pyproject.toml constraints.txt
	@echo "setting up $(VENV) with what the program needs"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

$(STAMP): $(CORE)
	@echo "setting up $(VENV) with what the tests need"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@
