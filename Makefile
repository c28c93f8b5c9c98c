# Everything runs in .venv, which the first call makes and later calls reuse.

PYTHONS := python3.11 python3.12 python3.13 python3.14 python3 python
USABLE := import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))
PYTHON = $(firstword $(shell for name in $(PYTHONS); do \
	"$$name" -c '$(USABLE)' >/dev/null 2>&1 && echo "$$name"; done))

# Installed first and by its exact version, so that no later requirement can bring in
# another build of several gigabytes.
TORCH ?= $(shell sed -n '/^torch==/p' constraints.txt)
REQUIREMENTS := import tomllib; \
	project = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
	print(*project["dependencies"], *project["optional-dependencies"]["dev"], sep="\n")
# Extras that tests do without are pinned as well.
PINNED := import tomllib; \
	project = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
	print(*project["dependencies"], *sum(project["optional-dependencies"].values(), []), \
		sep="\n")

IN_VENV := .venv/bin/python -m
# Flower's programs look for each other on PATH.
ACTIVE := PATH="$(CURDIR)/.venv/bin:$$PATH"
STAMP := .venv/installed

.PHONY: help demo test quick check lint types imports rules fix bench install \
	constraints clean

help:  ## List the targets
	@sed -nE 's/^([a-z]+):[^#]*## (.*)/  make \1\t\2/p' Makefile | expand -t 20

demo: $(STAMP)  ## Ten parties edit one model together; compare the merges
	$(ACTIVE) python -m sims compare

# One thread: the tensors of the tests are so small that a second one only gets in the way.
# Bytecode is kept, also where Python is told not to: compiling takes longer than loading.
PYTEST = $(ACTIVE) OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= python -m pytest -q
SPREAD := --dist loadgroup --durations 30
QUICK := not end_to_end and not process and not training and not model
RULES := $(addprefix tests/test_,architecture.py documentation.py faults_page.py words.py)

test: lint types imports  ## Run all checks, then all tests, on all cores
	$(PYTEST) -n auto $(SPREAD) $(ARGUMENTS)

quick: $(STAMP)  ## Run the tests that start no process and run no model
	$(PYTEST) -n logical $(SPREAD) -m "$(QUICK)" --hypothesis-profile quick $(ARGUMENTS)

check: lint types imports rules  ## Look for faults, change nothing

lint: $(STAMP)  ## Check style and formatting
	$(IN_VENV) ruff check
	$(IN_VENV) ruff format --check

types: $(STAMP)  ## Check types
	$(IN_VENV) mypy

imports: $(STAMP)  ## Check which folder imports which
	.venv/bin/lint-imports --no-logo

rules: $(STAMP)  ## Check the layout, the words, and what the documents name
	$(PYTEST) $(RULES)

fix: $(STAMP)  ## Write what `make lint` would change
	$(IN_VENV) ruff check --fix
	$(IN_VENV) ruff format

bench: $(STAMP)  ## Run every program under benchmarks/
	@set -e; for program in benchmarks/[a-z]*.py; do \
		echo "$$program"; $(ACTIVE) PYTHONPATH=. python "$$program"; \
	done

install: $(STAMP)  ## Make .venv and install the pinned versions

# `unfinished` marks an install under way and becomes the stamp when all is done. Found
# at the start, it tells of one that was interrupted, which nothing can be built on.
$(STAMP): constraints.txt pyproject.toml
	@$(call want_python)
	@if [ -e .venv/unfinished ]; then \
		find .venv -mindepth 1 ! -path .venv/unfinished -delete; fi
	@mkdir -p .venv && rm -f $(STAMP) && touch .venv/unfinished
	@[ -x .venv/bin/python ] || $(PYTHON) -m venv .venv
	@echo "Installing $(TORCH), then what pyproject.toml asks for, into .venv"
	$(IN_VENV) pip install --disable-pip-version-check -c constraints.txt $(TORCH)
	@echo "Installing the rest, silently; this takes a few minutes"
	@$(IN_VENV) pip install --disable-pip-version-check --quiet -c constraints.txt \
		$$(.venv/bin/python -c '$(REQUIREMENTS)')
	@mv .venv/unfinished $(STAMP)
	@echo "Installed. To use it: source .venv/bin/activate"

constraints:  ## Resolve the ranges of pyproject.toml afresh and pin the result
	@$(call want_python)
	@set -e; venv=$$(mktemp -d); trap 'rm -rf "$$venv"' EXIT; \
	$(PYTHON) -m venv "$$venv"; \
	"$$venv/bin/pip" install --quiet $(TORCH); \
	"$$venv/bin/pip" install --quiet $$($(PYTHON) -c '$(PINNED)'); \
	"$$venv/bin/pip" check; \
	{ \
		echo "# \`pip freeze\` of a new environment; \`make constraints\` writes this file."; \
		"$$venv/bin/python" -c 'import sys; print("# Python", sys.version.split()[0])'; \
		"$$venv/bin/pip" freeze --all --exclude pip | sed -E 's/^(torch==[^+]*)\+.*/\1/'; \
	} > "$$venv/constraints.txt"; \
	cp "$$venv/constraints.txt" constraints.txt

clean:  ## Remove .venv and all caches
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache

define want_python
if ! "$(PYTHON)" -c '$(USABLE)' >/dev/null 2>&1; then \
	echo "Python 3.11 or newer with venv is needed; looked for $(PYTHONS) on PATH" \
		"and found '$(PYTHON)'. Install one (Debian: apt install python3 python3-venv)" \
		"or name it: make PYTHON=/path/to/python3." >&2; \
	exit 1; \
fi
endef
