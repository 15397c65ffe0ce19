"""One case of the benchmark of the loss, in a process of its own so that its peak memory is its own:

python -m clustercl.benchmarks.loss_case PROGRAM N D REPEATS TRUTH.pt   prints a row as JSON, or says what is wrong
"""

import json
import statistics
import sys
import time
from pathlib import Path

import torch
from torch import Tensor

from clustercl.benchmarks.loss_programs import PROGRAMS, answer, problem
from clustercl.errors import RunError
from clustercl.ops._extension import fma_ceiling

ENOUGH_SECONDS = 15.0  # after two timed repetitions


def measure(program: str, n: int, d: int, repeats: int, truth: tuple[Tensor, Tensor]) -> dict:
    """Compare, warm up, time. Returns a row as `loss.run` describes it, less its ratio."""
    call = PROGRAMS[program].call
    x, pseudo_class = problem(n, d)
    # Libraries, thread pools and the compiler are no part of the peak.
    answer(call, *((x, pseudo_class) if program == "torch.compile" else problem(64, d)))
    before = _peak_megabytes(reset=True)
    found = answer(call, x, pseudo_class)
    peak = _peak_megabytes() - before
    error = compare(found, truth, f"{program}, n = {n}, d = {d}")
    ceiling = fma_ceiling()
    forward, backward = [], []
    x.requires_grad_()
    began = time.perf_counter()
    while len(forward) < repeats and (len(forward) < 2 or time.perf_counter() - began < ENOUGH_SECONDS):
        x.grad = None
        start = time.perf_counter()
        loss = call(x, pseudo_class)
        middle = time.perf_counter()
        loss.backward()
        forward.append(middle - start)
        backward.append(time.perf_counter() - middle)
    both = [one + other for one, other in zip(forward, backward)]
    seconds = statistics.median(both)
    gflops = 4e-9 * n * n * d / seconds
    return {
        "program": program,
        "question": PROGRAMS[program].question,
        "n": n,
        "d": d,
        "forward": statistics.median(forward),
        "backward": statistics.median(backward),
        "both": seconds,
        "fastest": min(both),
        "slowest": max(both),
        "repeats": len(both),
        "gflops": gflops,
        "ceiling": 1e-9 * ceiling,
        "of_ceiling": 1e9 * gflops / ceiling,
        "peak_megabytes": peak,
        "error": error,
    }


def compare(found: tuple[Tensor, Tensor], truth: tuple[Tensor, Tensor], what: str) -> float:
    """The largest error of the gradient relative to its largest element. RunError beyond float32's rounding of s = 10
    (1e-6) carried through a gradient's n terms, which it enters as a factor of each."""
    error = float((found[1].double() - truth[1]).abs().max() / truth[1].abs().max())
    if abs(float(found[0]) - float(truth[0])) > 1e-5 * abs(float(truth[0])) or not error < 1e-4:
        raise RunError(f"bench loss: the answer of {what} is off by {error:.1e}, so nothing was timed")
    return error


def _peak_megabytes(reset: bool = False) -> float:
    """The largest resident size of this process so far; `reset`: from now on, where the system can do that (Linux)."""
    try:
        if reset:
            Path("/proc/self/clear_refs").write_text("5")
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024
    except OSError:
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    program, n, d, repeats, path = sys.argv[1:]
    try:
        print(json.dumps(measure(program, int(n), int(d), int(repeats), tuple(torch.load(path)))))
    except RunError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
