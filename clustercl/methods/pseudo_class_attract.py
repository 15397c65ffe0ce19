"""The paper's pseudo-classes taken as labels: units of one class also attract each other.

Source of the loss: Khosla et al., "Supervised Contrastive Learning", NeurIPS 2020, on pseudo-classes.
"""

from clustercl.methods.base import Contrastive


class PseudoClassAttract(Contrastive):
    """All views of all units of the anchor's pseudo-class are positives."""

    needs_clusters = True
    same_class = "attract"
