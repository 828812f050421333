# Every target sets up .venv by itself; `make` alone prints what there is.
PYTHON ?= python3
JOBS   ?= 30000
STORE  ?= sqlite
BUS    ?= sql
SCALE  ?= parked
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
CORE   := $(VENV)/.core

.DEFAULT_GOAL := help
.PHONY: help demo test check fix bench serve simulate mutants chaos checkov image

help: ## show this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

# What a backend needs beside the core; the defaults need nothing.
EXTRAS := $(sort $(patsubst servicebus,azure,$(filter postgres rabbitmq servicebus,$(STORE) $(BUS))))

demo: $(EXTRAS:%=$(VENV)/.extra-%) $(CORE) ## run 8 jobs end to end against a simulated GitHub; BUS=rabbitmq STORE=postgres for real servers, SCALE=zero without parked executors
	$(BIN)/mayfly demo --store '$(STORE)' --bus '$(BUS)' --scale '$(SCALE)'

serve: $(CORE) ## run the control plane with ./mayfly.toml
	$(BIN)/mayfly serve

test: $(STAMP) ## run every test
	$(BIN)/pytest -n auto --dist worksteal

simulate: $(STAMP) ## run the engine through 300 worlds full of faults, in virtual time; JOBS=1000000 for more
	$(BIN)/python -m tests.simulation --seeds 300 --jobs $(JOBS)

mutants: $(STAMP) ## break the engine on purpose, rule by rule, and see the simulation notice
	$(BIN)/python -m tests.mutants

chaos: $(STAMP) ## kill real processes once a second while 500 jobs run
	$(BIN)/python -m tests.chaos

checkov: $(STAMP) ## look at the Terraform modules with checkov, which gets an environment of its own
	$(BIN)/python -m tests.terraform.checkov

image: $(STAMP) ## only build the image of an executor twice, and run a job in it
	$(BIN)/pytest -m image -n0 tests/e2e/test_image.py

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

$(VENV)/.extra-%: $(CORE)
	@echo "adding what $* needs to $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$*]'
	@touch $@

$(STAMP): $(CORE) tests/servers/install
	@echo "setting up $(VENV) with what the tests need"
	@tests/servers/install $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@
