"""Cutting a linkage matrix into clusters: at a height, into a number of them, or where the gap is largest.

The linkage matrix Z is SciPy's, as `clustercl.linkage` returns it. Needs torch and numpy alone.
"""

# help() shows ArrayLike by its name, not the union that it stands for.
from __future__ import annotations

from dataclasses import dataclass, replace
from math import isqrt

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

from clustercl.cluster import one_of, pairwise_distances
from clustercl.ops.arrays import check_finite, condensed_distances, host_matrix
from clustercl.ops.linkage import METRICS

SILHOUETTE_ROWS = 2000


@dataclass(frozen=True)
class Cut:
    """Where a dendrogram is cut, and why there: what `choose_cut` found."""

    n_clusters: int  # 1 only when no cut separates anything (all heights equal)
    height: float  # halfway between the last merge that is kept and the first that is not
    gap: float  # of those two heights, relative to the upper one, in [0, 1]
    runner_up: int | None  # the number of clusters with the next largest gap, None when there was no choice
    runner_up_gap: float
    most: int  # gaps of 2 .. most clusters were compared
    silhouette: float | None = None  # mean over a sample of the rows, in [-1, 1]; None without rows or two clusters
    runner_up_silhouette: float | None = None

    def __str__(self) -> str:
        if self.runner_up is None and self.n_clusters == 1:
            return "1 cluster: all heights are equal"
        text = f"{self.n_clusters} clusters, the largest relative gap of heights among 2 .. {self.most}: {self.gap:.3f}"
        text += f"{_shown(self.silhouette)}, cut at height {self.height:.4g}"
        if self.runner_up is None:
            return text
        return f"{text}; next {self.runner_up}: {self.runner_up_gap:.3f}{_shown(self.runner_up_silhouette)}"


def choose_cut(Z: ArrayLike | Tensor, X: ArrayLike | Tensor | None = None, metric: str = "euclidean") -> Cut:
    """Choose the number of clusters of a linkage matrix Z (n - 1, 4) by its largest relative gap of heights.

    Cutting into k clusters lies between the height `low` of the last merge that is kept and `high` of the first that is
    not; its gap is (high - low) / high, 0 where high is 0. Of k = 2 .. sqrt(n) (at least 2) the largest gap wins, the
    smaller k among equal ones. Where every gap is 0, the rows are one cluster.

    X, metric: the rows (n, d) or distances that were clustered, as for `linkage`: with them the cut and its runner-up
    come with their mean silhouette (Rousseeuw 1987) on a sample of 2,000 rows, always the same, which says how well
    separated the clusters are; it takes no part in the choice. ValueError: Z no linkage matrix, X not of its n rows.
    """
    z = _linkage_matrix(Z, "choose_cut")
    cut = _largest_gap(z)
    if X is None or cut.n_clusters == 1:
        return cut
    distances, sample = _sampled_distances(X, metric, len(z) + 1)
    return replace(
        cut,
        silhouette=_silhouette(distances, cut_tree(z, cut.n_clusters)[sample]),
        runner_up_silhouette=cut.runner_up and _silhouette(distances, cut_tree(z, cut.runner_up)[sample]),
    )


def _largest_gap(z: np.ndarray) -> Cut:
    heights = np.concatenate([[0.0], np.sort(_cut_heights(z))])
    n = len(heights)
    ks = np.arange(2, max(2, isqrt(n)) + 1)
    low, high = heights[n - ks], heights[n - ks + 1]
    gaps = np.divide(high - low, high, out=np.zeros(len(ks)), where=high > 0)
    order = np.argsort(-gaps, kind="stable")
    if gaps[order[0]] <= 0:
        return Cut(1, float(heights[-1]), 0.0, None, 0.0, int(ks[-1]))
    best = order[0]
    runner_up, runner_up_gap = (int(ks[order[1]]), float(gaps[order[1]])) if len(ks) > 1 else (None, 0.0)
    height = float(low[best] + (high[best] - low[best]) / 2)
    return Cut(int(ks[best]), height, float(gaps[best]), runner_up, runner_up_gap, int(ks[-1]))


def _shown(silhouette: float | None) -> str:
    return "" if silhouette is None else f" (silhouette {silhouette:.2f})"


