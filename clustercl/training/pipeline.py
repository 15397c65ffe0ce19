"""A whole run, one stage of it, or its evaluation: what the command line calls."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from clustercl.data.groups import read_table
from clustercl.data.source import Source
from clustercl.data.task import get_task
from clustercl.errors import RunError, UsageError
from clustercl.files import read_json, require_writable
from clustercl.methods import METHODS
from clustercl.training.config import Config, require_classes, require_fitting, too_few_classes
from clustercl.training.context import Context, new_context
from clustercl.training.devices import DeviceRequest
from clustercl.training.graph import ancestors, dependents, needed
from clustercl.training.interrupt import Interrupt
from clustercl.training.labels import require_groups, true_groups
from clustercl.training.launch import describe
from clustercl.training.overrides import flatten, nested, parse_assignment
from clustercl.training.peers import together
from clustercl.training.room import require_room
from clustercl.training.run import STAGES, TRAINING, RunFolder
from clustercl.training.store import StageStore

# Sections and keys of the configuration that a command of one stage may change in a run that exists.
OWN_KEYS = {
    "autoencoder": ("autoencoder",),
    "clusters": ("cluster",),
    "pretrain": ("pretrain", "method"),
    "finetune": ("finetune", "label_fraction"),
}
COMMANDS = {"autoencoder": "autoencode", "clusters": "cluster", "pretrain": "pretrain", "finetune": "finetune"}


def train(
    config: Config,
    out: Path | str,
    data: Path | None = None,
    unlabelled: Sequence[Path] = (),
    list_csv: Path | None = None,
    labels: str | None = None,
    devices: DeviceRequest | None = None,
    quiet: bool = False,
    time_limit: float | None = None,
    encoder: Path | None = None,
    groups: Path | None = None,
    store: StageStore | None = None,
) -> dict:
    """Run all stages that the configuration's method needs, in the folder `out`, and return the metrics.

    `encoder`: a file of weights that the encoder begins with wherever it would begin at random. `groups`: a table of
    true groups of the images, for methods that compare with them. `store`: stages shared with other runs.
    Without `data` and `list_csv` the task's demo data are written to out/demo_data and used. A run that exists goes on
    where it stopped: finished stages are skipped. Raises UsageError where its settings or data are others than those
    asked for, naming them; DataError on bad data, before anything is written; RunError where a stage fails, or another
    process is at work in the folder. SIGTERM, Ctrl-C and `time_limit` (seconds) end it after the step, saved: Stopped.
    """
    run, source = RunFolder(out), Source.of(data, unlabelled, list_csv, labels, encoder, groups)
    get_task(config.task, labels)  # wrong labels are told before devices are touched
    if run.exists():
        run.require_same(config, source)
    else:
        run.require_new()
        if groups is not None:
            read_table(Path(groups))  # what is wrong with it is told before the data are looked at
    require_writable(run.path)
    require_groups(config.method, source)
    # A run from a time when that was allowed, and with its pre-training behind it, is not kept from going on.
    learnt = run.exists() and run.finished("pretrain", config)
    if not learnt:
        require_classes(config, run.path if run.exists() else None)
    require_fitting(config, get_task(config.task, labels))
    with _at_work(run, config, source, devices, quiet, time_limit) as context:
        context.report = None if store is None else store.report
        context.open()
        if learnt:
            _warn_of_classes(config, context)
        if store is not None:
            store.report = context.report
        _announce_split(context)
        for stage in needed(config):
            if context.from_the_first(partial(run.finished, stage, config)):
                context.say(f"{stage}: finished before, skipped")
                continue
            context.interrupt.between(f"before stage {stage}")
            if context.fabric.is_global_zero:
                # Somebody may have evaluated the network that this stage goes on training.
                for later in dependents(config, stage):
                    run.discard(later)
            context.fabric.barrier()
            if store is None:
                _run(stage, context)
            else:
                store.run(stage, context, partial(_run, stage, context))
        return context.from_the_first(lambda: _metrics(context))


def run_stage(
    stage: str,
    out: Path | str,
    sets: Sequence[str] = (),
    devices: DeviceRequest | None = None,
    quiet: bool = False,
    time_limit: float | None = None,
) -> None:
    """Run one stage ("autoencoder", "clusters", "pretrain" or "finetune") of a run that exists.

    A stage that was interrupted goes on; one that is finished, or gets other settings by `sets` (such as
    "cluster.n_clusters=8", "method=simclr", "label_fraction=0.5"), is done again from its start, and the later stages
    that built on it are discarded, which is said. UsageError on settings that belong to another stage; RunError where
    an earlier stage is missing.
    """
    run = RunFolder(out)
    before, source = run.read_config()
    config = _changed(before, stage, sets)
    if stage in ("clusters", "pretrain"):
        require_classes(config, out if config.cluster == before.cluster else None)
    require_fitting(config, get_task(config.task, source.labels))
    require_groups(config.method, source, out)
    missing = [earlier for earlier in ancestors(config, stage) if not run.finished(earlier, config)]
    if missing:
        first = min(missing, key=list(OWN_KEYS).index)
        raise RunError(f"{stage}: stage {first} is not finished: run clustercl {COMMANDS[first]} {out} first")
    if stage == "pretrain" and stage not in needed(config):
        raise UsageError(f"pretrain: method {config.method} has no pre-training, name another with --method")
    with _at_work(run, config, source, devices, quiet, time_limit) as context:
        context.open()
        if stage == "finetune" and stage in dependents(config, "clusters"):
            _warn_of_classes(config, context)
        if stage == "pretrain" and METHODS[config.method].needs_groups:  # told before anything is discarded
            context.from_the_first(lambda: true_groups(context, context.training_ids))
        if stage == "clusters":
            context.from_the_first(lambda: require_room(config, context.count_units(), context.fabric.device))
        if context.fabric.is_global_zero:
            _make_room(run, stage, before, config, context)
        context.fabric.barrier()
        if config.label_fraction != before.label_fraction:
            context.open()
        _announce_split(context)
        _run(stage, context)


def _warn_of_classes(config: Config, context: Context) -> None:
    if sentence := too_few_classes(config, context.run.path):
        context.say(f"warning: {sentence}")


@contextmanager
def _at_work(
    run: RunFolder,
    config: Config,
    source: Source,
    devices: DeviceRequest | None,
    quiet: bool,
    time_limit: float | None,
) -> Iterator[Context]:
    """A context that holds the run folder, once there is one, and listens to signals."""
    with Interrupt(time_limit) as interrupt:
        context = new_context(run, config, source, devices, quiet)
        context.interrupt = interrupt
        with together(context.fabric) as peers:
            context.peers, peers.last_act = peers, context.lock.release
            try:
                if context.fabric.is_global_zero and run.path.is_dir():
                    context.lock.take()
                _announce(context)
                yield context
            finally:
                context.lock.release()


def _make_room(run: RunFolder, stage: str, before: Config, config: Config, context: Context) -> None:
    """Discard what the stage is about to make untrue, the last stage first, then store the configuration."""
    again = config != before or run.finished(stage, before)
    built_on = {*dependents(before, stage), *dependents(config, stage)}
    gone = [later for later in reversed(STAGES) if later in built_on and run.discard(later)]
    if gone:
        context.say(f"{stage}: discarded what was built on it: {', '.join(reversed(gone))}")
    if again and run.discard(stage):
        context.say(f"{stage}: done again from its start")
    if config.label_fraction != before.label_fraction:
        run.split_path.unlink(missing_ok=True)  # made again by whoever opens the run next, from the new fraction
    if config != before:
        run.write_config(config, context.source)


def _run(stage: str, context: Context) -> None:
    from clustercl.training import clusters, stages

    runners: dict[str, Callable[[Context], None]] = {
        "clusters": clusters.run_cluster,
        "evaluation": stages.run_evaluate,
    }
    if stage in TRAINING and context.fabric.is_global_zero:
        done, steps = context.run.step(stage), getattr(context.config, stage).steps
        context.say(f"{stage}: going on at step {done} of {steps}" if done else f"{stage}: {steps} steps")
    else:
        context.say(stage)
    runners.get(stage, partial(stages.run_training, stage))(context)


def _changed(before: Config, stage: str, sets: Sequence[str]) -> Config:
    """The run's configuration with the changes asked for, all of them this stage's own."""
    values = flatten(before.to_dict())
    config = Config.from_dict(nested(values | dict(parse_assignment(assignment) for assignment in sets)))
    for key, value in flatten(config.to_dict()).items():
        if value != values[key] and key.split(".")[0] not in OWN_KEYS[stage]:
            raise UsageError(f"{key}: does not belong to stage {stage}, other stages depend on it: start a new run, or "
                             f"change {', '.join(OWN_KEYS[stage])} here")  # fmt: skip
    return config


def _announce(context: Context) -> None:
    for line in describe(context.fabric, context.config):
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
    cases = metrics["cases"]
    numbers = {"mean Dice": metrics["dice"]["mean"]} | metrics["dice"]["per_class"]
    # None: neither truth nor prediction holds the class in any case.
    mean, *each = (f"{name} {'absent' if value is None else f'{value:.3f}'}" for name, value in numbers.items())
    context.say(f"evaluation: {cases} test case{'s' * (cases > 1)}, {mean} ({', '.join(each)})")
    return metrics
