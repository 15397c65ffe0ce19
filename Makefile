# Two commands do everything: make demo, make test. All live in .venv and build/, both removed by make clean.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# torch is the one large download: TORCH_ARGS="--index-url URL" takes it alone from an index that holds its CPU build.
PIP := $(BIN)/python -m pip --disable-pip-version-check
TORCH_ARGS ?=
DEMO ?= runs/demo
BENCH ?= runs/bench
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: help install build demo test ctest pytest lint bench gpu-check wheel clean
help:
	@echo "make demo     install into .venv, then train skin and heart on demo data through all stages"
	@echo "make test     install into .venv, then run the C++ and Python tests"
	@echo "make install  only install; make build rebuilds the extension after a change in csrc/"
	@echo "make lint, make bench, make wheel, make clean"
	@echo "make gpu-check  on a machine with a GPU, into its own python (PYTHON=): build, tests, sanitizer, benchmarks"

$(VENV)/installed: constraints.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "clustercl needs Python 3.11 or newer, found " + sys.version)'
	$(BIN)/python -m pip --version > /dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV) || \
		{ echo "python3 -m venv failed: on Debian and Ubuntu install the package python3-venv"; exit 1; }
	@echo "installing torch and what is pinned in constraints.txt into $(VENV): minutes, 1.5 GB ..."
	$(PIP) install -q $(TORCH_ARGS) -c constraints.txt torch
	@# The kernels for GPUs want nvcc, which comes as wheels from CUDA 13 on, in the release that torch was built with.
	@cuda=$$($(BIN)/python -W ignore -c 'import torch; print(torch.version.cuda or "")'); \
	case "$$CUDACXX$$CLUSTERCL_CUDA" in ''|[aA][uU][tT][oO]|[oO][nN]) ;; *) cuda=;; esac; \
	if [ "$${cuda%%.*}" -ge 13 ] 2> /dev/null; then \
		echo "installing nvcc $$cuda, with which the kernels for GPUs are compiled ..."; \
		$(PIP) install -q "cuda-toolkit[nvcc,cudart,cccl,crt]==$$cuda.*" || \
			echo "nvcc $$cuda could not be installed: without one on the PATH there will be no kernels for GPUs"; fi
	$(BIN)/python -c 'import tomllib; p = tomllib.load(open("pyproject.toml", "rb"))["project"]; print(*p["dependencies"], *p["optional-dependencies"]["dev"], sep="\n")' > $(VENV)/requirements.txt
	$(PIP) install -q -c constraints.txt -r $(VENV)/requirements.txt
	touch $@

$(VENV)/built: $(VENV)/installed setup.py CMakeLists.txt $(wildcard csrc/kernels/* csrc/bindings/*)
	@echo "compiling the extension: about a minute, with kernels for GPUs some minutes ..."
	$(PIP) install -q --no-build-isolation --no-deps -e .
	@$(BIN)/python -c 'from clustercl.ops._extension import build_info; print("CUDA kernels", build_info()["cuda_reason"])'
	touch $@

install build: $(VENV)/built

demo: $(VENV)/built
	clustercl train --task skin --preset tiny --out $(DEMO)/skin
	clustercl train --task heart --preset tiny --out $(DEMO)/heart
	clustercl report $(DEMO)/skin
	clustercl report $(DEMO)/heart

test: ctest pytest

ctest: $(VENV)/installed
	cmake $$(test -e build/ctest/build.ninja || echo --fresh) -S . -B build/ctest -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_MAKE_PROGRAM=$(CURDIR)/$(BIN)/ninja
	cmake --build build/ctest
	ctest --test-dir build/ctest --output-on-failure

pytest: $(VENV)/built
	python -m pytest

lint: $(VENV)/installed
	ruff check .
	ruff format --check .

bench: $(VENV)/built
	clustercl bench loss --out $(BENCH)
	clustercl bench linkage --out $(BENCH)

# With the torch that PYTHON has, offline, for the GPU that is there.
gpu-check:
	CLUSTERCL_CUDA=on CLUSTERCL_CUDA_ARCHITECTURES=native $(PYTHON) -m pip install -q --no-build-isolation --no-deps -e .
	$(PYTHON) -m clustercl.benchmarks.gpu_check && $(PYTHON) -m clustercl.benchmarks.gpu_show

wheel: $(VENV)/installed
	$(PIP) wheel -q --no-build-isolation --no-deps -w dist .

clean:
	rm -rf $(VENV) build dist *.egg-info clustercl/_C*.so
