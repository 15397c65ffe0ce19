"""What every stage of a run is given: configuration, devices, split, and the images prepared for the network."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import torch

from clustercl.data.cache import CachedCase, prepare_cached
from clustercl.data.cases import Case, find_cases
from clustercl.data.check import Report, check_data
from clustercl.data.copies import with_copies_together
from clustercl.data.groups import read_groups
from clustercl.data.prepare import to_float
from clustercl.data.source import Source
from clustercl.data.split import Split, make_split
from clustercl.data.task import Task, get_task
from clustercl.data.units import make_units
from clustercl.errors import ClusterclError, DataError
from clustercl.files import save_torch
from clustercl.models.encoder import Encoder
from clustercl.models.foreign import Match, match_encoder
from clustercl.progress import say
from clustercl.training.config import Config
from clustercl.training.devices import DeviceRequest
from clustercl.training.graph import needed
from clustercl.training.interrupt import Interrupt
from clustercl.training.launch import contrastive_batch, start_fabric
from clustercl.training.lock import RunLock
from clustercl.training.peers import Peers
from clustercl.training.room import require_room
from clustercl.training.run import RunFolder
from clustercl.training.work import stage_seed

WARNINGS_SHOWN = 5
T = TypeVar("T")


@dataclass
class Context:
    """A run at work in this process. `split` and `cases` (by id) are there once `open` has found the data."""

    run: RunFolder
    config: Config
    source: Source
    fabric: object
    quiet: bool = False
    workers: int | None = None  # threads that read images, by default one per core; 0: none beside this one
    interrupt: Interrupt = field(default_factory=Interrupt)
    peers: Peers | None = None  # the other processes
    report: Report | None = None  # what checking the data gave, where it is known
    split: Split | None = None
    cases: dict[str, Case] = field(default_factory=dict)
    _prepared: dict[str, CachedCase] = field(default_factory=dict)

    def __post_init__(self):
        self.task: Task = get_task(self.config.task, self.source.labels)
        self.lock = RunLock(self.run.path / ".lock")

    def open(self) -> None:
        """Write the demo data where they are wanted, find all cases, and make or read the split.

        Of a new run everything is checked as by `clustercl data check`, and prepared, before anything is written: bad
        data stop a run at its start and leave no folder.
        """
        if self.lock.held:  # of who only looks, another may be at work there, on another machine too
            self.run.sweep()
        self.fabric.barrier()
        match = self._match_encoder() if self.fabric.is_global_zero else None
        if self.source.is_demo:
            self._write_demo()
        elif self.run.exists():
            self.source.require_there(self.run.path)
        found = find_cases(self.task, *self.source.places(self.run.demo_data), self.quiet)
        self.cases = {case.id: case for case in found}
        self.split = self.from_the_first(self.run.read_split)
        if self.split is not None:
            self.run.require_labels(self.split, self.cases)
            if moved := self.run.moved(self.source):
                self.find(self.training_ids + self.split.validation + self.split.test)
                self.run.require_encoder(self.source, self._encoder())
                self.say(f"data: {moved}, with all cases of {self.run.split_path}: going on with them")
                if self.fabric.is_global_zero:
                    self.run.move(self.source)
            return
        # One process checks and prepares: as many as there are GPUs would want as many times the memory.
        self.split = self.from_the_first(lambda: self._begin(found, match))

    def _begin(self, found: Sequence[Case], match: Match | None) -> Split:
        config = self.config
        self.report = self.report or self._check(found)
        extents = {row.case: row.foreground for row in self.report.rows}
        together = with_copies_together(found, self.report.rows)
        split_seed = config.seed if config.split_seed < 0 else config.split_seed
        self.split = make_split(together, self.task, split_seed, config.label_fraction, config.fold, extents,
                                config.seed)  # fmt: skip
        if self.task.spatial_dims == 2 and len(self.training_ids) < 2 and "autoencoder" in needed(self.config):
            only = self.cases[self.training_ids[0]].image
            raise DataError(f"{only}: is the only image to learn from, wanted two or more to cluster: add images, "
                            "or use --method scratch")  # fmt: skip
        if self.source.groups is not None:  # also where the method does not need it: the run remembers the table
            read_groups(Path(self.source.groups), self.training_ids)
        if "clusters" in needed(config):
            require_room(config, self.count_units(), self.fabric.device)
        if not self.source.is_demo:
            learnt = self.split.labelled if needed(config)[0] == "finetune" else self.training_ids
            self.prepared(learnt + self.split.validation)
        if "pretrain" in needed(config) and self.fabric.world_size > 1:
            # What its batches need of the processes is told before hours of the stages that come first.
            contrastive_batch(config, self.count_units(), self.fabric.world_size)
        self.lock.take()
        if match is not None:
            save_torch(self.run.encoder, match.weights)  # the run never depends on their file again
        self.run.write_config(self.config, self.source)
        self.run.write_split(self.split)
        return self.split

    def from_the_first(self, work: Callable[[], T]) -> T:
        """What it gives on the first process, on all; an error there ends them all, and is told once."""
        value = error = None
        if self.fabric.is_global_zero:
            try:
                value = work()
            except ClusterclError as caught:
                error = caught
        if self.fabric.world_size == 1 and error is None:
            return value
        value, code = self.fabric.broadcast((value, None if error is None else error.exit_code))
        if error is not None:
            raise error
        if code is not None:
            raise SystemExit(code)
        return value

    def _write_demo(self) -> None:
        if self.fabric.is_global_zero and not self.run.demo_data.is_dir():
            from clustercl.data.demo import write_demo

            self.lock.take()
            self.run.write_config(self.config, self.source)
            self.say(f"no --data given: writing demo data to {self.run.demo_data}")
            write_demo(self.run.demo_data, self.task.name)
        self.fabric.barrier()

    def _check(self, cases: Sequence[Case]) -> Report:
        """What `clustercl data check` tells. DataError on errors of the data; the first few warnings are said."""
        report = check_data(self.task, cases, quiet=self.quiet, workers=self.workers)
        if errors := [problem.sentence for problem in report.errors]:
            more = f" (and {len(errors) - 1} more such errors: `clustercl data check` lists them)" if errors[1:] else ""
            raise DataError(errors[0] + more)
        for problem in report.problems[:WARNINGS_SHOWN]:
            self.say(f"{problem.severity}: {problem.sentence}")
        if (more := len(report.problems) - WARNINGS_SHOWN) > 0:
            self.say(f"and {more} more such warnings: `clustercl data check` lists them")
        return report

    @property
    def training_ids(self) -> list[str]:
        """Every case that may be learnt from without its label."""
        return self.split.train + self.split.unlabelled

    def count_units(self) -> int:
        """How many units there are to learn from without labels."""
        if self.task.spatial_dims == 2:
            return len(self.training_ids)
        return len(make_units(self.prepared(self.training_ids), self.task, self.config.data))

    def find(self, ids: Sequence[str]) -> list[Case]:
        """The cases of these ids. DataError where the data no longer hold one."""
        for name in ids:
            if name not in self.cases:
                raise DataError(f"{self.run.split_path}: names the case {name}, which the data no longer hold: put it "
                                "back, or start a new run")  # fmt: skip
        return [self.cases[name] for name in ids]

    def prepared(self, ids: Sequence[str]) -> list[CachedCase]:
        """Cases of these ids as the network sees them, from the cache; with labels only where they may be used."""
        with_label = {*self.split.labelled, *self.split.validation}
        for labelled, what in ((True, "reading labelled images"), (False, "reading images")):
            missing = [name for name in ids if name not in self._prepared and (name in with_label) == labelled]
            if missing:
                read = prepare_cached(self.find(missing), self.task, self.config.data, with_label=labelled, label=what,
                                      quiet=self.quiet, workers=self.workers)  # fmt: skip
                self._prepared |= dict(zip(missing, read, strict=True))
        return [self._prepared[name] for name in ids]

    def new_encoder(self, stage: str) -> Encoder:
        """An encoder with random weights, or those of --encoder.

        Seeds torch, so that what is built after it is a function of the seed too.
        """
        torch.manual_seed(stage_seed(self.config.seed, stage))
        encoder = self._encoder()
        if self.source.encoder is not None:
            encoder.load_state_dict(torch.load(self.run.encoder, weights_only=True), strict=False)
        return encoder

    def _encoder(self) -> Encoder:
        model = self.config.model
        return Encoder(self.task.spatial_dims, self.task.in_channels, model.features, model.dropout)

    def _match_encoder(self) -> Match | None:
        """What fits of the weights that the run is to begin with. DataError where nothing does."""
        if self.source.encoder is None or self.run.encoder.is_file() or self.run.split_path.is_file():
            return None
        match = match_encoder(self.source.encoder, self._encoder())
        self.say(f"--encoder {self.source.encoder}: {len(match.weights)} of its weights fit, {len(match.missing)} are "
                 f"missing, {len(match.mismatched)} have another shape")  # fmt: skip
        for line in match.lines():
            self.say(line)
        return match

    @property
    def header(self) -> dict:
        """What every checkpoint keeps of the run."""
        return {"config": self.config.to_dict(), "task": self.task.to_dict()}

    def layout(self, module: torch.nn.Module) -> torch.nn.Module:
        """Channels last: 1.3 (2D) to 1.9 (3D) times as fast on the CPU, and what tensor cores want."""
        return module.to(memory_format=self.memory_format)

    def to_device(self, images: torch.Tensor) -> torch.Tensor:
        """Images (b, c, *s) as prepared, on the device as float32, in the layout of the networks."""
        return to_float(images.to(self.fabric.device, memory_format=self.memory_format))

    @property
    def memory_format(self) -> torch.memory_format:
        return torch.channels_last if self.task.spatial_dims == 2 else torch.channels_last_3d

    @property
    def colour(self) -> bool:
        return self.task.in_channels == 3

    @property
    def voxel(self) -> tuple[float, ...]:
        return self.config.data.voxel(self.task)

    def say(self, text: str) -> None:
        if self.fabric.is_global_zero and not self.quiet:
            say(text)


def new_context(run: RunFolder, config: Config, source: Source, devices: DeviceRequest | None, quiet: bool) -> Context:
    """With its process started, and those beside it."""
    devices = devices or DeviceRequest()
    fabric = start_fabric(devices, config, quiet)
    return Context(run, config, source, fabric, quiet or not fabric.is_global_zero, devices.workers)
