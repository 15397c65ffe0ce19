"""What a pre-training method is: an encoder and views in, a loss out."""

import torch
from torch import nn

from clustercl.models.encoder import Encoder
from clustercl.models.parts import in_parts
from clustercl.models.projection import ProjectionHead, embedding_spread


class Method(nn.Module):
    """A pre-training method. A new one is one file with a subclass, and one line in `METHODS`.

    `pretrains`: whether stage 3 runs; without it fine-tuning starts from the weights `start` names, "autoencoder" or
    "random". `needs_clusters`: whether `loss` uses pseudo-classes, so that stages 1 and 2 must have run.
    `settings`: the configuration's `pretrain` section, `projection_dim` the length of embeddings.
    """

    pretrains = True
    needs_clusters = False
    start = "random"
    parts = 1  # of the batch that pass through the encoder one after another, see in_parts
    spread: torch.Tensor | None = None  # of the last step's embeddings, see embedding_spread

    def __init__(self, encoder: Encoder, settings, projection_dim: int):
        super().__init__()
        self.encoder, self.settings = encoder, settings

    def loss(self, views: torch.Tensor, pseudo_class: torch.Tensor) -> torch.Tensor:
        """Scalar loss of augmented views (v, b, c, *s) of b units with pseudo-classes (b,) int64, -1 for unknown."""
        raise NotImplementedError

    def forward(self, views: torch.Tensor, pseudo_class: torch.Tensor) -> torch.Tensor:
        """`loss`; DDP averages the gradients of what passes through forward only."""
        return self.loss(views, pseudo_class)


class Contrastive(Method):
    """Embeddings of all views against each other under the pseudo-class NT-Xent loss; subclasses say which mask."""

    same_class = "ignore"

    def __init__(self, encoder: Encoder, settings, projection_dim: int):
        super().__init__(encoder, settings, projection_dim)
        from clustercl.losses import PseudoClassNTXentLoss

        self.head = ProjectionHead(encoder.features[-1], projection_dim)
        chosen = {"temperature": settings.temperature, "same_class": self.same_class}
        self.criterion = PseudoClassNTXentLoss(gather_distributed=True, **chosen)
        # Validation runs on one process, where gathering would wait for the others for ever.
        self.validation_criterion = PseudoClassNTXentLoss(**chosen)

    def loss(self, views: torch.Tensor, pseudo_class: torch.Tensor) -> torch.Tensor:
        # float32: in bfloat16 the similarities would carry an error of 1/256, divided by the temperature.
        coarse = in_parts(lambda part: self.encoder(part)[-1], views.flatten(0, 1), self.parts)
        embeddings = self.head(coarse)
        embeddings = embeddings.to(torch.promote_types(embeddings.dtype, torch.float32))
        self.spread = embedding_spread(embeddings)
        embeddings = embeddings.unflatten(0, views.shape[:2])
        criterion = self.criterion if self.training else self.validation_criterion
        return criterion(embeddings.transpose(0, 1), pseudo_class)
