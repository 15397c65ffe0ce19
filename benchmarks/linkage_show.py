"""The rows of the benchmark of the linkage for people: a table and a plot."""

from collections.abc import Sequence
from pathlib import Path

from clustercl.files import atomic

COLUMNS = (
    ("data", "{data}"), ("method", "{method}"), ("n", "{n}"), ("d", "{d}"), ("program", "{program}"),
    ("seconds", "{seconds:.4f}"), ("spread", "{fastest:.4f}-{slowest:.4f}"), ("peak MB", "{peak_megabytes:.0f}"),
    ("times ours", "{ratio:.2f}{mark}"), ("rounds", "{rounds}"), ("scans per n", "{scans}"), ("GFLOP/s", "{gflops}"),
    ("of FMA", "{of_ceiling}"),
)  # fmt: skip
CASE = 4  # columns that name one


def table(found: dict) -> str:
    """What `linkage.run` returns: the machine, the rows with a blank line between cases, what the columns mean."""
    about, rows = found["machine"], found["rows"]
    cells = [[name for name, _ in COLUMNS]] + [_cells(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells)]
    lines = [f"{about['cpu']}, {about['threads']} threads, {about['instruction_set']}, commit {about['commit']}, "
             f"{about['date']}", ""]  # fmt: skip
    for number, line in enumerate(cells):
        if number and line[:CASE] != cells[number - 1][:CASE]:
            lines.append("")
        lines.append("  ".join(cell.rjust(width) for cell, width in zip(line, widths)).rstrip())
    lines += [
        "",
        "seconds: median; ours takes float32 rows, the others float64, converted outside of the timing.",
        "peak MB: memory beyond the input, in a process of its own. times ours: seconds over those of clustercl.",
        "scans per n: distances of rows or centroids, over n^2. GFLOP/s: of 2 d operations for each,",
        f"over all seconds. of FMA: of the {found['ceiling']:.0f} GFLOP/s that multiply-adds in registers reached.",
    ]
    if not all(row["calm"] for row in rows):
        lines.append("*: other programs had a part of the machine, here or with ours: measure again when it is idle.")
    return "\n".join([*lines, *found["left_out"]])


def _cells(row: dict) -> list[str]:
    effort = {"rounds": "{:d}", "scans": "{:.2f}", "gflops": "{:.0f}", "of_ceiling": "{:.0%}"}
    shown = {name: "" if row[name] is None else form.format(row[name]) for name, form in effort.items()}
    return [form.format(**row | shown, mark=" " if row["calm"] else "*") for _, form in COLUMNS]


def plot(rows: Sequence[dict], programs: Sequence[str], path: Path) -> None:
    """Seconds against n on blobs, a panel for each method, for one number of features: 128 where it is there.

    A program has its colour from its place in `programs`, whatever was left out; ours is thick.
    """
    from matplotlib.figure import Figure

    methods = list(dict.fromkeys(row["method"] for row in rows)) or ["nothing"]
    features = {row["d"] for row in rows}
    d = 128 if 128 in features else min(features, default=0)
    figure = Figure(figsize=(3.2 * len(methods) + 2, 3.8), layout="constrained")
    panels = figure.subplots(1, len(methods), sharey=True, squeeze=False)[0]
    lines = {}
    for panel, method in zip(panels, methods):
        for number, program in enumerate(programs):
            key = ("blobs", method, d, program)
            here = [row for row in rows if (row["data"], row["method"], row["d"], row["program"]) == key]
            here.sort(key=lambda row: row["n"])
            if here:
                (lines[program],) = panel.plot(
                    [row["n"] for row in here],
                    [row["seconds"] for row in here],
                    marker="osD^vP"[number % 6],
                    color=f"C{number}",
                    linewidth=2.5 if program == programs[0] else 1.2,
                )
        panel.set(xscale="log", yscale="log", title=method, xlabel="rows n")
        panel.grid(alpha=0.3)
    panels[0].set_ylabel(f"seconds, d = {d}")
    figure.legend(lines.values(), lines.keys(), loc="outside right center")
    with atomic(path) as aside:
        figure.savefig(aside, dpi=120)
