"""clustercl: contrastive pre-training for medical image segmentation.

`import clustercl` costs nothing: each name below is loaded when it is first used (PEP 562). The loss and the clustering
need torch and numpy alone.
"""

import os
from importlib import import_module, metadata
from typing import TYPE_CHECKING

_HOME = {
    "PseudoClassNTXentLoss": "losses",
    "pseudo_class_nt_xent": "losses",
    "linkage": "cluster",
    "assign_to_clusters": "cluster",
    "pairwise_distances": "cluster",
    "cut_tree": "cut",
    "choose_cut": "cut",
    "AgglomerativeClustering": "estimator",
}
_imported_by = os.getpid()  # the kernels are loaded later, perhaps in a process that was forked off since

# Written out, as type checkers want it; tests/test_typing.py compares it with _HOME.
__all__ = [
    "AgglomerativeClustering",
    "PseudoClassNTXentLoss",
    "__version__",
    "assign_to_clusters",
    "choose_cut",
    "cut_tree",
    "linkage",
    "pairwise_distances",
    "pseudo_class_nt_xent",
]

if TYPE_CHECKING:
    from clustercl.cluster import assign_to_clusters, linkage, pairwise_distances
    from clustercl.cut import choose_cut, cut_tree
    from clustercl.estimator import AgglomerativeClustering
    from clustercl.losses import PseudoClassNTXentLoss, pseudo_class_nt_xent

    __version__: str
else:  # a type checker that saw __getattr__ would take any name for one of ours

    def __getattr__(name: str):
        if name in _HOME:
            return getattr(import_module(f"clustercl.{_HOME[name]}"), name)
        if name == "__version__":
            try:
                return metadata.version("clustercl")
            except metadata.PackageNotFoundError:  # a source tree that was never installed
                return "0+unknown"
        raise AttributeError(f"module 'clustercl' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
