"""One case of the benchmark of the linkage, in a process of its own so that its peak memory is its own:

python -m clustercl.benchmarks.linkage_case PROGRAM DATA METHOD N D REPEATS TREE.npy   prints a row as JSON

The tree is written where TREE.npy is not there yet, and compared with it where it is.
"""

import json
import statistics
import sys
import time
from pathlib import Path

import numpy as np

from clustercl.benchmarks.linkage_programs import DATA, PROGRAMS
from clustercl.benchmarks.peak import give_back, peak_megabytes
from clustercl.errors import RunError
from clustercl.files import save_npy

ENOUGH_SECONDS = 10.0


def measure(program: str, data: str, method: str, n: int, d: int, repeats: int, tree: Path) -> dict:
    """Run, compare, time. Returns a row as `linkage.run` describes it, less its ratio."""
    what = PROGRAMS[program]
    kind = np.float64 if what.wide else np.float32
    x = DATA[data](n, d).astype(kind)
    what.call(DATA[data](64, d).astype(kind), method)  # imports and thread pools are no part of the peak
    give_back()
    before = peak_megabytes(reset=True)
    began = time.perf_counter()
    z = what.call(x, method)
    seconds = [time.perf_counter() - began]
    peak = peak_megabytes() - before
    if tree.exists():
        compare(z, np.load(tree), f"{program}, {data}, {method}, n = {n}, d = {d}")
    else:
        save_npy(tree, z)
    while len(seconds) < repeats and sum(seconds) < ENOUGH_SECONDS:
        began = time.perf_counter()
        what.call(x, method)
        seconds.append(time.perf_counter() - began)
    row = {"program": program, "data": data, "method": method, "n": n, "d": d}
    row |= {"seconds": statistics.median(seconds), "fastest": min(seconds), "slowest": max(seconds)}
    return row | {"repeats": len(seconds), "peak_megabytes": peak}


def compare(z: np.ndarray, wanted: np.ndarray, what: str) -> None:
    """RunError unless two programs found the same tree, with heights to 1e-6, what float64 data without ties allow."""
    ids = [0, 1, 3]
    if not np.array_equal(z[:, ids], wanted[:, ids]) or not np.allclose(z[:, 2], wanted[:, 2], rtol=1e-6, atol=0):
        raise RunError(
            f"bench linkage: the tree of {what} differs from that of the program before it; report this data"
        )


def main() -> None:
    program, data, method, n, d, repeats, tree = sys.argv[1:]
    try:
        print(json.dumps(measure(program, data, method, int(n), int(d), int(repeats), Path(tree))))
    except RunError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
