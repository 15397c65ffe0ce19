"""How long does an exact linkage take, and how much memory, against SciPy and fastcluster?"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from clustercl.benchmarks.linkage_programs import DATA, DENSE, DENSE_MOST, PROGRAMS
from clustercl.benchmarks.record import machine
from clustercl.errors import RunError
from clustercl.files import atomic, require_writable, write_json
from clustercl.ops.linkage import METHODS
from clustercl.progress import say

SIZES = (500, 2000, 5000, 20_000)
FEATURES = (128,)
REPEATS = 5
COLUMNS = (
    ("data", "{data}"), ("method", "{method}"), ("n", "{n}"), ("d", "{d}"), ("program", "{program}"),
    ("seconds", "{seconds:.4f}"), ("peak MB", "{peak_megabytes:.0f}"), ("times ours", "{ratio:.2f}"),
)  # fmt: skip


def run(
    sizes: Sequence[int] = SIZES,
    out: Path | str | None = None,
    features: Sequence[int] = FEATURES,
    methods: Sequence[str] = METHODS,
    repeats: int = REPEATS,
) -> list[dict]:
    """Time every method, kind of data, size and program, each in a process of its own; `out` gets linkage.json and
    linkage.png.

    A row: data, method, n, d, program; seconds (median), fastest, slowest, repeats; peak_megabytes (resident memory
    beyond the input); ratio (of the seconds, to ours). RunError when the trees of two programs differ.
    """
    if out is not None:
        require_writable(out)
    rows: list[dict] = []
    skipped = []
    with tempfile.TemporaryDirectory() as folder:
        for n in sizes:
            for d in features:
                for data in DATA:
                    for method in methods:
                        case = (data, method, n, d)
                        tree = Path(folder) / "-".join(map(str, case))
                        first = None
                        for program, what in PROGRAMS.items():
                            if method not in what.methods:
                                continue
                            name = f"{program}, {data}, {method}, n = {n}, d = {d}"
                            most = min(what.most, DENSE_MOST) if method in DENSE else what.most
                            if n > most:
                                why = what.why or "its matrix of distances takes 8 n^2 / 2 bytes"
                                skipped.append(f"{name}: left out, {why}")
                                say(skipped[-1])
                                continue
                            say(f"{name} ...")
                            row = _case([program, *case, repeats, f"{tree}.npy"], name)
                            first = first or row
                            rows.append(row | {"ratio": row["seconds"] / first["seconds"]})
    if out is not None:
        about = machine(("torch", "numpy", "scipy", "fastcluster"))
        write_json(Path(out) / "linkage.json", {"machine": about, "rows": rows, "skipped": skipped})
        plot(rows, Path(out) / "linkage.png")
    return rows


def table(rows: Sequence[dict]) -> str:
    """The rows for people, a blank line between cases."""
    cells = [[name for name, _ in COLUMNS]] + [[form.format(**row) for _, form in COLUMNS] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells)]
    lines = []
    for number, line in enumerate(cells):
        if number and line[:4] != cells[number - 1][:4]:
            lines.append("")
        lines.append("  ".join(cell.rjust(width) for cell, width in zip(line, widths)))
    return "\n".join(lines)


def plot(rows: Sequence[dict], path: Path) -> None:
    """Seconds against n on blobs, a panel for each method, for the first number of features."""
    from matplotlib.figure import Figure

    methods = list(dict.fromkeys(row["method"] for row in rows))
    figure = Figure(figsize=(3.4 * len(methods) + 2, 3.6), layout="constrained")
    panels = figure.subplots(1, len(methods), sharey=True, squeeze=False)[0]
    for panel, method in zip(panels, methods):
        for number, program in enumerate(PROGRAMS):
            key = ("blobs", method, rows[0]["d"], program)
            points = [
                (row["n"], row["seconds"])
                for row in rows
                if (row["data"], row["method"], row["d"], row["program"]) == key
            ]
            if points:
                panel.plot(*zip(*points), marker="o", label=program, color=f"C{number}")
        panel.set(xscale="log", yscale="log", title=method, xlabel="rows n")
        panel.grid(alpha=0.3)
    panels[0].set_ylabel(f"seconds, d = {rows[0]['d']}")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right center")
    with atomic(path) as aside:
        figure.savefig(aside, dpi=120)


def _case(arguments: list, name: str) -> dict:
    # -P: what lies in the working folder is not imported.
    words = [sys.executable, "-P", "-m", "clustercl.benchmarks.linkage_case", *map(str, arguments)]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"ended with code {done.returncode}, perhaps for lack of memory"]
        raise RunError(said[-1] if said[-1].startswith("bench linkage") else f"bench linkage: {name}: {said[-1]}")
    return json.loads(done.stdout.strip().splitlines()[-1])
