# `make help` lists what there is. Everything runs in a virtual environment of its own, .venv, made on first use.

SHELL := /bin/bash
.DEFAULT_GOAL := help

VENV ?= .venv
# The first that runs and can make an environment; the functions' images have 3.11, so that one is preferred.
PYTHONS := python3.11 python3.12 python3.13 python3
SUITABLE = import sys, venv, ensurepip; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12), (3, 13)))
PYTHON ?= $(shell for p in $(PYTHONS); do $$p -c '$(SUITABLE)' 2>/dev/null && echo $$p && break; done)
PY := $(VENV)/bin/python
PIP := $(PY) -m pip install --disable-pip-version-check --no-deps --prefer-binary

# What the demo and the local server need: packages from the index of pip's configuration, nothing else, no torch.
SERVE_REQUIREMENTS := common/requirements.txt tools/requirements.txt serverless/opencv/base/requirements.txt \
	serverless/onnx/base/requirements.txt serverless/onnx/rapidocr/text/requirements.txt
TEST_REQUIREMENTS := $(wildcard serverless/*/base/requirements.txt serverless/*/*/requirements.txt \
	serverless/*/*/*/requirements.txt) tools/annotate/requirements.txt tests/requirements.txt

# A misspelt variable on the command line is an error: make itself ignores it.
NEW_VARIABLES := NAME WEIGHTS TASK LABELS JOINTS EDGES LAYOUT IMAGE_SIZE COLOR MEAN STD RESIZE OUTPUT DETECTOR DETECTOR_CLASSES CODEC AS_IS IMAGE OUT KIND REPO
VARIABLES := VENV PYTHON PYTHONS HOST PORT FUNCTIONS FUNCTION ARGS VARIANT OFFLINE $(NEW_VARIABLES)
GIVEN := $(foreach v,$(.VARIABLES),$(if $(findstring command line,$(origin $(v))),$(v)))
UNKNOWN := $(filter-out $(VARIABLES) SHELL MAKE% -%,$(GIVEN))
$(if $(UNKNOWN),$(error unknown variable $(UNKNOWN); the variables are $(sort $(VARIABLES))))

HOST ?= 127.0.0.1
PORT ?= 8070

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/bin/python:
	@python=$(PYTHON); test -n "$$python" || { \
		echo "Python 3.11, 3.12 or 3.13 with the module venv is needed, found $$(python3 -V 2>/dev/null || echo none)." \
			"Install one (Debian, Ubuntu: apt install python3-venv) or name it: make PYTHON=/path/to/python3.12"; exit 1; }; \
	"$$python" -c '$(SUITABLE)' || { \
		echo "PYTHON: expected Python 3.11, 3.12 or 3.13 with the module venv, got $$python," \
			"$$("$$python" -V 2>&1)"; exit 1; }; \
	echo "Making the virtual environment $(VENV) with $$("$$python" -V) ..."; \
	"$$python" -m venv $(VENV)

# One stamp for each set of packages, named by the content of its requirement files: nothing to do when they are unchanged.
$(VENV)/.serve: $(SERVE_REQUIREMENTS) | $(VENV)/bin/python
	@echo "Installing the packages of the demo and the local server (some 200 MB to download) ..."
	@$(PIP) $(addprefix -r ,$(SERVE_REQUIREMENTS))
	@touch $@

$(VENV)/.annotate: tools/annotate/requirements.txt $(VENV)/.serve
	@echo "Installing the packages of tools.annotate (some 130 MB to download) ..."
	@$(PIP) -r tools/annotate/requirements.txt
	@touch $@

$(VENV)/.test: $(TEST_REQUIREMENTS) $(VENV)/.serve
	@echo "Installing the packages of the tests (torch and its libraries: some gigabytes to download) ..."
	@$(PIP) $(addprefix -r ,$(TEST_REQUIREMENTS))
	@touch $@

.PHONY: demo
demo: $(VENV)/.serve ## Annotate a real photograph with each kind of function; pictures in out/demo
	@$(PY) -m tools.demo

.PHONY: serve
serve: $(VENV)/.serve ## Serve the collection without Docker [FUNCTIONS="..."] [HOST=] [PORT=] [OFFLINE=1] [ARGS="--env NAME=VALUE"]
	@exec $(PY) -m tools.serve --host $(HOST) --port $(PORT) $(ARGS) $(or $(FUNCTIONS),$(FUNCTION))

.PHONY: weights
weights: $(VENV)/.serve ## Fetch the weights that functions lack [FUNCTIONS="..."] [VARIANT=] [ARGS=--list]
	@exec $(PY) -m tools.weights $(ARGS) $(or $(FUNCTIONS),$(FUNCTION))

.PHONY: check
check: $(VENV)/.serve ## Check a function's directory against CVAT's and Nuclio's rules: FUNCTION=path
	@test -n "$(FUNCTION)$(FUNCTIONS)" || { echo "usage: make check FUNCTION=path/to/function"; exit 2; }
	@$(PY) -m tools.check $(or $(FUNCTION),$(FUNCTIONS)) $(ARGS)

# The variables of the command line alone: a NAME or an OUT that the shell happens to have means nothing here.
.PHONY: new
new: $(VENV)/.serve ## Make a function from a weight file, or a template: NAME= [WEIGHTS=best.onnx] [TASK=] [LABELS=] [KIND=] [REPO=] ...
	@$(PY) -m tools.new $(foreach v,$(NEW_VARIABLES),$(if $(findstring command,$(origin $(v))),'$(v)=$(subst ','\'',$($(v)))'))

.PHONY: annotate
annotate: $(VENV)/.annotate ## Annotate a CVAT task or project, or a folder of images: ARGS="--help"
	@RUN_BY_MAKE=1 exec $(PY) -m tools.annotate $(ARGS)

.PHONY: doctor
doctor: $(VENV)/.serve ## Say what is wrong with a running installation, and the remedy [ARGS="--help"]
	@exec $(PY) -m tools.doctor $(ARGS)

.PHONY: memory
memory: $(VENV)/.serve ## Measure the memory of functions, for the limits in function.yaml [FUNCTIONS="..."] [ARGS="--env NAME=VALUE"]
	@$(PY) -m tools.memory $(ARGS) $(or $(FUNCTIONS),$(FUNCTION))

.PHONY: bundle
bundle: ## Pack images, weights and nuctl for a machine without a network [OUT=bundle.tar] [FUNCTIONS="..."] [ARGS=]
	@exec ./deploy_cpu.sh --bundle $(or $(OUT),bundle.tar) $(ARGS) $(FUNCTIONS)

.PHONY: test
test: $(VENV)/.test ## Run all tests, on all cores [ARGS="tests/common -k mask", "-n0 -x"]
	@$(PY) -m pytest -n auto --dist worksteal $(ARGS)

.PHONY: lint
lint: $(VENV)/.test ## Check style and types
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy
	@$(PY) -m tests.check_types

.PHONY: bench
bench: $(VENV)/.test ## Measure speed against the plain way, as ratios of one run [ARGS="mask yolo detr sam"]
	@$(PY) -m tools.bench $(ARGS)

.PHONY: clean
clean: ## Remove the virtual environment, caches and outputs
	@rm -rf $(VENV) out .pytest_cache .mypy_cache .ruff_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
