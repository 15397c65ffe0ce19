"""Exact hierarchical clustering: distances, the linkage matrix, and new rows for clusters that are there.

The linkage matrix Z is SciPy's: row i joins clusters Z[i, 0] < Z[i, 1] at height Z[i, 2] into cluster n + i of Z[i, 3]
rows, so scipy.cluster.hierarchy.dendrogram and its like take it as it is. Needs torch and numpy alone.
"""

# help() shows ArrayLike by its name, not the union that it stands for.
from __future__ import annotations

from collections.abc import Callable
from typing import overload

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from clustercl.ops import linkage as linkage_op
from clustercl.ops import pairwise as pairwise_op
from clustercl.ops.arrays import condensed_distances, gpu_matrix, host_matrix, require_dense


@overload
def pairwise_distances(X: Tensor, Y: ArrayLike | Tensor | None = None, metric: str = "euclidean") -> Tensor: ...
@overload
def pairwise_distances(X: ArrayLike, Y: ArrayLike | Tensor | None = None, metric: str = "euclidean") -> np.ndarray: ...
def pairwise_distances(X, Y=None, metric="euclidean"):
    """Distances of the rows of X (n, d) to the rows of Y (m, d), or of X: (n, m) float64.

    X, Y: NumPy arrays or tensors, of any real dtype; the result is a tensor on X's device when X is one, else an array.
    metric: euclidean, sqeuclidean, or cosine (1 - cos). No gradient flows through the distances. Sums run in float64 in
    one fixed order, so that threads and instruction sets give the same bits; definitions as scipy.spatial.distance.
    ValueError: not (n, d), another number of features, NaN or inf, an unknown metric, a zero row under cosine.
    TypeError: a sparse or nested tensor.
    """
    op = "pairwise_distances"
    one_of(op, "metric", metric, pairwise_op.METRICS)
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
    X: ArrayLike | Tensor,
    method: str = "ward",
    metric: str = "euclidean",
    progress: Callable[[int, int, int], object] | None = None,
    *,
    dtype: str = "float64",
) -> np.ndarray:
    """Cluster the rows of X (n, d), n >= 2: SciPy's (n - 1, 4) float64 linkage matrix.

    X: NumPy array or tensor, float32 or float64, other real dtypes are converted; it is never changed. A CUDA tensor is
    clustered on its GPU (given distances, and everything where the build has no CUDA kernels, on the host). method:
    ward, average, complete, single. metric: euclidean, or except for ward cosine (1 - cos) or precomputed: then X holds
    distances, (n, n) or the n (n - 1) / 2 of SciPy's pdist. progress: called as progress(merges, rounds, distances),
    how many merges, rounds of merging (single has none) and distances of rows or centroids are done, up to ten times
    per second and once at the end. dtype: of the entries of the matrix of distances that average and complete hold (the
    others hold none): float64 or, for half the memory, float32; then every height is the distance of the two clusters
    to 1e-6 (0 where it is below 1e-18 of the largest), and of distances that agree to 1e-8 any may go first.

    Exact: every merge is at the smallest distance that is left, heights equal SciPy's, and without ties so does the
    tree. (Ward's centroids are rounded to float64, as if rows were moved by 1e-16 of their size: where clusters are
    narrower than 1e-9 of their distance to the centre of the data, heights agree to fewer digits.) Equal distances (as
    computed in float64) are ordered by (smaller id, larger id), a cluster's id for this being its smallest row. ward
    and single take memory for the rows in float64 and once more in float32 (ward: twice), average and complete for
    n (n - 1) / 2 distances. The result does not depend on the number of threads or the instruction set. Ctrl-C stops.
    ValueError: n < 2, not (n, d), no numbers, NaN or inf, unknown method, metric or dtype, ward with another metric
    than euclidean, a zero row under cosine, distances that are negative or not symmetric. TypeError: a sparse or nested
    tensor, progress that cannot be called. MemoryError: the matrix of distances does not fit.
    """
    one_of("linkage", "method", method, linkage_op.METHODS)
    one_of("linkage", "dtype", dtype, linkage_op.DTYPES)
    if progress is not None and not callable(progress):
        raise TypeError(f"linkage: progress must be None or called with three numbers, got {progress!r}")
    if isinstance(metric, str) and metric == "precomputed":
        if method == "ward":
            raise ValueError("linkage: method 'ward' needs the rows, not their distances, got metric 'precomputed'")
        return linkage_op.linkage_of_distances(*condensed_distances(X, "X", "linkage"), method, dtype, progress)
    one_of("linkage", "metric", metric, linkage_op.METRICS)
    if method == "ward" and metric != "euclidean":
        raise ValueError(
            f"linkage: method 'ward' works on euclidean distances alone, got metric {metric!r}; "
            "use method 'average' or normalise the rows of X to length 1"
        )
    if getattr(X, "ndim", 2) == 1:
        raise ValueError(
            f"linkage: X must be (n, d), got shape {tuple(X.shape)}; distances, as SciPy's pdist gives them, go with "
            "metric='precomputed'"
        )
    if linkage_op.on_gpu(X):
        x = gpu_matrix(X, "X", "linkage", least_rows=2)
        if metric == "cosine" and (zero := (x == 0).all(dim=1).nonzero().flatten().tolist()):
            raise ValueError(f"linkage: X row {zero[0]} is all zeros and has no cosine distance")
        return linkage_op.linkage_matrix_cuda(x, method, metric, dtype, progress)
    x = host_matrix(X, "X", "linkage", least_rows=2)
    if metric == "cosine" and (zero := np.flatnonzero((x == 0).all(axis=1))).size:
        raise ValueError(f"linkage: X row {zero[0]} is all zeros and has no cosine distance")
    return linkage_op.linkage_matrix(x, method, metric, dtype, progress)


