"""Rows of a comparison, a run and a case each, and what they say together: means, intervals, tests."""

import csv
import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from clustercl.errors import DataError, RunError, UsageError
from clustercl.evaluation.statistics import bootstrap_interval, holm, paired_p
from clustercl.files import read_json, write_json

COLUMNS = ("method", "label_fraction", "fold", "seed", "case", "dice", "jaccard", "hd95")
NUMBERS = COLUMNS[5:]
AGREED = {"dice": 1.0, "jaccard": 1.0, "hd95": 0.0}  # of a case in which neither truth nor prediction holds anything
TESTED = "data.json"  # beside the metrics on other data: which


@dataclass(frozen=True)
class Row:
    """One network on one case: means over the classes that the case, or its prediction, holds; `AGREED` where they
    hold none, as whoever finds what is not there gets a Dice of 0."""

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
    """One method at one label fraction. Means over cases, each first averaged over seeds.

    Against the baseline, from the folds and seeds that both have, as another seed has other labelled cases: the mean
    difference, in how many of so many of these runs it was above 0, the share of cases that it is better on (half of
    those that are equal), and p, corrected over all lines. None for the baseline itself and where they have no run in
    common.
    """

    method: str
    label_fraction: float
    cases: int
    seeds: int
    dice: float
    interval: tuple[float, float]
    over_seeds: float | None  # standard deviation of the means of the seeds
    difference: float | None
    won: tuple[int, int] | None
    better: float | None
    p: float | None
    jaccard: float
    hd95: float


def remember_data(folder: Path, data: Path) -> None:
    """Write beside the metrics in a folder which data they are of."""
    write_json(folder / TESTED, {"data": os.path.abspath(data)})


def is_of(folder: Path, data: Path) -> bool:
    """Whether the metrics in a folder are of these data."""
    try:
        return read_json(folder / TESTED)["data"] == os.path.abspath(data)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def no_run(folder: Path) -> RunError:
    """Of a folder without config.json; that of a comparison holds runs, of which one may be meant."""
    runs = sorted(path.parent for path in folder.glob("runs/*/*/config.json"))
    if not runs:
        return RunError(f"{folder}: is no run of clustercl (no config.json): start one with clustercl train")
    count = f"one of its {len(runs)} runs" if len(runs) > 1 else "its run"
    return RunError(f"{folder}: is a comparison, wanted {count}, as {runs[0]}: name that")


def finished_methods(out: Path) -> list[str]:
    """Names, as tables have them, of the methods with a finished cell below out/runs."""
    found = []
    for path in sorted(Path(out).glob("runs/*/*/cell.json")):
        try:
            found.append(read_json(path)["method"])
        except (ValueError, KeyError, TypeError):
            continue  # `collect` tells it
    return list(dict.fromkeys(found))


def collect(out: Path, folder: str = "evaluation", data: Path | None = None) -> list[Row]:
    """The rows of every finished cell below out/runs; with `data` only of those that were tested on them.

    DataError on a file that is not what a cell leaves.
    """
    rows = []
    for cell_path in sorted(Path(out).glob("runs/*/*/cell.json")):
        path = cell_path.parent / folder / "per_case.csv"
        if not path.is_file() or (data is not None and not is_of(path.parent, data)):
            continue
        try:
            cell, values = read_json(cell_path), defaultdict(lambda: defaultdict(list))
            with open(path, newline="", encoding="utf-8") as file:
                for entry in csv.DictReader(file):
                    of_case = values[entry["case"]]
                    for name in NUMBERS:
                        if entry[name]:  # empty: neither truth nor prediction holds the class
                            of_case[name].append(float(entry[name]))
            rows += [
                Row(cell["method"], cell["label_fraction"], cell["fold"], cell["seed"], case,
                    *(float(np.mean(found[name] or AGREED[name])) for name in NUMBERS))
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
        for name in (name for name, found in chosen.items() if found):
            values = _by_case(chosen[name])
            dice = [value[0] for value in values.values()]
            seeds = defaultdict(list)
            for row in chosen[name]:
                seeds[row.seed].append(row.dice)
            against = (None, None, None, None) if name == baseline else _against(chosen[name], chosen[baseline])
            lines.append(Line(
                name, fraction, len(values), len(seeds), float(np.mean(dice)), bootstrap_interval(dice),
                float(np.std([np.mean(part) for part in seeds.values()], ddof=1)) if len(seeds) > 1 else None,
                *against,
                *(float(np.mean([value[place] for value in values.values()])) for place in (1, 2)),
            ))  # fmt: skip
    tested = [number for number, line in enumerate(lines) if line.p is not None]
    for number, p in zip(tested, holm([lines[number].p for number in tested])):
        lines[number] = replace(lines[number], p=p)
    return lines


def _against(
    rows: Sequence[Row], others: Sequence[Row]
) -> tuple[float | None, tuple[int, int] | None, float | None, float | None]:
    """Mean difference, runs won of those in common, share of cases won, and p before correction. See `Line`."""
    runs = {(row.fold, row.seed) for row in rows} & {(row.fold, row.seed) for row in others}
    kept = [[row for row in part if (row.fold, row.seed) in runs] for part in (rows, others)]
    own, other = (_by_case(part) for part in kept)
    pairs = [(own[key][0], other[key][0]) for key in sorted(own.keys() & other.keys())]
    if not pairs:
        return None, None, None, None
    means = [
        [np.mean([row.dice for row in part if (row.fold, row.seed) == run]) for run in sorted(runs)] for part in kept
    ]
    won = sum(bool(mine > theirs) for mine, theirs in zip(*means))
    differences = np.array([mine - theirs for mine, theirs in pairs])
    better = float(np.mean(np.sign(differences) / 2 + 0.5))
    return float(differences.mean()), (won, len(runs)), better, paired_p(*zip(*pairs))


def _by_case(rows: Sequence[Row]) -> dict[tuple[str, str], tuple[float, ...]]:
    """Dice, Jaccard and HD95 of each fold and case, averaged over seeds."""
    values = defaultdict(list)
    for row in rows:
        values[row.fold, row.case].append((row.dice, row.jaccard, row.hd95))
    return {key: tuple(np.mean(found, axis=0).tolist()) for key, found in values.items()}
