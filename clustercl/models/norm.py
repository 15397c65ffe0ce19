"""Batch norm over the batch of all processes."""

import torch
from torch import nn

from clustercl.ops.gather import gather_rows, rank, world_size


class BatchNorm(nn.BatchNorm1d):
    """`nn.BatchNorm1d` of rows (b, d), whose statistics in training are those of all processes' rows together.

    Every process normalises everybody's rows and keeps its own: a batch is a few hundred vectors here. torch's
    SyncBatchNorm, which exchanges sums instead, has no CPU kernel. b must be the same on every process.
    """

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        if not self.training or world_size() == 1:
            return super().forward(rows)
        everything = super().forward(gather_rows(rows, "rows"))
        return everything[rank() * len(rows) :][: len(rows)]
