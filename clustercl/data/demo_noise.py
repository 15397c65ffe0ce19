"""Random fields that the synthetic photographs and volumes are textured with. Each is a function of its generator."""

from collections.abc import Sequence

import numpy as np


def fractal(
    rng: np.random.Generator, shape: Sequence[int], scale: float | Sequence[float], octaves: int = 3
) -> np.ndarray:
    """A smooth random field of expected mean 0 and standard deviation 1, float32, of any number of axes.

    `scale`: size of its largest features in voxels, one number or one per axis; each further octave is half as large
    and half as strong. Every octave is a cubic B-spline over white noise, applied axis by axis.
    """
    scales = np.broadcast_to(np.asarray(scale, np.float64), (len(shape),))
    total = np.zeros(shape)
    for octave in range(octaves):
        step = np.maximum(scales / 2**octave, 1.0)
        matrices = [_spline(length, size, rng.uniform()) for length, size in zip(shape, step)]
        layer = rng.standard_normal([matrix.shape[1] for matrix in matrices])
        for matrix in matrices:  # contracts the first axis and appends the new one, so the order is kept at the end
            layer = np.tensordot(layer, matrix, axes=(0, 1))
        total += layer / 2**octave
    # The mean of a field with few features strays from 0, and may: a shift of the whole is part of the variety.
    return (total / max(total.std(), 1e-9)).astype(np.float32)


def _spline(length: int, scale: float, offset: float) -> np.ndarray:
    """(length, knots) weights of a uniform cubic B-spline with one knot every `scale` voxels."""
    position = np.arange(length) / scale + offset
    first = np.floor(position).astype(int)
    t = position - first
    weights = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3], axis=1) / 6
    matrix = np.zeros((length, first[-1] + 4))
    for knot in range(4):
        matrix[np.arange(length), first + knot] = weights[:, knot]
    return matrix


def cells(rng: np.random.Generator, shape: Sequence[int], spacing: float, jitter: float = 0.35) -> np.ndarray:
    """Distances in pixels (2, h, w) to the nearest and the second nearest of points on a jittered hexagonal grid.

    Where the two are equal runs the border between cells: the first draws globules, their difference a net.
    """
    from scipy.spatial import cKDTree

    h, w = shape
    rows = np.arange(-1, h / (spacing * 0.87) + 2)
    columns = np.arange(-1, w / spacing + 2)
    y, x = np.meshgrid(rows, columns, indexing="ij")
    points = np.stack([y * 0.87, x + 0.5 * (y % 2)], axis=-1).reshape(-1, 2)
    points = (points + rng.normal(0, jitter / 2, points.shape)) * spacing
    pixels = np.stack(np.meshgrid(np.arange(h), np.arange(w), indexing="ij"), axis=-1).reshape(-1, 2)
    distance, _ = cKDTree(points).query(pixels, k=2)
    return distance.T.reshape(2, h, w).astype(np.float32)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(x, -30, 30)))
