# make demo: the main job on the embedded model.   make test: checks and all tests.
# make versions: the engine's tests under several versions of torch and transformers (see tests/versions.py).
#
#   make demo TORCH_INDEX=https://...   torch from another package index (a CPU or CUDA build)
#   make demo SYSTEM_TORCH=1            use the torch that is installed already
#
# Asked for another torch than .venv was made with, either makes .venv anew; without both, .venv stays as it is.
PYTHON ?= python3
VENV ?= .venv
TORCH_INDEX ?=
SYSTEM_TORCH ?=
BIN := $(VENV)/bin
# Not compiled, and by a recent pip: half of the time. Python compiles what is imported. setuptools warns of every
# editable installation.
PIP = PYTHONWARNINGS=ignore $(BIN)/python -m pip install -q --disable-pip-version-check --no-compile
# Where torch is from: what is asked for, else what the environment was made with.
MADE_WITH := $(shell cat $(VENV)/.torch 2>/dev/null)
ASKED := $(strip $(if $(SYSTEM_TORCH),system,$(TORCH_INDEX)))
FROM := $(or $(ASKED),$(MADE_WITH))
INDEX := $(filter-out system default,$(FROM))
TORCH := $(shell sed -n 's/^\(torch==.*\)/\1/p' constraints.txt)
# It asks for an older pillow than the tests have, and works with this one.
TRACKIO := trackio==0.43.0

.PHONY: demo test check lint versions install clean

demo: $(VENV)/.installed
	@$(BIN)/evalkit demo

# One thread a process: small models are slower with several, and the processes take the cores. In the order of
# tests/conftest.py, the longest files first; by itself xdist begins with those of most tests.
test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 8 --dist loadfile --no-loadscope-reorder

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

check: lint
	$(BIN)/python -m pytest tests/test_design.py

versions:
	TORCH_INDEX=$(TORCH_INDEX) $(PYTHON) tests/versions.py $(ONLY)

# What the demo needs, and then what the tests need: the packages that evalkit works with and its own tools.
install: $(VENV)/.tests

ifneq ($(ASKED),)
ifneq ($(ASKED),$(MADE_WITH))
.PHONY: $(VENV)/.installed
endif
endif

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "evalkit needs Python 3.11 or newer; say make PYTHON=python3.12")'
	@if test -f $@ && test -n '$(ASKED)' && test '$(ASKED)' != '$(MADE_WITH)'; then \
		echo 'torch is to come from $(ASKED): $(VENV) is made anew'; rm -rf $(VENV); fi
	test -x $(BIN)/python || $(PYTHON) -m venv $(if $(filter system,$(FROM)),--system-site-packages) $(VENV)
	$(PIP) pip==26.3
ifneq ($(FROM),system)
	$(PIP) $(TORCH) $(if $(INDEX),--index-url $(INDEX))
endif
	grep $(if $(filter system,$(FROM)),-v '^torch==',.) constraints.txt > $(VENV)/constraints.txt
	$(PIP) -c $(VENV)/constraints.txt -e .
	@echo '$(or $(FROM),default)' > $(VENV)/.torch
	touch $@

$(VENV)/.tests: $(VENV)/.installed
	$(PIP) -c $(VENV)/constraints.txt -e '.[dev]'
	$(PIP) --no-deps $(TRACKIO)
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info
