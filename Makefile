# The targets with a `##` are what `make help` lists.
.DEFAULT_GOAL := help
.PHONY: help setup demo up test quick faults bench check fmt clean

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST)

setup: ## install what is missing: system packages, then .venv
	@scripts/bootstrap

demo: setup ## a course, graded from submission to results, on this machine
	.venv/bin/python -m demo

up: setup ## run everything on this machine until Ctrl-C
	.venv/bin/broadway up

test: setup ## all tests; with CONTAINERS=1 broker and store from containers
	CONTAINERS=$(CONTAINERS) scripts/test

quick: setup ## the tests that take less than a minute, for every change
	WORKERS=2 scripts/test tests/domain tests/ingest tests/cluster/test_journey.py tests/test_benchmarks.py

faults: setup ## the whole fault suite; writes its table to docs/reliability.md
	BROADWAY_FAULTS=1 timeout --kill-after=60 180m .venv/bin/python -m pytest -o faulthandler_timeout=4000 \
		tests/domain/test_model.py tests/faults tests/hosts tests/compat/test_liveness.py tests/grader tests/hostile \
		tests/compose

bench: ## measure Broadway beside what people use instead; writes docs/performance.md
	@scripts/bootstrap bench
	.venv/bin/python -m benchmarks

check: setup ## format, lint, types, import rules, sizes and prose
	.venv/bin/ruff format --check
	.venv/bin/ruff check
	.venv/bin/mypy
	.venv/bin/lint-imports
	.venv/bin/python scripts/prose.py
	.venv/bin/python scripts/sizes.py

fmt: setup ## format, and fix what lint can
	.venv/bin/ruff format
	.venv/bin/ruff check --fix

clean: ## remove .venv, caches and everything that runs have left
	rm -rf .venv .venv-peers .broadway .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
