# Two commands: `make demo` shows real work done, `make test` shows that it is tested. `make help` lists the rest.

PYTHON ?=
VENV   ?= .venv
ARGS   ?=
ROUNDS ?= 200
PYTHONS ?= python3.12 python3.13
BIN    := $(VENV)/bin
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
           --custom-compile-command 'make lock' pyproject.toml --group build

export PYTHON VENV
export UV_PYTHON_DOWNLOADS := never
.PHONY: help demo venv venv-dev test test-quick test-pythons chaos chaos-logs lint format bench lock clean
.DEFAULT_GOAL := help

help: ## this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

demo: venv ## a runner at work on this machine, in half a minute (ARGS="--dir D" and so on)
	@$(BIN)/runner demo $(ARGS)

venv: ## .venv with .venv/bin/runner in it (PYTHON=/path/to/python3)
	@.ci/venv run

venv-dev: # the same with what tests and checks need
	@.ci/venv dev

test: venv-dev ## everything, beside private real services (SERVICES=present, STRICT=1, ONLY="quick docker")
	@$(BIN)/python -m tests.suite $(if $(ONLY),--groups $(ONLY))

test-quick: venv-dev ## the unit tests, in under a minute, without any service
	@$(BIN)/python -m tests.suite --groups quick --no-services

test-pythons: ## the unit tests under each newer Python that runs here (PYTHONS="python3.12 python3.13")
	@for python in $(PYTHONS); do \
	    if $$python -c '' 2>/dev/null; then \
	        $(MAKE) --no-print-directory test-quick PYTHON=$$python VENV=.venv-$$(basename $$python) || exit 1; \
	    else echo "$$python does not run here: not tested"; fi; \
	done

chaos: venv-dev ## kill runners at every stage, ROUNDS=200 times over each kind of queue and with containers, and account for every job
	@$(BIN)/python -m tests.services redis rabbitmq localstack docker -- $(BIN)/python -m tests.chaos --rounds $(ROUNDS)

chaos-logs: ROUNDS = 20
chaos-logs: venv-dev ## kill runners while 50,000 lines a second flow, ROUNDS=20 times with processes and with containers
	@$(BIN)/python -m tests.services docker -- $(BIN)/python -m tests.chaos.flow --rounds $(ROUNDS)

lint: venv-dev ## ruff, mypy, pyright and the import contracts
	@$(BIN)/python -m tests.suite --groups lint --no-services

format: venv-dev ## let ruff write the code as it wants it
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix --exit-zero .

bench: venv-dev ## every measurement, each beside its peer and its limit; one JSON line each
	@for file in $$(grep -l __main__ bench/*.py); do echo "# $$file" >&2; $(BIN)/python "$$file" $(ARGS) || exit 1; done

lock: venv-dev ## pin and hash every dependency again (ARGS=--upgrade for newer ones)
	@$(COMPILE) --output-file requirements.txt $(ARGS)
	@$(COMPILE) --group dev --constraint requirements.txt --output-file requirements-dev.txt $(ARGS)

clean: ## remove what was made here
	@rm -rf .venv .venv-* demo-out build dist .coverage .coverage.* htmlcov
	@rm -rf .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
