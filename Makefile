# make demo: set up and predict the density of aspirin. make test: set up and run all checks.
# For daily work: make fast, lint, format, types; now and then: coverage, lowest. See CONTRIBUTING.md.
PYTHON ?= python3
BIN := .venv/bin

# One worker for each core and one more, since some tests wait for other processes; each has one
# thread. For tests one after another: make test WORKERS=0. Workers get tests in order and take over
# the rest of another's only when they have none left, so that a module's fixtures are made once or
# twice.
WORKERS ?= $(shell $(PYTHON) -c 'import os; print((os.cpu_count() or 1) + 1)')
PYTEST = $(BIN)/python -m pytest -n $(WORKERS) --maxprocesses 8 --dist worksteal

.PHONY: demo test fast lint format types coverage lowest browser apbs docs site bench clean
.DELETE_ON_ERROR:

demo: .venv/installed
	$(BIN)/denser predict examples/aspirin.xyz -o aspirin.cube
	$(BIN)/denser plot aspirin.cube -o aspirin.png

# All that CI checks; tests/test_annotations.py checks the types.
test: lint browser apbs
	$(PYTEST) $(ARGS)

# Tests without those marked slow and without the browser. Choose some: make fast ARGS=tests/test_io.py.
fast: .venv/installed
	$(PYTEST) -m "not slow" --ignore tests/test_viewer_browser.py $(ARGS)

# Style, and who may import whom.
lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

# Mend what ruff can mend by itself.
format: .venv/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Types, of the whole package ([tool.mypy] in pyproject.toml).
types: .venv/installed
	$(BIN)/mypy

# All tests, and the share of lines that they run; apart from make test, as it takes 40 % more time.
coverage: .venv/installed browser apbs
	$(PYTEST) --cov --cov-report=term:skip-covered

# The fast tests with the lowest versions that pyproject.toml allows, in an environment of their own.
lowest: .venv-lowest/installed
	.venv-lowest/bin/python -m pytest -n $(WORKERS) --maxprocesses 8 --dist worksteal \
	  -m "not slow" --ignore tests/test_viewer_browser.py $(ARGS)

# The tests of the viewer drive a real browser, and one of a page runs APBS. As root they are
# installed, else the tests say what they miss.
browser:
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null \
	  || $(call from-debian,chromium) \
	  || echo "no Chromium here: the browser tests of the viewer need it (Debian: apt-get install chromium)"

apbs:
	@command -v apbs >/dev/null || $(call from-debian,apbs) \
	  || echo "no APBS here: a test of docs/uses needs it (Debian: apt-get install apbs)"

from-debian = { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq \
  && apt-get install -qq -y --no-install-recommends $(1) >/dev/null; }

# The tables and figures in README.md and docs, from those of properties and of file formats and from
# docs/results.json, which benchmarks write with --results.
docs: .venv/installed
	$(BIN)/python docs/tables.py

# The documentation as a site, in the folder site; a broken link is an error. Needs no network once
# its tools are there.
site: .venv/site-installed
	$(BIN)/python docs/site/make.py site

.venv/site-installed: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	@touch $@

bench: .venv/installed
	$(BIN)/python benchmarks/speed.py

.venv/installed: constraints.txt
.venv-lowest/installed: constraints-lowest.txt
.venv/installed .venv-lowest/installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "denser needs Python 3.11 or later; try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 2; }
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check -c $(filter constraints%,$^) -e '.[dev]'
	@touch $@

clean:
	rm -rf .venv .venv-lowest build dist site
