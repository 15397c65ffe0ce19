"""Which runs a comparison consists of: methods x label fractions x folds x seeds, and settings that are varied."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from clustercl.errors import UsageError
from clustercl.methods import METHODS
from clustercl.training.config import Config, resolve, settings_of_methods
from clustercl.training.graph import needed
from clustercl.training.overrides import parse_assignment, require_known

# By section of the configuration, or by a key that one stage alone uses.
STAGE_OF = {"autoencoder": "autoencoder", "cluster": "clusters", "pretrain": "pretrain", "finetune": "finetune",
            "evaluation": "evaluation",
            "model.code_dim": "autoencoder", "model.projection_dim": "pretrain"}  # fmt: skip
CELL_KEYS = ("method", "label_fraction", "fold", "seed")  # what cells of one comparison differ in


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
    preset: str | None = None  # that of the file, or "default"
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
        if min(self.seeds) < 0:
            raise UsageError(f"--seeds: wanted whole numbers from 0 on, got {min(self.seeds)}")
        if self.folds < 1:
            raise UsageError(f"--folds: wanted a number from 1 on, got {self.folds}")
        for text in self.sets:
            key, value = parse_assignment(text)
            if key in CELL_KEYS:
                raise UsageError(f"--set {key}={value}: has an option of its own, --{key.replace('_', '-')}s")
        for key, values in self.vary:
            option = f"--vary {key}={','.join(values)}"
            require_known(Config, key)
            if key in CELL_KEYS:
                raise UsageError(f"{option}: {key} has an option of its own, --{key.replace('_', '-')}s")
            if key == "split_seed":
                raise UsageError(f"{option}: others would test, so compare each split in a folder of its own")
            if not any(self._uses(Cell(method, self.label_fractions[0], "", self.seeds[0]), key)
                       for method in self.methods):  # fmt: skip
                raise UsageError(f"{option}: none of the methods {', '.join(self.methods)} uses this setting")

    def config(self, cell: Cell, own: bool = True) -> Config:
        """The validating and the testing cases are the same for every seed; which of the rest are labelled is not.
        `own`: with what the TOML file says of the method alone."""
        found = resolve(self.task, self.preset, self.toml_path, [*self.sets, *cell.variant], own, method=cell.method,
                        label_fraction=cell.label_fraction, fold=cell.fold, seed=cell.seed)  # fmt: skip
        # Not a function of the seeds: another process, or another day, may compare others in the same folder.
        return found if found.split_seed >= 0 else replace(found, split_seed=0)

    def shared(self) -> dict:
        """What all cells have in common, and what single methods have of their own, as plain values."""
        first = Cell(self.methods[0], self.label_fractions[0], "", self.seeds[0])
        content = {key: value for key, value in self.config(first, own=False).to_dict().items() if key not in CELL_KEYS}
        return content | {"folds": self.folds, "methods": settings_of_methods(self.task, self.preset, self.toml_path)}

    @property
    def fold_names(self) -> list[str]:
        return [f"{number}/{self.folds}" for number in range(1, self.folds + 1)] if self.folds > 1 else [""]

    def cells(self) -> list[Cell]:
        """All of them, those that share stages next to one another. A setting that a method does not use is not varied
        for it."""
        cells = []
        for fold in self.fold_names:
            for seed in self.seeds:
                for method in self.methods:
                    for variant in self._variants(Cell(method, self.label_fractions[0], fold, seed)):
                        cells += [Cell(method, share, fold, seed, variant) for share in self.label_fractions]
        return cells

    def _variants(self, plain: Cell) -> list[tuple[str, ...]]:
        variants = []
        for key, values in self.vary:
            if self._uses(plain, key):
                variants += [(f"{key}={value}",) for value in values]
        return variants or [()]

    def _uses(self, cell: Cell, key: str) -> bool:
        """Whether a setting changes what this cell computes."""
        section, _, name = key.rpartition(".")
        stage = STAGE_OF.get(key, STAGE_OF.get(section))
        if stage is None:
            return True
        method = METHODS[cell.method]
        if stage not in needed(self.config(cell)):
            return False
        if section == "cluster" and method.one_of_a_class:  # groups of its own, of the features alone
            return name in ("feature", "whiten")
        if name == "projection_dim":
            return method.projects
        if name == "recluster_epochs":
            return method.can_cluster_again()
        of_some = {own for other in METHODS.values() for own in other.own_settings}
        return section != "pretrain" or name not in of_some or name in method.own_settings


def parse_vary(texts: Sequence[str]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """ "cluster.n_clusters=10,20" to ("cluster.n_clusters", ("10", "20")); a value may be a list in brackets."""
    found = []
    for text in texts:
        key, _, listed = (part.strip() for part in text.partition("="))
        values = tuple(value.strip() for value in re.split(r",(?![^\[]*\])", listed))  # not at commas in brackets
        if not key or "" in values:
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
