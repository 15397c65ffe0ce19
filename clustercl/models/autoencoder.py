"""Stage 1: an auto-encoder whose code is one vector per image, the features that are clustered."""

import torch
from monai.networks.nets.basic_unet import UpCat
from torch import nn
from torch.nn import functional

from clustercl.models.encoder import Encoder

# The coarsest map is pooled to this many cells per axis before it becomes the code: the code then knows roughly where
# things are, and its length does not depend on the input's size.
CELLS = {2: 4, 3: 2}


class AutoEncoder(nn.Module):
    """The shared encoder, a linear code, and a decoder without skip connections, so that everything passes the code."""

    def __init__(self, encoder: Encoder, code_dim: int):
        super().__init__()
        self.encoder, self.code_dim = encoder, code_dim
        self.cells = (CELLS[encoder.spatial_dims],) * encoder.spatial_dims
        widths = encoder.features
        flat = widths[-1] * CELLS[encoder.spatial_dims] ** encoder.spatial_dims
        self.to_code = nn.Linear(flat, code_dim)
        self.from_code = nn.Linear(code_dim, flat)
        for level in range(len(widths) - 1, 0, -1):
            # No map of the encoder is concatenated (0 channels), see UpCat.
            block = UpCat(
                encoder.spatial_dims, widths[level], 0, widths[level - 1], upsample="deconv", **encoder.settings
            )
            self.add_module(f"up_{level}", block)
        convolution = nn.Conv2d if encoder.spatial_dims == 2 else nn.Conv3d
        self.final_conv = convolution(widths[0], encoder.in_channels, kernel_size=1)

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """x (b, c, *s) to codes (b, code_dim)."""
        return self._code(self.encoder(x)[-1])

    def pooled(self, x: torch.Tensor) -> torch.Tensor:
        """x (b, c, *s) to the mean over space of the coarsest map, (b, features[-1])."""
        return self.encoder(x)[-1].flatten(2).mean(dim=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x (b, c, *s) to its reconstruction, same shape."""
        coarse = self.encoder(x)[-1]
        cells = self.from_code(self._code(coarse)).unflatten(1, (coarse.shape[1], *self.cells))
        up = _resize(cells, coarse.shape[2:])
        for level in range(len(self.encoder.features) - 1, 0, -1):
            up = getattr(self, f"up_{level}")(up, None)
        return _resize(self.final_conv(up), x.shape[2:])

    def _code(self, coarse: torch.Tensor) -> torch.Tensor:
        pool = functional.adaptive_avg_pool2d if coarse.ndim == 4 else functional.adaptive_avg_pool3d
        return self.to_code(pool(coarse, self.cells).flatten(1))


def _resize(x: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    if x.shape[2:] == shape:
        return x
    mode = "bilinear" if x.ndim == 4 else "trilinear"
    return functional.interpolate(x, size=tuple(shape), mode=mode, align_corners=False)
