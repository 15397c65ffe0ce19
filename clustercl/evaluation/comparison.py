"""Rows of a comparison, a run and a case each, and what they say together: means, intervals, tests."""

import csv
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from clustercl.errors import DataError, UsageError
from clustercl.evaluation.statistics import bootstrap_interval, holm, paired_p
from clustercl.files import read_json

COLUMNS = ("method", "label_fraction", "fold", "seed", "case", "dice", "jaccard", "hd95")
NUMBERS = COLUMNS[5:]


@dataclass(frozen=True)
class Row:
    """One network on one case: means over the classes that the case, or its prediction, holds."""

    method: str
    label_fraction: float
    fold: str
    seed: int
    case: str
    dice: float
    jaccard: float
    hd95: float


@dataclass(frozen=True)
class Line:
    """One method at one label fraction. Means over cases, each first averaged over seeds; p against the baseline,
    corrected over all lines, None for the baseline itself and where they have no case in common."""

    method: str
    label_fraction: float
    cases: int
    seeds: int
    dice: float
    interval: tuple[float, float]
    over_seeds: float | None  # standard deviation of the means of the seeds
    difference: float | None
    p: float | None
    jaccard: float
    hd95: float


def collect(out: Path, folder: str = "evaluation") -> list[Row]:
    """The rows of every finished cell below out/runs. DataError on a file that is not what a cell leaves."""
    rows = []
    for cell_path in sorted(Path(out).glob("runs/*/*/cell.json")):
        path = cell_path.parent / folder / "per_case.csv"
        if not path.is_file():
            continue
        try:
            cell, values = read_json(cell_path), defaultdict(lambda: defaultdict(list))
            with open(path, newline="", encoding="utf-8") as file:
                for entry in csv.DictReader(file):
                    for name in NUMBERS:
                        if entry[name]:  # empty: neither truth nor prediction holds the class
                            values[entry["case"]][name].append(float(entry[name]))
            rows += [
                Row(cell["method"], cell["label_fraction"], cell["fold"], cell["seed"], case,
                    *(float(np.mean(found[name])) for name in NUMBERS))
                for case, found in values.items()
            ]  # fmt: skip
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path}: is damaged ({error}): remove {cell_path.parent}, then run the comparison "
                            "again") from error  # fmt: skip
    return rows


def summarise(rows: Sequence[Row], baseline: str) -> list[Line]:
    """A line per label fraction and method, in the order in which they first come. UsageError where there is no
    baseline of that name."""
    methods = list(dict.fromkeys(row.method for row in rows))
    if baseline not in methods:
        raise UsageError(f"--baseline: there is no run of {baseline!r}, wanted one of {', '.join(methods)}")
    lines = []
    for fraction in sorted({row.label_fraction for row in rows}):
        chosen = {
            name: [row for row in rows if (row.method, row.label_fraction) == (name, fraction)] for name in methods
        }
        cases = {name: _by_case(found) for name, found in chosen.items() if found}
        for name, values in cases.items():
            dice = [value[0] for value in values.values()]
            seeds = defaultdict(list)
            for row in chosen[name]:
                seeds[row.seed].append(row.dice)
            common = sorted(values.keys() & cases.get(baseline, {}).keys()) if name != baseline else []
            pairs = [(values[key][0], cases[baseline][key][0]) for key in common]
            lines.append(Line(
                name, fraction, len(values), len(seeds), float(np.mean(dice)), bootstrap_interval(dice),
                float(np.std([np.mean(part) for part in seeds.values()], ddof=1)) if len(seeds) > 1 else None,
                float(np.mean([own - other for own, other in pairs])) if pairs else None,
                paired_p(*zip(*pairs)) if pairs else None,
                *(float(np.mean([value[place] for value in values.values()])) for place in (1, 2)),
            ))  # fmt: skip
    tested = [number for number, line in enumerate(lines) if line.p is not None]
    for number, p in zip(tested, holm([lines[number].p for number in tested])):
        lines[number] = replace(lines[number], p=p)
    return lines


def _by_case(rows: Sequence[Row]) -> dict[tuple[str, str], tuple[float, ...]]:
    """Dice, Jaccard and HD95 of each fold and case, averaged over seeds."""
    values = defaultdict(list)
    for row in rows:
        values[row.fold, row.case].append((row.dice, row.jaccard, row.hd95))
    return {key: tuple(np.mean(found, axis=0).tolist()) for key, found in values.items()}
