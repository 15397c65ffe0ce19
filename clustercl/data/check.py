"""Reading every file of a data set before anybody trains on it, and saying what is wrong with which file."""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from clustercl.data.cases import Case
from clustercl.data.copies import copies, with_copies_together
from clustercl.data.layouts import Fault
from clustercl.data.read import Volume, extent, read_source, read_stored_label
from clustercl.data.split import make_split
from clustercl.data.task import Task
from clustercl.data.workers import in_threads
from clustercl.errors import DataError


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
    content: a hash of the image's values, equal for equal images."""

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

    def to_text(self) -> str:
        """The table of cases, the summary and the problems, for people."""
        table = [("case", "size", "spacing", "axes", "values", "labelled")]
        for row in self.rows:
            spacing = " x ".join(f"{value:.3g}" for value in row.spacing) if row.spacing else ""
            size = " x ".join(map(str, row.size)) if row.size else "unreadable"
            values = f"{row.low:g} .. {row.high:g}" if row.low is not None else ""
            table.append((row.case, size, spacing, row.orientation or "", values, _shares(row.counts)))
        widths = [max(map(len, column)) for column in zip(*table)]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in table]
        lines += ["", *(f"{name}: {_plain(value)}" for name, value in self.summary.items()), ""]
        lines += [f"{problem.severity}: {problem.sentence}" for problem in self.problems] or ["no problems"]
        return "\n".join(lines)


def check_data(
    task: Task,
    cases: Sequence[Case],
    faults: Sequence[Fault] = (),
    quiet: bool = False,
    workers: int | None = None,
) -> Report:
    """Read every image and label of `cases` in threads.

    `faults` are what `cases.discover` found wrong beside them; they become problems of the report.
    """
    problems = [Problem(str(fault.file), fault.severity, fault.sentence) for fault in faults]
    rows = []
    heavy = task.spatial_dims == 3
    for row, found in in_threads(
        lambda case: _check_case(case, task), cases, "checking", "case", quiet, workers, heavy=heavy
    ):
        rows.append(row)
        problems += found
    problems += _of_the_split(task, cases, rows) + _of_the_whole(task, cases, rows)
    return Report(task.name, rows, problems, _summary(task, cases, rows))


def _check_case(case: Case, task: Task) -> tuple[Row, list[Problem]]:
    row = Row(case.id, str(case.image), case.group, case.split)
    try:
        image = read_source(case, task)
        stored = None if case.label is None else read_stored_label(case, task, *extent(image))
        index = None if stored is None else task.to_index(stored, case.label)
    except DataError as error:
        # The sentence names the file; whether it is the image or the label shows in it.
        file = case.label if case.label is not None and str(error).startswith(str(case.label)) else case.image
        return row, [Problem(str(file), "error", str(error))]
    problems = []
    if isinstance(image, Volume):
        from nibabel.orientations import aff2axcodes

        array, row.size, row.spacing = image.array, image.array.shape, image.spacing
        row.orientation = "".join(aff2axcodes(image.affine))
    else:
        array, row.size = image, (image.shape[1], image.shape[0])
    row.content = _content(array)
    row.low, row.high = float(array.min()), float(array.max())
    if row.low == row.high:
        sentence = f"{case.image}: every value of the image is {row.low:g}: look whether the file is right"
        problems.append(Problem(str(case.image), "warning", sentence))
    if index is not None:
        counts = np.bincount(index.ravel(), minlength=task.num_classes)
        row.counts = dict(zip(("background", *task.classes), counts.tolist()))
        if sentence := _of_the_label(case, task, stored, counts):
            problems.append(Problem(str(case.label), "warning", sentence))
    return row, problems


def _content(array: np.ndarray) -> str:
    """A hash of values and shape, in the order of memory: no copy of a volume."""
    digest = hashlib.blake2b(f"{array.shape} {array.strides} {array.dtype}".encode(), digest_size=16)
    digest.update(array.ravel(order="K").data)
    return digest.hexdigest()


