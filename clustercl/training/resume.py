"""Going on from the last checkpoint of a stage."""

from pathlib import Path

import torch
from torch import nn

from clustercl.errors import DataError, RunError
from clustercl.files import keep_as
from clustercl.models.checkpoint import read_checkpoint, read_last
from clustercl.progress import say


def restore(
    model: nn.Module, stage: str, optimizer, scheduler, folder: Path, fabric
) -> tuple[int, float | None, list[torch.Tensor]]:
    """Load the last checkpoint: steps done, the best validation so far, losses of steps that are in no row yet, on the
    device.

    Without one the stage begins, whatever else is there. The first process reads it for all. RunError where what is
    asked for now could not go on as the run began.
    """
    content = read_last(folder, stage) if fabric.is_global_zero else None
    if content is not None:
        _mend(folder, stage)
        # Copies: the file is mapped, and will be replaced while the optimiser still uses its states.
        content = _copied(content)
    if fabric.world_size > 1:
        content = fabric.broadcast(content)
    if content is None:
        return 0, None, []
    losses = content["losses"]
    _require_same(content, len(losses), folder, fabric)
    if len(losses) != fabric.world_size and fabric.is_global_zero:
        say(f"{stage}: the number of processes was {len(losses)}, is {fabric.world_size}: the batches stay the same, "
            "but sums are rounded in another order, so that weights come to differ in their last digits")  # fmt: skip
    try:
        model.load_state_dict(content["model"])
        optimizer.load_state_dict(content["optimizer"])
        scheduler.load_state_dict(content["scheduler"])
        fabric.strategy.precision.load_state_dict(content["scaler"])
    except (RuntimeError, ValueError, KeyError) as error:
        raise RunError(f"{folder / 'last.pt'}: does not fit the network of this run; discard the stage and redo it "
                       f"({' '.join(str(error).split())[:120]})") from error  # fmt: skip
    own = losses[fabric.global_rank] if len(losses) == fabric.world_size else losses.mean(0)
    return content["step"], content["best"], list(own.to(fabric.device))


def _require_same(content: dict, processes: int, folder: Path, fabric) -> None:
    """RunError where the run would not go on exactly: batches and order are the same for any number of processes."""
    precision, dropout = fabric.strategy.precision.precision, content["config"].get("model", {}).get("dropout", 0)
    if content["precision"] != precision:
        raise RunError(f"{folder}: precision was {content['precision']}, is {precision}: go on with the device it "
                       "began on, or start a new run")  # fmt: skip
    if dropout and processes != fabric.world_size:
        raise RunError(f"{folder}: the number of processes was {processes}, is {fabric.world_size}, and with "
                       f"model.dropout={dropout} other units would be dropped: go on with {processes}")  # fmt: skip


def _mend(folder: Path, stage: str) -> None:
    """Where last.pt cannot be read, the one before takes its place: the next save must not put it over that one."""
    try:
        read_checkpoint(folder / "last.pt", stage)
    except DataError:
        keep_as(folder / "previous.pt", folder / "last.pt")


def _copied(value):
    if isinstance(value, torch.Tensor):
        return value.clone()
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    return [_copied(item) for item in value] if isinstance(value, list) else value
