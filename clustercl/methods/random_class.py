"""The control of `pseudo-class`: as many negatives are left out, but those of units drawn at random.

Ours. What `pseudo-class` gains over this it owes to the clustering, and not to having fewer negatives.
"""

import numpy as np
import torch

from clustercl.methods.base import Known
from clustercl.methods.pseudo_class import PseudoClass


class RandomClass(PseudoClass):
    """Pseudo-classes of the same sizes, dealt out to the units anew."""

    @classmethod
    def label(cls, known: Known, settings) -> torch.Tensor:
        order = np.random.default_rng([known.seed & 0xFFFFFFFF, known.n]).permutation(known.n)
        return known.pseudo_class[torch.from_numpy(order)]
