"""`make gpu-check`: the proof on a GPU. Tests, compute-sanitizer where it is, the benchmarks; one result file.

python -m clustercl.benchmarks.gpu_check [FOLDER]   writes FOLDER/<gpu>.json, benchmarks/results by default
"""

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from clustercl.benchmarks.record import machine
from clustercl.files import write_json
from clustercl.progress import say

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build/gpu"
TOOLS = ("memcheck", "racecheck", "initcheck")
STEP_SECONDS = 240


def run(out: Path = ROOT / "benchmarks/results") -> bool:
    """Run every step, write the file, and tell whether all passed. A step: name, passed, seconds, output (its end)."""
    import torch

    from clustercl.ops._extension import has_kernel

    if not torch.cuda.is_available():
        raise SystemExit("gpu-check: torch sees no CUDA device")
    name = torch.cuda.get_device_name()
    steps = [_built(has_kernel)]
    steps.append(step("pytest -m cuda", [sys.executable, "-m", "pytest", "-q", "-m", "cuda", ROOT / "tests"]))
    steps += programs()
    loss: list[dict] = []
    trees: list[dict] = []
    if all(one["passed"] for one in steps):
        from clustercl.benchmarks.linkage_gpu import run as time_linkage
        from clustercl.benchmarks.loss_gpu import run as time_loss

        loss, trees = time_loss(), time_linkage()
    about = machine(("torch", "numpy", "triton")) | {"driver": driver(), "cuda": torch.version.cuda}
    passed = all(one["passed"] for one in steps) and bool(loss) and bool(trees)
    path = out / f"{re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-')}.json"
    out.mkdir(parents=True, exist_ok=True)
    write_json(path, {"machine": about, "passed": passed, "steps": steps, "loss": loss, "linkage": trees})
    say(f"gpu-check: {'passed' if passed else 'FAILED'}, {path}")
    return passed


def _built(has_kernel) -> dict:
    missing = [op for op in ("contrastive_loss", "pairwise_distances", "linkage") if not has_kernel(op, "cuda")]
    return {
        "name": "extension",
        "passed": not missing,
        "seconds": 0.0,
        "output": f"without CUDA: {missing}" if missing else "",
    }


def programs() -> list[dict]:
    """The ctest programs for the GPU, alone and under each tool of compute-sanitizer."""
    configure = [
        "cmake",
        "-S",
        ROOT,
        "-B",
        BUILD,
        "-G",
        "Ninja",
        "-DCLUSTERCL_CUDA=on",
        "-DCLUSTERCL_CUDA_ARCHITECTURES=native",
    ]
    names = [path.stem for path in sorted((ROOT / "csrc/tests").glob("test_*_cuda.cpp"))]
    steps = [step("configure", configure)]
    steps.append(step("build", ["cmake", "--build", BUILD, "--target", *(f"gpu_{name}" for name in names)]))
    if not all(one["passed"] for one in steps):
        return steps
    for name in names:
        steps.append(step(name, [BUILD / f"gpu_{name}"]))
    sanitizer = shutil.which("compute-sanitizer")
    if sanitizer is None:
        say("gpu-check: compute-sanitizer is not there, its checks are left out")
        return steps
    for name in names:
        for tool in TOOLS:
            command = [sanitizer, "--tool", tool, "--error-exitcode", "9", BUILD / f"gpu_{name}"]
            steps.append(step(f"{name}, {tool}", command))
    return steps


def step(name: str, command: list) -> dict:
    say(f"{name} ...")
    began = time.monotonic()
    try:
        done = subprocess.run(
            [str(word) for word in command], capture_output=True, text=True, timeout=STEP_SECONDS, cwd=ROOT,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )  # fmt: skip
        passed, output = done.returncode == 0, done.stdout + done.stderr
    except (subprocess.TimeoutExpired, OSError) as error:
        passed, output = False, str(error)
    if not passed:
        say(output[-3000:])
    return {"name": name, "passed": passed, "seconds": time.monotonic() - began, "output": output[-1000:]}


def driver() -> str | None:
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(query, capture_output=True, text=True, check=True).stdout.split()[0]
    except (OSError, subprocess.CalledProcessError, IndexError):
        return None


if __name__ == "__main__":
    sys.exit(not run(*map(Path, sys.argv[1:])))
