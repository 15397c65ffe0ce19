"""How far the surfaces of two masks lie from one another.

Two exact ways lead to the same bits, the nearest in float64 by one formula, and the clock decides between them. A tree
of the points is the faster where surfaces are close, and hardly sees how large the image is; for points far away, of
which most of a surface is about equally far, it looks at nearly all of it, a hundred times slower. Then one plane after
another is gone through: a distance transform of the plane, and for all points the smaller of what they had and what its
surface gives. That takes as long wherever the surfaces lie.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

AT_ONCE = 2**14  # points of a search at most,
SECONDS_AT_ONCE = 0.25  # and for how long Ctrl-C has to wait for them
SAMPLE = 128  # points by which the tree's time is foretold
# What planes take for a pixel's distance and for a point's comparison: 11 to 41 ns and 1.4 to 3.9 ns were measured.
SECONDS_A_PIXEL, SECONDS_A_POINT = 25e-9, 2.5e-9
SECONDS_UNTOLD = 0.5
QUANTILE_MOST = 2**24  # values that torch.quantile takes

Tell = Callable[[float], None]  # hears of the share, 0..1, that is done


def surface_distances(
    prediction: np.ndarray, truth: np.ndarray, spacing: Sequence[float], tell: Tell = lambda share: None
) -> tuple[np.ndarray, np.ndarray]:
    """From each surface voxel of a boolean mask to the nearest of the other, both ways, float32 in the unit of spacing.

    Surface voxels are MONAI's (what erosion takes away), distances exact. MONAI's own functions for HD95 and surface
    Dice would each search again, with a tree whatever it takes, on one thread, deaf to Ctrl-C.
    """
    from monai.metrics.utils import get_mask_edges

    tell(0.0)
    # Whoever calls has cropped already, and outside of the image nothing is set, cropped or not.
    edges = [np.asarray(edge) for edge in get_mask_edges(prediction, truth, crop=False)]
    there, back = (
        _nearest(*pair, spacing, lambda share, first=first: tell((first + share) / 2))
        for first, pair in enumerate((edges, edges[::-1]))
    )
    return there, back


def _nearest(origin: np.ndarray, target: np.ndarray, spacing: Sequence[float], tell: Tell) -> np.ndarray:
    """Distances (n,) float32 of the n voxels of a boolean map, in its order, to the nearest of another."""
    import torch
    from scipy.spatial import KDTree

    tell(0.0)  # building the tree of all that a bad network draws takes a second or two
    points, others = (np.argwhere(surface) * np.array(spacing, float) for surface in (origin, target))
    tree = KDTree(others, leafsize=32)
    sample = points[:: math.ceil(len(points) / SAMPLE)]
    begun = time.perf_counter()
    tree.query(sample)
    each = (time.perf_counter() - begun) / len(sample)
    if each * len(points) / torch.get_num_threads() > _seconds_by_planes(origin, target, len(points)):
        return _by_planes(origin, target, spacing, tell)
    return _by_tree(points, tree, min(AT_ONCE, max(1, int(SECONDS_AT_ONCE / each))), tell)


def _by_tree(points: np.ndarray, tree, at_once: int, tell: Tell) -> np.ndarray:
    """On all of torch's threads. Not by the tree's own: Ctrl-C lets go of the arrays that they still write to."""
    import torch

    pool = ThreadPoolExecutor(torch.get_num_threads())
    try:
        parts = np.array_split(points, range(at_once, len(points), at_once))
        found = pool.map(lambda part: tree.query(part)[0].astype(np.float32), parts)
        return np.concatenate([*_told(found, len(parts), tell)])
    finally:
        pool.shutdown(cancel_futures=True)


def _by_planes(origin: np.ndarray, target: np.ndarray, spacing: Sequence[float], tell: Tell) -> np.ndarray:
    """Plane after plane across the last axis; memory for a plane and one number a point."""
    from scipy.ndimage import distance_transform_edt

    origin, target = _three_axes(origin), _three_axes(target)
    x, y, z = (np.arange(n) * float(step) for n, step in zip(origin.shape, (*spacing, 1.0), strict=False))
    wanted = origin.any(axis=2)  # the columns that hold a point
    column = np.cumsum(wanted).reshape(wanted.shape) - 1
    at_x, at_y, level = np.nonzero(origin)
    column = column[at_x, at_y]
    here_x, here_y = (places[at] for places, at in zip((x, y), np.nonzero(wanted), strict=True))
    best = np.full(len(level), np.inf)
    planes = np.flatnonzero(target.any(axis=(0, 1)))
    for plane in _told(planes, len(planes), tell):
        nearest = distance_transform_edt(
            ~target[:, :, plane], tuple(spacing[:2]), return_distances=False, return_indices=True
        )
        to_x, to_y = (places[index[wanted]] for places, index in zip((x, y), nearest, strict=True))
        # The tree's formula, in the tree's order of additions, so that the last bit is the same.
        across = (here_x - to_x) ** 2 + (here_y - to_y) ** 2
        along = (z - z[plane]) ** 2
        np.minimum(best, across[column] + along[level], out=best)
    return np.sqrt(best).astype(np.float32)


def _seconds_by_planes(origin: np.ndarray, target: np.ndarray, points: int) -> float:
    target = _three_axes(target)
    planes = np.count_nonzero(target.any(axis=(0, 1)))
    return planes * (math.prod(target.shape[:2]) * SECONDS_A_PIXEL + points * SECONDS_A_POINT)


def _three_axes(surface: np.ndarray) -> np.ndarray:
    """(x, y, z): of a photograph one plane."""
    return surface.reshape(*surface.shape, *[1] * (3 - surface.ndim))


def _told(items: Iterable, count: int, tell: Tell) -> Iterator:
    """The items one by one; now and then, once one of them has been dealt with, the share that is done is told."""
    last = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        if time.monotonic() - last >= SECONDS_UNTOLD:
            tell(done / count)
            last = time.monotonic()


def percentile_95(distances: np.ndarray) -> float:
    """Linear between values, as torch and numpy have it."""
    import torch

    # What a noisy prediction of a whole CT has may be more than torch takes.
    if len(distances) > QUANTILE_MOST:
        return float(np.quantile(distances, 0.95))
    return torch.quantile(torch.from_numpy(distances), 0.95).item()
