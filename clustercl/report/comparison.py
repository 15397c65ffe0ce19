"""What `clustercl compare` leaves: results.csv, a table in Markdown, a figure."""

from collections.abc import Sequence
from pathlib import Path

from clustercl.evaluation.comparison import COLUMNS, Line, collect, summarise
from clustercl.files import atomic, write_csv, write_text
from clustercl.report.style import group_colour, new_figure, plain_axes, png

HEADER = ("labels", "method", "cases", "seeds", "Dice", "95 % interval", "sd of seeds", "to {}", "better in",
          "cases better", "p", "Jaccard", "HD95")  # fmt: skip
NOTE = """
Means over test cases, each averaged over seeds first; the interval is a bootstrap over cases. sd of seeds: of the means
of single seeds. Bold: the best of the methods with the most seeds and cases. To {baseline}: the mean difference on the
same cases of the same seeds; better in: how many of these runs; cases better: on which share of the cases, ties by
half. p: Wilcoxon's signed-rank test over cases, corrected by Holm for all of this table. It asks whether cases tend to
be better or worse, which a mean that few bad cases decide may contradict, and speaks of these very networks on other
cases: it knows nothing of other seeds. HD95 in mm, in pixels for photographs; a structure that was missed, or found
where there is none, counts with the diagonal of its image. A case without any structure, in which none is found, counts
as Dice 1.
"""
MARKERS = "osD^vP<>Xph"  # colours alone do not tell eleven methods apart
SIDE_BY_SIDE = 1.02  # factor between the places of two methods on the axis of label shares


def write_comparison(
    out: Path,
    baseline: str,
    folder: str = "evaluation",
    suffix: str = "",
    order: Sequence[str] = (),
    data: Path | None = None,
) -> str | None:
    """results.csv, table.md and figure.png of all finished cells below out/runs, and the table; methods in `order`,
    then those that it does not name. `folder`: of the metrics within a run; `data`: what they must be of.

    None, and no table, before the baseline has a finished cell. Where other processes finish cells meanwhile it is
    written again: whoever writes last has all of them.
    """
    while True:
        before = _cells(out)
        table = _write(out, baseline, folder, suffix, order, data)
        if _cells(out) == before:
            return table


def _cells(out: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in Path(out).glob("runs/*/*/cell.json")}


def _write(out: Path, baseline: str, folder: str, suffix: str, order: Sequence[str], data: Path | None) -> str | None:
    place = {name: number for number, name in enumerate(order)}
    rows = sorted(collect(out, folder, data), key=lambda row: place.get(row.method, len(place)))
    if not rows:
        return None
    write_csv(Path(out) / f"results{suffix}.csv", COLUMNS, [[getattr(row, name) for name in COLUMNS] for row in rows])
    if baseline not in {row.method for row in rows}:
        return None
    lines = summarise(rows, baseline)
    table = markdown(lines, baseline)
    write_text(Path(out) / f"table{suffix}.md", table)
    with atomic(Path(out) / f"figure{suffix}.png") as aside:
        aside.write_bytes(figure(lines))
    return table


def markdown(lines: Sequence[Line], baseline: str) -> str:
    """A line per label fraction and method; in bold the best Dice of each fraction, of methods with the most seeds, and
    of those with the most cases: the others may have had the easier ones."""
    cells = [[name.format(baseline) for name in HEADER], ["---"] * len(HEADER)]
    for line in lines:
        beside = [other for other in lines if other.label_fraction == line.label_fraction]
        most = max((other.seeds, other.cases) for other in beside)
        best = max(other.dice for other in beside if (other.seeds, other.cases) == most)
        cells.append([
            f"{line.label_fraction:g}", line.method, str(line.cases), str(line.seeds),
            f"**{line.dice:.3f}**" if line.dice == best and (line.seeds, line.cases) == most else f"{line.dice:.3f}",
            f"{line.interval[0]:.3f} to {line.interval[1]:.3f}", _shown(line.over_seeds, ".3f"),
            _shown(line.difference, "+.3f"), "" if line.won is None else f"{line.won[0]} of {line.won[1]}",
            _shown(line.better, ".0%"), _shown(line.p, ".2g"), f"{line.jaccard:.3f}", f"{line.hd95:.1f}",
        ])  # fmt: skip
    return "\n".join(f"| {' | '.join(row)} |" for row in cells) + "\n" + NOTE.format(baseline=baseline)


def _shown(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def figure(lines: Sequence[Line]) -> bytes:
    """Dice against the share of labels, with its intervals, a curve per method: PNG."""
    methods, most = list(dict.fromkeys(line.method for line in lines)), max(line.seeds for line in lines)
    drawing = new_figure(6.6, 4.3)
    axes = drawing.subplots()
    for number, name in enumerate(methods):
        own = [line for line in lines if line.method == name]
        place = SIDE_BY_SIDE ** (number - (len(methods) - 1) / 2)
        dashed = max(line.seeds for line in own) < most  # of fewer seeds, so by chance the more
        reach = [[line.dice - line.interval[0] for line in own], [line.interval[1] - line.dice for line in own]]
        axes.errorbar([line.label_fraction * place for line in own], [line.dice for line in own], reach,
                      marker=MARKERS[number % len(MARKERS)], markersize=4, capsize=2, linewidth=1.2, label=name,
                      color=group_colour(number), linestyle="--" if dashed else "-")  # fmt: skip
    plain_axes(axes, "", "share of the training labels", "Dice: mean over test cases, 95 % interval")
    shares = sorted({line.label_fraction for line in lines})
    axes.set_xscale("log")
    axes.set_xticks(shares, [f"{share:g}" for share in shares])
    axes.minorticks_off()
    axes.legend(fontsize=7.5, frameon=False, loc="upper left", bbox_to_anchor=(1, 1))  # beside, where it hides nothing
    return png(drawing)
