# make demo     set up, generate images, train a small model, segment, write output/demo/index.html
# make test     set up, run the tests; make test-slow runs those of more than about twenty seconds each
# make bench    speed and memory beside the baseline; BENCH=mask2former, pixel_classifiers, embeddings, groupvit, video, evaluators, cpu_layers, rank_dial, label: of these; BENCH=serve: load on the service
# make lint     ruff: rules and layout; mypy: the types of catrank/
# make docs     the documentation as a site: output/site/index.html
# make clean    remove what these targets wrote; .venv stays
#
# An environment is made in .venv at the first call and found there by the next ones.
# `make PYTHON=/path/to/python ...` uses that interpreter as it is; nothing is added to it but
# d2lite, and that only where `import detectron2` fails.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow bench lint docs clean

# One more than the cores of a small machine: many tests wait for processes that they start.
JOBS ?= 3
BENCH ?= catseg
# Threads that wait for others sleep: spinning, they take the cores from the very threads that they
# wait for wherever something else runs too, and a training step takes several times as long.
export OMP_WAIT_POLICY ?= PASSIVE
export PYTHONPATH := $(CURDIR)$(if $(PYTHONPATH),:$(PYTHONPATH))

ifeq ($(origin PYTHON),command line)
PY := $(PYTHON)
SETUP := check
DOCS_SETUP := check
else
PY := $(CURDIR)/.venv/bin/python
SETUP := .venv/complete
DOCS_SETUP := .venv/docs
endif

EXTRAS := .[test,dev,demo]
# Run a command with its output in a log, which is shown where it fails.
quietly = log=$$(mktemp); $(1) >"$$log" 2>&1 || { cat "$$log" >&2; rm -f "$$log"; exit 2; }; \
	  if [ -d .venv ]; then cat "$$log" >>.venv/setup.log; fi; rm -f "$$log"

help:
	@sed -n 's/^# \{0,1\}//p' Makefile | head -n 10

setup: $(SETUP)

.venv/complete: pyproject.toml d2lite/pyproject.toml
	@command -v python3 >/dev/null || { echo "error: no python3 found: install Python 3.10 or newer" >&2; exit 2; }
	@python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "error: $$(command -v python3) is too old: Python 3.10 or newer is needed" >&2; exit 2; }
	@python3 -c 'import ensurepip, venv' || \
	  { echo "error: python3 has no venv: install it (Debian, Ubuntu: apt install python3-venv)" >&2; exit 2; }
	@echo "Setting up .venv (torch is a large download, once; output in .venv/setup.log)"
	@python3 -m venv .venv
	@$(call quietly,$(PY) -m pip install --disable-pip-version-check -e '$(EXTRAS)')
	@$(MAKE) --no-print-directory check PYTHON=$(PY)
	@touch $@

# What the targets import; a package is named here before one of them stops at it.
NEEDS := torch torchvision numpy open_clip ftfy fvcore PIL yaml safetensors tqdm
demo: NEEDS += skimage
test test-slow: NEEDS += skimage pytest xdist pytest_timeout hatchling
lint: NEEDS += ruff mypy
docs: NEEDS += material mkdocstrings

.PHONY: check
check:
	@$(PY) -c 'import importlib.util as u, sys; \
	  lacking = ", ".join(n for n in "$(NEEDS)".split() if not u.find_spec(n)); \
	  how = f"{sys.executable} -m pip install -e .[test,dev,demo,docs]"; \
	  sys.exit(f"error: {sys.executable} lacks {lacking}: {how}" if lacking else 0)'
	@$(PY) -c 'import detectron2' 2>/dev/null || \
	  { echo "Setting up d2lite, in place of Detectron2"; \
	    $(call quietly,$(PY) -m pip install --disable-pip-version-check -e ./d2lite); }

demo: setup
	@$(PY) demo/run_demo.py

# The closing line of pytest is the last of the output.
test: SELECTED := not slow
test-slow: SELECTED := slow
test test-slow: setup
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(PY) -m pytest -n $(JOBS) -m "$(SELECTED)" $(ARGS)

bench: setup
	$(PY) bench/$(BENCH).py $(ARGS)

lint: setup
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

docs: $(DOCS_SETUP)
	@NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --quiet --strict
	@echo "The documentation: output/site/index.html"

.venv/docs: .venv/complete
	@echo "Setting up the tools of the documentation"
	@$(call quietly,$(PY) -m pip install --disable-pip-version-check -e '.[docs]')
	@touch $@

clean:
	rm -rf output build dist .pytest_cache .ruff_cache *.egg-info
	find . -name __pycache__ -not -path './.venv*/*' -prune -exec rm -rf {} +
