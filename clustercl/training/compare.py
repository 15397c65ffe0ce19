"""Running a comparison: every cell of a grid in one folder, stages that cells share once."""

import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from clustercl.data.cases import Case, find_cases
from clustercl.data.groups import read_groups
from clustercl.data.source import Source
from clustercl.data.split import make_split
from clustercl.data.task import Task, get_task
from clustercl.data.unseen import learnt_from, read_all
from clustercl.errors import DataError, RunError
from clustercl.evaluation.comparison import is_of, remember_data
from clustercl.files import read_json, require_writable, write_json
from clustercl.methods import METHODS
from clustercl.progress import say
from clustercl.training.config import require_classes, require_fitting
from clustercl.training.devices import DeviceRequest
from clustercl.training.evaluate import evaluate_run
from clustercl.training.grid import Cell, Grid, part_of
from clustercl.training.labels import require_groups
from clustercl.training.pipeline import train
from clustercl.training.run import RunFolder, require_equal
from clustercl.training.store import StageStore

COMPARISON = "comparison.json"  # what all cells of the folder have in common


@dataclass(frozen=True)
class Place:
    """Where the data of a comparison lie."""

    data: Path | None = None
    unlabelled: Sequence[Path] = ()
    list_csv: Path | None = None
    labels: str | None = None
    groups: Path | None = None
    test_data: Path | None = None

    def source(self, cell: Cell | None = None) -> Source:
        """Of a cell, or of the comparison. UsageError on options that exclude each other."""
        groups = self.groups if cell is None else self.groups_of(cell)
        return Source.of(self.data, self.unlabelled, self.list_csv, self.labels, groups=groups)

    def cases(self, task: Task) -> list[Case]:
        return find_cases(task, self.data, self.unlabelled, self.list_csv)

    def groups_of(self, cell: Cell) -> Path | None:
        """None for methods without use for groups: they are the same runs whether a table was named or not."""
        return self.groups if METHODS[cell.method].needs_groups else None


def compare(
    grid: Grid,
    out: Path,
    data: Path | None = None,
    unlabelled: Sequence[Path] = (),
    list_csv: Path | None = None,
    labels: str | None = None,
    groups: Path | None = None,
    test_data: Path | None = None,
    shard: str = "1/1",
    devices: DeviceRequest | None = None,
    time_limit: float | None = None,
    after: Callable[[], None] = lambda: None,
) -> None:
    """Run every cell of a grid below `out`/runs; what was finished before is kept, what stages they share run once.

    `shard` "2/4": the second of four parts of the cells alone, for several processes, GPUs or machines that see one
    folder. `test_data`: a folder on whose labelled images each network is evaluated too; none of them may be among
    those that are learnt from. `after` is called when a cell is finished. Errors as `train`; wrong settings, missing
    files and impossible splits of any cell are told before the first one starts. UsageError where the folder holds a
    comparison of other data or with other settings than those that cells differ in.
    """
    out, began = Path(out), time.monotonic()
    # One process would train a shared stage, for which the others would wait.
    (devices or DeviceRequest()).require_one_process(
        "compare: each of its runs is trained by one process",
        "start the parts of it, --shard 1/N to N/N, each as a command of its own",
    )
    cells = grid.cells()
    own = part_of(cells, shard)
    place = Place(data, unlabelled, list_csv, labels, groups, test_data)
    source, task = place.source(), get_task(grid.task, labels)
    for cell in cells:
        require_classes(grid.config(cell))
        require_fitting(grid.config(cell), task)
        require_groups(cell.method, source)
    if RunFolder(out).exists():
        raise RunError(f"{out}: is a run of clustercl train, wanted a folder for a comparison: choose another --out")
    require_writable(out)
    if source.is_demo:
        place = _demo(out, grid.task, test_data)
    _require_same(grid, out, place)
    _require_cases(task, out, place)
    if not all(_finished(grid, out, cell, place) for cell in own):
        _require_possible(grid, cells, place)
    _remember(grid, out, place)
    store = StageStore(out / "stages")
    for count, cell in enumerate(own, 1):
        run = RunFolder(out / "runs" / cell.folder)
        say(f"--- {count}/{len(own)}: {cell.name}, label fraction {cell.label_fraction:g}, "
            f"{f'fold {cell.fold}, ' if cell.fold else ''}seed {cell.seed}")  # fmt: skip
        if _finished(grid, out, cell, place):
            run.require_same(grid.config(cell), place.source(cell))
            run.move(place.source(cell))
            say("finished before, skipped")
            continue
        left = None if time_limit is None else time_limit - (time.monotonic() - began)
        train(grid.config(cell), run.path, place.data, place.unlabelled, place.list_csv, place.labels, devices,
              time_limit=left, groups=place.groups_of(cell), store=store)  # fmt: skip
        if test_data is not None and not is_of(run.test_data, test_data):
            shutil.rmtree(run.test_data, ignore_errors=True)
            evaluate_run(run.path, data=test_data, result=run.test_data, devices=devices, checked=True)
            remember_data(run.test_data, test_data)
        write_json(run.cell, {"method": cell.name, "label_fraction": cell.label_fraction, "fold": cell.fold,
                              "seed": cell.seed})  # fmt: skip
        after()


