"""Which nvcc is taken, what CMake decides about CUDA, and that a binary with it loads where torch has no CUDA."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pybind11
import pytest
import torch

from clustercl import linkage
from clustercl.ops.linkage import METHODS

NVCC = shutil.which("nvcc")
LOAD = """
import importlib.util, os, sys, torch
spec = importlib.util.spec_from_file_location("_C", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
assert module.build_info()["cuda"] is True
assert os.path.exists("/dev/nvidiactl") or module.card_refuses()  # without a driver the runtime says why not
assert torch._C._dispatch_has_kernel_for_dispatch_key("clustercl::pairwise_distances", "CUDA")
x = torch.arange(6.0).view(3, 2)
print(float(torch.ops.clustercl.pairwise_distances(x, x, "sqeuclidean")[0, 2]))
"""

PLAIN = """
import importlib.util, sys, numpy, torch
spec = importlib.util.spec_from_file_location("_C", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
assert module.build_info()["cpu"] == "portable"
x = numpy.random.default_rng(0).normal(size=(300, 17))
numpy.save(sys.argv[2], [module.linkage(x, method, "euclidean", "float64", None) for method in sys.argv[3:]])
"""


def configure(
    root: Path, build: Path, cuda: str, torch_cuda: str = "", environment: dict | None = None, **more: str
) -> subprocess.CompletedProcess:
    settings = {
        "CLUSTERCL_EXTENSION": "ON",
        "CLUSTERCL_TESTS": "OFF",
        "CLUSTERCL_CUDA": cuda,
        "CLUSTERCL_TORCH_ROOT": Path(torch.__file__).parent,
        "CLUSTERCL_TORCH_VERSION": torch.__version__,
        "CLUSTERCL_TORCH_CUDA": torch_cuda,
        "CLUSTERCL_OUTPUT_DIR": build,
        "Python_EXECUTABLE": sys.executable,
        "pybind11_DIR": pybind11.get_cmake_dir(),
        **more,
    }
    command = [
        "cmake",
        "-S",
        root,
        "-B",
        build,
        "-G",
        "Ninja",
        *(f"-D{key}={value}" for key, value in settings.items()),
    ]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=300, env={**os.environ, **(environment or {})}
    )


def test_auto_follows_torch_and_says_so(root, tmp_path):
    done = configure(root, tmp_path, "auto")
    assert done.returncode == 0, done.stderr
    assert f"CUDA kernels off: this torch ({torch.__version__}) has no CUDA" in done.stdout


def test_a_wrong_word_is_refused(root, tmp_path):
    done = configure(root, tmp_path, "maybe")
    assert done.returncode != 0
    assert "CLUSTERCL_CUDA must be auto, on or off, got 'maybe'" in done.stderr


@pytest.fixture
def setup(root):
    """setup.py as a module: it sets nothing up when it is imported."""
    spec = importlib.util.spec_from_file_location("setup_of_clustercl", root / "setup.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def machine(setup, monkeypatch, tmp_path):
    """setup.py on a machine that has the compilers that a test puts there, and no other."""
    for name in ("CUDACXX", "CUDA_HOME", "CUDA_PATH", "LIBRARY_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", f"{tmp_path / 'path'}:/usr/bin:/bin")  # for sh and echo
    real = setup.os.path.isfile
    monkeypatch.setattr(setup.os.path, "isfile", lambda path: str(path).startswith(str(tmp_path)) and real(path))

    def put(place, release, compiles="*"):  # with which arguments, as a pattern
        path = tmp_path / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            '#!/bin/sh\ncase "$*" in *--version) exec echo "Cuda compilation tools, '
            f'release {release}, V{release}.1";; {compiles}) exit 0;; esac\nexit 1\n'
        )
        path.chmod(0o755)
        return str(path)

    site = tmp_path / "site packages"
    return put, lambda cuda, request="auto": setup.choose_nvcc(site / "torch", cuda, request)


def test_tools_of_an_environment_that_is_not_activated_come_first(setup, monkeypatch, tmp_path):
    """Debian's cmake 3.25 beside the one that pip put into the environment."""
    for place in ("environment", "path"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "cmake").write_text("#!/bin/sh\n")
        (tmp_path / place / "cmake").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    monkeypatch.setattr(setup.sysconfig, "get_path", lambda name: str(tmp_path / "environment"))
    assert setup.tool("cmake") == str(tmp_path / "environment/cmake")
    (tmp_path / "environment/cmake").unlink()
    assert setup.tool("cmake") == str(tmp_path / "path/cmake")
    with pytest.raises(SystemExit, match="ninja was not found; run: pip install ninja"):
        setup.tool("ninja")


def test_without_a_compiler_the_build_says_so_and_the_next_one_optimises(setup, tmp_path, monkeypatch):
    monkeypatch.delenv("CXX", raising=False)
    ninja = setup.tool("ninja")
    path, cmake = os.environ["PATH"], setup.tool("cmake")
    definitions = ["-DCMAKE_BUILD_TYPE=Release", "-DCLUSTERCL_TESTS=OFF", f"-DCMAKE_MAKE_PROGRAM={ninja}"]
    for compiler in (False, True):
        monkeypatch.setenv("PATH", path if compiler else str(tmp_path))
        done = subprocess.run(setup.configuration(cmake, tmp_path, definitions), capture_output=True, timeout=300)
        assert (done.returncode == 0) == compiler
        assert ("no C++ compiler was found" in setup.why_cmake_failed(tmp_path)) != compiler
    assert "CMAKE_CXX_FLAGS_RELEASE:STRING=-O3" in (tmp_path / "CMakeCache.txt").read_text()
    assert "--fresh" not in setup.configuration(cmake, tmp_path, definitions)


WHEEL, ON_PATH, HOME = "site packages/nvidia/cu13/bin/nvcc", "path/nvcc", "home/bin/nvcc"


def test_the_first_compiler_that_fits_is_chosen(machine, monkeypatch, tmp_path):
    put, choose = machine
    assert choose("13.0") == ("", "", "nvcc was not found")
    monkeypatch.setenv("CUDA_PATH", str(tmp_path / "home"))
    home = put(HOME, "12.4")
    assert choose("13.0") == (home, "12.4", "")
    path = put(ON_PATH, "13.2")
    assert choose("13.0") == (path, "13.2", "")
    wheel = put(WHEEL, "13.0")
    assert choose("13.0") == (wheel, "13.0", "")
    put(WHEEL, "13.0", compiles="never")
    assert choose("13.0") == (path, "13.2", "")
    put(ON_PATH, "11.5")
    assert choose("13.0") == (home, "12.4", "")


def test_why_no_compiler_is_chosen(machine, tmp_path):
    put, choose = machine
    wheel, path = put(WHEEL, "13.0"), put(ON_PATH, "11.8")
    old = f"{path} is 11.8, C++20 needs 12.0 or newer"
    assert choose("12.8") == (
        "", "", f"{old}, {wheel} is 13.0, newer than torch's (CLUSTERCL_CUDA=on takes it all the same)"
    )  # fmt: skip
    assert choose("12.8", "on") == (wheel, "13.0", "")
    put(WHEEL, "13.0", compiles="never")
    broken = f"{wheel} (13.0) does not compile an empty program with this machine's C++ compiler"
    assert choose("12.8", "on") == ("", "", f"{old}, {broken}")
    assert choose("13.0") == ("", "", f"{broken}, {old}")
    # One that fits goes before a newer one, which would be taken.
    put(WHEEL, "13.0")
    put(ON_PATH, "12.8")
    assert choose("12.8", "on") == (path, "12.8", "")
    assert choose("", "on") == (wheel, "13.0", "")  # a torch without CUDA


def test_what_cudacxx_names_is_taken_with_its_arguments_or_refused(machine, monkeypatch):
    put, choose = machine
    put(WHEEL, "13.0")
    named = put("elsewhere/nvcc", "13.1", compiles="*-allow-unsupported-compiler*") + " -allow-unsupported-compiler"
    monkeypatch.setenv("CUDACXX", named)
    assert choose("13.0") == (named, "13.1", "")
    assert choose("12.8", "on") == (named, "13.1", "")
    assert choose("12.8")[2].startswith(f"{named} is 13.1, newer than torch's")
    monkeypatch.setenv("CUDACXX", "/nowhere/nvcc")
    assert choose("13.0") == ("", "", "/nowhere/nvcc does not run")
    monkeypatch.setenv("CUDACXX", "echo")  # a compiler that is no nvcc, as clang++: CMake tries it
    assert choose("13.0") == ("echo", "", "")


def test_a_build_without_a_compiler_says_why(root, tmp_path):
    done = configure(
        root, tmp_path, "auto", "12.8", CLUSTERCL_NO_NVCC="/usr/bin/nvcc is 11.8, C++20 needs 12.0 or newer"
    )
    assert done.returncode == 0, done.stderr
    why = "off: torch has CUDA 12.8, but /usr/bin/nvcc is 11.8, C++20 needs 12.0 or newer"
    assert f"clustercl: CUDA kernels {why}\n" in done.stdout


@pytest.mark.slow
@pytest.mark.skipif(NVCC is None, reason="nvcc is not on the PATH")
def test_nvcc_of_wheels_compiles_and_links(root, setup, tmp_path, monkeypatch):
    tried = subprocess.run([NVCC, "--dryrun", "-v", "x.cu"], capture_output=True, text=True, timeout=60)
    installed = Path(re.search(r"^#\$ TOP=(.*)$", tried.stderr, re.MULTILINE)[1]).resolve()
    if not (installed / "lib64/libcudart_static.a").exists():
        pytest.skip(f"{installed} has no lib64/libcudart_static.a")
    wheels = tmp_path / "nvidia/cu13"
    for folder in ("bin", "lib"):
        (wheels / folder).mkdir(parents=True)
    for file in (installed / "bin").iterdir():
        if file.name.startswith("nvcc"):
            shutil.copy(file, wheels / "bin")  # it looks for the rest beside itself
        else:
            (wheels / "bin" / file.name).symlink_to(file)
    for library in ("libcudart_static.a", "libcudadevrt.a"):
        (wheels / "lib" / library).symlink_to(installed / "lib64" / library)
    for folder in ("include", "nvvm"):
        (wheels / folder).symlink_to(installed / folder)
    nvcc = str(wheels / "bin/nvcc")
    monkeypatch.delenv("LIBRARY_PATH", raising=False)
    plain = tmp_path / "plain.cu"
    plain.write_text("int main() { return 0; }")
    linked = subprocess.run([nvcc, plain, "-o", tmp_path / "plain"], capture_output=True, text=True, timeout=120)
    assert linked.returncode != 0 and "cudart" in linked.stderr  # by itself it does not find what it links
    assert setup.choose_nvcc(tmp_path / "torch", "", "on")[0] == nvcc
    for name, environment, settings in (("named", {"CUDACXX": nvcc}, {}), ("given", {}, {"CMAKE_CUDA_COMPILER": nvcc})):
        build = tmp_path / name
        done = configure(root, build, "on", "", environment, **settings)
        assert done.returncode == 0, done.stderr
        assert f"CUDA kernels on: torch CUDA '', compiler {nvcc}\n" in done.stdout
        cache = (build / "CMakeCache.txt").read_text()
        runtime = re.search(r"^CUDA_cudart_static_LIBRARY:FILEPATH=(.*)$", cache, re.MULTILINE)
        assert runtime[1] == str(wheels / "lib/libcudart_static.a")


@pytest.mark.slow
@pytest.mark.skipif(NVCC is None, reason="nvcc is not on the PATH")
def test_cuda_kernels_compile_and_load_without_a_gpu(root, tmp_path):
    done = configure(root, tmp_path, "on")
    assert done.returncode == 0, done.stderr
    assert "CUDA kernels on" in done.stdout
    built = subprocess.run(["cmake", "--build", tmp_path], capture_output=True, text=True, timeout=900)
    assert built.returncode == 0, built.stdout[-3000:]
    loaded = subprocess.run(
        [sys.executable, "-c", LOAD, tmp_path / "_C.so"], capture_output=True, text=True, cwd=tmp_path, timeout=120
    )
    assert loaded.returncode == 0, loaded.stderr
    assert loaded.stdout.strip() == "32.0"


@pytest.mark.slow
def test_machines_other_than_x86_compile_and_grow_the_same_trees(root, tmp_path):
    """ARM, say: one instruction set, the compiler's own."""
    done = configure(root, tmp_path, "off", CLUSTERCL_PORTABLE="ON")
    assert done.returncode == 0, done.stderr
    built = subprocess.run(["cmake", "--build", tmp_path], capture_output=True, text=True, timeout=600)
    assert built.returncode == 0, built.stdout[-3000:]
    command = [sys.executable, "-c", PLAIN, tmp_path / "_C.so", tmp_path / "trees.npy", *METHODS]
    loaded = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=120)
    assert loaded.returncode == 0, loaded.stderr
    x = np.random.default_rng(0).normal(size=(300, 17))
    assert np.array_equal(np.load(tmp_path / "trees.npy"), [linkage(x, method) for method in METHODS])
    environment = {**os.environ, "CLUSTERCL_CPU": "avx2"}
    refused = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=120, env=environment)
    assert "CLUSTERCL_CPU=avx2: this CPU does not have that instruction set; its best is portable" in refused.stderr
