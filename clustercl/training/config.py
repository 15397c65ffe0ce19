"""The configuration of a run: what each stage does, as nested frozen settings.

`resolve` builds one from a preset, a TOML file, `--set KEY=VALUE` and options, each overruling those before it. The
file may hold what one method has of its own, as in [methods.mae.pretrain]; the others do not see it.
"""

import tomllib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from clustercl.data.settings import DataSettings, view_shape
from clustercl.data.split import parse_fold
from clustercl.data.task import Task
from clustercl.errors import UsageError
from clustercl.models.settings import ModelSettings
from clustercl.training.overrides import flatten, nested, parse_assignment, plain, rebuild, require_known
from clustercl.training.settings import (
    AutoencoderSettings,
    ClusterSettings,
    EvaluationSettings,
    FinetuneSettings,
    PretrainSettings,
)

PRECISIONS = ("auto", "32", "16", "bf16")
OF_METHODS = ("autoencoder", "cluster", "pretrain", "finetune")  # sections of which a method may have its own settings


@dataclass(frozen=True)
class Config:
    """Everything that decides what a run computes; where its data lie is kept beside it, see `run.py`.

    split_seed: of the cases that validate and test, -1 for `seed`; which of the others are labelled is `seed`'s.
    """

    task: str
    preset: str = "default"
    seed: int = 0
    split_seed: int = -1
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
    views = view_shape(shape, config.pretrain.view_scale)
    for key, got in (("data.size" if task.spatial_dims == 2 else "data.patch", shape), ("pretrain.view_scale", views)):
        if min(got) < 2 ** (levels - 1):
            raise UsageError(f"{key}: wanted {2 ** (levels - 1)} or more pixels per axis for a network of {levels} "
                             f"levels (model.features), got {min(got)}")  # fmt: skip


def too_few_classes(config: Config, run: Path | str | None = None) -> str | None:
    """The sentence where there are too few pseudo-classes for the method. `run`: one that has its setting from a time
    when that was allowed, so that only clustering again can change it."""
    from clustercl.methods import METHODS

    classes, least = config.cluster.n_clusters, METHODS[config.method].least_classes
    if classes == "auto" or classes >= least:
        return None
    return (
        f"cluster.n_clusters: wanted {least} or more, or auto, for method {config.method}, got {classes}: in one "
        "pseudo-class of all units no negative is left to learn from"
        + ("" if run is None else f"; cluster and pre-train again, from clustercl cluster {run} "
                                  "--set cluster.n_clusters=auto on")
    )  # fmt: skip


def require_classes(config: Config, run: Path | str | None = None) -> None:
    """UsageError with the sentence of `too_few_classes`."""
    if sentence := too_few_classes(config, run):
        raise UsageError(sentence)


def resolve(
    task: str,
    preset: str | None = None,
    toml_path: Path | str | None = None,
    sets: Sequence[str] = (),
    own: bool = True,
    **overrides,
) -> Config:
    """The configuration for a task: preset, overruled by a TOML file, by what the file says of the method alone (not
    without `own`), then `sets` ("data.size=128"), then `overrides` (options of the command line by their configuration
    key; None is not given). Without `preset` it is the one that the file names, else "default".

    UsageError on an unknown key (naming the nearest known one), a value of the wrong kind, or a bad file.
    """
    common, of_methods = _read(task, preset, toml_path)
    try:
        given = {}
        for assignment in sets:
            key, value = parse_assignment(assignment)
            if key in ("task", "preset"):
                raise UsageError(f"--set {assignment}: {key} is chosen with --{key}")
            given[key] = value
        given |= {key: value for key, value in overrides.items() if value is not None}
        method = str((common | given).get("method", Config.method))
        return Config.from_dict(nested(common | (of_methods.get(method, {}) if own else {}) | given))
    except UsageError as error:
        error.joint = toml_path is None  # a file may differ between machines
        raise


def settings_of_methods(task: str, preset: str | None, toml_path: Path | str | None) -> dict[str, dict]:
    """What a TOML file says of single methods: a dotted key and a value, by method. Errors as `resolve`."""
    return _read(task, preset, toml_path)[1]


def _read(task: str, preset: str | None, toml_path: Path | str | None) -> tuple[dict, dict[str, dict]]:
    """Settings of a preset and a file by their dotted keys, for all methods and by method."""
    from clustercl.training.presets import PRESETS

    content = {} if toml_path is None else _read_toml(Path(toml_path), task, preset)
    named = preset is None and "preset" in content
    preset = str(content["preset"]) if named else preset or Config.preset
    if (task, preset) not in PRESETS:
        where = f"--config: {toml_path}: " * named
        of_task = [size for name, size in PRESETS if name == task]
        known = ", ".join(of_task or sorted({f"{name}/{size}" for name, size in PRESETS}))
        raise UsageError(f"{where}there is no preset {preset!r} for task {task!r}, wanted one of {known}")
    of_methods = _of_methods(content.pop("methods", {}), toml_path)
    return flatten({"task": task, "preset": preset} | PRESETS[task, preset]) | flatten(content), of_methods


def _of_methods(content, path: Path | str | None) -> dict[str, dict]:
    """The tables [methods.NAME.SECTION] of a file. All of them are looked at, whichever method runs."""
    from clustercl.methods import METHODS

    if not isinstance(content, dict) or not all(isinstance(own, dict) for own in content.values()):
        raise UsageError(f"--config: {path}: methods holds a section for each method, as in [methods.mae.pretrain]")
    for name, own in content.items():
        if name not in METHODS:
            raise UsageError(f"--config: {path}: [methods.{name}]: wanted one of {', '.join(METHODS)}")
        for key in flatten(own):
            if key.partition(".")[0] not in OF_METHODS:
                raise UsageError(f"--config: {path}: [methods.{name}] {key}: a method may have settings of its own in "
                                 f"{', '.join(OF_METHODS)}, all else is the same for all")  # fmt: skip
            try:
                require_known(Config, key)
            except UsageError as error:
                raise UsageError(f"--config: {path}: [methods.{name}]: {error}") from None
    return {name: flatten(own) for name, own in content.items()}


def _read_toml(path: Path, task: str, preset: str | None) -> dict:
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"--config: {path} cannot be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"--config: {path} is not TOML: {error}") from error
    if isinstance(content.get("method"), dict):
        raise UsageError(f"--config: {path}: [method]: settings of single methods are in [methods.NAME.SECTION], as in "
                         "[methods.mae.pretrain]")  # fmt: skip
    for key, chosen in (("task", task), ("preset", preset)):
        if chosen is not None and content.get(key, chosen) != chosen:
            raise UsageError(f"--config: {path} is for {key} {content[key]!r}, this run is for {chosen!r}")
    return content
