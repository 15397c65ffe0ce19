"""The configuration of a run: what each stage does, as nested frozen settings.

`resolve` builds one from a preset, a TOML file, `--set KEY=VALUE` and options, each overruling those before it.
"""

import tomllib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from clustercl.data.settings import DataSettings
from clustercl.data.split import parse_fold
from clustercl.data.task import Task
from clustercl.errors import UsageError
from clustercl.models.settings import ModelSettings
from clustercl.training.overrides import flatten, nested, parse_assignment, plain, rebuild

PRECISIONS = ("auto", "32", "16", "bf16")


@dataclass(frozen=True)
class StageSettings:
    """Trained by AdamW. steps: optimiser steps. batch_size: over all processes. accumulate: parts of the batch that
    pass through the network one after another, for less memory at the same result. lr: the highest learning rate, after
    a rise over `warmup` (a share of the steps) and before half a cosine down to 0. weight_decay: AdamW's. clip_norm:
    bound of the gradient's norm, 0 for none. warmup: see lr.

    validate_every: steps between validations, 0 for one at the end. log_every: steps between rows of metrics.jsonl.
    save_seconds: the first row after so long writes `last.pt`.
    """

    steps: int = 10_000
    batch_size: int = 16
    accumulate: int = 1
    lr: float = 1e-3
    weight_decay: float = 1e-2
    warmup: float = 0.05
    clip_norm: float = 1.0
    validate_every: int = 500
    log_every: int = 20
    save_seconds: float = 60.0

    def __post_init__(self):
        for name, least in (
            ("steps", 1),
            ("batch_size", 1),
            ("accumulate", 1),
            ("validate_every", 0),
            ("log_every", 1),
        ):
            if getattr(self, name) < least:
                raise UsageError(f"{self.section}.{name}: wanted at least {least}, got {getattr(self, name)}")
        for name in ("weight_decay", "clip_norm"):
            if not getattr(self, name) >= 0:
                raise UsageError(f"{self.section}.{name}: wanted a number from 0 on, got {getattr(self, name):g}")
        if not self.lr > 0:
            raise UsageError(f"{self.section}.lr: wanted a number above 0, got {self.lr:g}")
        if not 0 <= self.warmup < 1:
            raise UsageError(f"{self.section}.warmup: wanted a share of the steps in 0..1, got {self.warmup:g}")

    @property
    def section(self) -> str:
        return type(self).__name__.removesuffix("Settings").lower()


@dataclass(frozen=True)
class AutoencoderSettings(StageSettings):
    """Stage 1. The loss is the mean squared error of the reconstruction."""

    def __post_init__(self):
        super().__post_init__()
        _at_least_two("autoencoder.batch_size", self.batch_size, "units, which a batch norm compares")


@dataclass(frozen=True)
class PretrainSettings(StageSettings):
    """Stage 3. batch_size: in units. views: random views of each. temperature: of the contrastive loss. start: the
    encoder begins with "random" weights or with those of stage 1, "autoencoder"."""

    temperature: float = 0.1
    views: int = 2
    start: str = "random"

    def __post_init__(self):
        super().__post_init__()
        _at_least_two("pretrain.batch_size", self.batch_size, "units: one alone has no negative")
        _at_least_two("pretrain.views", self.views, "views, which attract each other")
        if not self.temperature > 0:
            raise UsageError(f"pretrain.temperature: wanted a number above 0, got {self.temperature:g}")
        if self.start not in ("random", "autoencoder"):
            raise UsageError(f"pretrain.start: wanted random or autoencoder, got {self.start!r}")


@dataclass(frozen=True)
class FinetuneSettings(StageSettings):
    """Stage 4. The loss is Dice plus cross-entropy (MONAI's DiceCELoss)."""


@dataclass(frozen=True)
class ClusterSettings:
    """Stage 2. linkage: ward, average, complete or single. n_clusters: pseudo-classes, or "auto" for the widest gap
    between merge heights. feature: what of the auto-encoder is clustered, its "code" or the space "mean" of its
    coarsest map."""

    linkage: str = "ward"
    n_clusters: int | str = 20
    feature: str = "code"

    def __post_init__(self):
        if self.linkage not in ("ward", "average", "complete", "single"):
            raise UsageError(f"cluster.linkage: wanted ward, average, complete or single, got {self.linkage!r}")
        if self.n_clusters != "auto" and (isinstance(self.n_clusters, str) or self.n_clusters < 1):
            raise UsageError(f"cluster.n_clusters: wanted a number from 1 on or auto, got {self.n_clusters!r}")
        if self.feature not in ("code", "mean"):
            raise UsageError(f"cluster.feature: wanted code or mean, got {self.feature!r}")


