# `make demo` and `make test` work as the first command in a fresh clone:
# each makes .venv and installs the package into it when that is missing or out of date.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: demo test lint lab bench clean

demo: $(READY)
	@$(BIN)/python notebooks/run_demo.py

test: $(READY)
	$(BIN)/python -m pytest

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

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis

# pip of the machine installs into the environment, so that Python's ensurepip
# (a package of its own on Debian) is not needed.
$(READY): pyproject.toml
	@echo "Setting up .venv (once; a few minutes at most) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv --without-pip .venv
	@$(PYTHON) -m pip --disable-pip-version-check --python $(BIN)/python install --quiet --editable '.[all,test]'
	@touch $(READY)
