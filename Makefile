# Everything a newcomer needs. Extra arguments go in ARGS: make train ARGS="--epochs 5 --data digits"

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
DEV := .venv/.dev
ARGS ?=

# make ignores a variable that no rule uses, so that `make train epochs=1` would train with 60.
GIVEN := $(foreach name,$(.VARIABLES),$(if $(filter command,$(origin $(name))),$(name)))
UNKNOWN := $(filter-out PYTHON ARGS BIN READY DEV PIP SHELL MAKE MAKEFLAGS,$(GIVEN))
$(if $(filter 0,$(MAKELEVEL)),$(if $(UNKNOWN),$(error unknown variable $(UNKNOWN): pass flags in ARGS, such as make train ARGS="--epochs 1")))

.DEFAULT_GOAL := help
.PHONY: help setup train test soak check gradients experiments explain benchmark dashboard

help:  ## this list
	@awk -F':.*## ' '/^[a-z]+:.*## / {printf "make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(DEV)  ## install everything, the tools for tests and checks too, into .venv

# The constraints pin the tested versions; without them pip takes the newest torch.
PIP := $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt

$(READY): pyproject.toml constraints.txt
	@echo "installing bp_torch into .venv: a few minutes, once"
	$(PYTHON) -m venv .venv
	$(PIP) -e ".[train]"
	@touch $@

$(DEV): $(READY)
	$(PIP) -e ".[dev]"
	@touch $@

train: $(READY)  ## learn handwritten digits, every gradient checked (ARGS="--help" lists the flags)
	$(BIN)/python scripts/train.py $(ARGS)

test: $(DEV)  ## the whole suite
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal --durations 10 $(ARGS)

soak: $(DEV)  ## kill trainings a hundred times and check that each resumes bit for bit: ARGS="--kills 1000"
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q tests/training/test_soak.py --kills 100 $(ARGS)

check: $(DEV)  ## format, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

gradients: $(READY)  ## check the gradients of every function, and the checker by planted bugs
	$(BIN)/python scripts/check_gradients.py $(ARGS)

experiments: $(READY)  ## measure the claims of the lecture on backpropagation (ARGS="--quick" for a first look)
	OMP_NUM_THREADS=1 $(BIN)/python scripts/experiments.py $(ARGS)

explain: $(READY)  ## show how one test digit nudges every weight: ARGS="--example 7"
	OMP_NUM_THREADS=1 $(BIN)/python scripts/explain.py $(ARGS)

# BackPACK is measured where it is installed: pip install -e ".[peers]"
benchmark: $(READY)  ## measure speed and memory, next to PyTorch's own and others'
	OMP_NUM_THREADS=1 $(BIN)/python scripts/benchmark.py $(ARGS)

# By default TensorBoard drops steps at random: 1,000 of a curve and 10 of a picture are kept.
dashboard: $(READY)  ## show the runs in TensorBoard
	@echo "the Backprop tab: the address below, with #backprop appended"
	$(BIN)/tensorboard --logdir runs --samples_per_plugin scalars=100000,images=1000 $(ARGS)
