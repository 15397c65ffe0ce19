"""What a stage hands to the training loop, and the seed of its random numbers."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from clustercl.data.seeds import mix
from clustercl.models.checkpoint import STAGES


@dataclass
class Work:
    """What a stage trains.

    batch: step to the batch of all processes, a dataclass of CPU tensors (b, ...), a pure function of the step.
    loss: (model, batch) to a scalar. validate: the model in eval mode to the number under `metric`, or None where
    nothing can be validated: then best.pt is the last. header: config and task, kept in every checkpoint. criterion:
    the module in `loss` that compares, whose time the benchmark tells. files: step to the images of its batch, for
    messages. numbers: what a row tells beside the loss, by name; of `embedding_spread`, how far the embeddings of the
    last step differed, 0..1, little is warned of. before: called with every step that is a multiple of `every`, but the
    first, before its batch is seen; what it changes must be part of the model. after: called with the number of steps
    done.
    """

    stage: str
    model: nn.Module
    batch: Callable[[int], Any]
    loss: Callable[[nn.Module, Any], torch.Tensor]
    validate: Callable[[nn.Module], float] | None
    metric: str
    higher_is_better: bool
    header: dict
    criterion: nn.Module | None = None
    files: Callable[[int], list[str]] = lambda step: []
    numbers: Callable[[], dict[str, torch.Tensor]] = dict
    every: int = 0
    before: Callable[[int], None] | None = None
    after: Callable[[int], None] = lambda step: None


def stage_seed(seed: int, stage: str) -> int:
    """A seed of a stage's own: two stages never share a stream."""
    return mix(seed, STAGES.index(stage)).item()
