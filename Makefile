# `make` prints the targets. Each target sets up what it needs; the second time that is quick.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

VENV := .venv
BIN := $(VENV)/bin
# Cases, parameters and inventories are passed on as they are: make case CASE=2 ARGS='-e users=64 -i inventory/mine.yml'
CASE ?=
LAB ?=
ARGS ?=

# What a command says is shown only when it fails.
quietly = $(1) >$(VENV)/setup.log 2>&1 || { cat $(VENV)/setup.log >&2; exit 1; }

export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: help
help: ## print the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  \033[1mmake %-16s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: case
case: $(VENV)/run.stamp ## run one case on the built-in testbed: make case CASE=3 [ARGS='-e transport=tcp']
	@$(if $(filter -i --inventory%,$(ARGS)),,scripts/need testbed)
	@ansible-playbook run-case.yml -e 'case=$(CASE)' $(ARGS)

.PHONY: lab
lab: $(VENV)/run.stamp ## run a lab, all its points: make lab LAB=single-request [ARGS='-e transport=tcp']; without LAB list them
	@$(if $(LAB),$(if $(filter -i --inventory%,$(ARGS)),,scripts/need testbed))
	@floodmark lab $(LAB) $(ARGS)

.PHONY: study
study: $(VENV)/run.stamp ## do again what the study did, 8 minutes, and say of each of its sentences what comes out [ARGS='-i …']
	@$(if $(filter -i --inventory%,$(ARGS)),,scripts/need testbed)
	@floodmark study $(ARGS)

.PHONY: web
web: $(VENV)/run.stamp ## hold a case up for Locust's web page, with the accept queue in it: make web CASE=3
	@$(if $(filter -i --inventory%,$(ARGS)),,scripts/need testbed)
	@ansible-playbook web-ui.yml -e 'case=$(CASE)' $(ARGS)

.PHONY: testbed-up
testbed-up: $(VENV)/run.stamp ## start the hosts of the built-in testbed
	@scripts/need testbed
	@ansible-playbook playbooks/testbed-up.yml $(ARGS)

.PHONY: testbed-down
testbed-down: $(VENV)/run.stamp ## stop the testbed and remove its hosts; packages and /var/cache/floodmark stay
	@ansible-playbook playbooks/testbed-down.yml $(ARGS)

.PHONY: test
test: $(VENV)/dev.stamp ## lint, unit tests, all cases on the testbed
	@scripts/need qemu
	@scripts/need goaccess
	@scripts/need browser
	@nice $(MAKE) test-beside >$(VENV)/beside.log 2>&1 & status=0; \
	  $(MAKE) test-containers || status=$$?; \
	  wait $$! || status=$$?; cat $(VENV)/beside.log; exit $$status

.PHONY: test-beside
test-beside: $(VENV)/dev.stamp ## lint and all tests but those on containers, which mostly wait and leave room for these
	@$(MAKE) lint test-fast test-machines

.PHONY: test-fast
test-fast: $(VENV)/dev.stamp ## the tests that need no testbed
	@scripts/need goaccess
	@scripts/need browser
	@pytest -m 'not testbed' $(ARGS)

.PHONY: test-containers
test-containers: $(VENV)/dev.stamp ## the real runs on the testbed's containers alone
	@scripts/need testbed
	@scripts/need goaccess
	@scripts/need browser
	@pytest -m 'testbed and not machines and not slow' $(ARGS)

.PHONY: test-machines
test-machines: $(VENV)/dev.stamp ## the real runs on its virtual machines alone
	@scripts/need qemu
	@pytest -m 'machines and not slow' $(ARGS)

.PHONY: test-slow
test-slow: $(VENV)/dev.stamp ## traces on other kernels, a kernel is installed and booted, long labs: 20 minutes
	@scripts/need qemu
	@pytest -m slow $(ARGS)

.PHONY: test-nemesis
test-nemesis: $(VENV)/dev.stamp ## end a run by each signal at each of its tasks, and look at the host each time: an hour
	@scripts/need testbed
	@scripts/need goaccess
	@FLOODMARK_INJECTIONS=all pytest tests/testbed/test_nemesis.py $(ARGS)

.PHONY: bench-collector
bench-collector: $(VENV)/dev.stamp ## what a look at the accept queue costs, beside other ways to look
	@scripts/need testbed
	@python -m bench.collector $(ARGS)

.PHONY: bench-compare
bench-compare: $(VENV)/dev.stamp ## what a comparison of 200 runs takes
	@python -m bench.compare $(ARGS)

.PHONY: bench-errors
bench-errors: $(VENV)/dev.stamp ## how often a comparison is wrong, and how often it finds what is there: 5 minutes
	@python -m bench.errors $(ARGS)

.PHONY: bench-load
bench-load: $(VENV)/dev.stamp ## how many requests one process sends, beside wrk, hey and Locust's own users
	@scripts/need load
	@python -m bench.load $(ARGS)

.PHONY: bench-kernels
bench-kernels: $(VENV)/dev.stamp ## hosts with other kernels, virtual time, and the long suite: hours, goes on where it was ended
	@scripts/need qemu
	@python -m bench.kernels $(ARGS)

.PHONY: bench-report
bench-report: $(VENV)/dev.stamp ## what a report takes: ten million samples, a million requests, a browser
	@scripts/need browser
	@python -m bench.report $(ARGS)

.PHONY: lint
lint: $(VENV)/dev.stamp ## ruff, mypy, yamllint, ansible-lint
	@ruff check .
	@ruff format --check .
	@mypy
	@yamllint --strict .
	@ansible-lint --offline -q

.PHONY: format
format: $(VENV)/dev.stamp ## let ruff format the Python code
	@ruff format .
	@ruff check --fix .

.PHONY: docs
docs: $(VENV)/dev.stamp ## build the documentation as a site that works from disk: site/index.html
	@$(call quietly,NO_MKDOCS_2_WARNING=1 mkdocs build --clean $(ARGS))

.PHONY: schema
schema: $(VENV)/run.stamp ## write the generated files anew: the schemas of cases and suites, results/README.md
	@floodmark docs --write

.PHONY: env
env: $(VENV)/run.stamp ## create the Python environment only (in .venv)

.PHONY: lock
lock: $(VENV)/uv.stamp ## pin the newest allowed versions of all Python packages
	@for set in uv run dev loadgen; do \
	  uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-header \
	    --no-annotate --no-emit-index-url --no-emit-find-links requirements/$$set.in -o requirements/$$set.txt; done

.PHONY: clean
clean: ## remove the Python environment, the site and caches (results and testbed stay)
	@rm -rf $(VENV) site .mypy_cache .ruff_cache .pytest_cache dist

# --- the environment -------------------------------------------------------------------------------

$(VENV)/uv.stamp: requirements/uv.txt scripts/need
	@scripts/need python $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
	@touch $@

$(VENV)/run.stamp: $(VENV)/uv.stamp requirements/run.txt pyproject.toml
	@echo 'floodmark: installing the Python environment …' >&2
	@$(call quietly,uv pip install --python $(BIN)/python --require-hashes -r requirements/run.txt)
	@$(call quietly,uv pip install --python $(BIN)/python --no-deps --no-build-isolation --editable .)
	@touch $@

$(VENV)/dev.stamp: $(VENV)/run.stamp requirements/dev.txt
	@$(call quietly,uv pip install --python $(BIN)/python --require-hashes -r requirements/dev.txt)
	@touch $@
