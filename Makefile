# `make help` lists the targets with a `##`.
.DEFAULT_GOAL := help
.PHONY: help setup demo up wheel test quick faults bench check fmt clean

# Tests of single modules, of the API's parts, of requests to v1 and v2, and one journey through the system; without
# those that take seconds each.
QUICK = tests/architecture tests/cli tests/dispatcher tests/domain tests/grader/grading tests/grader/sandbox \
	tests/grader/worker $(addprefix tests/ingest/,commands gateway live reads test_http.py test_v2.py) \
	tests/lifecycle tests/messages tests/mongo tests/runtime tests/cluster/test_journey.py \
	$(addprefix --ignore=tests/,cli/test_terminal.py grader/grading/formats/test_any_file.py \
	grader/grading/formats/test_hostile_files.py ingest/commands/test_retention_pass.py \
	ingest/commands/test_student_deletion.py runtime/test_visible.py)

# Tests of faults and with real engines, and all others that have long cases.
FAULTY = $(addprefix tests/,browser compose faults grader hostile hosts)
FAULTS = $(FAULTY) $(filter-out $(addsuffix /%,$(FAULTY)),\
	$(sort $(shell grep -rlE "mark\.long|IS_WHOLE|import by_http" tests --include="test_*.py")))

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST)

setup: ## install missing system packages, then .venv
	@scripts/bootstrap

demo: setup ## grade a course on this machine, from submissions to scores; KEEP=1 leaves it running, RUNTIME=docker takes the engine
	.venv/bin/python -m demo $(if $(KEEP),--keep) $(if $(RUNTIME),--runtime $(RUNTIME))

up: setup ## run all services on this machine until Ctrl-C
	.venv/bin/broadway up

wheel: setup ## the package, for other hosts: dist/broadway_grading-*.whl
	.venv/bin/python -m hatchling build -t wheel

test: setup ## all tests; with CONTAINERS=1 broker and store from containers
	CONTAINERS=$(CONTAINERS) scripts/test

quick: setup ## the tests for every change, which take less than a minute
	WORKERS=3 scripts/test $(QUICK)

faults: setup ## the whole fault suite; writes its table to docs/reliability.md
	BROADWAY_FAULTS=1 timeout --kill-after=60 180m .venv/bin/python -m pytest -o faulthandler_timeout=4000 $(FAULTS)

bench: ## measure Broadway and its alternatives; writes docs/performance.md
	@scripts/bootstrap bench
	.venv/bin/python -m benchmarks

check: setup ## format, lint, types, import rules, sizes and prose
	.venv/bin/ruff format --check
	.venv/bin/ruff check
	.venv/bin/mypy
	.venv/bin/lint-imports
	.venv/bin/python scripts/prose.py
	.venv/bin/python scripts/sizes.py

fmt: setup ## format, and apply lint's fixes
	.venv/bin/ruff format
	.venv/bin/ruff check --fix

clean: ## remove .venv, caches and the files of earlier runs
	rm -rf .venv .venv-peers .broadway .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
