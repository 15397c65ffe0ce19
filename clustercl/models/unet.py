"""The segmentation network: the shared encoder and BasicUNet's expanding half."""

import torch
from monai.networks.nets.basic_unet import UpCat
from torch import nn

from clustercl.models.encoder import Encoder
from clustercl.models.parts import in_parts


class UNet(nn.Module):
    """MONAI's BasicUNet around an encoder of any depth; `upcat_i` and `final_conv` keep its parameter names.

    forward: (b, c, *s) to logits (b, num_classes, *s), background first. Any spatial size from `encoder.smallest_input`
    on: odd sizes are padded on the way up.
    """

    parts = 1  # see in_parts

    def __init__(self, encoder: Encoder, num_classes: int):
        super().__init__()
        self.encoder, self.num_classes = encoder, num_classes
        widths = encoder.features
        for level in range(len(widths) - 1, 0, -1):
            fine, coarse = widths[level - 1], widths[level]
            block = UpCat(
                encoder.spatial_dims, coarse, fine, fine, upsample="deconv", halves=level > 1, **encoder.settings
            )
            self.add_module(f"upcat_{level}", block)
        convolution = nn.Conv2d if encoder.spatial_dims == 2 else nn.Conv3d
        self.final_conv = convolution(widths[0], num_classes, kernel_size=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return in_parts(self._logits, x, self.parts)

    def _logits(self, x: torch.Tensor) -> torch.Tensor:
        maps = self.encoder(x)
        up = maps.pop()
        odd = any(side % self.encoder.smallest_input for side in x.shape[2:])
        for level in range(len(maps), 0, -1):
            block = getattr(self, f"upcat_{level}")
            block.is_pad = odd  # padding by nothing copies, and torch.compile stumbles over it (2.13, channels last)
            up = block(up, maps[level - 1])
        return self.final_conv(up)
