"""The encoder that auto-encoder, contrastive pre-training and segmentation share."""

from math import gcd

import torch
from monai.networks.nets.basic_unet import Down, TwoConv
from torch import nn

ACTIVATION = ("LeakyReLU", {"negative_slope": 0.1, "inplace": True})
MOST_GROUPS, CHANNELS_PER_GROUP = 8, 4


def group_norm(features: tuple[int, ...]) -> tuple[str, dict]:
    """MONAI's description of a group norm that fits every width in `features`.

    Group norm with several channels to a group: instance norm (or one channel to a group) sets every channel's mean
    over space to a constant, and these means are what pooled features are made of. It knows no running statistics, so
    nothing has to be synchronised between processes.
    """
    return "group", {"num_groups": gcd(MOST_GROUPS, *(max(1, width // CHANNELS_PER_GROUP) for width in features))}


class Encoder(nn.Module):
    """The contracting half of MONAI's BasicUNet (Falk et al., Nature Methods 16, 2019), with group norm.

    Parameters keep BasicUNet's names (conv_0, down_1, ...), so that they load into one. A level halves the resolution,
    rounding down; levels that are 1 voxel wide on an axis would vanish, hence the smallest input is
    2 ** (len(features) - 1) on each axis.
    """

    def __init__(self, spatial_dims: int, in_channels: int, features: tuple[int, ...], dropout: float = 0.0):
        super().__init__()
        self.spatial_dims, self.in_channels, self.features = spatial_dims, in_channels, tuple(features)
        self.settings = {"act": ACTIVATION, "norm": group_norm(self.features), "bias": True, "dropout": dropout}
        self.conv_0 = TwoConv(spatial_dims, in_channels, features[0], **self.settings)
        for level in range(1, len(features)):
            self.add_module(f"down_{level}", Down(spatial_dims, features[level - 1], features[level], **self.settings))

    @property
    def smallest_input(self) -> int:
        """Pixels or voxels that every axis of an input must have at least."""
        return 2 ** (len(self.features) - 1)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """x (b, c, *s) to one map per level, fine to coarse: (b, features[i], *s // 2**i)."""
        maps = [self.conv_0(x)]
        for level in range(1, len(self.features)):
            maps.append(getattr(self, f"down_{level}")(maps[-1]))
        return maps
