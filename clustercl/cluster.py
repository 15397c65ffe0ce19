"""Exact hierarchical clustering: distances, the linkage matrix, and cutting it into pseudo-classes.

The linkage matrix Z is SciPy's: row i joins clusters Z[i, 0] < Z[i, 1] at height Z[i, 2] into cluster n + i of Z[i, 3]
rows, so scipy.cluster.hierarchy.dendrogram and its like take it as it is. Needs torch and numpy alone.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import isqrt

import numpy as np
import torch

from clustercl.ops import linkage as linkage_op
from clustercl.ops import pairwise as pairwise_op
from clustercl.ops.arrays import check_finite, condensed_distances, host_matrix

SILHOUETTE_ROWS = 2000


def pairwise_distances(X, Y=None, metric: str = "euclidean"):
    """Distances of the rows of X (n, d) to the rows of Y (m, d), or of X: (n, m) float64.

    X, Y: NumPy arrays or tensors, of any real dtype; the result is a tensor on X's device when X is one, else an array.
    metric: euclidean, sqeuclidean, or cosine (1 - cos). No gradient flows through the distances. Sums run in float64 in
    one fixed order, so that threads and instruction sets give the same bits; definitions as scipy.spatial.distance.
    ValueError: not (n, d), another number of features, NaN or inf, an unknown metric, a zero row under cosine.
    """
    op = "pairwise_distances"
    _one_of(op, "metric", metric, pairwise_op.METRICS)
    x = _tensor(X, "X", op)
    y = x if Y is None else _tensor(Y, "Y", op).to(x.device)
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"{op}: Y must have the {x.shape[1]} features of X, got shape {tuple(y.shape)}")
    for rows, name in ((x, "X"), (y, "Y")):
        if metric == "cosine" and (zero := (rows == 0).all(dim=1).nonzero().flatten().tolist()):
            raise ValueError(f"{op}: {name} row {zero[0]} is all zeros and has no cosine distance")
    out = pairwise_op.pairwise_distances(x, y, metric)
    return out if isinstance(X, torch.Tensor) else out.numpy()


def linkage(
    X,
    method: str = "ward",
    metric: str = "euclidean",
    progress: Callable[[int, int, int], object] | None = None,
    *,
    dtype: str = "float64",
) -> np.ndarray:
    """Cluster the rows of X (n, d), n >= 2: SciPy's (n - 1, 4) float64 linkage matrix.

    X: NumPy array or tensor on any device (a CUDA tensor is copied to the host), float32 or float64, other real dtypes
    are converted; it is never changed. method: ward, average, complete, single. metric: euclidean, or except for ward
    cosine (1 - cos) or precomputed: then X holds distances, (n, n) or the n (n - 1) / 2 of SciPy's pdist. progress:
    called as progress(merges, rounds, distances), how many merges, rounds of merging (single has none) and distances of
    rows or centroids are done, up to ten times per second and once at the end. dtype: of the entries of the matrix of
    distances that average and complete hold (the others hold none): float64 or, for half the memory, float32; then
    every height is the distance of the two clusters to 1e-6 (0 where it is below 1e-18 of the largest), and of
    distances that agree to 1e-8 any may go first.

    Exact: every merge is at the smallest distance that is left, heights equal SciPy's, and without ties so does the
    tree. (Ward's centroids are rounded to float64, as if rows were moved by 1e-16 of their size: where clusters are
    narrower than 1e-9 of their distance to the centre of the data, heights agree to fewer digits.) Equal distances (as
    computed in float64) are ordered by (smaller id, larger id), a cluster's id for this being its smallest row. ward
    and single take memory for the rows in float64 and once more in float32 (ward: twice), average and complete for
    n (n - 1) / 2 distances. The result does not depend on the number of threads or the instruction set. Ctrl-C stops.
    ValueError: n < 2, not (n, d), no numbers, NaN or inf, unknown method, metric or dtype, ward with another metric
    than euclidean, a zero row under cosine, distances that are negative or not symmetric. MemoryError: the matrix of
    distances does not fit.
    """
    _one_of("linkage", "method", method, linkage_op.METHODS)
    _one_of("linkage", "dtype", dtype, linkage_op.DTYPES)
    if isinstance(metric, str) and metric == "precomputed":
        if method == "ward":
            raise ValueError("linkage: method 'ward' needs the rows, not their distances, got metric 'precomputed'")
        return linkage_op.linkage_of_distances(*condensed_distances(X, "X", "linkage"), method, dtype, progress)
    _one_of("linkage", "metric", metric, linkage_op.METRICS)
    if method == "ward" and metric != "euclidean":
        raise ValueError(
            f"linkage: method 'ward' works on euclidean distances alone, got metric {metric!r}; "
            "use method 'average' or normalise the rows of X to length 1"
        )
    x = host_matrix(X, "X", "linkage", least_rows=2)
    if metric == "cosine" and (zero := np.flatnonzero((x == 0).all(axis=1))).size:
        raise ValueError(f"linkage: X row {zero[0]} is all zeros and has no cosine distance")
    return linkage_op.linkage_matrix(x, method, metric, dtype, progress)


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


def choose_cut(Z, X=None, metric: str = "euclidean") -> Cut:
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
    _one_of(op, "metric", metric, (*linkage_op.METRICS, "precomputed"))
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


def cut_tree(Z, n_clusters: int | str | None = None, height: float | None = None) -> np.ndarray:
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
    return number_by_appearance(_roots(parent)[:n])


def count_clusters(op: str, n_clusters, n: int, z: np.ndarray) -> int:
    """The number of clusters asked for: an integer in 1 .. n, or what `choose_cut` says for "auto"."""
    if isinstance(n_clusters, str) and n_clusters == "auto":
        return _largest_gap(z).n_clusters
    if isinstance(n_clusters, (bool, np.bool_)) or not isinstance(n_clusters, (int, np.integer)):
        raise ValueError(f"{op}: n_clusters must be an integer or 'auto', got {n_clusters!r}")
    if not 1 <= n_clusters <= n:
        raise ValueError(f"{op}: n_clusters must be in 1 .. n = {n}, got {n_clusters}")
    return int(n_clusters)


def assign_to_clusters(X_new, X, labels) -> np.ndarray:
    """Labels (m,) int64 for new rows X_new (m, d), from the clusters that labels (n,) make of the rows X (n, d).

    A row goes where Ward would merge it: to the cluster with the smallest sqrt(2 s / (s + 1)) |x - c|, c the mean and s
    the size of the cluster; the smaller label among equal ones. Labels may be any integers.
    """
    op = "assign_to_clusters"
    new, old = host_matrix(X_new, "X_new", op), host_matrix(X, "X", op, least_rows=1)
    if new.shape[1] != old.shape[1]:
        raise ValueError(f"{op}: X_new must have the {old.shape[1]} features of X, got shape {new.shape}")
    labels = np.asarray(labels)
    if labels.shape != (len(old),) or labels.dtype.kind not in "iu":
        raise ValueError(f"{op}: labels must be {len(old)} integers, got shape {labels.shape}, dtype {labels.dtype}")
    names, index, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    # A power of two changes no digit, and brings squares within the range of float64.
    exponent = np.frexp(max(np.abs(old).max(), np.abs(new).max(initial=0)))[1]
    new, old = np.ldexp(new.astype(np.float64), -exponent), np.ldexp(old.astype(np.float64), -exponent)
    centroids = np.zeros((len(names), old.shape[1]))
    np.add.at(centroids, index, old)
    centroids /= sizes[:, None]
    distances = pairwise_distances(new, centroids, metric="sqeuclidean") * (2.0 * sizes / (sizes + 1.0))
    return names[distances.argmin(axis=1)].astype(np.int64)


def number_by_appearance(labels: np.ndarray) -> np.ndarray:
    """The same partition with labels 0 .. k-1 in order of first appearance, int64."""
    _, first, index = np.unique(labels, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[index]


def _one_of(op: str, name: str, value, choices: tuple[str, ...]) -> None:
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{op}: {name} must be one of {', '.join(choices)}, got {value!r}")


def _tensor(x, name: str, op: str) -> torch.Tensor:
    if isinstance(x, torch.Tensor) and x.device.type != "cpu" and x.dim() == 2 and x.is_floating_point():
        if not x.isfinite().all():
            raise ValueError(f"{op}: {name} must be finite, got NaN or inf")
        return x
    # torch wants an array that it may write to and whose strides are positive; the op reads alone.
    array = host_matrix(x, name, op)
    fits = array.flags.writeable and all(stride >= 0 for stride in array.strides)
    return torch.from_numpy(array if fits else array.copy())


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
