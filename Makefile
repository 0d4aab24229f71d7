# make demo: the main job on the embedded model.   make test: checks and all tests.
# make versions: the engine's tests under several versions of torch and transformers (see tests/versions.py).
#
#   make demo TORCH_INDEX=https://...   torch from another package index (a CPU or CUDA build)
#   make demo SYSTEM_TORCH=1            use the torch that is installed already
PYTHON ?= python3
VENV ?= .venv
TORCH_INDEX ?=
SYSTEM_TORCH ?=
BIN := $(VENV)/bin
# Not compiled, and by a recent pip: half of the time. Python compiles what is imported. setuptools warns of every
# editable installation.
PIP = PYTHONWARNINGS=ignore $(BIN)/python -m pip install -q --disable-pip-version-check --no-compile
TORCH := $(shell sed -n 's/^\(torch==.*\)/\1/p' constraints.txt)

.PHONY: demo test check lint versions install clean

demo: install
	@$(BIN)/evalkit demo

# One thread a process: small models are slower with several, and the processes take the cores.
test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 8 --dist loadfile

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

check: lint
	$(BIN)/python -m pytest tests/test_design.py

versions:
	TORCH_INDEX=$(TORCH_INDEX) $(PYTHON) tests/versions.py $(ONLY)

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "evalkit needs Python 3.11 or newer; say make PYTHON=python3.12")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(if $(SYSTEM_TORCH),--system-site-packages) $(VENV)
	$(PIP) pip==26.3
ifeq ($(SYSTEM_TORCH),)
	$(PIP) $(TORCH) $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX))
	$(PIP) -c constraints.txt -e '.[dev]'
else
	grep -v '^torch==' constraints.txt > $(VENV)/constraints.txt
	$(PIP) -c $(VENV)/constraints.txt -e '.[dev]'
endif
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info
