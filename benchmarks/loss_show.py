"""The rows of the benchmark of the loss for people: a table and a plot."""

from collections.abc import Sequence
from pathlib import Path

from clustercl.files import atomic

COLUMNS = (
    ("n", "{n}"), ("d", "{d}"), ("same_class", "{question}"), ("program", "{program}"),
    ("forward", "{forward:.4f}"), ("backward", "{backward:.4f}"), ("both", "{both:.4f}"),
    ("spread", "{both_fastest:.4f}-{both_slowest:.4f}"), ("GFLOP/s", "{both_gflops:.0f}"),
    ("of FMA", "{of_ceiling:.0%}"), ("peak MB", "{peak_megabytes:.0f}"), ("times ours", "{ratio:.2f}{mark}"),
)  # fmt: skip


def table(found: dict) -> str:
    """What `loss.run` returns: the machine, the rows with a blank line between sizes, and what the columns mean."""
    about, rows = found["machine"], found["rows"]
    head = f"{about['cpu']}, {about['threads']} threads, {about['instruction_set']}, torch {about['versions']['torch']}"
    marked = [row | {"mark": " " if row["calm"] else "*"} for row in rows]
    cells = [[name for name, _ in COLUMNS]] + [[form.format(**row) for _, form in COLUMNS] for row in marked]
    widths = [max(map(len, column)) for column in zip(*cells)]
    lines = [f"{head}, commit {about['commit']}, {about['date']}", ""]
    for number, line in enumerate(cells):
        if number and line[:2] != cells[number - 1][:2]:
            lines.append("")
        lines.append("  ".join(cell.rjust(width) for cell, width in zip(line, widths)).rstrip())
    lines += [
        "",
        "forward, backward, both: median seconds in float32; spread: the fastest and slowest of both.",
        "times ours: seconds of both over those of our kernel with this same_class.",
        "GFLOP/s: of 4 n^2 d operations for both, which is what the symmetry of the products leaves;",
        f"of FMA: of {found['ceiling']:.0f} GFLOP/s, which multiply-adds in registers alone reached in this run.",
        "peak MB: memory beyond the input, the gradient included, in a process of its own.",
    ]
    if not all(row["calm"] for row in rows):
        lines.append(
            "*: other programs had a part of the machine, here or with our kernel: measure again when it is idle."
        )
    return "\n".join([*lines, *found["left_out"]])


def plot(rows: Sequence[dict], programs: Sequence[str], path: Path) -> None:
    """Seconds of both passes of the rows against n, a panel for each d, bars from the fastest to the slowest.

    A program has its colour from its place in `programs`, whatever was left out; ours is thick, dashed is NT-Xent.
    """
    from matplotlib.figure import Figure

    features = sorted({row["d"] for row in rows}) or [0]
    figure = Figure(figsize=(5 * len(features) + 2, 4.2), layout="constrained")
    panels = figure.subplots(1, len(features), sharey=True, squeeze=False)[0]
    lines = {}
    for panel, d in zip(panels, features):
        for number, program in enumerate(programs):
            here = [row for row in rows if (row["program"], row["d"]) == (program, d)]
            if not here:
                continue
            here.sort(key=lambda row: row["n"])
            label = program if here[0]["question"] in program else f"{program}, {here[0]['question']}"
            lines[label] = panel.errorbar(
                [row["n"] for row in here],
                [row["both"] for row in here],
                yerr=[
                    [row["both"] - row["both_fastest"] for row in here],
                    [row["both_slowest"] - row["both"] for row in here],
                ],
                fmt="--" if here[0]["question"] == "ignore" else "-",
                marker="osD^vP"[number % 6],
                color=f"C{number}",
                linewidth=2.5 if program.startswith("kernel") else 1.2,
                capsize=3,
            )
        panel.set(xscale="log", yscale="log", title=f"d = {d}", xlabel="rows n")
        sizes = sorted({row["n"] for row in rows})
        panel.set_xticks(sizes, labels=map(str, sizes))
        panel.minorticks_off()
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("forward + backward, seconds")
    figure.legend(lines.values(), lines.keys(), loc="outside right center", title="program, same_class")
    with atomic(path) as aside:
        figure.savefig(aside, dpi=120)
