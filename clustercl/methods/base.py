"""What a pre-training method is: an encoder and views in, a loss out."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from clustercl.models.encoder import Encoder
from clustercl.models.parts import in_parts
from clustercl.models.projection import ProjectionHead, embedding_spread


@dataclass(frozen=True)
class Known:
    """What a run knows of the n units that pre-training sees: what methods make their labels of.

    features (n, d) float32 and tree, SciPy's (n - 1, 4) linkage of them, are there once stages 1 and 2 have run;
    pseudo_class (n,) int64 is a cut of the tree; groups (n,) int64 came with the images, -1 where not known.
    """

    n: int
    seed: int
    features: np.ndarray | None = None
    tree: np.ndarray | None = None
    pseudo_class: torch.Tensor | None = None
    groups: torch.Tensor | None = None


def at_least_float32(x: torch.Tensor) -> torch.Tensor:
    """What autocast left in half precision."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


class Method(nn.Module):
    """A pre-training method. A new one is one file with a subclass, and one line in `METHODS`.

    `pretrains`: whether stage 3 runs; without it fine-tuning starts from the weights `start` names, "autoencoder" or
    "random". `needs_clusters`, `needs_groups`: what `label` wants to be known. `one_of_a_class`: batches hold one unit
    of each label. `least_classes`: so many pseudo-classes it needs. `validates`: whether the loss of held-out units
    tells a better encoder from a worse one. `projects`: whether it has embeddings, `projection_dim` long.
    `own_settings`: keys of the section `pretrain` that only some methods use, and this one does.
    `settings`: the configuration's `pretrain` section, `projection_dim` the length of embeddings.
    """

    pretrains = True
    needs_clusters = False
    needs_groups = False
    one_of_a_class = False
    least_classes = 1
    validates = True
    projects = True
    own_settings: tuple[str, ...] = ()
    start = "random"
    parts = 1  # of the batch that pass through the encoder one after another, see in_parts
    masks = False  # whether labels take away negatives
    spread: torch.Tensor | None = None  # of the last step's embeddings where there are any, see embedding_spread

    def __init__(self, encoder: Encoder, settings, projection_dim: int):
        super().__init__()
        self.encoder, self.settings = encoder, settings

    @classmethod
    def can_cluster_again(cls) -> bool:
        """Whether other pseudo-classes change the loss, and nothing else."""
        return cls.needs_clusters and not cls.one_of_a_class

    @classmethod
    def label(cls, known: Known, settings) -> torch.Tensor:
        """Labels (n,) or (n, levels) int64 of the units, -1 for none."""
        return torch.full((known.n,), -1)

    def loss(self, views: torch.Tensor, labels: torch.Tensor | None, seeds: torch.Tensor) -> torch.Tensor:
        """Scalar loss of augmented views (v, b, c, *s) of b units.

        labels (b,) or (b, levels) int64, -1 or None for unknown ones.
        seeds (b,) int64: a method's own random numbers are drawn from these alone.
        """
        raise NotImplementedError

    def forward(self, views: torch.Tensor, labels: torch.Tensor | None, seeds: torch.Tensor) -> torch.Tensor:
        """`loss`; DDP averages the gradients of what passes through forward only."""
        return self.loss(views, labels, seeds)

    def after_step(self, step: int, steps: int) -> None:
        """Called when the optimiser has done so many steps of all."""


class Contrastive(Method):
    """Embeddings of all views against each other under the pseudo-class NT-Xent loss; subclasses say which mask."""

    same_class = "ignore"
    own_settings: tuple[str, ...] = ("temperature",)

    @property
    def masks(self) -> bool:
        return self.same_class == "exclude"

    def __init__(self, encoder: Encoder, settings, projection_dim: int):
        super().__init__(encoder, settings, projection_dim)
        from clustercl.losses import PseudoClassNTXentLoss

        self.head = ProjectionHead(encoder.features[-1], projection_dim)
        chosen = {"temperature": settings.temperature, "same_class": self.same_class}
        chosen["level_weight"] = self.level_weight()
        self.criterion = PseudoClassNTXentLoss(gather_distributed=True, **chosen)
        # Validation runs on one process, where gathering would wait for the others for ever.
        self.validation_criterion = PseudoClassNTXentLoss(**chosen)

    def level_weight(self) -> tuple[float, ...] | None:
        """Of labels of several levels."""
        return None

    def loss(self, views: torch.Tensor, labels: torch.Tensor | None, seeds: torch.Tensor) -> torch.Tensor:
        coarse = in_parts(lambda part: self.encoder(part)[-1], views.flatten(0, 1), self.parts)
        # In bfloat16 the similarities would carry an error of 1/256, divided by the temperature.
        embeddings = at_least_float32(self.head(coarse))
        self.spread = embedding_spread(embeddings)
        embeddings = embeddings.unflatten(0, views.shape[:2])
        criterion = self.criterion if self.training else self.validation_criterion
        return criterion(embeddings.transpose(0, 1), labels)