def _of_the_label(case: Case, task: Task, stored: np.ndarray, counts: np.ndarray) -> str | None:
    """What is odd about a label map that can be used."""
    if counts[0] == stored.size:
        return f"{case.label}: the label map is empty: look whether nothing was to be outlined there"
    if counts[0] == 0:
        return f"{case.label}: the label map has no background: look whether it is the label of this image"
    if task.threshold is None:
        return None
    top = int(stored.max())
    grey = int(((stored > 0) & (stored < top)).sum())
    if not grey:
        return None
    return (
        f"{case.label}: {grey} pixels ({100 * grey / stored.size:.2g}%) are neither 0 nor {top}: those above "
        f"{task.threshold * (257 if top > 255 else 1)} count as {task.classes[0]}"
    )


def _of_the_split(task: Task, cases: Sequence[Case], rows: Sequence[Row]) -> list[Problem]:
    """What training would refuse of given splits and groups, and images that stand in several groups."""
    problems = []
    for first, *others in copies(rows):
        sentence = f"{first.file} and {', '.join(row.file for row in others)} hold the same image: "
        apart = {row.split for row in (first, *others)} - {None}
        if len(apart) > 1:
            sentence += f"the given splits put copies into {' and '.join(sorted(apart))}: remove some"
        else:
            sentence += "no split will separate them"
        problems.append(Problem(others[0].file, "error" if len(apart) > 1 else "warning", sentence))
    if any(problem.severity == "error" for problem in problems):
        return problems
    if any(case.label is not None for case in cases):  # else a warning of its own
        try:
            make_split(with_copies_together(cases, rows), task)
        except DataError as error:
            named = next((case.image for case in cases if str(error).startswith(str(case.image))), _parent(cases))
            problems.append(Problem(str(named), "error", str(error)))
    return problems


def _of_the_whole(task: Task, cases: Sequence[Case], rows: Sequence[Row]) -> list[Problem]:
    labelled = [row for row in rows if row.counts]
    if not any(case.label is not None for case in cases):
        sentence = f"none of the {len(cases)} cases has a label: it serves pre-training, not fine-tuning or evaluation"
        return [Problem(_parent(cases), "warning", sentence)]
    never = [name for name in task.classes if labelled and not any(row.counts[name] for row in labelled)]
    if not never:
        return []
    maps = f"{len(labelled)} readable label map{'s' * (len(labelled) > 1)}"
    sentence = (
        f"{', '.join(never)}: nowhere in the {maps}, so the network cannot learn "
        f"{'this class' if len(never) == 1 else 'these classes'}; name those that do occur with --labels NAME=VALUE,..."
    )
    return [Problem(_parent(cases), "warning", sentence)]


def _summary(task: Task, cases: Sequence[Case], rows: Sequence[Row]) -> dict:
    """Counts of cases, the range of sizes, spacings and values, and of each class mean share, voxels and cases."""
    labelled = [row for row in rows if row.counts]
    sizes = [row.size for row in rows if row.size]
    summary = {
        "cases": len(cases),
        "labelled": sum(case.label is not None for case in cases),
        "unlabelled": sum(case.label is None for case in cases),
        "groups": len({case.group for case in cases}),
        "unreadable": sum(row.size is None for row in rows),
    }
    if sizes:
        summary["values"] = {"smallest": min(row.low for row in rows if row.size), "largest": max(
            row.high for row in rows if row.size)}  # fmt: skip
        summary["size"] = {"smallest": list(map(min, zip(*sizes))), "largest": list(map(max, zip(*sizes)))}
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
        summary["cases with"] = {name: sum(row.counts[name] > 0 for row in labelled) for name in task.classes}
    return summary


def _shares(counts: dict[str, int] | None) -> str:
    if counts is None:
        return ""
    total = sum(counts.values())
    return (
        " ".join(f"{name} {100 * count / total:.2g}%" for name, count in list(counts.items())[1:] if count) or "empty"
    )


def _plain(value) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_plain(part)}" for name, part in value.items())
    if isinstance(value, list):
        return " x ".join(f"{part:.3g}" if isinstance(part, float) else str(part) for part in value)
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _parent(cases: Sequence[Case]) -> str:
    """The folder that holds all the cases' files."""
    import os

    return os.path.commonpath([str(Path(case.image).parent) for case in cases]) if cases else ""
