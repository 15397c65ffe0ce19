"""Masked reconstruction: most of the image is hidden in cells, and a U-Net fills them in; its encoder is kept.

Source: He et al., "Masked Autoencoders Are Scalable Vision Learners", CVPR 2022 (three quarters hidden, squared error
of what is hidden); for convolutional networks on volumes, Wald et al., "Revisiting MAE Pre-Training for 3D Medical
Image Segmentation", CVPR 2025. Ours: hidden cells take the image's mean, and the decoder is that of the segmentation
network.
"""

import math

import torch
from torch import nn

from clustercl.methods.base import Method, at_least_float32
from clustercl.models.encoder import Encoder
from clustercl.models.unet import UNet


class MaskedAutoEncoder(Method):
    """`settings.mask_share` of the cells of `settings.mask_cell` pixels or voxels a side are hidden, of every view."""

    projects = False
    own_settings = ("mask_share", "mask_cell")

    def __init__(self, encoder: Encoder, settings, projection_dim: int):
        super().__init__(encoder, settings, projection_dim)
        self.network = UNet(encoder, encoder.in_channels)
        self.criterion = nn.MSELoss(reduction="none")

    def loss(self, views: torch.Tensor, labels: torch.Tensor | None, seeds: torch.Tensor) -> torch.Tensor:
        images = views.flatten(0, 1)
        hidden = torch.cat([self._hidden(views.shape[3:], seeds, view) for view in range(len(views))]).to(images.device)
        mean = images.flatten(2).mean(dim=2).view(*images.shape[:2], *[1] * (images.ndim - 2))
        self.network.parts = self.parts
        rebuilt = at_least_float32(self.network(torch.where(hidden, mean, images)))
        error = self.criterion(rebuilt, images) * hidden
        # A mean for each image, so that parts of a batch weigh alike however many cells end at an edge.
        count = hidden.flatten(1).sum(dim=1) * images.shape[1]
        return (error.flatten(1).sum(dim=1) / count).mean()

    def _hidden(self, shape: torch.Size, seeds: torch.Tensor, view: int) -> torch.Tensor:
        """(b, 1, *shape) bool; a function of each unit's seed and the number of the view."""
        cell = self.settings.mask_cell
        cells = [math.ceil(side / cell) for side in shape]
        total = math.prod(cells)
        wanted = min(max(round(self.settings.mask_share * total), 1), max(total - 1, 1))
        masks = []
        for seed in seeds.tolist():
            order = torch.randperm(total, generator=torch.Generator().manual_seed((seed + view) & 0x7FFFFFFFFFFFFFFF))
            masks.append((order < wanted).view(1, *cells))
        grown = torch.stack(masks)
        for axis in range(len(shape)):
            grown = grown.repeat_interleave(cell, dim=axis + 2).narrow(axis + 2, 0, shape[axis])
        return grown
