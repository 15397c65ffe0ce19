"""A large batch in little memory."""

from collections.abc import Callable

import torch
from torch.utils.checkpoint import checkpoint


def in_parts(network: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor, parts: int) -> torch.Tensor:
    """network(x) of a batch (b, ...), with the activations of but one of so many parts of it in memory at a time.

    Each part is computed a second time in the backward pass, about a third more work for the same result: unlike
    gradients added up over small batches, this leaves negatives, batch norm and Dice to the whole batch.
    `network` must treat samples apart. Source: Chen et al., Training Deep Nets with Sublinear Memory Cost, 2016.
    """
    if parts == 1:
        return network(x)
    if not torch.is_grad_enabled():
        return torch.cat([network(part) for part in x.chunk(parts)])
    return torch.cat([checkpoint(network, part, use_reentrant=False) for part in x.chunk(parts)])
