# Five verbs and a half, the same by hand and in CI. `make test` or `make demo` alone sets everything up.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV_VERSION := 0.13.9
NATIVE := CMakeLists.txt native/CMakeLists.txt $(wildcard native/src/* native/binding/*)
TESTS := $(wildcard native/tests/*)

.PHONY: setup check test test-peers fuzz bench demo clean

setup: $(VENV)/.installed

$(VENV)/.uv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	  echo "h2q needs Python 3.10 or newer; set PYTHON=/path/to/python3" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@touch $@

# An editable install lists the modules it found; a new or removed one asks for a new install.
MODULES := find src -name '*.py' | sort
$(shell [ ! -f $(VENV)/.installed ] || $(MODULES) | cmp -s - $(VENV)/.modules || rm -f $(VENV)/.installed)

$(VENV)/.installed: $(VENV)/.uv pyproject.toml uv.lock $(NATIVE)
	$(BIN)/uv sync --locked --inexact --python $(BIN)/python --reinstall-package h2q
	@$(MODULES) > $(VENV)/.modules
	@touch $@

$(VENV)/.peers: $(VENV)/.installed requirements/peers.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements/peers.txt
	@touch $@

$(VENV)/.fuzz: $(VENV)/.installed requirements/fuzz.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements/fuzz.txt
	@touch $@

build/native/.tested: $(VENV)/.installed $(TESTS)
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/cmake -S native -B build/native -G Ninja -DCMAKE_BUILD_TYPE=Release
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/cmake --build build/native
	$(BIN)/ctest --test-dir build/native --output-on-failure
	@touch $@

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/check_house.py

test: setup build/native/.tested
	$(BIN)/python -m pytest

test-peers: $(VENV)/.peers
	$(BIN)/python -m pytest tests/peers --override-ini addopts=-q

FUZZ_SECONDS ?= 60

fuzz: $(VENV)/.fuzz
	$(BIN)/python tests/fuzz/gguf_header.py -max_total_time=$(FUZZ_SECONDS) -timeout=10 -rss_limit_mb=1024

bench: setup
	$(BIN)/h2q bench kernels

demo: setup
	$(BIN)/h2q demo

clean:
	rm -rf build $(VENV) h2q-demo
