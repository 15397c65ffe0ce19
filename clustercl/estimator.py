"""Hierarchical clustering as a scikit-learn estimator; without scikit-learn a plain class with the same attributes."""

# help() shows ArrayLike by its name, not the union that it stands for.
from __future__ import annotations

from collections.abc import Callable
from numbers import Real
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

from clustercl.cluster import linkage, one_of
from clustercl.cut import count_clusters, cut_tree
from clustercl.ops.arrays import host_matrix
from clustercl.ops.linkage import METHODS, on_gpu

if TYPE_CHECKING:  # editors that see two classes take get_params() for a mistake
    from sklearn.base import BaseEstimator, ClusterMixin
    from sklearn.utils.validation import validate_data
else:
    try:
        from sklearn.base import BaseEstimator, ClusterMixin
        from sklearn.utils.validation import validate_data
    except ImportError:  # torch and numpy are enough: no clone() and no pipelines then
        validate_data = None

        class ClusterMixin:
            pass

        class BaseEstimator:
            pass


class AgglomerativeClustering(ClusterMixin, BaseEstimator):
    """Exact agglomerative clustering with scikit-learn's parameters, attributes and partition.

    Parameters: n_clusters, an integer or "auto" (see `choose_cut`), or None with distance_threshold, the distance at or
    above which clusters stay apart; linkage: ward, average, complete, single; metric: euclidean (or its name l2) and,
    except for ward, cosine or precomputed, X then being distances (n, n); compute_distances: keep `distances_` without
    a threshold as well. The full tree is always computed, whatever compute_full_tree says. memory and connectivity are
    refused.

    Attributes: n_clusters_, labels_ (n,) int64 numbered by first appearance, children_ (n - 1, 2), distances_ (n - 1,)
    where asked for, n_leaves_, n_connected_components_, n_features_in_, and linkage_matrix_ (n - 1, 4) as SciPy writes.
    Errors: ValueError, as in scikit-learn. Source: sklearn.cluster.AgglomerativeClustering.
    """

    n_clusters_: int
    labels_: np.ndarray
    children_: np.ndarray
    distances_: np.ndarray
    n_leaves_: int
    n_connected_components_: int
    n_features_in_: int
    linkage_matrix_: np.ndarray

    def __init__(
        self,
        n_clusters: int | str | None = 2,
        *,
        metric: str = "euclidean",
        memory: None = None,
        connectivity: None = None,
        compute_full_tree: bool | str = "auto",
        linkage: str = "ward",
        distance_threshold: float | None = None,
        compute_distances: bool = False,
    ):
        self.n_clusters = n_clusters
        self.metric = metric
        self.memory = memory
        self.connectivity = connectivity
        self.compute_full_tree = compute_full_tree
        self.linkage = linkage
        self.distance_threshold = distance_threshold
        self.compute_distances = compute_distances

    def fit(
        self, X: ArrayLike | Tensor, y: object = None, *, progress: Callable[[int, int, int], object] | None = None
    ) -> Self:
        """Cluster the rows of X (n, d), array or tensor, n >= 2; y is ignored. progress as in `linkage`."""
        x = self._checked_data(X)
        self._check_parameters()
        n = len(x)
        # The number is checked before the clustering, which may take long.
        if self.distance_threshold is None and self.n_clusters != "auto":
            count_clusters("AgglomerativeClustering", self.n_clusters, n, None)
        metric = "euclidean" if self.metric == "l2" else self.metric
        z = linkage(X if on_gpu(X) else x, method=self.linkage, metric=metric, progress=progress)
        if self.distance_threshold is not None:
            self.n_clusters_ = int(np.count_nonzero(z[:, 2] >= self.distance_threshold)) + 1
        else:
            self.n_clusters_ = count_clusters("AgglomerativeClustering", self.n_clusters, n, z)
        self.labels_ = cut_tree(z, n_clusters=self.n_clusters_)
        self.children_ = z[:, :2].astype(np.int64)
        self.linkage_matrix_ = z
        self.n_leaves_ = n
        self.n_connected_components_ = 1
        if self.compute_distances or self.distance_threshold is not None:
            self.distances_ = z[:, 2].copy()
        return self

    def fit_predict(
        self, X: ArrayLike | Tensor, y: object = None, *, progress: Callable[[int, int, int], object] | None = None
    ) -> np.ndarray:
        """`fit`, then labels_."""
        return self.fit(X, progress=progress).labels_

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.pairwise = self.metric == "precomputed"
        return tags

    def _checked_data(self, X):
        if validate_data is None:
            x = host_matrix(X, "X", "AgglomerativeClustering", least_rows=2)
            self.n_features_in_ = x.shape[1]
            return x
        if hasattr(X, "is_cuda"):  # a tensor on another device cannot become an array by itself
            X = host_matrix(X, "X", "AgglomerativeClustering")
        return validate_data(self, X, dtype=[np.float64, np.float32], ensure_min_samples=2)

    def _check_parameters(self):
        if self.memory is not None:
            raise ValueError(f"AgglomerativeClustering: memory must be None, got {self.memory!r}; keep linkage_matrix_")
        if self.connectivity is not None:
            raise ValueError(
                "AgglomerativeClustering: connectivity must be None, the clustering compares all pairs; "
                "sklearn.cluster.AgglomerativeClustering takes a graph"
            )
        one_of("AgglomerativeClustering", "linkage", self.linkage, METHODS)
        if self.linkage == "ward" and self.metric not in ("euclidean", "l2"):
            # scikit-learn's words
            raise ValueError(f"{self.metric} was provided as metric. Ward can only work with euclidean distances.")
        one_of("AgglomerativeClustering", "metric", self.metric, ("euclidean", "l2", "cosine", "precomputed"))
        if (self.n_clusters is None) == (self.distance_threshold is None):
            raise ValueError(
                "AgglomerativeClustering: exactly one of n_clusters and distance_threshold must be given, the other "
                f"None, got n_clusters={self.n_clusters!r}, distance_threshold={self.distance_threshold!r}"
            )
        threshold = self.distance_threshold
        if threshold is not None and not (isinstance(threshold, Real) and threshold >= 0):
            raise ValueError(f"AgglomerativeClustering: distance_threshold must be at least 0, got {threshold!r}")
