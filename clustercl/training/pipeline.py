"""A whole run, one stage of it, or its evaluation: what the command line calls."""

from collections.abc import Callable, Sequence
from pathlib import Path

from clustercl.data.cases import find_cases
from clustercl.data.split import make_split
from clustercl.data.task import get_task
from clustercl.errors import RunError, UsageError
from clustercl.files import read_json
from clustercl.training.config import Config
from clustercl.training.context import Context
from clustercl.training.devices import DeviceRequest, describe, start_fabric
from clustercl.training.graph import ancestors, dependents, needed
from clustercl.training.overrides import flatten, nested, parse_assignment
from clustercl.training.run import TRAINING, RunFolder, Source

# Sections and keys of the configuration that a command of one stage may change in a run that exists.
OWN_KEYS = {
    "autoencoder": ("autoencoder",),
    "clusters": ("cluster",),
    "pretrain": ("pretrain", "method"),
    "finetune": ("finetune", "label_fraction"),
}
COMMANDS = {"autoencode": "autoencoder", "cluster": "clusters", "pretrain": "pretrain", "finetune": "finetune"}


def train(
    config: Config,
    out: Path | str,
    data: Path | None = None,
    unlabelled: Sequence[Path] = (),
    list_csv: Path | None = None,
    labels: str | None = None,
    devices: DeviceRequest | None = None,
    quiet: bool = False,
) -> dict:
    """Run all stages that the configuration's method needs, in the folder `out`, and return the metrics.

    Without `data` and `list_csv` the task's demo data are written to out/demo_data and used. A run that exists goes on
    where it stopped: finished stages are skipped. Raises UsageError where its settings or data are others than those
    asked for, naming them; DataError on bad data, before anything is written; RunError where a stage fails.
    """
    run, source = RunFolder(out), Source.of(data, unlabelled, list_csv, labels)
    get_task(config.task, labels)  # wrong labels are told before devices are touched
    if run.exists():
        run.require_same(config, source)
    else:
        run.require_new()
    context = Context(run, config, source, start_fabric(devices or DeviceRequest(), config), quiet)
    _announce(context)
    context.open()
    _announce_split(context)
    for stage in needed(config):
        if run.finished(stage, config):
            context.say(f"{stage}: finished before, skipped")
        else:
            _run(stage, context)
    return _metrics(context)


def run_stage(
    name: str,
    out: Path | str,
    sets: Sequence[str] = (),
    method: str | None = None,
    label_fraction: float | None = None,
    devices: DeviceRequest | None = None,
    quiet: bool = False,
) -> None:
    """Run one stage ("autoencode", "cluster", "pretrain" or "finetune") of a run that exists.

    A stage that was interrupted goes on; one that is finished, or gets other settings, is done again from its start,
    and the later stages that built on it are discarded, which is said. UsageError on settings that belong to another
    stage; RunError where an earlier stage is missing.
    """
    stage, run = COMMANDS[name], RunFolder(out)
    before, source = run.read_config()
    config = _changed(before, stage, sets, {"method": method, "label_fraction": label_fraction})
    missing = [earlier for earlier in ancestors(config, stage) if not run.finished(earlier, config)]
    if missing:
        commands = {stage: command for command, stage in COMMANDS.items()}
        first = min(missing, key=list(OWN_KEYS).index)
        raise RunError(f"{name}: stage {first} is not finished: run clustercl {commands[first]} {out} first")
    if stage == "pretrain" and stage not in needed(config):
        raise UsageError(f"pretrain: method {config.method} has no pre-training, name another with --method")
    context = Context(run, config, source, start_fabric(devices or DeviceRequest(), config), quiet)
    _announce(context)
    if context.fabric.is_global_zero:
        again = config != before or run.finished(stage, before)
        gone = [later for later in dependents(before, stage) if run.discard(later)]
        if again and run.discard(stage):
            context.say(f"{stage}: done again from its start")
        if gone:
            context.say(f"{name}: discarded what was built on it: {', '.join(reversed(gone))}")
        if config != before:
            run.write_config(config, source)
    context.fabric.barrier()
    context.open()
    if config.label_fraction != before.label_fraction:
        context.split = make_split([*context.cases.values()], context.task, config.seed, config.label_fraction)
        if context.fabric.is_global_zero:
            run.write_split(context.split)
    _announce_split(context)
    _run(stage, context)


