"""Negatives weighed by the dendrogram: a unit is pushed less, the lower in the tree it meets the anchor.

Ours. A clustering tree says more than one cut of it: `pseudo-class` leaves out all of one cut's class and pushes all
others alike, however near. Here several cuts are taken at once, from coarse to fine, and a negative counts with the
product of the weights of the cuts on which it shares the anchor's class.
"""

import torch

from clustercl.cut import cut_tree
from clustercl.methods.base import Contrastive, Known


class PseudoClassTree(Contrastive):
    """Cuts into `settings.tree_cuts` times as many classes as there are pseudo-classes, each with its weight."""

    needs_clusters = True
    same_class = "exclude"
    own_settings = (*Contrastive.own_settings, "tree_cuts", "tree_weights")

    def level_weight(self) -> tuple[float, ...]:
        return self.settings.tree_weights

    @classmethod
    def label(cls, known: Known, settings) -> torch.Tensor:
        classes = int(known.pseudo_class.max()) + 1
        counts = [min(max(round(classes * times), 1), known.n) for times in settings.tree_cuts]
        return torch.stack([torch.from_numpy(cut_tree(known.tree, n_clusters=count)) for count in counts], dim=1)
