# `make demo` and `make test` work as the first command in a fresh clone:
# each makes .venv and installs the package into it when that is missing or out of date,
# with the versions of everything else that requirements/tested.txt says.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
TESTED := requirements/tested.txt
PIP = $(PYTHON) -m pip --disable-pip-version-check --python
UV := .venv-uv/bin/uv

# Of `make test-pythons`, `test-newest` and `test-oldest`: which Pythons, and which tests.
PYTHONS = $(shell .ci/pythons)
TESTS ?=
# Most tests wait for processes and browsers, so two at once take about half the time. By file: what
# a file's tests share is made once. `make test JOBS=0` runs them one by one.
JOBS ?= 2
PYTEST = -m pytest -n $(JOBS) --dist loadfile

.PHONY: demo demo-hosts test test-newest test-oldest test-pythons lint lab bench update clean

demo: $(READY)
	@$(BIN)/python notebooks/run_demo.py

# Two hosts on one machine, made of namespaces: as root.
demo-hosts: $(READY)
	@$(BIN)/python -m tests.hosts.demo

test: $(READY)
	$(BIN)/python $(PYTEST)

# What a user gets who installs the package today.
test-newest: $(UV)
	$(call fast,.venv-newest,$(PYTHON),)

# What a user has whose versions are the lowest that pyproject.toml allows.
test-oldest: $(UV)
	$(call fast,.venv-oldest,$(PYTHON),--resolution lowest-direct)

test-pythons: $(UV)
	@failed=; set -- $(PYTHONS); test $$# -gt 0 || { echo "no Python from 3.11 on runs here"; exit 1; }; \
	for python; do \
	    version=$$($$python -c 'import sys; print("%d.%d" % sys.version_info[:2])') && \
	    echo "Python $$version ($$python)" && \
	    { $(call fast,.venv-$$version,$$python,--constraint $(TESTED)); } || failed="$$failed $$python"; \
	done; test -z "$$failed" || { echo "failed with:$$failed"; exit 1; }

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m tests.panel.lint

lab: $(READY)
	$(BIN)/jupyter lab notebooks

# Contenders that are not installed are left out; '.[bench]' has those that no test needs.
bench: $(READY)
	$(BIN)/python -m tests.benchmarks apply
	$(BIN)/python -m tests.benchmarks report

# The newest versions become the tested ones. Afterwards: make lint test test-pythons.
update: $(UV)
	$(UV) pip compile --quiet --upgrade --universal --python-version 3.11 \
	    --extra all --extra test --extra update --strip-extras --no-annotate --no-emit-index-url \
	    --custom-compile-command 'make update' --output-file $(TESTED) pyproject.toml

clean:
	rm -rf .venv .venv-* .pytest_cache .mypy_cache .ruff_cache .hypothesis

# pip of the machine installs into the environment, so that Python's ensurepip
# (a package of its own on Debian) is not needed.
$(READY): pyproject.toml $(TESTED)
	@echo "Setting up .venv (once; a few minutes at most) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv --without-pip .venv
	@$(PIP) $(BIN)/python install --quiet --constraint $(TESTED) --editable '.[all,test]'
	@touch $(READY)

$(UV): $(TESTED)
	@$(PYTHON) -m venv --without-pip .venv-uv
	@$(PIP) .venv-uv/bin/python install --quiet --constraint $(TESTED) uv
	@touch $(UV)

# $(call fast,environment,python,options of uv): the fast part of the tests in an environment made
# for them. By uv: it knows the lowest versions, and an old pip does not run on a new Python.
define fast
$(UV) venv --quiet --clear --no-python-downloads --python $(2) $(1) && \
$(UV) pip install --quiet --python $(1)/bin/python $(3) --editable '.[all,test]' && \
$(1)/bin/python $(PYTEST) -m "not slow" $(TESTS)
endef