def evaluate_run(
    out: Path | str,
    data: Path | None = None,
    list_csv: Path | None = None,
    result: Path | None = None,
    devices: DeviceRequest | None = None,
    quiet: bool = False,
    save_masks: bool = False,
) -> dict:
    """Metrics of a run's fine-tuned network: on its test split, or on every labelled case of a folder or a list.

    Written to `result`; without it those of the test split go to the run's evaluation folder, those of other data
    nowhere.
    """
    from clustercl.evaluation.evaluate import evaluate_cases
    from clustercl.models.checkpoint import load_segmentation

    run = RunFolder(out)
    config, source = run.read_config()
    if not run.best("finetune").is_file():
        raise RunError(f"{run.path}: has no fine-tuned network yet: run clustercl train or clustercl finetune first")
    context = Context(run, config, source, start_fabric(devices or DeviceRequest(), config), quiet)
    note = None
    if data is None and list_csv is None:
        context.open()
        cases, note, result = context.find(context.split.test), context.split.note, result or run.evaluation
    else:
        cases = [case for case in find_cases(context.task, data, (), list_csv) if case.label is not None]
        if not cases:
            raise RunError(f"{data or list_csv}: holds no case with a label, so there is nothing to compare with")
    network = context.layout(load_segmentation(run.best("finetune")).network).to(context.fabric.device)
    return evaluate_cases(
        network, cases, context.task, config.data, context.fabric.device, config.evaluation, result, note=note,
        save_masks=save_masks,
    )  # fmt: skip


def _run(stage: str, context: Context) -> None:
    from clustercl.training import clusters, stages

    runners: dict[str, Callable[[Context], None]] = {
        "autoencoder": stages.run_autoencoder,
        "clusters": clusters.run_cluster,
        "pretrain": stages.run_pretrain,
        "finetune": stages.run_finetune,
        "evaluation": stages.run_evaluate,
    }
    if stage in TRAINING:
        done, steps = context.run.step(stage), getattr(context.config, stage).steps
        context.say(f"{stage}: going on at step {done} of {steps}" if done else f"{stage}: {steps} steps")
    else:
        context.say(stage)
    runners[stage](context)


def _changed(before: Config, stage: str, sets: Sequence[str], options: dict) -> Config:
    """The run's configuration with the changes asked for, all of them this stage's own."""
    values = flatten(before.to_dict())
    changes = dict(parse_assignment(assignment) for assignment in sets)
    changes |= {key: value for key, value in options.items() if value is not None}
    config = Config.from_dict(nested(values | changes))
    for key, value in flatten(config.to_dict()).items():
        if value != values[key] and key.split(".")[0] not in OWN_KEYS[stage]:
            raise UsageError(f"{key}: does not belong to stage {stage}, other stages depend on it: start a new run, or "
                             f"change {', '.join(OWN_KEYS[stage])} here")  # fmt: skip
    return config


def _announce(context: Context) -> None:
    for line in describe(context.fabric):
        context.say(line)
    context.say(f"task {context.task.name} ({', '.join(context.task.classes)}), method {context.config.method}, preset "
                f"{context.config.preset}, seed {context.config.seed}, run folder {context.run.path}")  # fmt: skip


def _announce_split(context: Context) -> None:
    split = context.split
    context.say(f"cases: {len(split.train)} train ({len(split.labelled)} with their labels), {len(split.validation)} "
                f"validation, {len(split.test)} test, {len(split.unlabelled)} unlabelled")  # fmt: skip
    if split.note:
        context.say(f"NOTE: {split.note}")


def _metrics(context: Context) -> dict:
    metrics = read_json(context.run.evaluation / "metrics.json")
    each = ", ".join(f"{name} {value:.3f}" for name, value in metrics["dice"]["per_class"].items())
    context.say(f"evaluation: {metrics['cases']} test cases, mean Dice {metrics['dice']['mean']:.3f} ({each})")
    return metrics
