"""`make gpu-check`: the proof on a GPU. Tests, compute-sanitizer where it is, the benchmarks; one result file.

python -m clustercl.benchmarks.gpu_check [FOLDER]   writes FOLDER/<gpu>.json, benchmarks/results by default
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from clustercl.benchmarks.record import machine
from clustercl.benchmarks.steps import ROOT, STEP_SECONDS, end_all, step
from clustercl.errors import RunError
from clustercl.files import write_json
from clustercl.progress import say

BUILD = ROOT / "build/gpu"
TRAINING_TESTS = ROOT / "tests/training/test_cuda.py"
# Programs of csrc/tests with the words that keep their checks to one kind of products or to few, and what
# compute-sanitizer looks for in them. Whether its race and initialisation checks follow bulk copies and wgmma nobody
# has tried: those kernels are checked for accesses beyond an array alone.
CHECKED = (
    ("test_contrastive_cuda", "mma", ("memcheck", "racecheck", "initcheck")),
    ("test_contrastive_cuda", "wgmma", ("memcheck",)),
    ("test_pairwise_cuda", None, ("memcheck", "racecheck", "initcheck")),
    ("test_linkage_cuda", "few", ("memcheck", "racecheck", "initcheck")),
    ("test_linkage_cuda", "wgmma", ("memcheck",)),
)
BUILD_SECONDS = 480
PROGRAM_SECONDS = 60  # they take three; one that waits for ever is not to cost all the rest
SANITIZED_SECONDS = 240  # 140 were seen, without training's tests beside them
TOTAL_SECONDS = 450  # after which what still runs in the last part is ended
LIMIT_SECONDS = 475  # after which everything is: with a minute for the build, nine minutes
LEAST_SECONDS = 20  # that a step has nevertheless


def run(out: Path = ROOT / "benchmarks/results") -> bool:
    """Run every step, and tell whether all passed. A failure costs nothing but what is made of it: beside a failed test
    numbers are measured, whose answers are checked as they come. The file is written anew after each part. A step:
    name, passed, seconds, output (its last line, or its end if it failed)."""
    import torch

    from clustercl.ops._extension import cuda_loss_kernel

    if not torch.cuda.is_available():
        raise SystemExit("gpu-check: torch sees no CUDA device")
    end = time.monotonic() + TOTAL_SECONDS
    name = torch.cuda.get_device_name()
    path = out / f"{re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-')}.json"
    about = machine(("torch", "numpy", "triton")) | {"driver": driver(), "cuda": torch.version.cuda}
    about["loss_kernel"] = cuda_loss_kernel()
    found = {"machine": about, "passed": False, "steps": [built()], "loss": [], "linkage": [], "train": []}
    out.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor() as pool:
        programs = pool.submit(built_programs)
        found["steps"] += [step("pytest -m cuda", pytest_of(tests())), *programs.result()]
    write_json(path, found)
    if found["steps"][0]["passed"]:
        measure(found, lambda: write_json(path, found))  # on an otherwise idle GPU
    with ThreadPoolExecutor() as pool:
        training = pool.submit(trained, end)
        if _passed(programs.result(), "build"):
            found["steps"] += sanitized(end)
        found["steps"] += training.result()
    found["passed"] = _fine(found) and bool(found["loss"]) and bool(found["linkage"])
    write_json(path, found)
    say(f"gpu-check: {'passed' if found['passed'] else 'FAILED'}, {path}")
    return found["passed"]


def _fine(found: dict) -> bool:
    return all(one["passed"] for one in found["steps"])


def _passed(steps: list[dict], name: str) -> bool:
    return any(one["name"] == name and one["passed"] for one in steps)


def _until(end: float, most: float) -> float:
    """Seconds of a step that wants so many at most, before the end of all."""
    return max(LEAST_SECONDS, min(most, end - time.monotonic()))


def with_wgmma() -> bool:
    """Whether the card has the matrix instructions of compute capability 9.0a."""
    import torch

    return torch.cuda.get_device_capability() == (9, 0)


def built() -> dict:
    """The extension must hold the kernels that the card can run."""
    from clustercl.ops._extension import build_info, why_no_kernels

    missing = [reason] if (reason := why_no_kernels("cuda")) else []
    if with_wgmma() and not build_info().get("wgmma"):
        missing.append("built without wgmma (compute capability 9.0a)")
    return {"name": "extension", "passed": not missing, "seconds": 0.0, "output": ", ".join(missing)}


def tests() -> list[Path]:
    """Files with a test of the kernels on CUDA: others want packages that a machine with a GPU may not have."""
    files = [path for path in sorted((ROOT / "tests").rglob("test_*.py")) if "@pytest.mark.cuda" in path.read_text()]
    return [path for path in files if path != TRAINING_TESTS]


def pytest_of(files: list[Path]) -> list:
    return [sys.executable, "-m", "pytest", "-q", "-m", "cuda", *files]


def trained(end: float) -> list[dict]:
    """The tests of training on CUDA, where the packages are that it needs."""
    from clustercl.benchmarks.train_gpu import missing

    if lacking := missing():
        say(f"gpu-check: training is left out: {', '.join(lacking)} not installed")
        return []
    return [step("pytest -m cuda, training", pytest_of([TRAINING_TESTS]), _until(end, STEP_SECONDS))]


def built_programs() -> list[dict]:
    """Builds the ctest programs for the GPU, by the compiler of the extension, and runs them."""
    from clustercl.ops._extension import build_info

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
    if not os.environ.get("CUDACXX"):
        configure.append(f"-DCMAKE_CUDA_COMPILER={build_info()['nvcc']}")
    names = sorted({name for name, _, _ in CHECKED})
    steps = [step("configure", configure)]
    targets = [f"gpu_{name}" for name in names]
    steps.append(step("build", ["cmake", "--build", BUILD, "--target", *targets], BUILD_SECONDS))
    if all(one["passed"] for one in steps):
        steps += [step(name, [BUILD / f"gpu_{name}"], PROGRAM_SECONDS) for name in names]
    return steps


def measure(found: dict, keep: Callable[[], None]) -> None:
    """Rows of found["loss"], found["linkage"], found["train"]; for each a step, that fails where an answer is wrong."""
    from clustercl.benchmarks import linkage_gpu, loss_gpu, train_gpu

    for part, what in (("loss", loss_gpu), ("linkage", linkage_gpu), ("train", train_gpu)):
        began = time.monotonic()
        wrong = []
        for case in what.CASES:
            try:
                found[part] += what.run([case])
            except Exception as error:  # whatever goes wrong with one case, the others are worth having
                wrong.append(str(error) if isinstance(error, RunError) else f"{case}: {type(error).__name__}: {error}")
                say(wrong[-1])
            keep()
        seconds = time.monotonic() - began
        found["steps"].append(
            {"name": f"answers, {part}", "passed": not wrong, "seconds": seconds, "output": "\n".join(wrong)}
        )


def sanitized(end: float) -> list[dict]:
    """The programs under the tools of compute-sanitizer, all at once: each waits for the host most of the time."""
    sanitizer = shutil.which("compute-sanitizer")
    if sanitizer is None:
        say("gpu-check: compute-sanitizer is not there, its checks are left out")
        return []

    def checked(name: str, kind: str | None, tool: str) -> dict:
        command = [sanitizer, "--tool", tool, "--error-exitcode", "9", BUILD / f"gpu_{name}"]
        words = filter(None, (name, kind, tool))
        return step(", ".join(words), [*command, *filter(None, [kind])], _until(end, SANITIZED_SECONDS))

    checked_here = [one for one in CHECKED if one[1] != "wgmma" or with_wgmma()]
    every = [(name, kind, tool) for name, kind, tools in checked_here for tool in tools]
    with ThreadPoolExecutor(len(every)) as pool:
        return list(pool.map(lambda one: checked(*one), every))


def _give_up() -> None:
    say(f"gpu-check: FAILED, still at work after {LIMIT_SECONDS} s; the file holds what came before")
    end_all(signal.SIGALRM)


def driver() -> str | None:
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(query, capture_output=True, text=True, check=True).stdout.split()[0]
    except (OSError, subprocess.CalledProcessError, IndexError):
        return None


def main(*folder: str) -> bool:
    for ending in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ending, end_all)
    # A thread: while a kernel hangs that this process waits for, no signal of its own is looked at.
    limit = threading.Timer(LIMIT_SECONDS, _give_up)
    limit.daemon = True
    limit.start()
    return run(*map(Path, folder))


if __name__ == "__main__":
    sys.exit(not main(*sys.argv[1:]))
