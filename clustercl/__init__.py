"""clustercl: contrastive pre-training for medical image segmentation.

`import clustercl` costs nothing: each name below is loaded when it is first used (PEP 562). The loss and the clustering
need torch and numpy alone.
"""

from importlib import import_module, metadata

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
__all__ = sorted(_HOME) + ["__version__"]


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
