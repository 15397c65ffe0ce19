"""What CMake decides about CUDA, and that a binary with CUDA kernels loads where torch has no CUDA."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pybind11
import pytest
import torch

NVCC = shutil.which("nvcc")
LOAD = """
import importlib.util, sys, torch
spec = importlib.util.spec_from_file_location("_C", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
assert module.build_info()["cuda"] is True
assert torch.cuda.is_available() or module.card_refuses()  # without a GPU the runtime says why not
assert torch._C._dispatch_has_kernel_for_dispatch_key("clustercl::pairwise_distances", "CUDA")
x = torch.arange(6.0).view(3, 2)
print(float(torch.ops.clustercl.pairwise_distances(x, x, "sqeuclidean")[0, 2]))
"""


def configure(
    root: Path, build: Path, cuda: str, torch_cuda: str = "", torch_root: Path | None = None, **environment
) -> subprocess.CompletedProcess:
    settings = {
        "CLUSTERCL_EXTENSION": "ON",
        "CLUSTERCL_TESTS": "OFF",
        "CLUSTERCL_CUDA": cuda,
        "CLUSTERCL_TORCH_ROOT": torch_root or Path(torch.__file__).parent,
        "CLUSTERCL_TORCH_VERSION": torch.__version__,
        "CLUSTERCL_TORCH_CUDA": torch_cuda,
        "CLUSTERCL_OUTPUT_DIR": build,
        "Python_EXECUTABLE": sys.executable,
        "pybind11_DIR": pybind11.get_cmake_dir(),
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
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env={**os.environ, **environment})


def test_auto_follows_torch_and_says_so(root, tmp_path):
    done = configure(root, tmp_path, "auto")
    assert done.returncode == 0, done.stderr
    assert f"CUDA kernels off: this torch ({torch.__version__}) has no CUDA" in done.stdout


def test_a_wrong_word_is_refused(root, tmp_path):
    done = configure(root, tmp_path, "maybe")
    assert done.returncode != 0
    assert "CLUSTERCL_CUDA must be auto, on or off, got 'maybe'" in done.stderr


@pytest.mark.parametrize(
    ("release", "torch_cuda", "why"),
    [
        ("11.8", "12.8", "is 11.8, C++20 needs 12.0 or newer"),
        ("13.0", "12.8", "is 13.0, newer than torch's"),
        ("12.6", "12.8", "(12.6) does not compile an empty program with this machine's C++ compiler"),
    ],
)
def test_a_compiler_that_does_not_fit_is_left_out_and_why(root, tmp_path, release, torch_cuda, why):
    nvcc = tmp_path / "nvcc"
    nvcc.write_text(
        f'#!/bin/sh\n[ "$1" = --version ] && echo "Cuda compilation tools, release {release}, V{release}.1"\n'
    )
    nvcc.chmod(0o755)
    done = configure(root, tmp_path / "auto", "auto", torch_cuda, CUDACXX=str(nvcc))
    assert done.returncode == 0, done.stderr
    assert f"CUDA kernels off: torch has CUDA {torch_cuda}, but {nvcc} {why}" in done.stdout
    # Asked for, a newer compiler is tried all the same: this one cannot compile.
    done = configure(root, tmp_path / "on", "on", torch_cuda, CUDACXX=str(nvcc))
    assert done.returncode != 0
    why = why if release != "13.0" else "(13.0) does not compile an empty program"
    assert f"CLUSTERCL_CUDA=on, but {nvcc} {why}" in " ".join(done.stderr.split())


def test_what_cudacxx_names_must_be_a_compiler(root, tmp_path):
    done = configure(root, tmp_path, "on", CUDACXX="/nowhere/nvcc")
    assert done.returncode != 0
    assert "CLUSTERCL_CUDA=on, but CUDACXX is /nowhere/nvcc, which is no nvcc that runs" in " ".join(
        done.stderr.split()
    )


@pytest.mark.slow
@pytest.mark.skipif(NVCC is None, reason="nvcc is not on the PATH")
def test_the_compiler_that_lies_beside_torch_as_wheels_is_found(root, tmp_path):
    tried = subprocess.run([NVCC, "--dryrun", "-v", "x.cu"], capture_output=True, text=True, timeout=60)
    installed = Path(re.search(r"^#\$ TOP=(.*)$", tried.stderr, re.MULTILINE)[1]).resolve()
    wheels = tmp_path / "site-packages/nvidia/cu13"
    (wheels / "bin").mkdir(parents=True)
    (wheels / "lib").mkdir()
    (tmp_path / "site-packages/torch").mkdir()
    for file in (installed / "bin").iterdir():
        if file.name.startswith("nvcc"):
            shutil.copy(file, wheels / "bin")  # it looks for the rest beside itself
        else:
            (wheels / "bin" / file.name).symlink_to(file)
    for library in ("libcudart_static.a", "libcudadevrt.a"):
        (wheels / "lib" / library).symlink_to(installed / "lib64" / library)
    for folder in ("include", "nvvm"):
        (wheels / folder).symlink_to(installed / folder)
    build = tmp_path / "build"
    done = configure(root, build, "on", torch_root=tmp_path / "site-packages/torch", CUDACXX="", LIBRARY_PATH="")
    assert done.returncode == 0, done.stderr
    compiler = re.search(r"CUDA kernels on: torch CUDA '', compiler (.*)", done.stdout)[1]
    assert Path(compiler).resolve() == (wheels / "bin/nvcc").resolve()
    runtime = re.search(
        r"^CUDA_cudart_static_LIBRARY:FILEPATH=(.*)$", (build / "CMakeCache.txt").read_text(), re.MULTILINE
    )
    assert Path(runtime[1]).parent.resolve() == (wheels / "lib").resolve()


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
