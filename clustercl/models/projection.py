"""The head of contrastive pre-training: pooled coarse features to the embedding that the loss compares."""

import math

import torch
from torch import nn

from clustercl.models.norm import BatchNorm


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
            BatchNorm(features),
            nn.ReLU(),
            nn.Linear(features, projection_dim),
        )

    def forward(self, coarse: torch.Tensor) -> torch.Tensor:
        return self.layers(coarse.flatten(2).mean(dim=2))


def embedding_spread(embeddings: torch.Tensor) -> torch.Tensor:
    """How far embeddings (n, d) differ: the standard deviation of the coordinates of the unit vectors, times sqrt(d).

    1 where they point everywhere alike, 0 where all are the same. Source: Chen and He, Exploring Simple Siamese
    Representation Learning, CVPR 2021.
    """
    unit = torch.nn.functional.normalize(embeddings.detach().float(), dim=1)
    return unit.std(dim=0, correction=0).mean() * math.sqrt(embeddings.shape[1])