def _sampled_distances(X, metric: str, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Distances (s, s) of a sample of the n rows and their numbers (s,), the same ones for every n."""
    op = "choose_cut"
    one_of(op, "metric", metric, (*METRICS, "precomputed"))
    sample = np.sort(np.random.default_rng(0).permutation(n)[:SILHOUETTE_ROWS])
    if metric == "precomputed":
        condensed, rows = condensed_distances(X, "X", op)
    else:
        rows = len(x := host_matrix(X, "X", op))
    if rows != n:
        raise ValueError(f"{op}: X must have the {n} rows of Z, got {rows}")
    if metric != "precomputed":
        x = x[sample].astype(
            np.float64
        )  # squares of huge or tiny numbers leave the range of float64, and a factor is free
        return pairwise_distances(np.ldexp(x, -np.frexp(np.abs(x).max())[1]), metric=metric), sample
    distances = np.zeros((len(sample), len(sample)))
    first, second = np.triu_indices(len(sample), 1)
    i, j = sample[first], sample[second]
    distances[first, second] = distances[second, first] = condensed[i * (2 * n - i - 1) // 2 + j - i - 1]
    return distances, sample


def _silhouette(distances: np.ndarray, labels: np.ndarray) -> float | None:
    """Mean of (b - a) / max(a, b), a the mean distance to the own cluster, b to the nearest other; 0 where alone."""
    _, index, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    if not 2 <= len(sizes) < len(labels):
        return None
    sums = distances @ np.eye(len(sizes))[index]  # (s, k)
    rows, own = np.arange(len(labels)), sizes[index]
    a = sums[rows, index] / np.maximum(own - 1, 1)
    means = sums / sizes
    means[rows, index] = np.inf
    b = means.min(axis=1)
    larger = np.maximum(a, b)
    width = np.divide(b - a, larger, out=np.zeros(len(labels)), where=(own > 1) & (larger > 0))
    return float(width.mean())


def cut_tree(Z: ArrayLike | Tensor, n_clusters: int | str | None = None, height: float | None = None) -> np.ndarray:
    """Labels (n,) int64 of the clusters that a linkage matrix Z (n - 1, 4) holds at one cut.

    Give one of: n_clusters, an integer 1 .. n, or "auto" for `choose_cut`; height, keeping every merge up to and with
    that height (a cluster stays together only if all merges within it do). Labels are 0 .. k-1 in order of first
    appearance. ValueError: both or neither given, n_clusters out of range, height negative or NaN, Z no linkage matrix.
    """
    z = _linkage_matrix(Z, "cut_tree")
    n = len(z) + 1
    if (n_clusters is None) == (height is None):
        raise ValueError(f"cut_tree: give n_clusters or height, got n_clusters={n_clusters!r}, height={height!r}")
    if height is not None:
        if isinstance(height, bool) or not isinstance(height, (int, float, np.number)) or not height >= 0:
            raise ValueError(f"cut_tree: height must be a number of at least 0, got {height!r}")
        kept = _cut_heights(z) <= height
    else:
        lowest = np.argsort(_cut_heights(z), kind="stable")[: n - count_clusters("cut_tree", n_clusters, n, z)]
        kept = np.zeros(n - 1, dtype=bool)
        kept[lowest] = True
    parent = np.arange(2 * n - 1)
    joined = z[kept, :2].astype(np.int64)
    parent[joined] = (n + np.flatnonzero(kept))[:, None]
    return _number_by_appearance(_roots(parent)[:n])


def count_clusters(op: str, n_clusters, n: int, z: np.ndarray) -> int:
    """The number of clusters asked for: an integer in 1 .. n, or what `choose_cut` says for "auto"."""
    if isinstance(n_clusters, str) and n_clusters == "auto":
        return _largest_gap(z).n_clusters
    if isinstance(n_clusters, (bool, np.bool_)) or not isinstance(n_clusters, (int, np.integer)):
        raise ValueError(f"{op}: n_clusters must be an integer or 'auto', got {n_clusters!r}")
    if not 1 <= n_clusters <= n:
        raise ValueError(f"{op}: n_clusters must be in 1 .. n = {n}, got {n_clusters}")
    return int(n_clusters)


def _number_by_appearance(labels: np.ndarray) -> np.ndarray:
    """The same partition with labels 0 .. k-1 in order of first appearance, int64."""
    _, first, index = np.unique(labels, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[index]


def _linkage_matrix(Z, op: str) -> np.ndarray:
    z = host_matrix(Z, "Z", op, least_rows=1).astype(np.float64, copy=False)
    n = len(z) + 1
    if z.shape[1] != 4:
        raise ValueError(f"{op}: Z must be a linkage matrix (n - 1, 4), got shape {z.shape}")
    ids = z[:, :2]
    later = ids >= n + np.arange(n - 1)[:, None]
    if (ids < 0).any() or (ids != np.floor(ids)).any() or later.any() or len(np.unique(ids)) != 2 * n - 2:
        raise ValueError(
            f"{op}: Z must name every cluster once, before it is used, as scipy.cluster.hierarchy writes it"
        )
    if (z[:, 2] < 0).any():
        raise ValueError(f"{op}: Z must have heights of at least 0, got {z[:, 2].min()}")
    check_finite(z, "Z", op)
    return z


def _cut_heights(z: np.ndarray) -> np.ndarray:
    """Per merge, the largest height within it: its own unless the matrix has inversions (centroid linkage)."""
    heights = z[:, 2].copy()
    if (np.diff(heights) < 0).any():
        n = len(z) + 1
        children = z[:, :2].astype(np.int64) - n
        for i, pair in enumerate(children):
            for child in pair[pair >= 0]:
                heights[i] = max(heights[i], heights[child])
    return heights


def _roots(parent: np.ndarray) -> np.ndarray:
    """The root of every node, by doubling the step: parents never lie below their children."""
    while True:
        further = parent[parent]
        if np.array_equal(further, parent):
            return parent
        parent = further
