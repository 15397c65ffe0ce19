"""How long does an exact linkage take, and how much memory, against SciPy, scikit-learn and fastcluster?"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from clustercl.benchmarks.linkage_case import WRONG
from clustercl.benchmarks.linkage_programs import DATA, PROGRAMS, why_not
from clustercl.benchmarks.linkage_show import plot
from clustercl.benchmarks.record import CALM, last_word, machine, measured_calmly
from clustercl.errors import RunError
from clustercl.files import require_writable, write_json
from clustercl.ops import _extension
from clustercl.ops.linkage import METHODS
from clustercl.progress import say

SIZES = (500, 2000, 5000, 20_000, 100_000)
FEATURES = (128,)
REPEATS = 5


def run(
    sizes: Sequence[int] = SIZES,
    out: Path | str | None = None,
    features: Sequence[int] = FEATURES,
    methods: Sequence[str] = METHODS,
    repeats: int = REPEATS,
) -> dict:
    """Time every method, kind of data, size and program, each in a process of its own; `out` gets linkage.json, after
    every case, and linkage.png.

    Returns what linkage.json holds: machine; ceiling, the highest of this run; rows; left_out, a line for each program
    that was not timed. A row:

    data, method, n, d, program; seconds (median), fastest, slowest, repeats; peak_megabytes: resident memory beyond the
    input; ratio: of the seconds, to ours; ceiling: GFLOP/s that multiply-adds in registers alone reach just before and
    after; calm: False where that was low, so that other programs had a part of the machine, here or in our row. Of
    ours alone: rounds of merging, scans (distances from rows or centroids over n^2), gflops (2 d operations for each of
    these distances, over the seconds of the whole) and of_ceiling.

    A program that would take too much memory or time, or fails, is left out. RunError when the trees of two programs
    differ, when ours fails or is missing.
    """
    if not _extension.available():
        raise RunError(f"bench linkage: {_extension.MISSING}: build it with make build")
    if out is not None:
        require_writable(out)
    rows: list[dict] = []
    left_out: list[str] = []
    cases = [(data, method, d) for d in dict.fromkeys(features) for data in DATA for method in methods]
    for n in dict.fromkeys(sizes):
        for data, method, d in cases:
            _compare(data, method, n, d, repeats, rows, left_out)
            found = _found(rows, left_out)
            if out is not None:  # after every case: what was measured outlives Ctrl-C
                write_json(Path(out) / "linkage.json", found)
    if out is not None:
        plot(rows, list(PROGRAMS), Path(out) / "linkage.png")
    return found


def _found(rows: list[dict], left_out: list[str]) -> dict:
    """What linkage.json holds, from the rows so far, in which ratios and ceilings of the whole run are filled in."""
    best = max((row["ceiling"] for row in rows), default=0.0)
    for row in rows:
        ours = next(r for r in rows if all(r[key] == row[key] for key in ("data", "method", "n", "d")))
        row["ratio"] = row["seconds"] / ours["seconds"]
        row["calm"] = min(row["ceiling"], ours["ceiling"]) >= CALM * best
        row["of_ceiling"] = None if row["gflops"] is None else row["gflops"] / best
    about = machine(("torch", "numpy", "scipy", "scikit-learn", "fastcluster"))
    return {"machine": about, "ceiling": best, "rows": rows, "left_out": left_out}


def _compare(data: str, method: str, n: int, d: int, repeats: int, rows: list[dict], left_out: list[str]) -> None:
    """Append the rows of all programs on one case, or the lines that say why not."""
    with tempfile.TemporaryDirectory() as folder:
        for program, what in PROGRAMS.items():
            if method not in what.methods:
                continue
            name = f"{program}, {data}, {method}, n {n}, d {d}"
            earlier = [r for r in rows if (r["program"], r["data"], r["method"], r["d"]) == (program, data, method, d)]
            reason = why_not(what, method, n, earlier)
            if reason is None:
                say(f"{name} ...")
                try:
                    words = [program, data, method, n, d, repeats, Path(folder) / "tree.npy"]
                    best = max((one["ceiling"] for one in rows), default=0.0)
                    row = measured_calmly(partial(_case, words, name), best)
                except PeerFailed as failure:
                    reason = f"it failed: {failure}"
            if reason is not None:
                left_out.append(f"{name}: left out, {reason}")
                say(left_out[-1])
                continue
            say(f"    {row['seconds']:.4f} s, {row['peak_megabytes']:.0f} MB")
            rows.append(row)


class PeerFailed(Exception):
    """A program that is not ours gave no answer; the text says why."""


def _case(arguments: list, name: str) -> dict:
    # -P: what lies in the working folder is not imported.
    words = [sys.executable, "-P", "-m", "clustercl.benchmarks.linkage_case", *map(str, arguments)]
    done = subprocess.run(words, capture_output=True, text=True)
    if not done.returncode:
        return json.loads(done.stdout.strip().splitlines()[-1])
    said = last_word(done)
    if done.returncode == WRONG:
        raise RunError(said)
    if name.startswith("clustercl"):
        raise RunError(f"bench linkage: {name}: {said}")
    raise PeerFailed(said)
