"""Synthetic contrast-enhanced cardiac CT with the label map of its seven structures.

Kinds differ in contrast phase, field of view, build of the heart and of the body. Unlabelled vessels, ribs and organs
carry the same Hounsfield units as the labelled structures, so that no threshold finds those.
"""

from dataclasses import dataclass, field

import numpy as np
from scipy import ndimage

from clustercl.data.demo_anatomy import AA, LA, LV, MYO, PA, RA, RV, Build, Heart, heart, surface_distance
from clustercl.data.demo_noise import fractal, sigmoid
from clustercl.data.demo_scanner import scan
from clustercl.data.demo_shapes import Grid
from clustercl.data.demo_thorax import FAT, MUSCLE, chest, draw_body
from clustercl.data.task import get_task

ORIENTATIONS = ("LPS", "RAS", "LAS", "RPI", "ASL")  # nibabel's axis codes


@dataclass(frozen=True)
class Protocol:
    """hu: of LV, RV, LA, RA, MYO, AA, PA and the superior vena cava; view: field in mm; spacings: one is drawn, mm;
    noise and hardening: see `scan`; fat: range under the skin, mm; build: ranges of the heart's build."""

    hu: tuple[float, ...]
    view: tuple[float, float, float]
    spacings: tuple[tuple[float, float, float], ...]
    noise: float
    hardening: float
    fat: tuple[float, float]
    build: dict[str, tuple[float, float]] = field(default_factory=dict)
    lead: bool = False


PROTOCOLS = {
    # A coronary CT: narrow field, left heart bright, right heart washed out.
    "coronary": Protocol((390, 150, 410, 140, 110, 400, 200, 230), (182, 182, 168), ((2.0, 2.0, 2.4), (2.1, 2.1, 2.0)),
                         18, 0.05, (8, 18), {"wall": (9, 12)}),
    # A whole chest in the venous phase: all blood nearly equally bright, air and table in view.
    "chest": Protocol((205, 178, 210, 170, 118, 205, 182, 180), (285, 252, 186), ((3.0, 3.0, 3.0), (3.0, 3.0, 2.6)),
                      14, 0.04, (6, 14), {"wall": (8, 11)}),
    # Looking for an embolism: contrast still in the right heart, streaks from the vena cava.
    "embolism": Protocol((230, 400, 270, 440, 85, 220, 470, 950), (216, 190, 174), ((2.4, 2.4, 2.8), (2.7, 2.7, 2.2)),
                         22, 0.10, (12, 24), {"wall": (9, 12), "right": (1.05, 1.15), "vessels": (1.0, 1.12)}),
    # Heart failure with a pacemaker's lead: wide, thin-walled left ventricle, large atria, a stout patient.
    "failure": Protocol((290, 250, 300, 225, 105, 290, 260, 260), (236, 210, 174), ((2.6, 2.6, 3.0), (3.0, 3.0, 2.4)),
                        30, 0.10, (26, 40), {"wall": (5.5, 7.5), "left": (1.1, 1.22), "atrium": (1.05, 1.18)}, True),
}  # fmt: skip
KINDS = tuple(PROTOCOLS)


