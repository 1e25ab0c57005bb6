# make demo   a D3IP reconstruction of real anatomy, from nothing, with a picture at the end
# make test   every check and every test
# make check  linters, types and the import contract only
# make docs   the documentation, into site/
#
# PYTHON picks the interpreter (3.11 or newer) for the environment in $(VENV).

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq
INSTALLED := $(VENV)/.ddip-ray-installed

.PHONY: install check test demo docs clean

install: $(INSTALLED)

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "ddip-ray needs Python 3.11 or newer, this is " + sys.version)'
	$(PYTHON) -m venv $(VENV)

# torch comes first and alone, so that a CPU-only or a CUDA build can be put in by hand and is then kept.
# deepinv, for its tests, lies apart: diffusers would import its torchvision, which fails beside another torch build.
DEEPINV := deepinv torchvision einops natsort torchmetrics lightning-utilities
$(INSTALLED): pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing into $(VENV) (a few minutes the first time)"
	@$(PIP) install -c constraints.txt torch
	@$(PIP) install -c constraints.txt -e '.[dev]'
	@$(PIP) install -c constraints.txt --no-deps --upgrade --target $(VENV)/deepinv $(DEEPINV)
	@touch $@

check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

test: check
	$(BIN)/python -m pytest

demo: $(INSTALLED)
	$(BIN)/ddip-ray demo -o demo --overwrite

docs: $(INSTALLED)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

clean:
	rm -rf demo demo-mri site build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
