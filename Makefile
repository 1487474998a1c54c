# macbind: what can be done here. `make help` lists it.

VENV := .venv
PYTHON := $(VENV)/bin/python
# The lab library lies in tests/, the package under test is installed into the virtual environment.
export PYTHONPATH := tests
# What `make install` installs and where: into which tree, which wheel (this directory by default), which extras,
# with which Python, more arguments for pip, and whether only files with a known hash will do.
PREFIX ?= /usr/local
DESTDIR ?=
WHEEL ?= .
EXTRAS ?= postgresql
INSTALL_PYTHON ?= /usr/bin/python3
PIP_ARGS ?=
HASHES ?= yes
# How many tests `make test` runs at a time; auto is one more than there are processors.
WORKERS ?= auto

.DEFAULT_GOAL := help
.PHONY: help setup ready run-packages test-packages kernel run test unit lint type bench chaos hunt xen docs screenshots hashes lab bare install uninstall clean
# Installing must not meet itself.
.NOTPARALLEL:

help: ## List the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

# Running needs less than testing: a virtual environment made for testing will do for both.
$(VENV)/run: pyproject.toml tests/constraints.txt tests/install-python
	@tests/install-python $(VENV) run
	@touch $@

$(VENV)/test: pyproject.toml tests/constraints.txt tests/install-python
	@tests/install-python $(VENV) test
	@touch $(VENV)/run $@

run-packages test-packages:
	@tests/install-packages $(@:-packages=)

kernel:
	@$(PYTHON) -m labkit.kernel

ready: run-packages $(VENV)/run kernel

setup: test-packages $(VENV)/test kernel ## Install everything that running and testing needs (Debian 12 or 13, root)

run: ready ## Watch the whole idea work on a real dhcpd; KEEP=1 leaves it open, VM=0 without VMs, GUEST=1 without DHCP too
	@$(PYTHON) -m labkit.demo $(if $(KEEP),--keep) $(if $(filter 0,$(VM)),--no-vm) $(if $(GUEST),--guest $(GUEST))

# Where a machine is slow, emulating Xen takes longer than anything else: 10 minutes of one processor of two.
test: setup lint type ## Lint, check types, and run every test but those on Xen, which `make xen` runs
	$(PYTHON) -Im pytest -n $(WORKERS) --ignore=tests/xen

unit: setup ## Run only the tests that need no network, server or database
	$(PYTHON) -Im pytest tests/unit tests/property

lint: setup ## Check style, the direction of imports, dangerous calls, and known faults of what we depend on
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/lint-imports
	$(VENV)/bin/bandit --quiet --configfile pyproject.toml --recursive controller dhcpd
	@$(PYTHON) -m audit

type: setup ## Check types
	$(VENV)/bin/mypy

bench: setup ## Measure against baselines in the same run; QUICK=1 for a short one
	@$(PYTHON) -m bench $(if $(QUICK),--quick)

chaos: setup ## Pull every plug for SECONDS=300 and check that nothing is lost; SEED=n repeats, PLANT=name hides a bug, ATTACKERS=1
	@$(PYTHON) -m chaos $(if $(SECONDS),--seconds $(SECONDS)) $(if $(SEED),--seed $(SEED)) \
	  $(if $(PLANT),--plant $(PLANT)) $(if $(ATTACKERS),--attackers)

hunt: setup ## Draw new examples for the property tests for SECONDS=1200; `make test` draws the same ones each time
	@until=$$(($$(date +%s) + $(or $(SECONDS),1200))); while [ $$(date +%s) -lt $$until ]; do \
	  $(PYTHON) -Im pytest tests/property -n $(WORKERS) -q --hypothesis-profile=hunt || exit 1; done

xen: setup ## Run only the tests on a real Xen, which QEMU emulates: PV guests, libvirt's xen driver, Xenstore
	$(PYTHON) -Im pytest tests/xen

docs: setup ## Write the tables and the picture of the documentation anew
	@$(PYTHON) -m docs

screenshots: setup ## Make the pictures of the page for the documentation anew
	@$(PYTHON) -m screenshots

hashes: setup ## Write dhcpd/requirements anew: the hashes of what `make install` fetches, for a release
	@$(PYTHON) -m audit --release
	@$(PYTHON) -m audit.hashes

lab: ready ## Leave the lab network open to play in, with a dhcpd and two machines
	@$(PYTHON) -m labkit

bare: ## Try COMMAND="make test" on a bare Debian with RELEASE=bookworm or trixie; without COMMAND, run and test
	@PYTHONPATH=tests /usr/bin/python3 -m bare $(if $(RELEASE),--release $(RELEASE)) $(if $(COMMAND),-- "$$COMMAND")

install: ## Install into $(DESTDIR)$(PREFIX), an upgrade too; WHEEL=, EXTRAS=, PIP_ARGS=: see controller/docs/operate/install.md
	@HASHES="$(HASHES)" dhcpd/install "$(DESTDIR)" "$(PREFIX)" "$(WHEEL)" "$(EXTRAS)" "$(INSTALL_PYTHON)" $(PIP_ARGS)

uninstall: ## Remove what install made; configuration, keys and /var/lib/macbind stay
	@dhcpd/uninstall "$(DESTDIR)" "$(PREFIX)"

clean: ## Remove what setup and the tools made in this directory
	rm -rf $(VENV) .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
