"""One case of the benchmark of the linkage, in a process of its own so that its peak memory is its own:

python -m clustercl.benchmarks.linkage_case PROGRAM DATA METHOD N D REPEATS TREE.npy   prints a row as JSON

The tree is written where TREE.npy is not there yet, and compared with it where it is. Exit code 3: they differ.
"""

import json
import statistics
import sys
import time
from pathlib import Path

import numpy as np

from clustercl.benchmarks.linkage_programs import DATA, DENSE, PROGRAMS
from clustercl.benchmarks.peak import give_back, peak_megabytes
from clustercl.errors import RunError
from clustercl.files import save_npy
from clustercl.ops._extension import fma_ceiling
from clustercl.ops.memory import available_bytes

ENOUGH_SECONDS = 10.0
WRONG = 3  # exit code of a tree that differs


def measure(program: str, data: str, method: str, n: int, d: int, repeats: int, tree: Path) -> dict:
    """Run, compare, time. Returns a row as `linkage.run` describes it, less what the whole run decides."""
    what = PROGRAMS[program]
    kind = np.float64 if what.wide else np.float32
    x = DATA[data](n, d).astype(kind)
    what.call(DATA[data](64, d).astype(kind), method)  # imports and thread pools are no part of the peak
    ceiling = fma_ceiling()
    if method in DENSE:
        warm_memory(8 * n * n)
    give_back()
    before = peak_megabytes(reset=True)
    effort = []
    began = time.perf_counter()
    z = what.call(x, method, lambda *done: effort.append(done))
    seconds = [time.perf_counter() - began]
    peak = peak_megabytes() - before
    if tree.exists():
        compare(z, np.load(tree), f"{program}, {data}, {method}, n = {n}, d = {d}", what.heights_only)
    else:
        save_npy(tree, z)
    del z
    while len(seconds) < repeats and sum(seconds) < ENOUGH_SECONDS:
        began = time.perf_counter()
        what.call(x, method)
        seconds.append(time.perf_counter() - began)
    # Measured on both sides of the timing: a low one tells that other programs ran meanwhile.
    ceiling = min(ceiling, fma_ceiling())
    row = {"program": program, "data": data, "method": method, "n": n, "d": d}
    row |= {"seconds": statistics.median(seconds), "fastest": min(seconds), "slowest": max(seconds)}
    row |= {"repeats": len(seconds), "peak_megabytes": peak, "ceiling": 1e-9 * ceiling}
    _, rounds, distances = effort[-1] if effort else (None, None, None)
    row |= {"rounds": rounds, "scans": distances and distances / n**2}
    return row | {"gflops": distances and 1e-9 * 2 * d * distances / row["seconds"]}


def warm_memory(size: int) -> None:
    """Touch and free as many bytes as a program may take, but half of what is there at most.

    A virtual machine gets its memory from the host at the first touch, which costs seconds for gigabytes: whoever came
    first would pay for all.
    """
    half = (available_bytes() or 0) // 2
    np.ones(min(size, half), dtype=np.uint8)


def compare(z: np.ndarray, wanted: np.ndarray, what: str, heights_only: bool = False) -> None:
    """RunError unless two programs found the same tree, with heights to 1e-6, what float64 data without ties allow.

    heights_only: of float32 entries no more is promised, for they make ties.
    """
    same = np.allclose(z[:, 2], wanted[:, 2], rtol=1e-6, atol=0)
    if not heights_only:
        same &= np.array_equal(z[:, :2], wanted[:, :2]) and np.array_equal(z[:, 3:], wanted[:, 3 : z.shape[1]])
    if not same:
        raise RunError(
            f"bench linkage: the tree of {what} differs from that of the program before it; report this data"
        )


def main() -> None:
    program, data, method, n, d, repeats, tree = sys.argv[1:]
    try:
        print(json.dumps(measure(program, data, method, int(n), int(d), int(repeats), Path(tree))))
    except RunError as error:
        print(error, file=sys.stderr)
        sys.exit(WRONG)
    except Exception as error:  # no memory: a peer's are a line of the report
        print(f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
