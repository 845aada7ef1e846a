# A thin layer over `wikigpt` and pytest. docs/installation.md describes the installation.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TORCH_INDEX ?=
export TORCH_INDEX
PROFILE ?= quick
LOCK := docker/lock
GOLDEN_IMAGE := registry.example/wikigpt@sha256:$(shell printf '%064d' 0)
.DEFAULT_GOAL := help

.PHONY: help run test test-slow lint golden records figures docs lock audit mlflow-schema clean

help: ## List the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

$(VENV)/installed: pyproject.toml infra/laptop/install.py $(LOCK)/base.txt $(LOCK)/train.txt $(LOCK)/torch.txt
	$(PYTHON) infra/laptop/install.py $(VENV)
	@touch $@

$(VENV)/installed-test: $(VENV)/installed $(LOCK)/test.txt
	$(PYTHON) infra/laptop/install.py $(VENV) test
	@touch $@

$(VENV)/installed-docs: $(VENV)/installed $(LOCK)/docs.txt
	$(PYTHON) infra/laptop/install.py $(VENV) docs
	@touch $@

# pip-audit has its own environment, because it needs nothing of the project and pins packages that the project has too.
.venv-audit/bin/pip-audit:
	$(PYTHON) -m venv .venv-audit
	.venv-audit/bin/pip install --quiet --disable-pip-version-check pip-audit

run: $(VENV)/installed ## Run the whole pipeline on this machine (PROFILE=quick)
	$(BIN)/wikigpt run --profile $(PROFILE)

test: $(VENV)/installed-test ## Run the daily suite, about two minutes on two cores
	$(BIN)/python -m pytest -q -n 2 --dist loadfile

test-slow: $(VENV)/installed-test ## Run the slow tests: kills, servers, the whole DAG
	$(BIN)/python -m pytest -q -m slow -n 3 --dist loadfile --durations=15

lint: $(VENV)/installed-test ## Check style, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

golden: $(VENV)/installed ## Recompile the checked-in copies of the pipeline
	$(BIN)/wikigpt compile --profile quick -o tests/pipelines/golden/quick.yaml
	$(BIN)/wikigpt compile --profile nightly --set cluster.image=$(GOLDEN_IMAGE) -o tests/pipelines/golden/nightly.yaml

records: $(VENV)/installed-test ## Measure again what the pages quote, on an idle machine (WIKIGPT_TEST_DATA names the corpora)
	$(BIN)/python -m tests.benchmarks.train_speed --rounds 1 --record docs/benchmarks/train_speed.json
	$(BIN)/python -m tests.benchmarks.train_speed --loss --record docs/benchmarks/train_loss.json
	$(BIN)/python -m tests.benchmarks.train_speed --start-up --record docs/benchmarks/train_start_up.json
	$(BIN)/python -m tests.benchmarks.evaluation_speed --record docs/benchmarks/evaluation_speed.json
	$(BIN)/python -m tests.benchmarks.s3_throughput --record docs/benchmarks/s3_throughput.json
	$(BIN)/python -m tests.benchmarks.tokenize_speed $(WIKIGPT_TEST_DATA)/wikitext-2/wiki.train.tokens --record docs/benchmarks/tokenize_speed.json
	$(BIN)/python -m tests.benchmarks.run_profile quick --corpus $(WIKIGPT_TEST_DATA)/wikitext-2 --record docs/benchmarks/run_quick.json
	$(BIN)/python -m tests.benchmarks.rollout_under_load --rate 50 --seconds 60 --record docs/benchmarks/rollout_under_load.json
	$(BIN)/python -m docs.generator.figures

figures: $(VENV)/installed ## Write the figures of the pages again from the records of docs/benchmarks
	$(BIN)/python -m docs.generator.figures

docs: $(VENV)/installed-docs ## Build the documentation site into build/docs, with no broken link
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build

lock: ## Write all locks again from pyproject.toml; UPGRADE=1 takes the newest releases
	$(PYTHON) docker/lock.py $(if $(UPGRADE),--upgrade)

audit: .venv-audit/bin/pip-audit ## Compare the locks with the database of advisories, over the internet
	.venv-audit/bin/python docker/audit.py

mlflow-schema: $(VENV)/installed ## Regenerate the schema of MLflow's database, after another MLflow was pinned
	$(BIN)/python -m components.shared.tracking.mlflow_schema

clean: ## Remove the environment and the caches of the tools, but not .wikigpt
	rm -rf $(VENV) .venv-audit build *.egg-info .pytest_cache .mypy_cache .ruff_cache
