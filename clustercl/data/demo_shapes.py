"""A regular grid in millimetres, and signed distances (negative inside) to the solids of a synthetic chest."""

from collections.abc import Sequence
from functools import cached_property

import numpy as np

FAR = np.float32(1e3)  # mm, stands for every distance that nobody needs exactly


class Grid:
    """Voxel centres of a volume with axes right, anterior, superior; `shape` voxels of `spacing` mm around `centre`."""

    def __init__(self, shape: Sequence[int], spacing: Sequence[float], centre: Sequence[float]):
        self.shape, self.spacing = tuple(shape), np.asarray(spacing, np.float64)
        self.origin = np.asarray(centre, np.float64) - (np.asarray(shape) - 1) / 2 * self.spacing

    @cached_property
    def lines(self) -> list[np.ndarray]:
        """x, y, z in mm, float32, one array per axis."""
        places = zip(self.origin, self.spacing, self.shape)
        return [(start + step * np.arange(n)).astype(np.float32) for start, step, n in places]

    @property
    def axes(self) -> tuple[np.ndarray, ...]:
        """The same, shaped to broadcast against each other."""
        return np.ix_(*self.lines)

    def box(self, centre: np.ndarray, radius: float) -> tuple[slice, slice, slice]:
        """The voxels that can lie within `radius` mm of `centre`."""
        low = np.floor((centre - radius - self.origin) / self.spacing).astype(int)
        high = np.ceil((centre + radius - self.origin) / self.spacing).astype(int) + 1
        return tuple(slice(a, b) for a, b in zip(np.clip(low, 0, self.shape), np.clip(high, 0, self.shape)))

    def tube(self, path: Sequence[Sequence[float]], radii: float | Sequence[float], margin: float = 6.0) -> np.ndarray:
        """Signed distance in mm to a bent tube through the points of `path` (points, 3), exact up to `margin` outside
        of it and FAR beyond. `radii`: one, or one per point."""
        points = np.asarray(path, np.float64)
        radii = np.broadcast_to(np.asarray(radii, np.float64), (len(points),))
        centres, sizes = _along(points, radii)
        distance = np.full(self.shape, FAR)
        for centre, size in zip(centres, sizes):
            inner = self.box(centre, size + margin)
            x, y, z = (line[part] - middle for line, part, middle in zip(self.lines, inner, centre.astype(np.float32)))
            x, y, z = np.ix_(x, y, z)
            np.minimum(distance[inner], np.sqrt(x * x + y * y + z * z) - np.float32(size), out=distance[inner])
        return distance


def _along(points: np.ndarray, radii: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centres and radii of spheres so close together along a smooth curve that they look like one tube."""
    from scipy.interpolate import PchipInterpolator

    lengths = np.linalg.norm(np.diff(points, axis=0), axis=1)
    place = np.concatenate([[0], np.cumsum(lengths)])
    samples = np.linspace(0, place[-1], int(np.ceil(place[-1] / max(0.35 * radii.min(), 0.8))) + 1)
    return PchipInterpolator(place, points)(samples), np.interp(samples, place, radii)


def ellipsoid(coordinates: Sequence[np.ndarray], centre: Sequence[float], radii: Sequence[float]) -> np.ndarray:
    """Approximate signed distance in mm (exact on the surface, first order near it; Quilez, "ellipsoid distance")."""
    scaled = [(axis - np.float32(middle)) / np.float32(r) for axis, middle, r in zip(coordinates, centre, radii)]
    k0 = np.sqrt(sum(part**2 for part in scaled))
    k1 = np.sqrt(sum((part / np.float32(r)) ** 2 for part, r in zip(scaled, radii)))
    return k0 * (k0 - 1) / np.maximum(k1, 1e-6)


def superellipse(x: np.ndarray, y: np.ndarray, radii: Sequence[float], power: float = 2.4) -> np.ndarray:
    """Approximate signed distance in mm to an upright column whose section is a rounded rectangle."""
    rho = ((np.abs(x) / radii[0]) ** power + (np.abs(y) / radii[1]) ** power) ** (1 / power)
    return (rho - 1) * np.sqrt(radii[0] * radii[1])
