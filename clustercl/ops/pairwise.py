"""The op clustercl::pairwise_distances, and what it needs of Python: the fake kernel and the choice of device."""

import torch

from clustercl.ops import _extension
from clustercl.progress import say_once

METRICS = ("euclidean", "sqeuclidean", "cosine")

if _extension.available():

    @torch.library.register_fake("clustercl::pairwise_distances")
    def _(x, y, metric):
        return x.new_empty((x.shape[0], y.shape[0]), dtype=torch.float64)


def pairwise_distances(x: torch.Tensor, y: torch.Tensor, metric: str) -> torch.Tensor:
    """Distances of the rows of x (n, d) to those of y (m, d): (n, m) float64 on the device of x. No gradient."""
    if not _extension.available():
        raise RuntimeError(f"pairwise_distances: {_extension.MISSING}; build it with: make build")
    x, y = x.detach(), y.detach()
    device = x.device
    reason = _extension.why_no_kernels(device)
    if reason is None:
        return torch.ops.clustercl.pairwise_distances(x, y, metric)
    say_once(f"pairwise_distances: computed on the CPU: {reason}")
    return torch.ops.clustercl.pairwise_distances(x.cpu(), y.cpu(), metric).to(device)
