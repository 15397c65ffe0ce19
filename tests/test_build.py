"""What CMake decides about CUDA, and that a binary with CUDA kernels loads where torch has no CUDA."""

import os
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
assert torch._C._dispatch_has_kernel_for_dispatch_key("clustercl::pairwise_distances", "CUDA")
x = torch.arange(6.0).view(3, 2)
print(float(torch.ops.clustercl.pairwise_distances(x, x, "sqeuclidean")[0, 2]))
"""


def configure(root: Path, build: Path, cuda: str, torch_cuda: str = "", **environment) -> subprocess.CompletedProcess:
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
