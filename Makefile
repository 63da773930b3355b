# Driftloop: every command sets up what it needs, once.
#
# Needs GNU make, a POSIX shell and Python 3.11, 3.12 or 3.13 with its venv module; nothing else.
# Recipes use only shell builtins and Python, so that they work with a PATH of just those. Each
# recipe line holds a shell character (`:;` in `say`): make runs lines without one by itself, and
# then looks for the builtins on the PATH.

PYTHON   ?= python3
VENV     ?= .venv
FRAUD := streams.pipelines.card_fraud
PIPELINE ?= $(FRAUD)
ARGS     ?=
BENCH    ?= throughput

BIN   := $(VENV)/bin
PY    := $(BIN)/python
UV    := $(BIN)/uv
# Written last by each stage of the set-up, with the directory that it was made in.
TOOLS := $(VENV)/.driftloop-tools
READY := $(VENV)/.driftloop-ready

# Tests that start no server run first, then those with servers, each in two processes; then faults,
# one after another: their recoveries are timed, and the memory that hostile records take.
ALONE  := tests/unit tests/property tests/faust_faults
FAULTS := tests/faults
NONE  := 5# what pytest exits with where it has nothing to run

COMPILE := $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --custom-compile-command 'make lock' $(ARGS)

.DEFAULT_GOAL := help
say = @:; printf '%s\n'

.SUFFIXES:
.PHONY: help setup demo up test bench profile faults worlds lint house lock FORCE

# The environment is sound if its interpreter runs and it was made here: one that came with a
# moved or copied clone is full of stale paths. One without our stamp is somebody's own: keep it.
SOUND := $(shell test -x $(PY) || exit 0; dir='$(CURDIR)'; \
	test ! -f $(TOOLS) || IFS= read -r dir <$(TOOLS); test "$$dir" != '$(CURDIR)' || echo yes)
ifndef SOUND
$(TOOLS): FORCE
endif

help: ## show this list
	$(say) 'Driftloop. Each target sets up what it needs first, once.' ''
	@while IFS= read -r line; do case $$line in \
	  [a-z]*': '*'## '*) printf '  make %-6s %s\n' "$${line%%:*}" "$${line##*"## "}";; \
	esac; done <$(firstword $(MAKEFILE_LIST))
	$(say) '' \
	  '  PYTHON=python3.12  interpreter for a new environment (3.11, 3.12 or 3.13)' \
	  '  VENV=.venv         where the environment lives' \
	  '  BENCH=throughput   or latency, growth, publish, feature_state, transactions' \
	  '  PIPELINE=module    pipeline for `make up` and `make demo` ($(PIPELINE))' \
	  '  ARGS=...           further arguments for the program that runs'

setup: $(READY) ## make the environment (.venv) that the others use
	$(say) 'driftloop is in $(BIN): next, `. $(BIN)/activate` and `driftloop --help`'

demo: $(READY) ## run the whole loop on real servers, about 5 minutes (PIPELINE=digits: another one)
	@exec $(BIN)/driftloop demo $(strip $(if $(filter-out $(FRAUD),$(PIPELINE)),--pipeline $(PIPELINE)) $(ARGS))

up: $(READY) ## run a pipeline until Ctrl-C (PIPELINE=streams.pipelines.card_fraud)
	@exec $(BIN)/driftloop up $(PIPELINE) $(ARGS)

test: lint ## run all checks and tests (ARGS='-k name' selects tests)
	@all=$(NONE); \
	stage() { printf '\n== pytest, %s\n' "$$1"; shift; $(PY) -m pytest "$$@" $(ARGS); code=$$?; \
	  case $$code in 0) all=0;; $(NONE)) ;; *) exit $$code;; esac; }; \
	stage 'without servers' -n 2 $(ALONE); \
	stage 'with servers' -n 2 --dist loadfile $(addprefix --ignore=,$(ALONE) $(FAULTS)); \
	stage faults $(FAULTS); \
	exit $$all

faults: $(READY) ## kill everything, for 6 minutes, and count what was lost (HOURS=2: for so long)
	@exec $(PY) -m tests.faults.run $(if $(HOURS),--hours $(HOURS)) $(ARGS)

