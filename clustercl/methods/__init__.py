"""Pre-training methods by the name that --method takes."""

from clustercl.methods.base import Method
from clustercl.methods.baselines import AutoEncoded, Scratch
from clustercl.methods.pseudo_class import PseudoClass
from clustercl.methods.pseudo_class_attract import PseudoClassAttract
from clustercl.methods.simclr import SimCLR

METHODS: dict[str, type[Method]] = {
    "pseudo-class": PseudoClass,
    "pseudo-class-attract": PseudoClassAttract,
    "simclr": SimCLR,
    "autoencoder": AutoEncoded,
    "scratch": Scratch,
}
__all__ = ["METHODS", "Method"]
