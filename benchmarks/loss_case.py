"""One case of the benchmark of the loss, in a process of its own so that its peak memory is its own:

python -m clustercl.benchmarks.loss_case PROGRAM N D REPEATS TRUTH.pt   prints a row as JSON, or says what is wrong
"""

import ctypes
import gc
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
TOLERANCE = 1e-5
WRONG = 3  # exit code of a wrong answer


def measure(program: str, n: int, d: int, repeats: int, truth: tuple[Tensor, Tensor]) -> dict:
    """Compare, warm up, time. Returns a row as `loss.run` describes it, less what the whole run decides."""
    call = PROGRAMS[program].call
    x, pseudo_class = problem(n, d)
    # Libraries, thread pools and the compiler are no part of the peak.
    answer(call, *((x, pseudo_class) if program == "torch.compile" else problem(64, d)))
    _give_back()
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
        backward.append(time.perf_counter() - middle)
        forward.append(middle - start)
    # Measured on both sides of the timing: a low one tells that other programs ran meanwhile.
    ceiling = min(ceiling, fma_ceiling())
    both = [one + other for one, other in zip(forward, backward)]
    row = {"program": program, "question": PROGRAMS[program].question, "n": n, "d": d, "repeats": len(both)}
    # By s_ij = s_ji the products take n^2 d operations forward, and with the two of the gradient 3 n^2 d backward.
    for name, seconds, share in (("forward", forward, 1), ("backward", backward, 3), ("both", both, 4)):
        median = statistics.median(seconds)
        row |= {name: median, f"{name}_fastest": min(seconds), f"{name}_slowest": max(seconds)}
        row[f"{name}_gflops"] = 1e-9 * share * n * n * d / median
    return row | {"ceiling": 1e-9 * ceiling, "peak_megabytes": peak, "error": error}


def compare(found: tuple[Tensor, Tensor], truth: tuple[Tensor, Tensor], what: str) -> float:
    """The largest error of the gradient relative to its largest element. RunError beyond TOLERANCE.

    Float32 rounds s = 10 by up to 5e-7, its exponential by as much relatively, and a gradient is a sum of such terms in
    which roundings of either sign meet: 1e-6 was the most that any program showed, of which the tolerance is ten times.
    """
    error = float((found[1].double() - truth[1]).abs().max() / truth[1].abs().max())
    of_loss = abs(float(found[0]) / float(truth[0]) - 1)
    if not (error <= TOLERANCE and of_loss <= TOLERANCE):  # NaN too
        raise RunError(
            f"bench loss: the answer of {what} is wrong: loss off by {of_loss:.0e}, gradient by {error:.0e} "
            f"of float64's, wanted {TOLERANCE:.0e} at most; it was not timed"
        )
    return error


def _give_back() -> None:
    """Return freed memory to the system, lest the allocator's store hides what the measured call takes."""
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError):  # glibc alone has it
        pass


def _peak_megabytes(reset: bool = False) -> float:
    """The largest resident size of this process so far; `reset`: from now on, where the system can do that (Linux)."""
    try:
        if reset:
            Path("/proc/self/clear_refs").write_text("5")
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024
    except OSError:
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "linux" else 1024**2)


def main() -> None:
    program, n, d, repeats, path = sys.argv[1:]
    try:
        print(json.dumps(measure(program, int(n), int(d), int(repeats), tuple(torch.load(path)))))
    except RunError as error:
        print(error, file=sys.stderr)
        sys.exit(WRONG)
    except Exception as error:  # no compiler, no memory: a peer's are a line of the report
        print(f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