def volume(rng: np.random.Generator, kind: str, orientation: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One CT: Hounsfield units int16 (x, y, z), label map int16 with MM-WHS values, affine (4, 4) to mm in RAS.

    `kind` is one of KINDS, `orientation` the axis codes that the arrays are stored in.
    """
    protocol = PROTOCOLS[kind]
    spacing = np.array(protocol.spacings[rng.integers(len(protocol.spacings))])
    shape = np.ceil(np.array(protocol.view) / spacing * rng.uniform(0.98, 1.04, 3)).astype(int)
    middle = np.array([-2.0, 0.0, 22.0]) if protocol.view[0] < 230 else np.array([0.0, -22.0, 18.0])
    grid = Grid(shape, spacing, middle + rng.normal(0, 3, 3).clip(-5, 5))
    ranges = {"size": (0.95, 1.08), "left": (0.94, 1.06), "right": (0.94, 1.06), "atrium": (0.94, 1.06)}
    build = Build(**{name: rng.uniform(*limits) for name, limits in (ranges | protocol.build).items()})
    inside = heart(rng, grid, build)
    hu = _paint(rng, grid, inside, protocol)
    hu = ndimage.gaussian_filter(hu, 0.55)  # a voxel sees its neighbours' edges
    hu = scan(rng, hu, spacing, protocol.noise * rng.uniform(0.8, 1.25), protocol.hardening * rng.uniform(0.7, 1.3))
    image = np.rint(hu.clip(-1024, 3071)).astype(np.int16)
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = np.round(grid.origin + rng.uniform(-120, 120, 3), 3)  # where the table happened to stand
    return _oriented(image, get_task("heart").to_values(inside.label), affine, orientation)


def _paint(rng: np.random.Generator, grid: Grid, inside: Heart, protocol: Protocol) -> np.ndarray:
    """Chest, heart and vessels in HU, still without the scanner."""
    level = np.array(protocol.hu) * rng.uniform(0.88, 1.12) + rng.normal(0, 9, len(protocol.hu))
    label, vessels = inside.label, inside.vessels
    contrast = np.concatenate([[0], level]).astype(np.float32)[label]
    contrast[vessels["arch"]] = level[AA - 1]
    contrast[vessels["branches"]] = level[PA - 1]
    contrast[vessels["veins"]] = level[LA - 1]
    z = np.broadcast_to(grid.axes[2], grid.shape)
    # The lower vena cava brings blood without contrast, in every phase.
    contrast[vessels["cava"]] = np.where(z > inside.centre[2] + 15, level[7], 0.6 * level[RA - 1])[vessels["cava"]]
    # Blood of both cavae mixes in the right atrium, and less so in the right ventricle.
    mixing = max(0.0, level[7] - level[RA - 1]) * 0.22 * fractal(rng, grid.shape, 16 / grid.spacing, 2)
    contrast += np.where(label == RA, mixing, 0) + np.where(label == RV, 0.5 * mixing, 0)
    # Papillary muscles and trabeculae: muscle that belongs to the cavity by convention.
    muscle = fractal(rng, grid.shape, 11 / grid.spacing, 2) + inside.ventricle / 9
    contrast -= np.where(label == LV, (level[LV - 1] - level[MYO - 1]) * 0.8 * sigmoid(4 * (muscle - 0.6)), 0)
    contrast += np.where(label == MYO, 8 * fractal(rng, grid.shape, 8 / grid.spacing, 2), 0)

    near = surface_distance(label, grid.spacing)
    tubes = vessels["arch"] | vessels["branches"] | vessels["cava"]
    everything = np.minimum(near, surface_distance(tubes, grid.spacing) + 2)
    below = np.flatnonzero((label > 0).any(axis=(0, 1)))
    floor = float(grid.axes[2].ravel()[below[0]]) + 11 if len(below) else -60.0
    body = draw_body(rng, protocol.fat, enhanced=0.3 * level[RV - 1] * (0.6 if protocol.hu[RA - 1] > 300 else 1.0))
    hu = chest(rng, grid, body, everything, floor, blood=0.5 * level[PA - 1])
    around = near < rng.uniform(5, 9)
    hu[around & (hu < -150)] = FAT
    hu[near < 2.4] = MUSCLE + 15  # walls of the right heart, the atria and the vessels
    filled = (label > 0) | tubes | vessels["veins"]
    hu[filled] = contrast[filled]
    if protocol.lead:
        hu[inside.lead] = 2600
    wall = np.argwhere((label == AA) & ndimage.binary_dilation(label == 0))
    for _ in range(rng.poisson(2) if len(wall) else 0):  # calcium in the wall of the aorta
        spot = grid.origin + grid.spacing * wall[rng.integers(len(wall))]
        hu[grid.box(spot, 1.2)] = 900
    return hu


def _oriented(
    image: np.ndarray, label: np.ndarray, affine: np.ndarray, orientation: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Arrays in RAS order turned into that of `orientation`, with the affine that keeps every voxel where it is."""
    from nibabel import orientations

    turn = orientations.ornt_transform(orientations.axcodes2ornt("RAS"), orientations.axcodes2ornt(orientation))
    turned = affine @ orientations.inv_ornt_aff(turn, image.shape)
    image, label = (np.ascontiguousarray(orientations.apply_orientation(array, turn)) for array in (image, label))
    return image, label, turned
