"""Cases: one image each, with or without a label map. Finding them in the layouts people have, or in a list."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from clustercl.data.layouts import Fault, find_layout, find_unlabelled
from clustercl.data.lists import read_list
from clustercl.data.task import Task
from clustercl.errors import DataError, UsageError


@dataclass(frozen=True)
class Case:
    """One image. `group` (default: the id) is what a split never separates, such as a patient; `split` comes from a
    list only."""

    id: str
    image: Path
    label: Path | None = None
    group: str = ""
    split: str | None = None

    def __post_init__(self):
        if not self.group:
            object.__setattr__(self, "group", self.id)


def find_cases(
    task: Task, data: Path | None, unlabelled: Sequence[Path] = (), list_csv: Path | None = None
) -> list[Case]:
    """All cases of a folder or a list and of folders without labels, sorted by id.

    Raises DataError for the first fault: a missing or empty folder, a mask that is missing where one must be, two files
    with one id.
    """
    cases, faults = discover(task, data, unlabelled, list_csv)
    if faults:
        more = f" (and {len(faults) - 1} more such faults: `clustercl data check` lists them)" if faults[1:] else ""
        raise DataError(faults[0].sentence + more)
    return cases


def discover(
    task: Task, data: Path | None, unlabelled: Sequence[Path] = (), list_csv: Path | None = None
) -> tuple[list[Case], list[Fault]]:
    """As `find_cases`, but what is wrong with single files comes back as a list beside the cases that are right.

    Raises DataError where nothing can be found at all.
    """
    if data is not None and list_csv is not None:
        raise UsageError("--data and --list exclude each other: give the folder or the list")
    if data is None and list_csv is None and not unlabelled:
        raise UsageError("no data: give a folder with --data, a list with --list, or folders with --unlabelled")
    found, faults = [], []
    if data is not None:
        found, faults = find_layout(task.name, Path(data))
    elif list_csv is not None:
        found, faults = read_list(Path(list_csv))
    cases = [Case(item.id, item.image, item.label, item.group, item.split) for item in found]
    known = {case.image.resolve() for case in cases}
    for folder in unlabelled:
        for item in find_unlabelled(task.name, Path(folder)):
            if item.image.resolve() not in known:  # a folder inside --data, or given twice
                known.add(item.image.resolve())
                cases.append(Case(item.id, item.image))
    first: dict[str, Case] = {}
    for case in cases:
        other = first.setdefault(case.id.lower(), case)
        if other is not case:
            faults.append(Fault(case.image, f"{other.image} and {case.image} have one id, {case.id}: remove or rename "
                                            "one of them, or name ids in the column `id` of a list"))  # fmt: skip
    return sorted(first.values(), key=lambda case: case.id), faults
