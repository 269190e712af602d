# Everything a person does with this repository: set up, run, test. `make help` lists it.

SHELL := /bin/bash -eu -o pipefail
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# The first of these that runs and is new enough makes the environment. `make PYTHON=… TARGET` chooses one, and keeps
# its environment apart from the usual one.
PYTHONS := $(or $(PYTHON),python3.13 python3.12 python3.11 python3)
VENV ?= .venv$(if $(PYTHON),-$(notdir $(PYTHON)))
BIN := $(VENV)/bin
ARGS ?=
JOBS ?= 2

NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check
COMPILE := $(BIN)/uv pip compile --quiet --system-certs --universal --python-version 3.11 --generate-hashes --no-header --no-annotate

# The tests that boot machines stay apart: they want root, packages of their own, and two at once are enough.
DEPLOY_PACKAGES := mmdebstrap systemd-container squashfs-tools iproute2 nftables openssh-client zstd e2fsprogs
VM_PACKAGES := qemu-system-x86 qemu-utils vagrant vagrant-libvirt libvirt-daemon-system
DEPLOY_TESTS := $(if $(findstring tests/deploy,$(ARGS)),,tests/deploy) $(ARGS)
FAULT_TESTS := $(wildcard tests/deploy/test_fault*.py tests/faults/test_fault*.py) tests/deploy/test_leaks.py
# A file's tests share what is expensive to start. In the order of their names: most files that are long are not last.
BY_FILE := --dist loadfile --no-loadscope-reorder
ORDINARY := $(if $(findstring tests/deploy,$(ARGS)),,yes)

.PHONY: help install run deploy test test-only test-deploy test-vm matrix lint format bench screenshots lock clean

help:  ## list the targets
	@sed -nE 's/^([a-z-]+):.*  ## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20
	@echo
	@echo '  ARGS="…"          options for `tradectl run`, `pytest` or the benchmarks'
	@echo '  PYTHON=python3.13 another Python, in an environment of its own'

install: $(VENV)/.installed-deploy build/.assets  ## make the environment in .venv, with Ansible, from what the lock files pin

run: $(VENV)/.installed build/.assets  ## run everything on this machine: Redis, engine, API on http://127.0.0.1:8000
	@exec $(BIN)/tradectl run $(ARGS)

deploy: install  ## make a bare Debian 13 machine the appliance: HOST=root@192.0.2.10 the first time; ARGS="--check"
	@.ci/inventory $(HOST)
	cd ansible && ../$(BIN)/ansible-playbook -i inventory/hosts.yml deploy.yml $(ARGS)

test: lint test-only  ## check the style and the types, then run every test this machine can run

test-only: $(VENV)/.installed-dev build/.assets-dev
	@.ci/packages chromium curl jq restic
	$(if $(ORDINARY),$(BIN)/python -m pytest --numprocesses $(JOBS) $(BY_FILE) --ignore=tests/deploy --ignore=tests/vm $(ARGS))
	$(if $(and $(ORDINARY),$(ARGS)),,@$(MAKE) --no-print-directory test-deploy)

test-deploy: $(VENV)/.installed-dev build/.assets  ## boot real Debian machines and deploy to them; takes root
	@.ci/packages $(DEPLOY_PACKAGES)
	$(BIN)/python -m pytest --numprocesses 2 $(BY_FILE) $(DEPLOY_TESTS)

test-vm: $(VENV)/.installed-dev build/.assets  ## boot an emulated machine with a true kernel and deploy to it; takes root and long
	@.ci/packages $(DEPLOY_PACKAGES) $(VM_PACKAGES)
	$(BIN)/python -m pytest -p no:xdist --verbose tests/vm $(ARGS)

matrix: $(VENV)/.installed-dev build/.assets  ## bring every fault about and write docs/fault-matrix.md of what was measured; takes root
	@.ci/packages $(DEPLOY_PACKAGES) curl jq restic
	rm -rf build/fault-matrix
	$(BIN)/python -m pytest --numprocesses $(JOBS) $(BY_FILE) $(FAULT_TESTS)
	PYTHONPATH=tests $(BIN)/python -m support.matrix

lint: $(VENV)/.installed-dev  ## check style, form and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	cd ansible && PATH="$(abspath $(BIN)):$$PATH" ansible-lint --offline

format: $(VENV)/.installed-dev  ## mend style and form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.installed-dev build/.assets  ## run the benchmarks, each beside its reference
	$(BIN)/python tests/bench/bench.py $(ARGS)

screenshots: $(VENV)/.installed-dev build/.assets-dev  ## photograph each page into build/screenshots
	@.ci/packages chromium
	PYTHONPATH=tests $(BIN)/python -m support.screenshots

lock: $(VENV)/.installed-dev  ## pin again what pyproject.toml asks for; ARGS=--upgrade takes newer releases
	$(COMPILE) --extra build $(ARGS) pyproject.toml -o requirements.lock
	$(COMPILE) --extra build --extra deploy --constraint requirements.lock $(ARGS) pyproject.toml -o requirements-deploy.lock
	$(COMPILE) --extra build --extra deploy --extra dev --constraint requirements-deploy.lock $(ARGS) pyproject.toml \
	    -o requirements-dev.lock
	$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["node"])' \
	    | $(COMPILE) $(ARGS) - -o requirements-node.lock

clean:  ## remove what was made here: environments, caches; the data directory stays
	rm -rf .venv .venv-* build dist *.egg-info app/web/static/brought .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# -- the environment: a stamp is newer than what it was made from ---------------------------------------------------

$(VENV)/.installed: requirements.lock pyproject.toml | $(BIN)/python
	@echo 'installing what requirements.lock pins'
	@$(PIP_INSTALL) --require-hashes --requirement requirements.lock
	@$(PIP_INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.installed-deploy: requirements-deploy.lock $(VENV)/.installed
	@echo 'installing what requirements-deploy.lock pins'
	@$(PIP_INSTALL) --require-hashes --requirement requirements-deploy.lock
	@touch $@

$(VENV)/.installed-dev: requirements-dev.lock $(VENV)/.installed
	@echo 'installing what requirements-dev.lock pins'
	@$(PIP_INSTALL) --require-hashes --requirement requirements-dev.lock
	@touch $@

# -- the JavaScript of the page: outside of the environment, since any Python serves the same -----------------------

build/.assets: package.json package-lock.json requirements-node.lock .ci/assets | $(VENV)/.installed
	@echo 'bringing the JavaScript that package-lock.json pins'
	@.ci/assets $(BIN)/python
	@touch $@

build/.assets-dev: package.json package-lock.json requirements-node.lock .ci/assets | $(VENV)/.installed
	@echo 'bringing the JavaScript that package-lock.json pins, with what tests need'
	@.ci/assets --dev $(BIN)/python
	@touch $@ build/.assets

$(BIN)/python:
	@for python in $(PYTHONS); do \
	    "$$python" -c '$(NEW_ENOUGH)' 2>/dev/null || continue; \
	    if ! "$$python" -c 'import ensurepip, venv' 2>/dev/null; then \
	        echo "$$python has no venv module; on Debian: apt-get install python3-venv" >&2; exit 1; \
	    fi; \
	    echo "making $(VENV) with $$("$$python" --version)"; \
	    exec "$$python" -m venv --clear $(VENV); \
	done; \
	echo 'found no Python 3.11 or newer among: $(PYTHONS)' >&2; \
	echo 'install one (on Debian: apt-get install python3 python3-venv), or name it: make PYTHON=/path/to/python3' >&2; \
	exit 1
