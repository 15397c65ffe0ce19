"""The geometry of a synthetic heart: seven labelled structures that touch as they do in people, and the vessels around
them that carry the same contrast medium without a label.

Millimetres, x to the right, y to the front, z to the head; 0 is the middle of the chest. The left ventricle has axes of
its own: u from its base to the apex, v towards the right ventricle, w across both, upwards.
"""

from dataclasses import dataclass

import numpy as np

from clustercl.data.demo_noise import fractal
from clustercl.data.demo_shapes import FAR, Grid, ellipsoid

LV, RV, LA, RA, MYO, AA, PA = range(1, 8)  # the indices of the heart task
BASE = -24.0  # u of the plane between ventricles and atria


@dataclass(frozen=True)
class Build:
    """How a heart differs from the average one, as factors of 1; `wall` is the left wall's thickness in mm."""

    size: float = 1.0
    wall: float = 10.0
    left: float = 1.0  # left ventricle
    right: float = 1.0  # right ventricle and atrium
    atrium: float = 1.0  # left atrium
    vessels: float = 1.0  # aorta and pulmonary artery


@dataclass
class Heart:
    """label (x, y, z) uint8, 0 background and 1..7; vessels: unlabelled ones by name, boolean; lead: a pacemaker's
    wire from the vena cava into the right ventricle, boolean; centre: of the left ventricle, mm; ventricle: signed
    distance to the surface of its cavity, mm."""

    label: np.ndarray
    vessels: dict[str, np.ndarray]
    lead: np.ndarray
    centre: np.ndarray
    ventricle: np.ndarray


def average_frame() -> np.ndarray:
    """Rows u, v, w of a heart that points to the left, the front and down."""
    u = np.array([-0.64, 0.60, -0.48])
    v = np.array([0.76, 0.64, -0.08])
    u /= np.linalg.norm(u)
    v -= u * (u @ v)
    v /= np.linalg.norm(v)
    return np.stack([u, v, -np.cross(u, v)])


def heart(rng: np.random.Generator, grid: Grid, build: Build) -> Heart:
    """Place a heart of that build, turned and bent at random, into the grid."""
    from scipy.spatial.transform import Rotation

    turn = Rotation.from_euler("zyx", rng.normal(0, (9, 6, 7)).clip(-18, 18), degrees=True).as_matrix()
    frame = average_frame() @ turn.T
    centre = np.array([-33.0, 6.0, -10.0]) + rng.normal(0, (4, 3, 4)).clip(-8, 8)
    # Bending all coordinates by a smooth field makes every surface irregular and keeps structures in touch.
    bent = [axis + np.float32(rng.uniform(1.2, 2.6)) * fractal(rng, grid.shape, 38 / grid.spacing, 2)
            for axis in grid.axes]  # fmt: skip
    s = build.size
    local = [sum(row[i] * (bent[i] - centre[i]) for i in range(3)).astype(np.float32) / np.float32(s) for row in frame]

    def world(u: float, v: float, w: float, *shift: float) -> np.ndarray:
        """A point given in the ventricle's axes, plus a shift along x, y, z."""
        return centre + s * (np.array([u, v, w]) @ frame) + s * np.array(shift or (0, 0, 0))

    label = np.zeros(grid.shape, np.uint8)
    below = local[0] > BASE
    short, long = 24 * build.left, 46 * build.left**0.5
    cavity = ellipsoid(local, (0, 0, 0), (long, short, short))
    epicard = ellipsoid(local, (0, 0, 0), (long + 0.8 * build.wall, short + build.wall, short + build.wall))
    r = build.right
    right_v = ellipsoid(local, (-3, 22 + build.wall + 0.3 * short, 6), (46 * r**0.5, 27 * r, 35 * r))
    left_a = ellipsoid(local, (BASE - 22 * build.atrium, -6, 0), (26 * build.atrium, 29 * build.atrium, 29))
    right_a = ellipsoid(local, (BASE - 22 * r, 46, -8), (27 * r, 24 * r, 30 * r))
    label[~below & (left_a < 0) & (left_a <= right_a)] = LA
    label[~below & (right_a < 0) & (right_a < left_a)] = RA
    label[below & (right_v < 0) & (epicard >= 0)] = RV
    label[below & (epicard < 0)] = MYO
    label[below & (cavity < 0)] = LV

    tubes = _great_vessels(rng, grid, world, s, build.vessels)
    label[(tubes["appendage"] < 0) & (label == 0)] = LA
    label[(tubes["conus"] < 0) & ((label == 0) | (label == RA) | (label == LA))] = RV
    label[(tubes["outflow"] < 0) & (label != RV) & (label != RA)] = LV
    label[tubes["pulmonary"] < 0] = PA
    label[tubes["aorta"] < 0] = AA
    label = _in_one_piece(label)
    vessels = {name: (tubes[name] < 0) & (label == 0) for name in ("arch", "branches", "veins", "cava")}
    return Heart(label, vessels, tubes["lead"] < 0, centre, s * cavity)


