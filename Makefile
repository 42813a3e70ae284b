# `make demo`, `make test` and `make docs` work as the first command in a fresh clone:
# each makes .venv and installs the package into it when that is missing or out of date,
# with the versions of everything else that requirements/tested.txt says.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
SITE := .venv/.site
TESTED := requirements/tested.txt
PIP = $(PYTHON) -m pip --disable-pip-version-check --python
UV := .venv-uv/bin/uv

# Of `make test-pythons`, `test-newest` and `test-oldest`: which Pythons, and which tests.
PYTHONS = $(shell .ci/pythons)
TESTS ?=
# Most tests wait for processes and browsers: two cores are busy with three at once. By file: what
# a file's tests share is made once. `make test JOBS=0` runs them one by one.
JOBS ?= 3
PYTEST = -m pytest -n $(JOBS) --dist loadfile

.PHONY: demo demo-hosts test test-newest test-oldest test-pythons lint lab docs dist bench update clean

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

# The site, in build/site. A warning is an error; so is a link between pages that leads nowhere.
docs: $(SITE)
	$(BIN)/python notebooks/store_outputs.py
	$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going --fresh-env docs build/site
	@echo "The site: build/site/index.html"

# Wheel and sdist in dist/, and the cells of the README where there is nothing but the wheel.
dist: $(UV)
	rm -rf dist
	$(UV) build --quiet
	$(UV) venv --quiet --clear --no-python-downloads --python $(PYTHON) .venv-wheel
	$(UV) pip install --quiet --python .venv-wheel/bin/python dist/*.whl
	mkdir -p build && cd build && ../.venv-wheel/bin/python ../tests/cells.py ../README.md
	.venv-wheel/bin/memshare doctor

# Contenders that are not installed are left out; '.[bench]' has those that no test needs.
bench: $(READY)
	$(BIN)/python -m tests.benchmarks apply
	$(BIN)/python -m tests.benchmarks report

# The newest versions become the tested ones. Afterwards: make lint test test-pythons.
update: $(UV)
	$(UV) pip compile --quiet --upgrade --universal --python-version 3.11 \
	    --extra all --extra test --extra update --extra docs --strip-extras --no-annotate --no-emit-index-url \
	    --custom-compile-command 'make update' --output-file $(TESTED) pyproject.toml

clean:
	rm -rf .venv .venv-* .pytest_cache .mypy_cache .ruff_cache .hypothesis build docs/api docs/notebooks

# pip of the machine installs into the environment, so that Python's ensurepip
# (a package of its own on Debian) is not needed.
$(READY): pyproject.toml $(TESTED)
	@echo "Setting up .venv (once; a few minutes at most) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv --without-pip .venv
	@$(PIP) $(BIN)/python install --quiet --constraint $(TESTED) --editable '.[all,test]'
	@touch $(READY)

$(SITE): $(READY)
	@$(PIP) $(BIN)/python install --quiet --constraint $(TESTED) --editable '.[docs]'
	@touch $(SITE)

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
