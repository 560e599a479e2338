# Everything a contributor types. `make` alone lists the targets.
# Only .venv and .venv-vision are ever installed into.

PYTHON ?= python3
BIN := .venv/bin
VISION := .venv-vision/bin
PYTEST_ARGS ?=

# what touches torch, and so has to hold on every torch release we support
TORCH_TESTS := tests/measure tests/policies tests/stepping tests/monitor
VISION_TESTS := $(wildcard tests/vision tests/examples)

.PHONY: help setup demo demo-vision test check format bench bench-faults docs setup-vision test-vision clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/.stamp ## install everything for work on steadygrad into .venv

demo: .venv/.stamp ## train three exploding networks plain, clipped and guarded, and compare
	$(BIN)/steadygrad demo

demo-vision: .venv-vision/.stamp ## train YOLO detection and pose with a poisoned batch, plain and guarded (installs 6 GB)
	$(VISION)/python -m benchmarks.vision

test: .venv/.stamp ## run the tests
	$(BIN)/python -m pytest $(PYTEST_ARGS)

check: .venv/.stamp ## lint, format, types and floors
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict
	$(BIN)/lint-imports

format: .venv/.stamp ## format, and fix what the linter can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: .venv/.stamp ## measure what steadygrad costs on this machine
	$(BIN)/python -m benchmarks.overhead
	$(BIN)/python -m benchmarks.long_run
	$(BIN)/python -m benchmarks.growth
	$(BIN)/python -m benchmarks.live

bench-faults: .venv/.stamp ## how often the diagnosis is right, on some 150 faulty and 130 healthy trainings
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.faults --misses

docs: .venv/.stamp ## build the documentation into site/, which opens without a network
	$(BIN)/python docs/site/outputs.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "open site/index.html"

setup-vision: .venv-vision/.stamp ## install the second torch release and the vision libraries into .venv-vision

test-vision: .venv-vision/.stamp ## run the vision tests and what touches torch on the second torch release
	$(VISION)/python -m pytest $(TORCH_TESTS) $(VISION_TESTS) $(PYTEST_ARGS)

clean: ## remove both environments, caches and the demo's run files
	rm -rf .venv .venv-vision steadygrad-runs build dist site
	rm -rf .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp newer than its inputs means that nothing has to be installed again. It is written last, so
# an installation that was cut off is simply run again.
.venv/.stamp: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

.venv-vision/.stamp: pyproject.toml constraints-vision.txt
	$(PYTHON) -m venv .venv-vision
	$(VISION)/python -m pip install --quiet --constraint constraints-vision.txt --editable ".[vision-test]" torchvision
	touch $@
