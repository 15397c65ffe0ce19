"""The head of contrastive pre-training: pooled coarse features to the embedding that the loss compares."""

import torch
from torch import nn


class ProjectionHead(nn.Module):
    """Mean over space, then Linear, BatchNorm, ReLU, Linear, as in SimCLR (Chen et al., ICML 2020): (b, features, *s)
    to (b, projection_dim). It is thrown away after pre-training.

    The batch norm takes away what all pooled features have in common. Without it every embedding begins in nearly the
    same direction, and at a high learning rate they never part (measured: the loss stays at the logarithm of the number
    of candidates).
    """

    def __init__(self, features: int, projection_dim: int):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(features, features, bias=False),
            nn.BatchNorm1d(features),
            nn.ReLU(),
            nn.Linear(features, projection_dim),
        )

    def forward(self, coarse: torch.Tensor) -> torch.Tensor:
        return self.layers(coarse.flatten(2).mean(dim=2))