def _great_vessels(rng: np.random.Generator, grid: Grid, world, s: float, wide: float) -> dict[str, np.ndarray]:
    """Signed distances of everything tubular around the chambers."""

    def wobble(*points) -> list[np.ndarray]:
        """The first point stays, so that a vessel does not leave the chamber it comes from."""
        return [points[0], *(point + rng.normal(0, 1.6, 3) for point in points[1:])]

    def union(*distances: np.ndarray) -> np.ndarray:
        return np.minimum.reduce(distances)

    a, p = 15.0 * s * wide, 13.0 * s * wide
    root = world(BASE - 4, 10, 16)
    ascending = wobble(root, root + s * np.array([7, 5, 20]), root + s * np.array([8, 2, 44]),
                       root + s * np.array([3, -8, 62]))  # fmt: skip
    top = ascending[-1]
    arch = wobble(top, top + s * np.array([-13, -20, 8]), top + s * np.array([-28, -40, 0]),
                  np.array([-27, -62, top[2] - 28]), np.array([-26, -64, 20.0]), np.array([-22, -64, -40.0]),
                  np.array([-18, -62, -140.0]))  # fmt: skip
    valve = world(BASE + 2, 12, 40)
    trunk = wobble(valve, valve + s * np.array([-7, -6, 14]), valve + s * np.array([-11, -22, 24]))
    fork = trunk[-1]
    left = wobble(fork, fork + s * np.array([-15, -16, 3]), fork + s * np.array([-34, -26, -2]))
    right = wobble(fork, fork + s * np.array([20, -13, 0]), fork + s * np.array([42, -17, -3]))
    left_on = wobble(left[-1], left[-1] + s * np.array([-16, -8, -14]), left[-1] + s * np.array([-24, -14, -34]))
    right_on = wobble(right[-1], right[-1] + s * np.array([15, -2, -9]), right[-1] + s * np.array([26, -8, -32]))
    auricle = world(BASE - 18, -14, 20)
    vena = world(BASE - 24, 48, 12)
    roof = world(BASE - 26, -8, 4)
    veins = []
    for side, height in ((-1, 12), (-1, -10), (1, 12), (1, -10)):
        start = roof + s * np.array([16 * side, -4, 0.7 * height])
        end = start + s * np.array([rng.uniform(26, 36) * side, rng.uniform(-12, 2), 0.9 * height])
        veins.append(grid.tube(wobble(start, (start + end) / 2, end), [8 * s, 6 * s, 4.5 * s]))
    apex = world(26, 42, -4)
    entry = np.array([vena[0] - 2, vena[1] - 4, 130.0])
    return {
        "outflow": grid.tube([world(BASE + 12, 3, 6), root], [13 * s, 13 * s]),
        "aorta": grid.tube(ascending, [1.06 * a, a, a, 0.92 * a]),
        "arch": union(
            grid.tube(arch, [0.9 * a, 0.86 * a, 0.8 * a, 0.75 * a, 0.72 * a, 0.7 * a, 0.66 * a]),
            *(
                grid.tube([arch[i] + (0, 0, 6), arch[i] + (side, 4, 26), arch[i] + (1.6 * side, 4, 60)], 5.5)
                for i, side in ((0, 8), (1, -4), (2, -8))
            ),
        ),
        "conus": grid.tube([world(BASE + 26, 30, 22), world(BASE + 12, 22, 32), valve], [17 * s, 15 * s, 13.5 * s]),
        "pulmonary": union(
            grid.tube(trunk, [p, p, 0.95 * p]),
            grid.tube(left, [0.9 * p, 0.8 * p, 0.65 * p]),
            grid.tube(right, [0.9 * p, 0.75 * p, 0.68 * p]),
        ),
        "branches": union(
            grid.tube(left_on, [0.62 * p, 0.5 * p, 0.35 * p]), grid.tube(right_on, [0.65 * p, 0.5 * p, 0.35 * p])
        ),
        "appendage": grid.tube(wobble(auricle, auricle + s * np.array([-10, 12, 4])), [11 * s, 8 * s]),
        "veins": union(*veins),
        "cava": union(
            grid.tube([entry, vena + (0, -3, 40), vena], [9.5, 9, 10]),
            grid.tube(
                [world(BASE - 22, 46, -30), world(BASE - 22, 46, -30, -4, -4, -40), np.array([20, -30, -140.0])],
                [11, 12, 12],
            ),
        ),
        "lead": grid.tube([entry, vena + (0, 0, 8), world(BASE - 4, 44, -6), apex], 1.3),
    }


def _in_one_piece(label: np.ndarray) -> np.ndarray:
    """Only the largest connected part of each structure keeps its label."""
    from scipy import ndimage

    result = np.zeros_like(label)
    for index in range(1, PA + 1):
        parts, count = ndimage.label(label == index)
        if count:
            result[parts == np.bincount(parts.ravel())[1:].argmax() + 1] = index
    return result


def surface_distance(label: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """Millimetres from each voxel to the nearest labelled one, float32; FAR where there is none."""
    from scipy import ndimage

    if not label.any():
        return np.full(label.shape, FAR)
    return ndimage.distance_transform_edt(label == 0, sampling=spacing).astype(np.float32)
