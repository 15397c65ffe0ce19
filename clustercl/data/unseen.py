"""Labelled cases of other data than a run's: whether all can be read, and which of them the run learnt from."""

import os
from collections.abc import Sequence
from dataclasses import replace

from clustercl.data.cases import Case
from clustercl.data.check import check_data
from clustercl.data.copies import also_among
from clustercl.data.findings import Row
from clustercl.data.task import Task
from clustercl.errors import DataError


def read_all(cases: Sequence[Case], task: Task, quiet: bool = False, workers: int | None = None) -> list[Row]:
    """A row for each case. DataError where an image or a label cannot be used."""
    files = {str(file) for case in cases for file in (case.image, case.label)}
    # Each by itself: what would make a bad training set, its splits too, may well be tested on.
    report = check_data(task, [replace(case, split=None) for case in cases], quiet=quiet, workers=workers)
    if errors := [problem.sentence for problem in report.errors if problem.file in files]:
        raise DataError(errors[0] + (f" (and {len(errors) - 1} more)" if errors[1:] else ""))
    return report.rows


def learnt_from(
    others: Sequence[Case],
    rows: Sequence[Row],
    learnt: Sequence[Case],
    task: Task,
    quiet: bool = False,
    workers: int | None = None,
) -> dict[str, str]:
    """{id of one of `others`: id of the first of `learnt` with the same image}, by its file or else by its values.

    rows: of `others`, as `read_all` gives them.
    """
    files: dict[str, str] = {}
    for case in learnt:
        files.setdefault(os.path.realpath(case.image), case.id)
    found = {case.id: files[path] for case in others if (path := os.path.realpath(case.image)) in files}
    left = [row for row in rows if row.case not in found]
    if left:
        own = check_data(task, [replace(case, label=None) for case in learnt], quiet=quiet, workers=workers).rows
        names: dict[str | None, str] = {}
        for row in own:
            names.setdefault(row.content, row.case)
        found |= {row.case: names[row.content] for row in also_among(left, own)}
    return found
