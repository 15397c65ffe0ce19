"""Metrics of the network that a run fine-tuned."""

from pathlib import Path

from clustercl.data.cases import find_cases
from clustercl.errors import DataError, RunError
from clustercl.evaluation.memory import SMALLER, memory_advice_untrained
from clustercl.files import require_writable
from clustercl.training.context import new_context
from clustercl.training.devices import DeviceRequest
from clustercl.training.run import RunFolder


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

    Written to `result`; without it those of the test split go to the run's evaluation folder once the network is
    trained to its end, and those of other data nowhere.
    """
    from clustercl.evaluation.evaluate import evaluate_cases
    from clustercl.models.checkpoint import load_segmentation

    run = RunFolder(out)
    config, source = run.read_config()
    if not run.best("finetune").is_file():
        raise RunError(f"{run.path}: has no fine-tuned network yet: run clustercl train or clustercl finetune first")
    if result is not None:
        require_writable(result)
    with run.reading("finetune"):
        network = load_segmentation(run.best("finetune")).network
    context = new_context(run, config, source, devices, quiet)
    note = None
    if data is None and list_csv is None:
        context.open()
        cases, note = context.find(context.split.test), context.split.note
        try:
            finished = run.finished("finetune", config)
        except DataError as error:
            context.say(f"warning: {error}")
            finished = False
        if finished:
            result = result or run.evaluation
        else:
            context.say(
                "finetune is not finished: these are numbers of its best checkpoint so far, kept out of the run"
            )
    else:
        cases = [case for case in find_cases(context.task, data, (), list_csv) if case.label is not None]
        if not cases:
            raise RunError(f"{data or list_csv}: holds no case with a label, so there is nothing to compare with")
    device = context.fabric.device
    with memory_advice_untrained("evaluation", device, SMALLER, "the same command with"):
        network = context.layout(network).to(device)
        return evaluate_cases(
            network, cases, context.task, config.data, device, config.evaluation, result, note=note,
            save_masks=save_masks, quiet=quiet,
        )  # fmt: skip
