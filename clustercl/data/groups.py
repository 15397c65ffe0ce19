"""True groups of images, such as a diagnosis, from a table: what `oracle-class` takes instead of pseudo-classes."""

import csv
from collections.abc import Sequence
from pathlib import Path

import torch

from clustercl.data.layouts import file_stem
from clustercl.errors import DataError

IDS, GROUPS = ("id", "image_id", "image", "case"), ("group", "kind", "class")


def read_groups(path: Path, cases: Sequence[str]) -> torch.Tensor:
    """Groups (n,) int64 of these n ids of cases, numbered in the order of their names; -1 of those not in the table.

    DataError where it is no table (read_table), or no case is found in it.
    """
    known = read_table(path)
    numbers = {name: number for number, name in enumerate(sorted({*known.values()} - {""}))}
    found = torch.tensor([numbers.get(known.get(case.lower(), ""), -1) for case in cases])
    if not len(found) or found.max() < 0:
        raise DataError(f"{path}: names none of the {len(cases)} images that are trained on, such as {cases[0]}")
    return found


def read_table(path: Path) -> dict[str, str]:
    """Group by id, in small letters, and by the name of its file without ending; an empty group means not known.

    A CSV with a header: ids are in the column id, image_id, image or case (or the first), groups in the column group,
    kind or class (or the second). DataError where it is none.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            header, *rows = csv.reader(file)
    except (OSError, UnicodeDecodeError, ValueError, csv.Error) as error:
        raise DataError(f"{path}: wanted a CSV file with the columns id,group ({error})") from error
    if len(header) < 2:
        raise DataError(f"{path}: line 1 must name the columns id and group, it says {','.join(header)[:80]!r}")
    names = [name.strip().lower() for name in header]
    ids, groups = _column(names, IDS, 0), _column(names, GROUPS, 1)
    known: dict[str, str] = {}
    for row in rows:
        if len(row) > max(ids, groups):
            name, group = row[ids].strip(), row[groups].strip()
            known |= {name.lower(): group, file_stem(Path(name).name).lower(): group}
    return known


def _column(names: Sequence[str], wanted: Sequence[str], otherwise: int) -> int:
    return next((names.index(name) for name in wanted if name in names), otherwise)
