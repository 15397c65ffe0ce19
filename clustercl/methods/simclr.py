"""SimCLR: every other unit is a negative. Source: Chen, Kornblith, Norouzi, Hinton, ICML 2020."""

from clustercl.methods.base import Contrastive


class SimCLR(Contrastive):
    """Pseudo-classes are ignored: the loss is NT-Xent on units."""

    same_class = "ignore"