def _finished(grid: Grid, out: Path, cell: Cell, place: Place) -> bool:
    run = RunFolder(out / "runs" / cell.folder)
    tested = place.test_data is None or is_of(run.test_data, place.test_data)
    return run.cell.is_file() and run.finished("evaluation", grid.config(cell)) and tested


def _require_same(grid: Grid, out: Path, place: Place) -> None:
    """UsageError where the folder holds a comparison with other settings: its table would set apart what does not
    differ by the method alone."""
    path = out / COMPARISON
    if not path.is_file():
        return
    try:
        before = read_json(path)
        before["source"] = Source.from_dict(before["source"]).moved_to(place.source()).to_dict()
        known = before["source"].pop("groups")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: is damaged ({error}): remove it, then run the comparison again") from error
    now = _common(grid, place)
    if now["source"].pop("groups") is not None and known is not None:  # methods that need them may come later
        before["source"]["groups"], now["source"]["groups"] = known, os.path.abspath(place.groups)
    require_equal(out, "comparison", before, now)


def _require_cases(task: Task, out: Path, place: Place) -> None:
    """DataError where data that were moved lack a case of some run: the table would set apart tests on other cases."""
    cases: dict[str, Case] = {}
    for config in sorted(out.glob("runs/*/*/config.json")):
        run = RunFolder(config.parent)
        before, split = run.read_config()[1], run.read_split()
        now = replace(place.source(), groups=before.groups)
        if split is None or before == now or before.moved_to(now) != now:
            continue
        cases = cases or {case.id: case for case in place.cases(task)}
        for name in split.train + split.unlabelled + split.validation + split.test:
            if name not in cases:
                raise DataError(f"{run.split_path}: names the case {name}, which the data do not hold at their new "
                                "place: put it back, or choose another --out")  # fmt: skip
        run.require_labels(split, cases)


def _remember(grid: Grid, out: Path, place: Place) -> None:
    path, content = out / COMPARISON, _common(grid, place)
    if path.is_file():
        content["source"]["groups"] = content["source"]["groups"] or read_json(path)["source"]["groups"]
    write_json(path, content)


def _common(grid: Grid, place: Place) -> dict:
    """What all cells of a comparison have in common, as JSON would give it back."""
    return {"config": grid.shared(), "source": place.source().to_dict()}


def _require_possible(grid: Grid, cells: Sequence[Cell], place: Place) -> None:
    """Errors that some cell, or its evaluation on other data, would meet hours after the first one started."""
    task = get_task(grid.task, place.labels)
    found = place.cases(task)
    for config in {(cell.label_fraction, cell.fold, cell.seed): grid.config(cell) for cell in cells}.values():
        split = make_split(found, task, config.split_seed, config.label_fraction, config.fold, label_seed=config.seed)
        if place.groups is not None:  # also where no method needs it yet: the folder remembers the table
            read_groups(place.groups, split.train + split.unlabelled)
    if place.test_data is not None:
        others = [case for case in find_cases(task, place.test_data) if case.label is not None]
        if not others:
            raise DataError(f"{place.test_data}: holds no case with a label, so there is nothing to compare with")
        try:
            rows = read_all(others, task)
        except DataError as error:
            raise DataError(f"--test-data: {error}") from None
        if seen := learnt_from(others, rows, found, task):
            first = next(case.image for case in others if case.id in seen)
            raise DataError(
                f"--test-data {place.test_data}: {len(seen)} of its images are among those of --data, --list or "
                f"--unlabelled, such as {first}: no network may be tested on what it learnt from"
            )


def _demo(out: Path, task: str, test_data: Path | None) -> Place:
    """The demo data, once for all cells: folder, unlabelled ones, their kinds."""
    from clustercl.data.demo import write_demo

    folder = out / "demo_data"
    if not folder.is_dir():
        say(f"no --data given: writing demo data to {folder}")
        try:
            write_demo(folder, task)
        except DataError:
            if not folder.is_dir():  # else another part of the comparison was faster
                raise
    return Place(folder, [folder / "unlabelled"], groups=folder / "kinds.csv", test_data=test_data)
