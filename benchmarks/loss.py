"""How long do the loss and its gradient take, and how much memory, against plain torch and the strongest library?"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch

from clustercl.benchmarks.loss_case import WRONG
from clustercl.benchmarks.loss_programs import PROGRAMS, chosen, truth
from clustercl.benchmarks.loss_show import plot
from clustercl.benchmarks.record import CALM, last_word, machine, measured_calmly, memory
from clustercl.errors import RunError, UsageError
from clustercl.files import require_writable, write_json
from clustercl.ops import _extension
from clustercl.progress import say

SIZES = (1024, 4096, 16_384, 32_768)
FEATURES = (128, 512)
REPEATS = 21
RESULT = "    {both:.4f} s ({both_fastest:.4f} to {both_slowest:.4f}), {peak_megabytes:.0f} MB"


def run(
    sizes: Sequence[int] = SIZES,
    out: Path | str | None = None,
    features: Sequence[int] = FEATURES,
    repeats: int = REPEATS,
) -> dict:
    """Time every program in float32, each case in a process of its own; `out` gets loss.json and loss.png.

    Returns what loss.json holds: machine; ceiling, the highest of this run; rows; left_out, a line for each program
    that was not timed. A row:

    program, question (the `same_class` it answers), n, d, repeats; forward, backward, both: median seconds, with
    forward_fastest, forward_slowest and so on; forward_gflops, backward_gflops, both_gflops: 10^9 floating-point
    operations a second, of n^2 d, 3 n^2 d and 4 n^2 d, which is what the symmetry of s leaves; ceiling: GFLOP/s that
    multiply-adds in registers alone reach just before and after the timing; of_ceiling: both_gflops of the highest
    ceiling in this run; calm: False where other programs had a part of the machine, in this row or in that of our
    kernel; peak_megabytes: resident memory beyond the input, the gradient included; error: of the gradient, relative to
    its largest element; ratio: of both, to our kernel's on the same question.

    n is rounded down to an even number, at least 4. A program that would take too much memory or time, or fails, is
    left out, and a line says why. RunError when an answer differs from float64's, when our kernel fails or is missing.
    """
    if not _extension.available():
        raise RunError(f"bench loss: {_extension.MISSING}: build it with make build")
    sizes = list(dict.fromkeys(max(4, size // 2 * 2) for size in sizes))
    for n, d in ((n, d) for n in sizes for d in features):
        if 64 * n * d > (memory() or 1 << 40) / 3:  # the check in float64 takes eight arrays like the input
            raise UsageError(f"bench loss: {n} rows of {d} features are too many for the memory of this machine")
    if out is not None:
        require_writable(out)
    best = 1e-9 * max(_extension.fma_ceiling() for _ in range(5))
    rows, left_out = _rows(sizes, list(dict.fromkeys(features)), repeats, best)
    best = max([best, *(row["ceiling"] for row in rows)])
    for row in rows:
        ours = next(r for r in rows if all(r[key] == row[key] for key in ("n", "d", "question")))
        row["of_ceiling"] = row["both_gflops"] / best
        row["calm"] = min(row["ceiling"], ours["ceiling"]) >= CALM * best
        row["ratio"] = row["both"] / ours["both"]
    about = machine(("torch", "numpy", "pytorch-metric-learning"))
    found = {"machine": about, "ceiling": best, "rows": rows, "left_out": left_out}
    if out is not None:
        write_json(Path(out) / "loss.json", found)
        plot(rows, list(PROGRAMS), Path(out) / "loss.png")
    return found


def _rows(sizes: Sequence[int], features: Sequence[int], repeats: int, best: float) -> tuple[list[dict], list[str]]:
    """The rows as they were measured, and a line for each program that was left out. best: the ceiling so far."""
    rows, lines = [], []
    cases = sum(len(chosen(n)[0]) for n in sizes) * len(features)
    number = 0
    for n in sizes:
        programs, reasons = chosen(n)
        lines += [f"n {n}: {program} left out, {why}" for program, why in reasons.items()]
        for line in lines[-len(reasons) :] if reasons else ():
            say(line)
        for d in features:
            with tempfile.TemporaryDirectory() as folder:
                answers = {}
                for program in programs:
                    number += 1
                    say(f"[{number}/{cases}] {program}, n {n}, d {d} ...")
                    question = PROGRAMS[program].question
                    if question not in answers:
                        answers[question] = Path(folder) / f"{question}.pt"
                        torch.save(truth(n, d, question), answers[question])
                    try:
                        case = partial(_case, program, n, d, repeats, answers[question])
                        row = measured_calmly(case, best)
                    except PeerFailed as failure:
                        lines.append(f"n {n}, d {d}: {program} left out, it failed: {failure}")
                        say(lines[-1])
                        continue
                    say(RESULT.format(**row))
                    rows.append(row)
                    best = max(best, row["ceiling"])
    return rows, lines


class PeerFailed(Exception):
    """A program that is not ours gave no answer; the text says why."""


def _case(program: str, n: int, d: int, repeats: int, answers: Path) -> dict:
    """One row from a process of its own, which subprocess.run ends where Ctrl-C ends this one."""
    # -P: what lies in the working folder is not imported.
    module = [sys.executable, "-P", "-m", "clustercl.benchmarks.loss_case"]
    words = [*module, program, str(n), str(d), str(repeats), str(answers)]
    done = subprocess.run(words, capture_output=True, text=True)
    if not done.returncode:
        return json.loads(done.stdout.strip().splitlines()[-1])
    said = last_word(done)
    if done.returncode == WRONG:
        raise RunError(said)
    if program.startswith("kernel"):
        raise RunError(f"bench loss: {program}, n = {n}, d = {d}: {said}")
    raise PeerFailed(said)