def assign_to_clusters(X_new: ArrayLike | Tensor, X: ArrayLike | Tensor, labels: ArrayLike | Tensor) -> np.ndarray:
    """Labels (m,) int64 for new rows X_new (m, d), from the clusters that labels (n,) make of the rows X (n, d).

    A row goes where Ward would merge it: to the cluster with the smallest sqrt(2 s / (s + 1)) |x - c|, c the mean and s
    the size of the cluster; the smaller label among equal ones. Labels may be any integers of 64 bits with a sign.
    """
    op = "assign_to_clusters"
    new, old = host_matrix(X_new, "X_new", op), host_matrix(X, "X", op, least_rows=1)
    if new.shape[1] != old.shape[1]:
        raise ValueError(f"{op}: X_new must have the {old.shape[1]} features of X, got shape {new.shape}")
    labels = np.asarray(labels)
    if labels.shape != (len(old),) or labels.dtype.kind not in "iu":
        raise ValueError(f"{op}: labels must be {len(old)} integers, got shape {labels.shape}, dtype {labels.dtype}")
    if labels.dtype == np.uint64 and labels.max() > np.iinfo(np.int64).max:
        raise ValueError(f"{op}: labels must be below 2**63, got {labels.max()}")
    names, index, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    # A power of two changes no digit, and brings squares within the range of float64.
    exponent = np.frexp(max(np.abs(old).max(), np.abs(new).max(initial=0)))[1]
    new, old = np.ldexp(new.astype(np.float64), -exponent), np.ldexp(old.astype(np.float64), -exponent)
    centroids = np.zeros((len(names), old.shape[1]))
    np.add.at(centroids, index, old)
    centroids /= sizes[:, None]
    distances = pairwise_distances(new, centroids, metric="sqeuclidean") * (2.0 * sizes / (sizes + 1.0))
    return names[distances.argmin(axis=1)].astype(np.int64)


def one_of(op: str, name: str, value, choices: tuple[str, ...]) -> None:
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{op}: {name} must be one of {', '.join(choices)}, got {value!r}")


def _tensor(x, name: str, op: str) -> torch.Tensor:
    if isinstance(x, torch.Tensor):
        require_dense(x, f"{op}: {name}")
    if isinstance(x, torch.Tensor) and x.device.type != "cpu" and x.dim() == 2 and x.is_floating_point():
        if not x.isfinite().all():
            raise ValueError(f"{op}: {name} must be finite, got NaN or inf")
        return x
    # torch wants an array that it may write to and whose strides are positive; the op reads alone.
    array = host_matrix(x, name, op)
    fits = array.flags.writeable and all(stride >= 0 for stride in array.strides)
    return torch.from_numpy(array if fits else array.copy())
