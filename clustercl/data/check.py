"""Reading every file of a data set before anybody trains on it, and saying what is wrong with which file."""

import os
from collections.abc import Sequence
from pathlib import Path

from clustercl.data.cases import Case
from clustercl.data.check_case import check_case
from clustercl.data.copies import copies, with_copies_together
from clustercl.data.findings import Problem, Report, Row, summarise
from clustercl.data.layouts import Fault
from clustercl.data.split import faults_of_splits, make_split
from clustercl.data.task import Task
from clustercl.data.workers import in_threads
from clustercl.errors import DataError


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
        lambda case: check_case(case, task), cases, "checking", "case", quiet, workers, heavy=heavy
    ):
        rows.append(row)
        problems += found
    problems += _of_the_split(task, cases, rows) + _of_the_whole(task, cases, rows)
    return Report(task.name, rows, problems, summarise(task, cases, rows))


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
    if all(case.label is None for case in cases):  # which gets a warning of its own
        return problems
    together = with_copies_together(cases, rows)
    # Groups that copies join may contradict splits that are in order without them.
    faults = list(faults_of_splits(cases)) or ([] if _any_error(problems) else list(faults_of_splits(together)))
    problems += [Problem(str(case.image), "error", sentence) for case, sentence in faults]
    if not _any_error(problems):
        try:
            make_split(together, task)
        except DataError as error:
            problems.append(Problem(_parent(cases), "error", str(error)))
    return problems


def _any_error(problems: Sequence[Problem]) -> bool:
    return any(problem.severity == "error" for problem in problems)


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


def _parent(cases: Sequence[Case]) -> str:
    """The folder that holds all the cases' files."""
    return os.path.commonpath([str(Path(case.image).parent) for case in cases]) if cases else ""
