# make demo   trains and evaluates both recipes on embedded data and draws their figures (about 6 minutes on 2 cores)
# make test   lint, types, tests, doctests and the code of all pages (about 13 minutes on 2 cores)
# make check  the fast part of it: lint, types and the tests that are not marked slow (less than 2 minutes)
# make soak   the long tests: thousands of kills, fuzzing, 200 seeds without a false alarm (about 40 minutes on 2 cores)
# make test-page  the page of `jointebm watch` in Chromium, where it is installed (about 2 minutes)
# make docs   the documentation as a site, with every notebook run, in build/docs (about 4 minutes on 2 cores)
# make docs-links  looks up the links of the site to other hosts; needs a network
# make compat tests of tables with the oldest scikit-learn and pandas that are supported, in an environment of their own

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
DEMO := demo/$(shell date +%Y%m%d-%H%M%S)
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
COMPAT := .venv-compat
DOCS := .venv-docs
SITE := build/docs
# One worker per core with one thread each; the tests of a file share costly fixtures, so a worker takes whole files.
# Tensors of tests are tiny: a second thread is of no use, and slows a busy machine many times.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

CHROMIUM := $(shell command -v chromium || command -v chromium-browser || command -v google-chrome)

.PHONY: demo test check soak test-page docs docs-links compat lint types clean

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP_INSTALL) --editable '.[plots]'
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(PIP_INSTALL) --editable '.[dev]'
	touch $@

$(COMPAT)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(COMPAT)
	grep -vE '^(scikit-learn|pandas)==' constraints.txt > $(COMPAT)/constraints.txt
	$(COMPAT)/bin/python -m pip install --quiet --disable-pip-version-check --constraint $(COMPAT)/constraints.txt \
		'scikit-learn==1.6.*' 'pandas==2.2.*' --editable '.[dev]'
	touch $@

$(DOCS)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(DOCS)
	$(DOCS)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt \
		--editable '.[docs]'
	touch $@

demo: $(VENV)/.installed
	$(BIN)/jointebm train toy --threads 1 --out $(DEMO)/toy
	$(BIN)/jointebm evaluate $(DEMO)/toy --methods exact --samples 200 --threads 1
	$(BIN)/jointebm figures $(DEMO)/toy --threads 1 --out $(DEMO)/toy-figures
	$(BIN)/jointebm train digits --threads 1 --seed 1 --out $(DEMO)/digits
	$(BIN)/jointebm evaluate $(DEMO)/digits --methods exact --samples 50 --threads 1
	$(BIN)/jointebm figures $(DEMO)/digits --threads 1 --out $(DEMO)/digits-figures
	@echo "runs and figures are in $(DEMO)"

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python tools/phrases.py

types: $(VENV)/.installed-dev
	$(BIN)/mypy

test: lint types
	$(PYTEST)

check: lint types
	$(PYTEST) -m 'not slow and not soak and not page'

soak: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m soak tests

test-page: $(VENV)/.installed-dev
ifeq ($(CHROMIUM),)
	@echo "test-page: skipped, no Chromium is installed (Debian: apt-get install chromium)"
else
	CHROMIUM=$(CHROMIUM) OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m page tests/page
endif

docs: $(DOCS)/.installed
	$(DOCS)/bin/sphinx-build --fail-on-warning --keep-going -q -b html -d build/doctrees docs $(SITE)
	$(DOCS)/bin/python tools/site_check.py $(SITE)

docs-links: $(DOCS)/.installed
	$(DOCS)/bin/sphinx-build -q -b linkcheck -d build/doctrees docs build/linkcheck

compat: $(COMPAT)/.installed
	@# scikit-learn 1.6 passes a generator of its checks to pytest, and pytest 9 warns about that
	$(COMPAT)/bin/python -m pytest -W ignore::pytest.PytestRemovedIn10Warning \
		tests/estimators/test_estimators.py tests/tables/frames/test_frames.py

clean:
	rm -rf $(VENV) $(COMPAT) $(DOCS) build/docs build/doctrees build/linkcheck .pytest_cache .mypy_cache .ruff_cache
