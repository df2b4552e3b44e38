# make demo: set up and predict the density of aspirin. make test: set up and run all tests.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test browser bench clean
.DELETE_ON_ERROR:

demo: .venv/installed
	$(BIN)/denser predict examples/aspirin.xyz -o aspirin.cube
	$(BIN)/denser plot aspirin.cube -o aspirin.png

test: .venv/installed browser
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest

# The tests of the viewer drive a real browser. As root it is installed, else they say what they miss.
browser:
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null \
	  || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq \
	       && apt-get install -qq -y --no-install-recommends chromium >/dev/null; } \
	  || echo "no Chromium here: the browser tests of the viewer need it (Debian: apt-get install chromium)"

bench: .venv/installed
	$(BIN)/python benchmarks/speed.py

.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "denser needs Python 3.11 or later; try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

clean:
	rm -rf .venv build dist
