"""Rows of all processes on each of them, differentiable."""

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor

SAME_SHAPE = "must have the same shape on every process (drop the last, smaller batch)"


class _Gather(torch.autograd.Function):
    """All processes' rows in rank order; the gradient of a process' rows is the sum over what all did with them."""

    @staticmethod
    def forward(ctx, rows: Tensor) -> Tensor:
        ctx.count = rows.shape[0]
        return _gathered(rows)

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        # all_reduce instead of reduce_scatter: every backend has it, gloo too.
        grad = grad.contiguous().clone()
        dist.all_reduce(grad)
        return grad[dist.get_rank() * ctx.count :][: ctx.count]


def _gathered(rows: Tensor) -> Tensor:
    rows = rows.detach().contiguous()
    parts = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, rows)
    return torch.cat(parts)


def world_size() -> int:
    """How many processes there are; 1 outside torch.distributed."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Which of them this one is."""
    return dist.get_rank() if world_size() > 1 else 0


def meeting_device(wanted: Sequence) -> torch.device:
    """Where this process can exchange numbers with the others: the device of the first of `wanted` that is a tensor
    whose device the process group serves, else the one that the others would use."""
    backends = dict(part.split(":", 1) for part in dist.get_backend_config().split(","))  # cpu:gloo,cuda:nccl
    for item in wanted:
        if isinstance(item, Tensor) and item.device.type in backends:
            return item.device
    # Gloo exchanges between any devices; where NCCL serves GPUs, those are what the others train on.
    if (backends.get("cuda", "gloo") != "gloo" or "cpu" not in backends) and torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")


def gather_numbers(numbers: Sequence[int], device: torch.device) -> list[list[int]]:
    """The integers of every process, in rank order; as many of them on each."""
    return _gathered(torch.tensor([numbers], dtype=torch.int64, device=device)).tolist()


def gather_rows(rows: Tensor, name: str | None = None) -> Tensor:
    """(n, ...) of every process -> (processes * n, ...) in rank order; floating rows carry a gradient.

    ValueError on every process, naming `name`, when the shapes differ between processes; without a name they must not.
    """
    if world_size() == 1:
        return rows
    if name is not None:
        shapes = gather_numbers(rows.shape, rows.device)
        if any(other != shapes[0] for other in shapes):
            raise ValueError(f"gather_distributed: {name} {SAME_SHAPE}, got {[tuple(other) for other in shapes]}")
    return _Gather.apply(rows) if rows.is_floating_point() else _gathered(rows)
