"""The paper's method: units of the anchor's own pseudo-class are no negatives.

Source: Zhang, Hu, Sapkota, Shi, Chen, "Unsupervised Feature Clustering Improves Contrastive Representation Learning for
Medical Image Segmentation", IEEE BIBM 2022.
"""

import torch

from clustercl.methods.base import Contrastive, Known


class PseudoClass(Contrastive):
    """Two views of a unit attract each other and are pushed from all units of other pseudo-classes."""

    needs_clusters = True
    least_classes = 2  # in one of all units nobody has a negative
    same_class = "exclude"

    @classmethod
    def label(cls, known: Known, settings) -> torch.Tensor:
        return known.pseudo_class
