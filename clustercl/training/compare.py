"""The same task by several methods, from more and fewer labels, over folds and seeds: which runs, and running them."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from clustercl.errors import UsageError
from clustercl.files import write_json
from clustercl.methods import METHODS
from clustercl.progress import say
from clustercl.training.config import Config, resolve
from clustercl.training.devices import DeviceRequest
from clustercl.training.evaluate import evaluate_run
from clustercl.training.graph import needed
from clustercl.training.overrides import parse_assignment
from clustercl.training.pipeline import train
from clustercl.training.run import RunFolder, Source
from clustercl.training.store import StageStore

CELL = "cell.json"  # in the run folder of a finished cell
SECTION_STAGES = {"cluster": "clusters"}  # sections of the configuration that are not called as their stage


@dataclass(frozen=True)
class Cell:
    """One run of a comparison. `variant`: settings that were varied, as KEY=VALUE."""

    method: str
    label_fraction: float
    fold: str
    seed: int
    variant: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The method as tables call it."""
        return self.method + (f"[{','.join(self.variant)}]" if self.variant else "")

    @property
    def folder(self) -> str:
        fold = f"fold{self.fold.replace('/', 'of')}-" if self.fold else ""
        variant = "".join(f"-{part.replace('/', '_')}" for part in self.variant)
        return f"{self.method}{variant}/labels{self.label_fraction:g}-{fold}seed{self.seed}"


@dataclass(frozen=True)
class Grid:
    """What is compared: methods x label fractions x folds x seeds, and settings that are varied one at a time."""

    task: str
    preset: str = "default"
    methods: tuple[str, ...] = ("scratch", "simclr", "pseudo-class")
    label_fractions: tuple[float, ...] = (0.1, 1.0)
    folds: int = 1
    seeds: tuple[int, ...] = (0,)
    toml_path: Path | None = None
    sets: tuple[str, ...] = ()
    vary: tuple[tuple[str, tuple[str, ...]], ...] = field(default=())  # a key and its values, as text

    def __post_init__(self):
        for option, values in (("--methods", self.methods), ("--label-fractions", self.label_fractions),
                               ("--seeds", self.seeds)):  # fmt: skip
            if not values or len({*values}) < len(values):
                raise UsageError(f"{option}: wanted one or more different values, got {','.join(map(str, values))}")
        for method in self.methods:
            if method not in METHODS:
                raise UsageError(f"--methods: there is no method {method!r}, wanted some of {', '.join(METHODS)}")
        if self.folds < 1:
            raise UsageError(f"--folds: wanted a number from 1 on, got {self.folds}")

    def config(self, cell: Cell) -> Config:
        """The validating and the testing cases are the same for every seed; which of the rest are labelled is not."""
        return resolve(self.task, self.preset, self.toml_path, [*self.sets, *cell.variant], method=cell.method,
                       label_fraction=cell.label_fraction, fold=cell.fold, seed=cell.seed,
                       split_seed=min(self.seeds))  # fmt: skip

    def cells(self) -> list[Cell]:
        """All of them, those that share stages next to one another. A setting that a method does not use is not varied
        for it."""
        folds = [f"{number}/{self.folds}" for number in range(1, self.folds + 1)] if self.folds > 1 else [""]
        cells = []
        for fold in folds:
            for seed in self.seeds:
                for method in self.methods:
                    for variant in self._variants(Cell(method, self.label_fractions[0], fold, seed)):
                        cells += [Cell(method, share, fold, seed, variant) for share in self.label_fractions]
        return cells

    def _variants(self, plain: Cell) -> list[tuple[str, ...]]:
        variants = []
        for key, values in self.vary:
            stage = key.split(".")[0]
            if SECTION_STAGES.get(stage, stage) in (*needed(self.config(plain)), "data", "model"):
                variants += [(f"{key}={value}",) for value in values]
        return variants or [()]


def parse_vary(texts: Sequence[str]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """ "cluster.n_clusters=10,20" to ("cluster.n_clusters", ("10", "20"))."""
    found = []
    for text in texts:
        key, _ = parse_assignment(text)
        values = tuple(value.strip() for value in text.partition("=")[2].split(","))
        if "" in values:
            raise UsageError(f"--vary {text}: wanted KEY=VALUE,VALUE, as in --vary cluster.n_clusters=10,20")
        found.append((key, values))
    return tuple(found)


def parse_shard(text: str) -> tuple[int, int]:
    """ "2/4" to (2, 4). UsageError where it is no part."""
    try:
        number, parts = (int(part) for part in text.split("/"))
    except ValueError:
        number, parts = 0, 0
    if not 1 <= number <= parts:
        raise UsageError(f"--shard: wanted I/N as in 2/4, I from 1 to N, got {text!r}")
    return number, parts


def part_of(cells: Sequence[Cell], shard: str) -> list[Cell]:
    """The cells of one of several processes. Those that differ in labels alone, and so share all stages before the
    last, stay together where there is enough for everybody: else one process would wait while another pre-trains."""
    number, parts = parse_shard(shard)
    alike: dict[tuple, list[Cell]] = {}
    for cell in cells:
        alike.setdefault((cell.name, cell.fold, cell.seed), []).append(cell)
    if len(alike) < parts:
        return list(cells[number - 1 :: parts])
    return [cell for group in list(alike.values())[number - 1 :: parts] for cell in group]


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
    folder. `test_data`: a folder on whose labelled images each network is evaluated too. `after` is called when a cell
    is finished. Errors as `train`; wrong settings of any cell are told before the first one starts.
    """
    cells, began = grid.cells(), time.monotonic()
    own = part_of(cells, shard)
    for cell in cells:
        grid.config(cell)
        if METHODS[cell.method].needs_groups and groups is None and (data or list_csv):
            raise UsageError(
                f"method {cell.method} compares with true groups: name a table of them with --groups F.csv"
            )
    store = StageStore(Path(out) / "stages")
    if data is None and list_csv is None:
        data, unlabelled, groups = _demo(out, grid.task)
    for count, cell in enumerate(own, 1):
        run = RunFolder(Path(out) / "runs" / cell.folder)
        say(f"--- {count}/{len(own)}: {cell.name}, label fraction {cell.label_fraction:g}, "
            f"{f'fold {cell.fold}, ' if cell.fold else ''}seed {cell.seed}")  # fmt: skip
        other = run.path / "evaluation_test_data"
        finished = (run.path / CELL).is_file() and (test_data is None or (other / "metrics.json").is_file())
        if finished:
            run.require_same(grid.config(cell), Source.of(data, unlabelled, list_csv, labels, groups=groups))
            say("finished before, skipped")
            continue
        left = None if time_limit is None else time_limit - (time.monotonic() - began)
        train(grid.config(cell), run.path, data, unlabelled, list_csv, labels, devices, time_limit=left, groups=groups,
              store=store)  # fmt: skip
        if test_data is not None:
            evaluate_run(run.path, data=test_data, result=other, devices=devices)
        write_json(run.path / CELL, {"method": cell.name, "label_fraction": cell.label_fraction, "fold": cell.fold,
                                     "seed": cell.seed})  # fmt: skip
        after()


def _demo(out: Path, task: str) -> tuple[Path, list[Path], Path]:
    """The demo data, once for all cells: folder, unlabelled ones, their kinds."""
    from clustercl.data.demo import write_demo

    folder = Path(out) / "demo_data"
    if not folder.is_dir():
        say(f"no --data given: writing demo data to {folder}")
        write_demo(folder, task)
    return folder, [folder / "unlabelled"], folder / "kinds.csv"
