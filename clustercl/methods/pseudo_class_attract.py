"""The paper's pseudo-classes taken as labels: units of one class also attract each other.

Source of the loss: Khosla et al., "Supervised Contrastive Learning", NeurIPS 2020, on pseudo-classes.
"""

from clustercl.methods.pseudo_class import PseudoClass


class PseudoClassAttract(PseudoClass):
    """All views of all units of the anchor's pseudo-class are positives."""

    same_class = "attract"
