# make demo: from nothing to demo/report.html.  make test: the test suite.  Both make .venv first.
PYTHON ?= python3
VENV ?= .venv
SEED ?= 0
RUN := $(VENV)/bin/python

# One thread a process: these models are small, and with two spinning threads any other busy process
# on the machine makes a training step up to fifty times slower.
export OMP_NUM_THREADS ?= 1
export TOKENIZERS_PARALLELISM ?= false

.PHONY: demo test lint env

demo: env
	$(RUN) -m tbkin demo seed=$(SEED)

test: env
	$(RUN) -m pytest -q

lint: env
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

env: $(VENV)/.installed

# torch comes first and by its pin, so that nothing else chooses a build of it.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'tbkin needs Python 3.11 or newer; set PYTHON=')"
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --constraint constraints.txt torch
	$(RUN) -m pip install --quiet --constraint constraints.txt --editable '.[test]'
	touch $@
