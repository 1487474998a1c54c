# macbind: what can be done here. `make help` lists it.

VENV := .venv
PYTHON := $(VENV)/bin/python
# The lab library lies in tests/, the package under test is installed into the virtual environment.
export PYTHONPATH := tests
# What `make install` installs and where: into which tree, which wheel (this directory by default), which extras,
# with which Python, and more arguments for pip.
PREFIX ?= /usr/local
DESTDIR ?=
WHEEL ?= .
EXTRAS ?= postgresql
INSTALL_PYTHON ?= /usr/bin/python3
PIP_ARGS ?=
# How many tests `make test` runs at a time; auto is one more than there are processors.
WORKERS ?= auto

.DEFAULT_GOAL := help
.PHONY: help setup packages run test unit lint type bench chaos lab install uninstall clean

help: ## List the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

packages:
	@tests/install-packages

$(VENV)/ready: pyproject.toml tests/constraints.txt | packages
	@echo "Setting up $(VENV)"
	@python3 -m venv --clear $(VENV)
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check -c tests/constraints.txt -e '.[dev]'
	@touch $@

setup: packages $(VENV)/ready ## Install everything that running and testing needs (Debian 12, root)

run: setup ## Watch the whole idea work on a real dhcpd; KEEP=1 leaves it open, VM=0 without VMs, GUEST=1 without DHCP too
	@$(PYTHON) -m labkit.demo $(if $(KEEP),--keep) $(if $(filter 0,$(VM)),--no-vm) $(if $(GUEST),--guest $(GUEST))

test: setup lint type ## Lint, check types, and run every test
	$(PYTHON) -Im pytest -n $(WORKERS)

unit: setup ## Run only the tests that need no network, server or database
	$(PYTHON) -Im pytest tests/unit tests/property

lint: setup ## Check style and the direction of imports
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/lint-imports

type: setup ## Check types
	$(VENV)/bin/mypy

bench: setup ## Measure against baselines in the same run; QUICK=1 for a short one
	@$(PYTHON) -m bench $(if $(QUICK),--quick)

chaos: setup ## Pull every plug for SECONDS=300 and check that nothing is lost; SEED=n repeats, PLANT=name hides a bug
	@$(PYTHON) -m chaos $(if $(SECONDS),--seconds $(SECONDS)) $(if $(SEED),--seed $(SEED)) \
	  $(if $(PLANT),--plant $(PLANT))

lab: setup ## Leave the lab network open to play in, with a dhcpd and two machines
	@$(PYTHON) -m labkit

install: ## Install into $(DESTDIR)$(PREFIX), an upgrade too; WHEEL=, EXTRAS=, PIP_ARGS=: see dhcpd/README.md
	@dhcpd/install "$(DESTDIR)" "$(PREFIX)" "$(WHEEL)" "$(EXTRAS)" "$(INSTALL_PYTHON)" $(PIP_ARGS)

uninstall: ## Remove what install made; configuration, keys and /var/lib/macbind stay
	@dhcpd/uninstall "$(DESTDIR)" "$(PREFIX)"

clean: ## Remove what setup and the tools made in this directory
	rm -rf $(VENV) .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
