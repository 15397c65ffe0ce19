"""Pre-training methods by the name that --method takes."""

from clustercl.methods.base import Known, Method
from clustercl.methods.baselines import AutoEncoded, Scratch
from clustercl.methods.byol import BYOL
from clustercl.methods.g_simclr import GSimCLR
from clustercl.methods.mae import MaskedAutoEncoder
from clustercl.methods.oracle_class import OracleClass
from clustercl.methods.pseudo_class import PseudoClass
from clustercl.methods.pseudo_class_attract import PseudoClassAttract
from clustercl.methods.pseudo_class_tree import PseudoClassTree
from clustercl.methods.random_class import RandomClass
from clustercl.methods.simclr import SimCLR

METHODS: dict[str, type[Method]] = {
    "pseudo-class": PseudoClass,
    "pseudo-class-tree": PseudoClassTree,
    "pseudo-class-attract": PseudoClassAttract,
    "random-class": RandomClass,
    "oracle-class": OracleClass,
    "simclr": SimCLR,
    "g-simclr": GSimCLR,
    "byol": BYOL,
    "mae": MaskedAutoEncoder,
    "autoencoder": AutoEncoded,
    "scratch": Scratch,
}
__all__ = ["METHODS", "Known", "Method"]
