"""Stage 1: an auto-encoder whose code is one vector per image, the features that are clustered."""

from functools import partial

import torch
from monai.networks.nets.basic_unet import UpCat
from torch import nn
from torch.nn import functional

from clustercl.models.encoder import Encoder
from clustercl.models.norm import BatchNorm
from clustercl.models.parts import in_parts

# The coarsest map is pooled to this many cells per axis before it becomes the code: the code then knows roughly where
# things are, and its length does not depend on the input's size.
CELLS = {2: 4, 3: 2}
SKETCH = 8  # cells per axis of the coarse picture that the code gives by one linear map


class AutoEncoder(nn.Module):
    """The shared encoder, a linear code, and a decoder without skip connections, so that everything passes the code.

    The reconstruction is a sketch, linear in the code, plus what the convolutions of the decoder add to it. These stop
    at half the resolution, as no vector holds finer detail. Two things make it learn within few hundred steps where it
    otherwise finds the mean image alone (measured on photographs, squared error a quarter): the sketch, by which the
    code is close to principal components from the first step on, and a batch norm of the code, as pooled features of
    different images begin nearly equal.
    """

    parts = 1  # see in_parts

    def __init__(self, encoder: Encoder, code_dim: int):
        super().__init__()
        self.encoder, self.code_dim = encoder, code_dim
        dims, widths, channels = encoder.spatial_dims, encoder.features, encoder.in_channels
        self.cells, self.sketch_cells = (CELLS[dims],) * dims, (SKETCH,) * dims
        flat = widths[-1] * CELLS[dims] ** dims
        self.to_code = nn.Linear(flat, code_dim)
        self.code_norm = BatchNorm(code_dim, affine=False)
        self.from_code = nn.Linear(code_dim, flat)
        self.sketch = nn.Linear(code_dim, channels * SKETCH**dims)
        for level in range(len(widths) - 1, 1, -1):
            # No map of the encoder is concatenated (0 channels), see UpCat.
            block = UpCat(dims, widths[level], 0, widths[level - 1], upsample="deconv", **encoder.settings)
            self.add_module(f"up_{level}", block)
        convolution = nn.Conv2d if dims == 2 else nn.Conv3d
        self.final_conv = convolution(widths[1], channels, kernel_size=1)
        nn.init.zeros_(self.final_conv.weight)  # the sketch comes first
        nn.init.zeros_(self.final_conv.bias)

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """x (b, c, *s) to codes (b, code_dim)."""
        return self._code(self.encoder(x)[-1])

    def pooled(self, x: torch.Tensor) -> torch.Tensor:
        """x (b, c, *s) to the mean over space of the coarsest map, (b, features[-1])."""
        return self.encoder(x)[-1].flatten(2).mean(dim=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x (b, c, *s) to its reconstruction, same shape; over all processes, b >= 2 in training."""
        coarse = in_parts(lambda part: self.encoder(part)[-1], x, self.parts)
        decode = partial(self._decode, coarse.shape[2:], x.shape[2:])
        return in_parts(decode, self._code(coarse), self.parts)

    def _decode(self, coarse: torch.Size, fine: torch.Size, code: torch.Tensor) -> torch.Tensor:
        up = _resize(self.from_code(code).unflatten(1, (self.encoder.features[-1], *self.cells)), coarse)
        for level in range(len(self.encoder.features) - 1, 1, -1):
            up = getattr(self, f"up_{level}")(up, None)
        sketch = self.sketch(code).unflatten(1, (self.encoder.in_channels, *self.sketch_cells))
        return _resize(self.final_conv(up), fine) + _resize(sketch, fine)

    def _code(self, coarse: torch.Tensor) -> torch.Tensor:
        pool = functional.adaptive_avg_pool2d if coarse.ndim == 4 else functional.adaptive_avg_pool3d
        return self.code_norm(self.to_code(pool(coarse, self.cells).flatten(1)))


def _resize(x: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    if x.shape[2:] == shape:
        return x
    mode = "bilinear" if x.ndim == 4 else "trilinear"
    return functional.interpolate(x, size=tuple(shape), mode=mode, align_corners=False)
