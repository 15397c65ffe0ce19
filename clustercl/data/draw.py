"""Random numbers for each sample of a batch, from that sample's seed alone."""

import numpy as np
import torch

from clustercl.data.seeds import mix


class Draw:
    """Draws one number per sample, or a field of them. The n-th draw depends on the sample's seed and n.

    Parameters (b,) are drawn on the CPU, where choices that depend on them need no synchronisation; seeds should lie
    there too.
    """

    def __init__(self, seeds: torch.Tensor, device: torch.device):
        self.seeds = seeds.cpu().numpy()
        self.device = device
        self._count = 0

    def uniform(self, low: float, high: float) -> torch.Tensor:
        """(b,) float32 on the CPU in [low, high)."""
        # The upper 53 of the 63 bits fill a double.
        unit = (self._next() >> 10).astype(np.float64) / 2**53
        return torch.from_numpy((low + (high - low) * unit).astype(np.float32))

    def chance(self, probability: float) -> torch.Tensor:
        """(b,) bool on the CPU."""
        return self.uniform(0, 1) < probability

    def normal(self, shape: torch.Size, chosen: torch.Tensor) -> torch.Tensor:
        """Standard normal values (len(chosen), *shape) on the device for the samples with these indices."""
        result = torch.empty(len(chosen), *shape, device=self.device)
        generator = torch.Generator(self.device)
        seeds = self._next()
        for row, sample in zip(result, chosen.tolist()):
            row.normal_(generator=generator.manual_seed(int(seeds[sample])))
        return result

    def _next(self) -> np.ndarray:
        self._count += 1
        return mix(self.seeds, self._count)