worlds: $(READY) ## fetch every world (190 MB), count it, and run its pipeline beside baselines; hours
	@$(PY) -m pytest -m 'worlds or not worlds' tests/integration/test_worlds.py
	@exec $(PY) -m tests.bench.worlds --loop $(ARGS)

house: $(READY) ## print the figures of the layout: modules, lengths, cycles, duplicates
	@exec $(PY) -m tests.house $(ARGS)

lint: $(READY) ## run the checks only: ruff, mypy, import-linter
	$(say) '' '== ruff check'
	@$(BIN)/ruff check .
	$(say) '' '== ruff format'
	@$(BIN)/ruff format --check .
	$(say) '' '== mypy'
	@$(PY) -m mypy --explicit-package-bases streams workers tests
	$(say) '' '== import-linter'
	@$(BIN)/lint-imports

bench: $(READY) ## measure throughput beside its rivals, about 10 minutes (BENCH=latency: that)
	@exec $(PY) -m tests.bench.$(BENCH) $(ARGS)

profile: $(READY) ## draw a flame graph of the hot path: profile.svg
	@exec $(PY) -m tests.bench.profile $(ARGS)

lock: $(TOOLS) ## renew requirements/*.txt from pyproject.toml (ARGS=--upgrade for newer versions)
	$(say) '== requirements/dev.txt: everything'
	@$(COMPILE) --all-extras --output-file requirements/dev.txt pyproject.toml
	$(say) '== requirements/runtime.txt: what the container image holds'
	@$(COMPILE) --extra train --extra inputs --constraint requirements/dev.txt \
	  --output-file requirements/runtime.txt pyproject.toml
	$(say) '== requirements/uv.txt: the installer'
	@printf 'uv\n' | $(COMPILE) --constraint requirements/dev.txt --no-annotate \
	  --output-file requirements/uv.txt -
	$(say) '== tests/bench/peers/requirements.txt: what the benchmark measures us against'
	@$(COMPILE) --output-file tests/bench/peers/requirements.txt tests/bench/peers/requirements.in

# -- set-up ------------------------------------------------------------------------------------

$(READY): $(TOOLS) requirements/dev.txt pyproject.toml
	$(say) '== set-up 2/3: packages of requirements/dev.txt into $(VENV)$(if $(SOUND),,: about 3 GB to download, 6 GB on disk)'
	@$(UV) pip sync --python $(PY) --compile-bytecode --require-hashes requirements/dev.txt
	$(say) '== set-up 3/3: driftloop itself'
	@$(UV) pip install --quiet --python $(PY) --no-deps --no-build-isolation --editable .
	@printf '%s\n' '$(CURDIR)' >$@
	$(say) '== set-up done' ''

$(TOOLS): requirements/uv.txt
ifndef SOUND
	@command -v '$(PYTHON)' >/dev/null || { printf >&2 '%s\n' \
	  'make: no `$(PYTHON)` on the PATH: install Python 3.11, 3.12 or 3.13, or name it with PYTHON=/path/to/python3'; exit 1; }
	@'$(PYTHON)' -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || { printf >&2 '%s\n' \
	  "make: Driftloop needs Python 3.11, 3.12 or 3.13, and \`$(PYTHON)\` is $$('$(PYTHON)' --version 2>&1): name another with PYTHON=/path/to/python3"; exit 1; }
	@'$(PYTHON)' -c 'import ensurepip, venv' 2>/dev/null || { printf >&2 '%s\n' \
	  'make: `$(PYTHON)` lacks its venv module: install it (Debian, Ubuntu: apt install python3-venv) or name another with PYTHON=/path/to/python3'; exit 1; }
	$(say) "== set-up 1/3: virtual environment $(VENV) ($$('$(PYTHON)' --version 2>&1)) and uv"
	@clear=; test ! -f $(VENV)/pyvenv.cfg || clear=--clear; '$(PYTHON)' -m venv $$clear $(VENV)
else
	$(say) '== set-up 1/3: uv into $(VENV)'
	@$(PY) -m pip --version >/dev/null 2>&1 || $(PY) -m ensurepip >/dev/null
endif
	@$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
	@printf '%s\n' '$(CURDIR)' >$@
