# `make` lists the targets. The comments after ## are their descriptions.

.DEFAULT_GOAL := help
PYTHON ?= $(shell command -v python3.11 || command -v python3)
IN_VENV = PATH="$(CURDIR)/.venv/bin:$$PATH"

.PHONY: help run test slow check format lock clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' Makefile

run: .venv/ready ## The whole flow on painted scenes; DATA=FOLDER for your own pairs
	@$(IN_VENV) mlflow run . --env-manager local --experiment-name sat2map $(if $(DATA),-P data="$(DATA)")

test: .venv/ready ## All tests except the slow ones
	@$(IN_VENV) python -m pytest -m "not slow" --numprocesses 2 --dist loadfile

slow: .venv/ready ## The tests that take minutes
	@$(IN_VENV) python -m pytest -m slow

check: .venv/ready ## Check format, lint, types and tests, as CI does
	@infra/check

format: .venv/ready ## Format the code
	@$(IN_VENV) ruff check --fix . && $(IN_VENV) ruff format .

lock: .venv/ready ## Pin the packages again after a change in pyproject.toml
	@$(IN_VENV) infra/lock

.venv/ready: requirements.lock pyproject.toml
	@echo "Installing the pinned packages into .venv (about 4 GB, a few minutes) ..."
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11) and "This is Python " + sys.version.split()[0] + "; Python 3.11 is needed: make PYTHON=/path/to/python3.11")'
	@"$(PYTHON)" -m venv .venv
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements.lock
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch .venv/ready

clean: ## Remove .venv and caches; workspace/ and mlflow.db stay
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache *.egg-info
