# Everything a developer runs. Needs only make and Python >= 3.11; the rest comes from requirements.lock.

# The first interpreter that is new enough; `make PYTHON=…` names another.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
LOCKED := $(VENV)/.locked
INSTALLED := $(VENV)/.installed
PROTOS := $(wildcard proto/assay/v1/*.proto)
JOBS ?= auto

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

.PHONY: help
help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 24

.PHONY: venv
venv: $(INSTALLED) ## Make .venv with all tools and Assay itself in place

$(LOCKED): requirements.lock
	@test -n "$(PYTHON)" || { echo "Assay needs Python 3.11 or newer; none was found. Name one: make PYTHON=/path/to/python" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Assay needs Python 3.11 or newer; $(PYTHON) is older" >&2; exit 1; }
	@echo "Installing what requirements.lock names into $(VENV) (a minute, once)"
	@$(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install --quiet --require-hashes --requirement requirements.lock
	@touch $@

$(INSTALLED): $(LOCKED) pyproject.toml
	@$(BIN)/python -m pip install --quiet --no-index --no-deps --no-build-isolation --editable .
	@touch $@

.PHONY: demo
demo: $(INSTALLED) ## Show the whole loop on real data
	@$(BIN)/assay demo

# Types are checked while tests run, which often wait.
.PHONY: test
test: ## Run every check that CI runs
	@$(MAKE) --no-print-directory lint imports contract
	@$(MAKE) --no-print-directory --jobs=2 types pytest

.PHONY: lint
lint: $(INSTALLED) ## Check style and form of Python
	$(BIN)/ruff check --quiet
	$(BIN)/ruff format --check --quiet

.PHONY: format
format: $(INSTALLED) ## Put Python and proto files into form
	$(BIN)/ruff check --fix --quiet
	$(BIN)/ruff format --quiet
	$(BIN)/buf format --write proto

.PHONY: types
types: $(INSTALLED) ## Check types
	$(BIN)/mypy

.PHONY: imports
imports: $(INSTALLED) ## Check which package imports which
	$(BIN)/lint-imports --no-logo

# `buf breaking` compares with proto/baseline.binpb, the contract as last released: main is no baseline, since what CI
# sees is main itself. `make baseline` replaces it, at a release or, before the first one, on purpose.
.PHONY: contract
contract: $(INSTALLED) ## Check the proto files, also against the last release
	$(BIN)/buf lint proto
	$(BIN)/buf format --diff --exit-code proto
	$(BIN)/buf breaking proto --against proto/baseline.binpb

.PHONY: baseline
baseline: $(INSTALLED) ## Take the contract as it stands for the released one
	$(BIN)/buf build proto --exclude-source-info --output proto/baseline.binpb

.PHONY: reference
reference: $(INSTALLED) ## Write the tables of policy/REFERENCE.md
	@$(BIN)/assay policy reference --update policy/REFERENCE.md

# `worksteal` gives each process whole files as long as possible, so that their fixtures are made once.
.PHONY: pytest
pytest: $(INSTALLED) ## Run the tests alone
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal

.PHONY: bench
bench: $(INSTALLED) ## Measure; nothing here is a timed test
	$(BIN)/python -m pytest -p no:xdist tests/bench --override-ini python_files='bench_*.py'

.PHONY: bench-litellm
bench-litellm: .venv-litellm/.installed ## Install LiteLLM's proxy, for the benches to compare with

# Frameworks and proxies that are tried or measured against clash with each other's pins: each has an environment of its
# own, with whatever is current on the day.
.venv-litellm/.installed: PACKAGE := litellm[proxy]
.venv-client-pydantic-ai/.installed: PACKAGE := pydantic-ai-slim[openrouter]
.venv-client-langchain-openrouter/.installed: PACKAGE := langchain-openrouter
FRAMEWORKS := .venv-client-pydantic-ai/.installed .venv-client-langchain-openrouter/.installed

$(FRAMEWORKS) .venv-litellm/.installed:
	@echo "Installing $(PACKAGE) into $(@D)"
	@$(PYTHON) -m venv --clear $(@D)
	@$(@D)/bin/python -m pip install --quiet '$(PACKAGE)'
	@touch $@

.PHONY: clients
clients: $(INSTALLED) $(FRAMEWORKS) ## Try frameworks that bring clients of their own, each in its environment
	$(BIN)/python -m pytest -p no:xdist tests/clients --override-ini python_files='client_*.py'

# RUNS=8 is quicker and says less.
.PHONY: bench-admission
bench-admission: $(INSTALLED) ## Simulate who comes into pools, who leaves them and how fast
	$(BIN)/python -m tests.bench.admission $(if $(RUNS),--runs $(RUNS))

# REQUESTS=300 is quicker and says less.
.PHONY: bench-exacto
bench-exacto: $(INSTALLED) ## Count the tool-call errors that agents get with and without pools
	$(BIN)/python -m tests.bench.exacto $(if $(REQUESTS),--requests $(REQUESTS))

.PHONY: soak
soak: $(INSTALLED) ## Run the long fault tests and many simulated seeds
	$(BIN)/python -m pytest -p no:xdist tests/soak --override-ini python_files='soak_*.py'

.PHONY: proto
proto: $(INSTALLED) ## Regenerate service/assay/v1 from proto/
	$(BIN)/python -m grpc_tools.protoc --proto_path=proto \
		--plugin=protoc-gen-mypy=$(BIN)/protoc-gen-mypy --plugin=protoc-gen-mypy_grpc=$(BIN)/protoc-gen-mypy_grpc \
		--python_out=service --grpc_python_out=service --mypy_out=quiet:service --mypy_grpc_out=quiet:service $(PROTOS)

# Keeps the pins that still fit; `make lock UPGRADE=1` renews them all. One lock serves Python 3.11 to 3.13 on Linux and
# macOS. It names no index, so that each machine's own pip settings decide where packages come from.
.PHONY: lock
lock: ## Rewrite requirements.lock from pyproject.toml
	@$(PYTHON) -m venv .venv-lock
	@.venv-lock/bin/python -m pip install --quiet 'uv>=0.13'
	.venv-lock/bin/uv pip compile pyproject.toml --extra test --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-emit-find-links --no-annotate --no-header --quiet \
		$(if $(UPGRADE),--upgrade) --output-file requirements.lock

.PHONY: clean
clean: ## Remove everything that make made
	rm -rf .venv .venv-* build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
