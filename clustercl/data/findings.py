"""What checking a data set found: a row for each case, problems with their files, a summary; as text and as JSON."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import numpy as np

from clustercl.data.cases import Case
from clustercl.data.task import Task

TABLE_MOST = 100  # cases of which each has a row: those of a hundred thousand photographs would bury what is wrong


@dataclass
class Problem:
    """severity: "error" (training would fail or learn wrong things) or "warning"."""

    file: str
    severity: str
    sentence: str


@dataclass
class Row:
    """One case. size: pixels (width, height) or voxels (x, y, z); spacing in mm and orientation such as "RAS" for
    volumes; low, high: intensity range; counts: pixels or voxels of each class and of background, None unlabelled;
    values: the same of each stored label value that occurs, None where greys are thresholded; content: a hash
    of the image's values, equal for equal images."""

    case: str
    file: str
    group: str
    split: str | None
    size: tuple[int, ...] | None = None
    spacing: tuple[float, ...] | None = None
    orientation: str | None = None
    low: float | None = None
    high: float | None = None
    counts: dict[str, int] | None = None
    values: dict[str, int] | None = None
    content: str | None = field(default=None, repr=False)

    @property
    def foreground(self) -> int:
        """Pixels or voxels of all classes together; 0 without a label."""
        return sum(list(self.counts.values())[1:]) if self.counts else 0


@dataclass
class Report:
    task: str
    rows: list[Row]
    problems: list[Problem]
    summary: dict

    @property
    def errors(self) -> list[Problem]:
        return [problem for problem in self.problems if problem.severity == "error"]

    def to_dict(self) -> dict:
        """Plain numbers, strings and lists, for --json."""
        return asdict(self)

    def to_text(self, table: bool | None = None) -> str:
        """The table of cases, the summary and the problems, for people; no `table` of many cases, unless asked for."""
        shown = len(self.rows) <= TABLE_MOST if table is None else table
        lines = [*self._table(), ""] if shown else []
        lines += [f"{name}: {_plain(value)}" for name, value in self.summary.items()]
        if not shown:
            lines.append(f"a row for each of the {len(self.rows)} cases: with --table, and in --json")
        lines += ["", *(f"{problem.severity}: {problem.sentence}" for problem in self.problems)]
        counts = {"error": len(self.errors), "warning": len(self.problems) - len(self.errors)}
        found = [f"{count} {word}{'s' * (count > 1)}" for word, count in counts.items() if count]
        return "\n".join([*lines, " and ".join(found) or "no problems"])

    def _table(self) -> list[str]:
        table = [("case", "size", "spacing", "axes", "values", "labelled")]
        for row in self.rows:
            spacing = " x ".join(f"{value:.3g}" for value in row.spacing) if row.spacing else ""
            size = " x ".join(map(str, row.size)) if row.size else "unreadable"
            values = f"{row.low:g} .. {row.high:g}" if row.low is not None else ""
            table.append((row.case, size, spacing, row.orientation or "", values, _shares(row.counts)))
        widths = [max(map(len, column)) for column in zip(*table)]
        return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in table]


def summarise(task: Task, cases: Sequence[Case], rows: Sequence[Row]) -> dict:
    """Counts of cases, by given split too, the range of sizes, spacings and values, and of each class mean share,
    voxels and cases."""
    labelled = [row for row in rows if row.counts]
    sizes = [row.size for row in rows if row.size]
    summary = {
        "cases": len(cases),
        "labelled": sum(case.label is not None for case in cases),
        "unlabelled": sum(case.label is None for case in cases),
        "groups": len({case.group for case in cases}),
        "unreadable": sum(row.size is None for row in rows),
    }
    if any(case.split for case in cases):
        summary["given splits"] = {
            name or "none": {"cases": len(of), "labelled": sum(case.label is not None for case in of)}
            for name in ("train", "validation", "test", None)
            if (of := [case for case in cases if case.split == name])
        }
    if sizes:
        summary["values"] = {"smallest": min(row.low for row in rows if row.size), "largest": max(
            row.high for row in rows if row.size)}  # fmt: skip
        summary["size"] = {"smallest": list(map(min, zip(*sizes))), "largest": list(map(max, zip(*sizes)))}
        if len(counted := Counter(sizes)) > 1:
            summary["size"] |= {"most often": list(counted.most_common(1)[0][0]), "different": len(counted)}
    spacings = [row.spacing for row in rows if row.spacing]
    if spacings:
        summary["spacing"] = {"smallest": list(map(min, zip(*spacings))), "largest": list(map(max, zip(*spacings)))}
        orientations = [row.orientation for row in rows if row.orientation]
        summary["orientations"] = {name: orientations.count(name) for name in sorted(set(orientations))}
    if labelled:
        shares = [{name: row.counts[name] / sum(row.counts.values()) for name in row.counts} for row in labelled]
        summary["mean share"] = {name: float(np.mean([share[name] for share in shares])) for name in task.classes}
        summary["voxels" if task.spatial_dims == 3 else "pixels"] = {
            name: sum(row.counts[name] for row in labelled) for name in labelled[0].counts
        }
        if several := _several_values(task, labelled):
            summary["stored values"] = several
        summary["cases with"] = {name: sum(row.counts[name] > 0 for row in labelled) for name in task.classes}
    return summary


def _several_values(task: Task, labelled: Sequence[Row]) -> dict[str, dict[str, int]]:
    """Voxels of each stored value of the classes that more than one stands for, where a further one occurs."""
    found = {}
    for alias, value in task.aliases.items():
        if any(str(alias) in (row.values or {}) for row in labelled):
            also = [value, *(other for other, target in task.aliases.items() if target == value)]
            counts = {str(one): sum((row.values or {}).get(str(one), 0) for row in labelled) for one in also}
            found[task.classes[task.values.index(value)]] = {one: count for one, count in counts.items() if count}
    return found


def _shares(counts: dict[str, int] | None) -> str:
    if counts is None:
        return ""
    total = sum(counts.values())
    shares = {name: float(f"{100 * count / total:.2g}") for name, count in list(counts.items())[1:] if count}
    return " ".join(f"{name} {share:g}%" for name, share in shares.items()) or "empty"


def _plain(value) -> str:
    if isinstance(value, dict):
        parts = {name: f"({_plain(part)})" if isinstance(part, dict) else _plain(part) for name, part in value.items()}
        return ", ".join(f"{name} {part}" for name, part in parts.items())
    if isinstance(value, list):
        return " x ".join(f"{part:.3g}" if isinstance(part, float) else str(part) for part in value)
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"  # -1024 HU, not -1.02e+03
    return str(value)
