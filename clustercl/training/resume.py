"""Going on from the last checkpoint of a stage."""

from pathlib import Path

import torch
from torch import nn

from clustercl.errors import DataError, RunError
from clustercl.files import keep_as
from clustercl.models.checkpoint import read_checkpoint, read_last


def restore(
    model: nn.Module, stage: str, optimizer, scheduler, folder: Path, first: bool
) -> tuple[int, float | None, list[torch.Tensor]]:
    """Load the last checkpoint: steps done, the best validation so far, losses of steps that are in no row yet.

    Without one the stage begins, whatever else is there. first: of several processes, the one that may write.
    """
    content = read_last(folder, stage)
    if content is None:
        return 0, None, []
    if first:
        _mend(folder, stage)
    # Copies: the file is mapped, and will be replaced while the optimiser still uses its states.
    content = _copied(content)
    try:
        model.load_state_dict(content["model"])
        optimizer.load_state_dict(content["optimizer"])
        scheduler.load_state_dict(content["scheduler"])
    except (RuntimeError, ValueError, KeyError) as error:
        raise RunError(f"{folder / 'last.pt'}: does not fit the network of this run; discard the stage and redo it "
                       f"({' '.join(str(error).split())[:120]})") from error  # fmt: skip
    return content["step"], content["best"], list(content.get("losses", torch.empty(0)))


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