@dataclass(frozen=True)
class EvaluationSettings:
    """overlap: share by which sliding windows overlap. tolerance_mm: surface Dice counts points as matched within this
    distance (pixels where there is no spacing)."""

    overlap: float = 0.5
    tolerance_mm: float = 2.0

    def __post_init__(self):
        if not 0 <= self.overlap < 1:
            raise UsageError(f"evaluation.overlap: wanted a share in 0..1, got {self.overlap:g}")
        if not self.tolerance_mm >= 0:
            raise UsageError(f"evaluation.tolerance_mm: wanted a distance from 0 on, got {self.tolerance_mm:g}")


@dataclass(frozen=True)
class Config:
    """Everything that decides what a run computes; where its data lie is kept beside it, see `run.py`."""

    task: str
    preset: str = "default"
    seed: int = 0
    method: str = "pseudo-class"
    label_fraction: float = 1.0
    fold: str = ""
    deterministic: bool = False
    precision: str = "auto"
    compile: bool = False
    data: DataSettings = field(default_factory=DataSettings)
    model: ModelSettings = field(default_factory=ModelSettings)
    autoencoder: AutoencoderSettings = field(default_factory=AutoencoderSettings)
    cluster: ClusterSettings = field(default_factory=ClusterSettings)
    pretrain: PretrainSettings = field(default_factory=PretrainSettings)
    finetune: FinetuneSettings = field(default_factory=FinetuneSettings)
    evaluation: EvaluationSettings = field(default_factory=EvaluationSettings)

    def __post_init__(self):
        from clustercl.methods import METHODS

        if self.method not in METHODS:
            raise UsageError(f"--method: there is no method {self.method!r}, wanted one of {', '.join(METHODS)}")
        if not 0 < self.label_fraction <= 1:
            raise UsageError(f"--label-fraction: wanted a share above 0 and up to 1, got {self.label_fraction:g}")
        if self.fold:
            parse_fold(self.fold)
        if self.precision not in PRECISIONS:
            raise UsageError(f"precision: wanted one of {', '.join(PRECISIONS)}, got {self.precision!r}")

    def to_dict(self) -> dict:
        """Plain values only, as JSON and TOML know them."""
        return plain(asdict(self))

    @classmethod
    def from_dict(cls, content: dict) -> "Config":
        """The inverse of `to_dict`. UsageError on keys that do not exist and values of the wrong kind."""
        return rebuild(cls, content)


def require_fitting(config: Config, task: Task) -> None:
    """UsageError where images are too small for the levels of the network, each half as fine as the one before."""
    shape, levels = config.data.spatial_shape(task), len(config.model.features)
    if min(shape) < 2 ** (levels - 1):
        key = "data.size" if task.spatial_dims == 2 else "data.patch"
        raise UsageError(f"{key}: wanted {2 ** (levels - 1)} or more per axis for a network of {levels} levels "
                         f"(model.features), got {min(shape)}")  # fmt: skip


def _at_least_two(key: str, value: int, what: str) -> None:
    if value < 2:
        raise UsageError(f"{key}: wanted at least 2 {what}, got {value}")


def resolve(
    task: str, preset: str = "default", toml_path: Path | str | None = None, sets: Sequence[str] = (), **overrides
) -> Config:
    """The configuration for a task: preset, overruled by a TOML file, then `sets` ("data.size=128"), then `overrides`
    (options of the command line by their configuration key; None is not given).

    UsageError on an unknown key (naming the nearest known one), a value of the wrong kind, or a bad file.
    """
    from clustercl.training.presets import PRESETS

    if (task, preset) not in PRESETS:
        known = ", ".join(sorted({f"{name}/{size}" for name, size in PRESETS}))
        raise UsageError(f"there is no preset {preset!r} for task {task!r}, wanted one of {known}")
    values = flatten({"task": task, "preset": preset} | PRESETS[task, preset])
    if toml_path is not None:
        values |= flatten(_read_toml(Path(toml_path), task, preset))
    for assignment in sets:
        key, value = parse_assignment(assignment)
        if key in ("task", "preset"):
            raise UsageError(f"--set {assignment}: {key} is chosen with --{key}")
        values[key] = value
    values |= {key: value for key, value in overrides.items() if value is not None}
    return Config.from_dict(nested(values))


def _read_toml(path: Path, task: str, preset: str) -> dict:
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"--config: {path} cannot be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"--config: {path} is not TOML: {error}") from error
    for key, chosen in (("task", task), ("preset", preset)):
        if content.get(key, chosen) != chosen:
            raise UsageError(f"--config: {path} is for {key} {content[key]!r}, this run is for {chosen!r}")
    return content
