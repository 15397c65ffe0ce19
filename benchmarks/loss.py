"""How long do the loss and its gradient take, and how much memory, against plain torch and the strongest library?"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from clustercl.benchmarks.loss_programs import PROGRAMS, truth
from clustercl.benchmarks.record import machine
from clustercl.errors import RunError
from clustercl.files import atomic, write_json
from clustercl.progress import say

SIZES = (1024, 4096, 16_384, 32_768)
FEATURES = (128, 512)
REPEATS = 9
COLUMNS = (
    ("n", "{n}"), ("d", "{d}"), ("program", "{program}"), ("forward s", "{forward:.4f}"),
    ("backward s", "{backward:.4f}"), ("both s", "{both:.4f}"), ("GFLOP/s", "{gflops:.0f}"),
    ("of FMA", "{of_ceiling:.0%}"), ("peak MB", "{peak_megabytes:.0f}"), ("times ours", "{ratio:.2f}"),
)  # fmt: skip


def run(
    sizes: Sequence[int] = SIZES,
    out: Path | str | None = None,
    features: Sequence[int] = FEATURES,
    repeats: int = REPEATS,
) -> list[dict]:
    """Time every program in float32, each case in a process of its own; `out` gets loss.json and loss.png.

    A row: program, question (the `same_class` it answers), n, d; forward, backward, both (median seconds), fastest and
    slowest of both, repeats; gflops (4 n^2 d floating-point operations, what the symmetry leaves, per second of both),
    ceiling (GFLOP/s of multiply-adds in registers alone, measured in the same process), of_ceiling; peak_megabytes
    (resident memory beyond the input, the gradient included); error (of the gradient, relative to its largest element);
    ratio (of both, to our kernel's on the same question).
    RunError when an answer differs from float64. n is rounded down to an even number, at least 4.
    """
    rows: list[dict] = []
    skipped = []
    with tempfile.TemporaryDirectory() as folder:
        for n in [max(4, size // 2 * 2) for size in sizes]:
            for d in features:
                answers = {}
                for program, what in PROGRAMS.items():
                    if n > what.most:
                        skipped.append(f"{program}, n = {n}, d = {d}: left out, {what.why}")
                        say(skipped[-1])
                        continue
                    if what.question not in answers:
                        answers[what.question] = Path(folder) / f"{what.question}.pt"
                        torch.save(truth(n, d, what.question), answers[what.question])
                    say(f"{program}, n = {n}, d = {d} ...")
                    row = _case(program, n, d, repeats, answers[what.question])
                    first = next((r for r in rows if _question(r) == _question(row)), row)
                    rows.append(row | {"ratio": row["both"] / first["both"]})
    if out is not None:
        versions = ("torch", "numpy", "pytorch-metric-learning")
        write_json(Path(out) / "loss.json", {"machine": machine(versions), "rows": rows, "skipped": skipped})
        plot(rows, Path(out) / "loss.png")
    return rows


def table(rows: Sequence[dict]) -> str:
    """The rows for people, a blank line between sizes."""
    cells = [[name for name, _ in COLUMNS]] + [[form.format(**row) for _, form in COLUMNS] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells)]
    lines = []
    for number, line in enumerate(cells):
        if number and (number == 1 or line[:2] != cells[number - 1][:2]):
            lines.append("")
        lines.append("  ".join(cell.rjust(width) for cell, width in zip(line, widths)))
    return "\n".join(lines)


def plot(rows: Sequence[dict], path: Path) -> None:
    """Seconds of forward and backward against n, a panel for each d."""
    from matplotlib.figure import Figure

    features = sorted({row["d"] for row in rows})
    figure = Figure(figsize=(5 * len(features) + 1.5, 4), layout="constrained")
    panels = figure.subplots(1, len(features), sharey=True, squeeze=False)[0]
    for panel, d in zip(panels, features):
        for number, program in enumerate(PROGRAMS):
            points = [(row["n"], row["both"]) for row in rows if (row["program"], row["d"]) == (program, d)]
            if points:
                style = "--" if PROGRAMS[program].question == "ignore" else "-"
                panel.plot(*zip(*points), style, marker="o", label=program, color=f"C{number}")
        panel.set(xscale="log", yscale="log", title=f"d = {d}", xlabel="rows n")
        panel.set_xticks(sorted({row["n"] for row in rows}), labels=sorted({f"{row['n']}" for row in rows}, key=int))
        panel.minorticks_off()
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("forward + backward, seconds")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right center")
    with atomic(path) as aside:
        figure.savefig(aside, dpi=120)


def _case(program: str, n: int, d: int, repeats: int, answers: Path) -> dict:
    module = [sys.executable, "-m", "clustercl.benchmarks.loss_case"]
    words = [*module, program, str(n), str(d), str(repeats), str(answers)]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"ended with code {done.returncode}, perhaps for lack of memory"]
        raise RunError(said[-1] if said[-1].startswith("bench loss") else f"bench loss: {program}, n = {n}: {said[-1]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def _question(row: dict) -> tuple:
    return row["n"], row["d"], row["question"]
