"""A run folder: what lies where, which stages are finished, and whether a run may go on with given settings.

    config.json  split.json  demo_data/ (only without data of one's own)  encoder.pt (only with --encoder)
    autoencoder/ pretrain/ finetune/   each: last.pt previous.pt best.pt metrics.jsonl and TensorBoard event files
    clusters/    features.npy linkage.npy units.csv
    evaluation/  metrics.json per_case.csv    report.html (only after clustercl report)
    cell.json  evaluation_test_data/   only in a comparison: that it is finished, and metrics on another folder

Whether a stage is finished is read from its files; there is no other state, so nothing can disagree with them.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from clustercl.data.cases import Case
from clustercl.data.source import Source
from clustercl.data.split import Split
from clustercl.errors import DataError, RunError, UsageError
from clustercl.evaluation.comparison import no_run
from clustercl.files import finish_folder, read_json, read_rows, write_json
from clustercl.owner import is_left, owner_of
from clustercl.progress import say_once
from clustercl.training.config import Config
from clustercl.training.overrides import flatten

TRAINING = ("autoencoder", "pretrain", "finetune")
STAGES = ("autoencoder", "clusters", "pretrain", "finetune", "evaluation")


def require_equal(path: Path, what: str, before: dict, now: dict) -> None:
    """UsageError naming every setting in which what lies at `path` differs from what is asked for now."""
    before, now = flatten(before), flatten(now)
    pairs = {key: (before.get(key), now.get(key)) for key in before | now}
    differing = [f"{key} was {was!r}, is {wanted!r}" for key, (was, wanted) in pairs.items() if was != wanted]
    if differing:
        shown = "; ".join(differing[:6]) + (f"; and {len(differing) - 6} more" if len(differing) > 6 else "")
        raise UsageError(
            f"{path}: holds a {what} with other settings ({shown}): repeat them to go on, or choose another --out"
        )


class RunFolder:
    """The paths of a run; reading and writing what is not a stage's own."""

    def __init__(self, path: Path | str):
        self.path = Path(path)
        self.config_path = self.path / "config.json"
        self.split_path = self.path / "split.json"
        self.demo_data = self.path / "demo_data"
        self.clusters = self.path / "clusters"
        self.evaluation = self.path / "evaluation"
        self.encoder = self.path / "encoder.pt"
        self.report = self.path / "report.html"
        self.cell = self.path / "cell.json"
        self.test_data = self.path / "evaluation_test_data"

    def last(self, stage: str) -> Path:
        return self.path / stage / "last.pt"

    def best(self, stage: str) -> Path:
        return self.path / stage / "best.pt"

    def metrics(self, stage: str) -> Path:
        return self.path / stage / "metrics.jsonl"

    def exists(self) -> bool:
        return self.config_path.is_file()

    def require_new(self) -> None:
        """RunError where the folder holds something that is no run."""
        if self.path.exists() and not self.path.is_dir():
            raise RunError(f"{self.path}: is a file, wanted a folder for the run")
        if self.path.is_dir() and any(not entry.name.startswith(".") for entry in self.path.iterdir()):
            raise RunError(f"{self.path}: is neither empty nor a run of clustercl: choose another --out")

    def write_config(self, config: Config, source: Source) -> None:
        write_json(self.config_path, config.to_dict() | {"source": source.to_dict()})

    def read_config(self) -> tuple[Config, Source]:
        """RunError where this is no run, DataError where its config.json is damaged."""
        if not self.exists():
            raise no_run(self.path)
        try:
            content = read_json(self.config_path)
            source = Source.from_dict(content.pop("source"))
            return Config.from_dict(content), source
        except (ValueError, TypeError, KeyError, AttributeError, UsageError) as error:
            raise DataError(f"{self.config_path}: is damaged or of another version of clustercl ({error})") from error

    def require_same(self, config: Config, source: Source) -> None:
        """UsageError naming every setting in which the run differs from what is asked for now; data that were moved
        are the same."""
        known, place = self.read_config()
        require_equal(self.path, "run", known.to_dict() | {"source": place.moved_to(source).to_dict()},
                      config.to_dict() | {"source": source.to_dict()})  # fmt: skip

    def moved(self, source: Source) -> str:
        """Which data lie elsewhere now, at `source`; empty where none do."""
        return self.read_config()[1].differing(source)

    def move(self, source: Source) -> None:
        """Keep where the data lie now."""
        if self.moved(source):
            self.write_config(self.read_config()[0], source)

    def write_split(self, split: Split) -> None:
        write_json(self.split_path, split.to_dict())

    def read_split(self) -> Split | None:
        """None before it was written."""
        return Split.read(self.split_path) if self.split_path.is_file() else None

    def require_labels(self, split: Split, cases: dict[str, Case]) -> None:
        """DataError where a case lost the label that split.json counts on; cases that are gone are not looked for."""
        for name in {*split.labelled, *split.validation, *split.test} & cases.keys():
            if cases[name].label is None:
                raise DataError(f"{cases[name].image}: {self.split_path} counts on its label, which is gone: put it "
                                "back, or start a new run")  # fmt: skip

    def require_encoder(self, source: Source, encoder) -> None:
        """UsageError where --encoder names another file now, and that has other weights than the run began with;
        `encoder`: the network that they are for."""
        if source.encoder == self.read_config()[1].encoder:
            return
        import torch

        from clustercl.models.foreign import match_encoder

        own, now = torch.load(self.encoder, weights_only=True), match_encoder(source.encoder, encoder).weights
        if own.keys() != now.keys() or not all(torch.equal(own[name], now[name]) for name in own):
            raise UsageError(f"--encoder {source.encoder}: holds other weights than {self.encoder}, with which the run "
                             "began: choose another --out")  # fmt: skip

    def finished(self, stage: str, config: Config) -> bool:
        """Whether a stage came to its end. DataError where nothing that can be read tells: work would be lost."""
        if stage == "clusters":
            return (self.clusters / "units.csv").is_file()
        if stage == "evaluation":
            return (self.evaluation / "metrics.json").is_file()
        steps = getattr(config, stage).steps
        return self.best(stage).is_file() and (self._outlived_last(stage, steps) or self.step(stage) >= steps)

    def step(self, stage: str) -> int:
        """Steps done up to a stage's last checkpoint, 0 without one."""
        from clustercl.models.checkpoint import read_last

        with self.reading(stage):
            content = read_last(self.path / stage, stage)
        return 0 if content is None else content["step"]

    def _outlived_last(self, stage: str, steps: int) -> bool:
        """Whether last.pt is damaged and nothing lost: it is for going on alone, later stages read best.pt."""
        from clustercl.models.checkpoint import read_checkpoint

        if not self.last(stage).is_file():
            return False
        try:
            read_checkpoint(self.last(stage), stage)
            return False
        except DataError as error:
            damage = error
        try:
            read_checkpoint(self.best(stage), stage)
        except DataError:
            return False
        if max((row["step"] for row in read_rows(self.metrics(stage))), default=0) < steps:
            return False
        say_once(f"warning: {damage}; the stage was finished and {self.best(stage)} is intact, so nothing is lost")
        return True

    @contextmanager
    def reading(self, stage: str) -> Iterator[None]:
        """Where a checkpoint of the stage cannot be read, the error says how to get another."""
        try:
            yield
        except DataError as error:
            raise DataError(f"{error}: delete {self.path / stage} to train it again") from error

    def sweep(self) -> None:
        """Remove what kills left half-written or half removed, by the names of `atomic`, `atomic_folder`,
        `write_demo` and `discard`; an evaluation that only wanted its files renamed is completed.

        For whoever holds the folder, and so alone writes in those of stages but the last; `evaluate` and `report`
        may be at work beside it.
        """
        for folder in (self.evaluation, self.test_data):
            with suppress(OSError):  # a run that is only read may lie on a disk that cannot be written to
                finish_folder(folder)
        own = [self.path / stage for stage in STAGES[:-1]]
        for path in [*self.path.glob(".*"), *self.path.glob("*/.*")]:
            of_holder = path.parent in own and owner_of(path) is not None
            if not (of_holder or is_left(path) or path.name.startswith(".discarded.")):
                continue
            with suppress(OSError):
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink()

    def discard(self, stage: str) -> bool:
        """Remove what a stage left, in one rename so that a kill leaves all of it or nothing; whether there was any.

        The report goes with it: it shows what is no longer so. With the evaluation goes all that a comparison knows.
        """
        folder = self.path / stage
        aside = self.path / f".discarded.{stage}"
        shutil.rmtree(aside, ignore_errors=True)
        if not folder.exists():
            return False
        self.report.unlink(missing_ok=True)
        if stage == "evaluation":
            self.cell.unlink(missing_ok=True)
            shutil.rmtree(self.test_data, ignore_errors=True)
        os.replace(folder, aside)
        shutil.rmtree(aside)
        return True
