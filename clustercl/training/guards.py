"""What must not pass unseen while nobody looks: losses that are not finite, memory that is full, embeddings alike."""

from collections import deque
from collections.abc import Sequence
from contextlib import AbstractContextManager

import torch

from clustercl.errors import RunError
from clustercl.evaluation.memory import full_memory_is_told
from clustercl.training.settings import StageSettings

NORMS_KEPT = 5
FILES_NAMED = 8
COLLAPSED = 0.1  # of the spread that embeddings have which point everywhere alike, see `embedding_spread`


class LossWatch:
    """Reads the loss of a step on the host without stopping the device: its copy is queued before the backward pass
    and read behind it, before the optimiser uses the gradient."""

    def __init__(self):
        self.norms: deque[torch.Tensor] = deque(maxlen=NORMS_KEPT)
        self._value, self._copied = torch.zeros(()), None

    def copy(self, loss: torch.Tensor) -> None:
        loss = loss.detach()
        if loss.device.type != "cuda":
            self._value, self._copied = loss, None
            return
        if self._copied is None:
            self._value, self._copied = torch.zeros((), dtype=loss.dtype).pin_memory(), torch.cuda.Event()
        self._value.copy_(loss, non_blocking=True)
        self._copied.record()

    @property
    def finite(self) -> bool:
        if self._copied is not None:
            self._copied.synchronize()
        return bool(self._value.isfinite())

    def failure(self, stage: str, step: int, files: Sequence[str], saved: str) -> RunError:
        """What to raise: the step, the files of its batch, the gradient norms of the steps before."""
        named = ", ".join(files[:FILES_NAMED]) + (f" and {len(files) - FILES_NAMED} more" * (len(files) > FILES_NAMED))
        norms = ", ".join(f"{float(norm):.3g}" for norm in self.norms) or "none yet"
        return RunError(f"{stage}: the loss was not finite in step {step} (gradient norms before it: {norms}; its "
                        f"batch: {named}): lower {stage}.lr, or check these images; {saved}")  # fmt: skip


def all_finite(model: torch.nn.Module) -> bool:
    """Whether every weight is; one of them alone would spoil what is learnt from it."""
    return all(bool(parameter.isfinite().all()) for parameter in model.parameters())


def memory_advice(
    stage: str, settings: StageSettings, world: int, device: torch.device
) -> AbstractContextManager[None]:
    """RunError with what helps, where memory runs out inside, in training."""
    rest = f" with batches of {settings.batch_size}{_advice(stage, settings, world)}"
    return full_memory_is_told(stage, device, rest)


def _advice(stage: str, settings: StageSettings, world: int) -> str:
    """At least half as much memory is wanted per sample as was there for all: half the batch is the first to try."""
    own, parts = settings.batch_size // world, settings.accumulate
    told = f" ({own} on each of {world} processes)" if world > 1 else ""
    if own // parts > 1:
        told += f": --set {stage}.accumulate={2 * parts} gives the same result in about half the memory"
        told += f", {stage}.batch_size={world * max(1, own // 2)} would likely fit too"
    else:
        told += ": one sample at a time is too much, lower data.size or data.patch, or model.features"
    return told


def collapse_warning(stage: str, step: int, spread: float) -> str | None:
    if spread >= COLLAPSED:
        return None
    return (f"warning: {stage}: the embeddings are nearly all alike at step {step} (spread {spread:.3f}; below "
            f"{COLLAPSED} they say little, 1 is the most): lower {stage}.lr, or raise {stage}.temperature")  # fmt: skip
