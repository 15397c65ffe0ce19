"""How far the surfaces of two masks lie from one another."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

AT_ONCE = 2**14  # points of a search, for which Ctrl-C has to wait
QUANTILE_MOST = 2**24  # values that torch.quantile takes


def surface_distances(
    prediction: np.ndarray, truth: np.ndarray, spacing: Sequence[float]
) -> tuple[np.ndarray, np.ndarray]:
    """From each surface voxel of a boolean mask to the nearest of the other, both ways, float32 in the unit of spacing.

    Surface voxels are MONAI's (what erosion takes away), distances exact, by a tree of the points, on all of torch's
    threads. MONAI's own functions for HD95 and surface Dice would each search again, on one thread, deaf to Ctrl-C.
    """
    from monai.metrics.utils import get_mask_edges
    from scipy.spatial import KDTree

    surfaces = [
        np.argwhere(np.asarray(edges)) * np.array(spacing, float) for edges in get_mask_edges(prediction, truth)
    ]
    there, back = (_nearest(points, KDTree(other, leafsize=32)) for points, other in (surfaces, surfaces[::-1]))
    return there, back


def _nearest(points: np.ndarray, tree) -> np.ndarray:
    """Distances (n,) float32 of points (n, d) to the nearest point of the tree.

    Not by the tree's own threads: Ctrl-C lets go of the arrays that they still write to.
    """
    import torch

    pool = ThreadPoolExecutor(torch.get_num_threads())
    try:
        parts = np.array_split(points, range(AT_ONCE, len(points), AT_ONCE))
        return np.concatenate(list(pool.map(lambda part: tree.query(part)[0].astype(np.float32), parts)))
    finally:
        pool.shutdown(cancel_futures=True)


def percentile_95(distances: np.ndarray) -> float:
    """Linear between values, as torch and numpy have it."""
    import torch

    # What a noisy prediction of a whole CT has may be more than torch takes.
    if len(distances) > QUANTILE_MOST:
        return float(np.quantile(distances, 0.95))
    return torch.quantile(torch.from_numpy(distances), 0.95).item()
