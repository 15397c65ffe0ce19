"""Every CUDA source compiles for old and new cards, and what the assembler reports of the kernels stays within limits.

What the kernels compute is checked by ctest on the host executor (csrc/tests/simt), and on a GPU by `pytest -m cuda`.
"""

import re
import shutil
import subprocess

import pytest

NVCC = shutil.which("nvcc")
# Kernels with products or distances in their innermost loop, where a spilled register is a trip to memory.
HOT = re.compile(
    r"contrastive_(forward|backward)_kernel.*(Bf16|Tf32Of)"
    r"|hopper_(forward|backward)_kernel|screen_kernel|screen_hopper_kernel|12exact_kernel|look_kernel|fill_kernel|rounds_together_kernel|pairwise_distances_kernel"
)


# A sum by atomic operations has another order, and other bits, in every run.
FLOATING_ATOMIC = re.compile(r"\b(?:atom|red)\.[\w.:]*\b(?:f16|f16x2|bf16|bf16x2|f32|f64)\b")
UNBOUNDED_THREADS = 512  # at most, in a block of a kernel without __launch_bounds__


def report(source, architecture, folder) -> dict[str, dict]:
    """Kernel name -> registers, spilled bytes (stores and loads), static shared bytes, threads of a block at most."""
    done = subprocess.run(
        [NVCC, "-std=c++20", "-DCLUSTERCL_HOPPER=1", "-Xptxas", "-v", "--keep", "--keep-dir", folder,
         "-gencode", f"arch=compute_{architecture},code=sm_{architecture}", "-c",
         source, "-o", folder / "kernel.o"], capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert "warning" not in done.stderr, done.stderr
    # The assembler says so, without a warning, where it lets products by wgmma wait for each other.
    assert "Performance Loss" not in done.stderr, done.stderr
    ptx = (folder / source.name).with_suffix(".ptx").read_text()
    assert not FLOATING_ATOMIC.search(ptx), source
    bounds = {}
    for name, head in re.findall(r"\.entry (\w+)\((.*?)\{", ptx, re.DOTALL):
        bound = re.search(r"\.maxntid (\d+)", head)
        bounds[name] = int(bound[1]) if bound else UNBOUNDED_THREADS
    kernels = {}
    for part in done.stderr.split("Compiling entry function")[1:]:
        stores, loads = re.search(r"(\d+) bytes spill stores, (\d+) bytes spill loads", part).groups()
        shared = re.search(r"(\d+) bytes smem", part)
        name = re.search(r"'(\w+)'", part)[1]
        kernels[name] = {
            "registers": int(re.search(r"Used (\d+) registers", part)[1]),
            "spilled": int(stores) + int(loads),
            "shared": int(shared[1]) if shared else 0,
            "threads": bounds[name],
        }
    return kernels


@pytest.mark.slow
@pytest.mark.skipif(NVCC is None, reason="nvcc is not on the PATH")
@pytest.mark.parametrize("architecture", ["80", "90a"])
def test_compiles_without_spills(root, tmp_path, architecture):
    found = {}
    for source in sorted((root / "csrc/kernels").glob("*_cuda.cu")):
        found |= report(source, architecture, tmp_path)
    hot = {name: kernel for name, kernel in found.items() if HOT.search(name)}
    # Loss: two passes in bfloat16, TF32 and three of TF32, with and without levels, and by wgmma in two types for three
    # numbers of features and in a third for two (empty but for 9.0a). Linkage: two screens, by wgmma for two numbers of
    # features, by rows, two of a matrix in two types, rounds together of those and of rows. Distances.
    assert len(hot) == 2 * 6 + 2 * (2 * 3 + 2) + (2 + 2 + 1 + 2 * 2 + 3) + 1
    assert {name: kernel for name, kernel in hot.items() if kernel["spilled"]} == {}
    for name, kernel in found.items():
        if "cub" in name:
            continue
        # A multiprocessor has 65,536 registers, given in eights: one block must fit. Shared memory is asked for at the
        # launch, where the host executor refuses more than the smallest card has; hopper_ring.cuh asserts its own.
        assert -(-kernel["registers"] // 8) * 8 * kernel["threads"] <= 65_536, (name, kernel)
        assert kernel["shared"] == 0, (name, kernel)


@pytest.mark.slow
@pytest.mark.skipif(NVCC is None, reason="nvcc is not on the PATH")
def test_compiles_for_the_cards_between_and_after(root, tmp_path):
    # What CMakeLists.txt names beside 8.0 and 9.0a: machine code for 8.6 and 8.9, and PTX, which newer cards compile.
    targets = [("86", "sm_86"), ("89", "sm_89"), ("90", "compute_90")]
    text = (root / "CMakeLists.txt").read_text()
    assert "set(architectures 80-real 86-real 89-real 90a-real 90-virtual)" in text
    codes = [f"-gencode=arch=compute_{virtual},code={code}" for virtual, code in targets]
    for source in sorted((root / "csrc/kernels").glob("*_cuda.cu")):
        command = [NVCC, "-std=c++20", "-DCLUSTERCL_HOPPER=1", "--threads", "2", *codes, "-c", source]
        done = subprocess.run([*command, "-o", tmp_path / "kernel.o"], capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr[-3000:]
        assert "warning" not in done.stderr, done.stderr
