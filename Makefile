# The verbs, the same by hand and in CI. `make test` or `make demo` alone sets everything up.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV_VERSION := 0.13.9
TOOLS_PATH := PATH="$(CURDIR)/$(BIN):$$PATH"  # cmake looks for ninja there
NATIVE := CMakeLists.txt native/CMakeLists.txt $(wildcard native/src/* native/binding/*)
TESTS := $(wildcard native/tests/*)
PYTEST := $(BIN)/python -m pytest --numprocesses logical --dist worksteal

.PHONY: setup check test test-long test-peers test-arm test-sanitize build-macos fuzz bench bench-peers bench-quality demo clean

# Bytecode of all that is imported, as a wheel's installation makes it: without it, and where Python may not
# write it (PYTHONDONTWRITEBYTECODE), every process compiles NumPy and h2q again, for half a second.
setup: $(VENV)/.installed
	@$(BIN)/python -m compileall -q src

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
	$(BIN)/uv sync --locked --inexact --compile-bytecode --python $(BIN)/python --reinstall-package h2q
	@$(MODULES) > $(VENV)/.modules
	@touch $@

$(VENV)/.peers: $(VENV)/.installed requirements/peers.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements/peers.txt
	@! command -v npm > /dev/null || npm install --silent --no-audit --no-fund --prefix build/node ollama@0.6.4
	@touch $@

$(VENV)/.fuzz: $(VENV)/.installed requirements/fuzz.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements/fuzz.txt
	@touch $@

build/native/.tested: $(VENV)/.installed $(TESTS)
	$(TOOLS_PATH) $(BIN)/cmake -S native -B build/native -G Ninja -DCMAKE_BUILD_TYPE=Release
	$(TOOLS_PATH) $(BIN)/cmake --build build/native
	$(BIN)/ctest --test-dir build/native --output-on-failure
	@touch $@

# Minutes: every path is compiled twice more. Not for continuous integration.
test-sanitize: setup
	for kind in thread address; do \
	  $(TOOLS_PATH) cmake -S native -B build/$$kind -G Ninja -DH2Q_SANITIZE=$$kind && \
	  $(TOOLS_PATH) cmake --build build/$$kind && \
	  $(BIN)/ctest --test-dir build/$$kind --output-on-failure || exit 1; \
	done

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/check_house.py

test: setup build/native/.tested
	$(PYTEST) -m "not long"

test-long: setup
	$(PYTEST) -m long

# The dashboard's tests want Debian's browser; whoever may, installs it, others skip them.
test-peers: $(VENV)/.peers
	@command -v chromium > /dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null && \
	  apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium > /dev/null; } || \
	  echo "without chromium the dashboard is not tested" >&2
	$(BIN)/python -m pytest tests/peers --override-ini addopts=-q

# Debian's packages for another processor; whoever may, installs them.
ARM_TOOLS := aarch64-linux-gnu-g++ qemu-aarch64
ARM_PACKAGES := g++-aarch64-linux-gnu qemu-user

# All but the extension, which other processors' builds have no use for.
$(VENV)/.tools: $(VENV)/.uv pyproject.toml uv.lock
	$(BIN)/uv sync --quiet --locked --inexact --no-install-project --compile-bytecode --python $(BIN)/python
	@touch $@

test-arm: $(VENV)/.tools
	@command -v $(ARM_TOOLS) | wc -l | grep -qx 2 || { [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null && \
	  apt-get update -qq && apt-get install -y -qq --no-install-recommends $(ARM_PACKAGES) > /dev/null; } || { \
	  echo "make test-arm needs $(ARM_TOOLS): apt-get install $(ARM_PACKAGES)" >&2; exit 1; }
	@mkdir -p build
	@[ -f build/arm/build.ninja ] || $(TOOLS_PATH) $(BIN)/cmake -S native -B build/arm -G Ninja -DCMAKE_BUILD_TYPE=Release \
	  -DCMAKE_TOOLCHAIN_FILE=toolchains/linux-arm64.cmake -DCMAKE_COMPILE_WARNING_AS_ERROR=ON > build/arm.log || { \
	  cat build/arm.log; exit 1; }
	$(TOOLS_PATH) $(BIN)/cmake --build build/arm -- --quiet
	$(BIN)/ctest --test-dir build/arm --output-on-failure -j 2

$(VENV)/.macos: $(VENV)/.tools requirements/macos.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements/macos.txt
	@touch $@

build-macos: $(VENV)/.macos
	@mkdir -p build
	@[ -f build/macos/build.ninja ] || $(TOOLS_PATH) $(BIN)/cmake -S native -B build/macos -G Ninja -DCMAKE_BUILD_TYPE=Release \
	  -DCMAKE_TOOLCHAIN_FILE=toolchains/macos-arm64.cmake -DH2Q_PYTHON="$(CURDIR)/$(BIN)/python" \
	  -DCMAKE_COMPILE_WARNING_AS_ERROR=ON > build/macos.log || { cat build/macos.log; exit 1; }
	$(TOOLS_PATH) $(BIN)/cmake --build build/macos -- --quiet
	$(BIN)/python tools/check_macho.py build/macos

FUZZ_SECONDS ?= 60

FUZZ_TARGETS := gguf_header safetensors_header crystal_manifest

fuzz: $(VENV)/.fuzz
	for target in $(FUZZ_TARGETS); do \
	  $(BIN)/python tests/fuzz/$$target.py -max_total_time=$(FUZZ_SECONDS) -timeout=10 -rss_limit_mb=1024 || exit 1; \
	done

RESULTS := benchmarks/results

bench: setup
	$(BIN)/h2q bench codec --out $(RESULTS)
	$(BIN)/h2q bench kernels --out $(RESULTS)

# llama.cpp is built from source for this very processor, so that it is as fast as it can be.
$(VENV)/.bench-peers: $(VENV)/.installed requirements/bench-peers.txt
	CMAKE_ARGS="-DGGML_NATIVE=ON -DLLAVA_BUILD=OFF" \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements/bench-peers.txt
	@touch $@

bench-peers: $(VENV)/.bench-peers
	$(BIN)/python benchmarks/peers/measure.py --out $(RESULTS) > /dev/null

$(VENV)/.bench-quality: $(VENV)/.installed requirements/bench-quality.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements/bench-quality.txt
	@touch $@

bench-quality: $(VENV)/.bench-quality
	$(BIN)/python benchmarks/quality.py --out $(RESULTS) --plot docs/frontier.svg

demo: setup
	$(BIN)/h2q demo

clean:
	rm -rf build $(VENV) h2q-demo
