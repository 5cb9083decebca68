# Two commands on a fresh machine: `make run` and `make test`.
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3
STAMP := $(VENV)/.made-from-pyproject

# results differ bitwise between thread counts
export OMP_NUM_THREADS ?= 1

.PHONY: run test torture ui env check ship

run: env
	$(BIN)/orbitforge run $(ARGS)

test: env
	$(BIN)/pytest --numprocesses logical --maxprocesses 4 --dist loadfile $(ARGS)

# the nano chain, killed 200 times and run again: about an hour
torture: env
	$(BIN)/python -m tests.survival.kills $(ARGS)

ui: env
	$(BIN)/orbitforge ui $(ARGS)

check: env
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/basedpyright
	$(BIN)/lint-imports

# for maintainers: data.dvc and the remote in git hold the shipped data, no more
ship: env
	$(BIN)/python -m orchestration.shipping

env: $(STAMP)

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(None if (3, 11) <= sys.version_info < (3, 14) else "Python %d.%d at $(PYTHON); Orbitforge needs 3.11 to 3.13: make PYTHON=python3.12 ..." % sys.version_info[:2])'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@
