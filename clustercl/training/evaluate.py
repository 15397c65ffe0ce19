"""Metrics of the network that a run fine-tuned."""

from collections.abc import Sequence
from pathlib import Path

from clustercl.data.cases import Case, discover, find_cases
from clustercl.data.findings import Row
from clustercl.data.task import Task, TrainedTask
from clustercl.data.unseen import learnt_from, read_all
from clustercl.errors import ClusterclError, DataError, RunError, UsageError
from clustercl.evaluation.memory import SMALLER, memory_advice_untrained
from clustercl.files import finish_folder, require_writable
from clustercl.training.context import Context, new_context
from clustercl.training.devices import DeviceRequest
from clustercl.training.graph import needed
from clustercl.training.interrupt import cleared_up
from clustercl.training.run import RunFolder


def evaluate_run(
    out: Path | str,
    data: Path | None = None,
    list_csv: Path | None = None,
    result: Path | None = None,
    devices: DeviceRequest | None = None,
    quiet: bool = False,
    save_masks: bool = False,
    overwrite: bool = False,
    checked: bool = False,
) -> dict:
    """Metrics of a run's fine-tuned network: on its test split, or on every labelled case of a folder or a list.

    Written to `result`; without it those of the test split go to the run's evaluation folder once the network is
    trained to its end, and those of other data nowhere. All is written at the end, or nothing.

    Every case is read before the first is segmented, and of other data it is said, in the note too, how many of them
    the run learnt from; `checked`: somebody did so before. DataError where a case cannot be read, or `result` holds
    results already and `overwrite` is not set; the run's own are always made anew, and never from other data: that
    folder says that a run is finished, so it is a UsageError.
    """
    from clustercl.evaluation.evaluate import evaluate_cases, result_files
    from clustercl.models.checkpoint import load_segmentation

    devices = devices or DeviceRequest()
    devices.require_one_process("evaluate: one process measures", "start it without")
    run = RunFolder(out)
    config, source = run.read_config()
    if not run.best("finetune").is_file():
        raise RunError(f"{run.path}: has no fine-tuned network yet: run clustercl train or clustercl finetune first")
    is_own = data is None and list_csv is None
    if is_own and run.read_split() is None:
        raise RunError(f"{run.split_path}: is gone, so which cases are its test cases is unknown: put it back, or name "
                       "cases with --data or --list")  # fmt: skip
    if result is not None:
        _require_not_of_a_run(result, run if is_own else None)
        require_writable(result / "masks" if save_masks else result)
    with run.reading("finetune"):
        network = load_segmentation(run.best("finetune")).network
    context = new_context(run, config, source, devices, quiet)
    note = None
    if is_own:
        context.open()
        cases, note = context.find(context.split.test), context.split.note
        try:
            finished = run.finished("finetune", config)
        except ClusterclError as error:
            context.say(f"warning: {error}")
            finished = False
        if not finished:
            context.say(
                "finetune is not finished: these are numbers of its best checkpoint so far, kept out of the run"
            )
        elif result is None:
            result = run.evaluation
            require_writable(result, "name a folder for the results with --out")
    else:
        cases = [case for case in find_cases(context.task, data, (), list_csv) if case.label is not None]
        if not cases:
            raise RunError(f"{data or list_csv}: holds no case with a label, so there is nothing to compare with")
    if result is not None:
        finish_folder(result)
        may_replace = overwrite or result.resolve() == run.evaluation.resolve()
        for file in result_files(result, cases, context.task, save_masks):
            if file.is_dir():
                raise DataError(f"{file}: is a folder, wanted a place for a file: choose another --out")
            if file.exists() and not may_replace:
                raise DataError(f"{file}: exists already: choose another --out, or replace it with --overwrite")
    if not checked:
        task = TrainedTask(**vars(context.task))
        rows = read_all(cases, task, context.quiet, context.workers)
        if not is_own:
            note = _note(context, cases, rows, task)
            if note:
                context.say(f"warning: {note}")
    device = context.fabric.device
    with memory_advice_untrained("evaluation", device, SMALLER, "the same command with"), cleared_up(result):
        network = context.layout(network).to(device)
        return evaluate_cases(
            network, cases, context.task, config.data, device, config.evaluation, result, note=note,
            save_masks=save_masks, quiet=quiet,
        )  # fmt: skip


def _require_not_of_a_run(result: Path, own: RunFolder | None) -> None:
    """UsageError where `result` is the folder for the test cases of a run, but of `own`."""
    place = RunFolder(result.resolve().parent)
    its = place.evaluation == result.resolve() and place.exists()
    if its and (own is None or place.path != own.path.resolve()):
        raise UsageError(f"--out: {result} is for the run's own test cases, which others never replace: choose another "
                         "--out")  # fmt: skip


def _note(context: Context, cases: Sequence[Case], rows: Sequence[Row], task: Task) -> str | None:
    """How many of the cases the run learnt from, and why that may be unknown; None: from none."""
    split = context.run.read_split()
    if split is None:
        return f"whether the network learnt from some of these cases is unknown, as {context.run.split_path} is gone"
    try:
        own = {case.id: case for case in discover(task, *context.source.places(context.run.demo_data))[0]}
    except ClusterclError as error:
        return f"whether the network learnt from some of these cases is unknown, as its own data are gone ({error})"
    unsupervised = {"autoencoder", "pretrain"} & {*needed(context.config)}
    trained = [*split.train, *split.unlabelled] if unsupervised else split.labelled
    names = [*dict.fromkeys([*trained, *split.validation])]
    learnt = [own[name] for name in names if name in own]
    seen = learnt_from(cases, rows, learnt, task, context.quiet, context.workers)
    parts = []
    if seen:
        count = sum(name in {*trained} for name in seen.values())
        parts.append(
            f"{len(seen)} of {len(cases)} cases were learnt from ({count} trained on, {len(seen) - count} validated "
            "on): these numbers say little about new images, so leave those cases out, or evaluate without --data and "
            "--list on the run's own test cases"
        )
    if len(learnt) < len(names):
        parts.append(
            f"{len(names) - len(learnt)} of the {len(names)} images that were learnt from are gone, so whether they "
            "are among these cases is unknown"
        )
    return "; ".join(parts) or None
