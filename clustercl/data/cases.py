"""Cases: one image each, with or without a label map. Finding them in the layouts people have, or in a list."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from clustercl.data.layouts import Fault, copy_fault, find_layout, find_unlabelled, is_copy
from clustercl.data.lists import read_list
from clustercl.data.task import Task
from clustercl.errors import DataError, UsageError
from clustercl.progress import say


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
    task: Task, data: Path | None, unlabelled: Sequence[Path] = (), list_csv: Path | None = None, quiet: bool = False
) -> list[Case]:
    """All cases of a folder or a list and of folders without labels, sorted by id.

    Raises DataError for the first fault: a missing or empty folder, a mask that is missing where one must be, two files
    with one id. What can be left out, as a mask without image or a second copy of a file, is said, but for `quiet`.
    """
    cases, faults = discover(task, data, unlabelled, list_csv)
    errors, warnings = ([fault.sentence for fault in faults if fault.severity == kind] for kind in ("error", "warning"))
    if errors:
        more = f" (and {len(errors) - 1} more such faults: `clustercl data check` lists them)" if errors[1:] else ""
        raise DataError(errors[0] + more)
    if warnings and not quiet:
        more = f" (and {len(warnings) - 1} more such files: `clustercl data check` lists them)" if warnings[1:] else ""
        say(f"warning: {warnings[0]}{more}")
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
    folders: dict[str, str] = {}
    known = {_real_path(case.image, folders) for case in cases}
    for folder in unlabelled:
        more, left_out = find_unlabelled(task.name, Path(folder))
        faults += left_out
        for item in more:
            path = _real_path(item.image, folders)
            if path not in known:  # a folder inside --data, or given twice
                known.add(path)
                cases.append(Case(item.id, item.image))
    first: dict[str, Case] = {}
    for case in cases:
        other = first.setdefault(case.id.lower(), case)
        if other is case:
            continue
        if list_csv is None and case.label is None and is_copy(other.image, case.image):
            faults.append(copy_fault(other.image, case.image))
        else:
            faults.append(Fault(case.image, f"{other.image} and {case.image} have one id, {case.id}: remove or rename "
                                            "one of them, or name ids in the column `id` of a list"))  # fmt: skip
    return sorted(first.values(), key=lambda case: case.id), faults


def _real_path(path: Path, folders: dict[str, str]) -> str:
    """os.path.realpath; `folders` keeps those of folders, which thousands of files have in common."""
    if os.path.islink(path):
        return os.path.realpath(path)
    folder, name = os.path.split(path)
    if folder not in folders:
        folders[folder] = os.path.realpath(folder)
    return os.path.join(folders[folder], name)
