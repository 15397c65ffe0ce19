"""BYOL: no negatives at all; one view predicts the other's embedding by a slowly following copy of the network.

Source: Grill et al., "Bootstrap Your Own Latent", NeurIPS 2020: symmetric loss, predictor with batch norm, the copy's
momentum rising from 0.996 to 1 along half a cosine. Ours: the head is that of the contrastive methods, and both views
pass the predictor's batch norm together.
"""

import copy
import math

import torch
from torch import nn
from torch.nn.functional import normalize

from clustercl.methods.base import Method, at_least_float32
from clustercl.models.encoder import Encoder
from clustercl.models.norm import BatchNorm
from clustercl.models.parts import in_parts
from clustercl.models.projection import ProjectionHead, embedding_spread

WIDER = 4  # times the embedding: hidden units of the predictor, as 4096 to 256 in the source is 16, and 4 suffices here


class CosineDistance(nn.Module):
    """The mean over rows of 2 - 2 cos of predictions and targets (n, d)."""

    def forward(self, predictions: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return (2 - 2 * (normalize(predictions, dim=1) * normalize(targets, dim=1)).sum(dim=1)).mean()


class BYOL(Method):
    """Two views of a unit attract each other. The loss of held-out units says nothing: it is 0 after a collapse."""

    validates = False
    own_settings = ("momentum",)

    def __init__(self, encoder: Encoder, settings, projection_dim: int):
        super().__init__(encoder, settings, projection_dim)
        self.head = ProjectionHead(encoder.features[-1], projection_dim)
        hidden = WIDER * projection_dim
        self.predictor = nn.Sequential(
            nn.Linear(projection_dim, hidden, bias=False),
            BatchNorm(hidden),
            nn.ReLU(),
            nn.Linear(hidden, projection_dim),
        )
        self.target = copy.deepcopy(nn.ModuleDict({"encoder": encoder, "head": self.head})).requires_grad_(False)
        self.criterion = CosineDistance()

    def loss(self, views: torch.Tensor, labels: torch.Tensor | None, seeds: torch.Tensor) -> torch.Tensor:
        images = views.flatten(0, 1)
        embeddings = self.head(in_parts(lambda part: self.encoder(part)[-1], images, self.parts))
        self.spread = embedding_spread(embeddings)
        predictions = at_least_float32(self.predictor(embeddings)).unflatten(0, views.shape[:2])
        with torch.no_grad():
            targets = self.target["head"](in_parts(lambda part: self.target["encoder"](part)[-1], images, self.parts))
            targets = at_least_float32(targets).unflatten(0, views.shape[:2])
        pairs = [(v, w) for v in range(len(views)) for w in range(len(views)) if v != w]
        return torch.stack([self.criterion(predictions[v], targets[w]) for v, w in pairs]).mean()

    @torch.no_grad()
    def after_step(self, step: int, steps: int) -> None:
        momentum = 1 - (1 - self.settings.momentum) * (math.cos(math.pi * step / steps) + 1) / 2
        for own, followed in ((self.target["encoder"], self.encoder), (self.target["head"], self.head)):
            for theirs, ours in zip(own.parameters(), followed.parameters(), strict=True):
                theirs.lerp_(ours, 1 - momentum)
