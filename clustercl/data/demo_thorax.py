"""The chest around a synthetic heart, in Hounsfield units: skin, fat, muscle, ribs, sternum, spine, lungs with their
vessels, airways, diaphragm, liver, stomach and the scanner's table."""

from dataclasses import dataclass

import numpy as np

from clustercl.data.demo_noise import fractal
from clustercl.data.demo_shapes import Grid, ellipsoid, superellipse

AIR, LUNG, FAT, WATER, MUSCLE, CARTILAGE, SPONGY, BONE = -1000, -850, -100, 0, 55, 110, 210, 750
SPINE_Y = -84.0  # middle of the vertebral bodies, mm
RIB_STEP, VERTEBRA = 27.0, 26.0  # mm


@dataclass(frozen=True)
class Body:
    fat: float  # thickness under the skin, mm
    width: float  # half width and half depth of the space inside the ribs, mm
    depth: float
    breasts: float  # thickness in mm, 0 for none
    phase: float  # where ribs and vertebrae begin, mm
    enhanced: float  # HU that contrast adds to liver and spleen


def draw_body(rng: np.random.Generator, fat: tuple[float, float], enhanced: float) -> Body:
    return Body(
        fat=rng.uniform(*fat),
        width=rng.uniform(100, 114),
        depth=rng.uniform(78, 86),
        breasts=rng.choice([0.0, rng.uniform(15, 40)]),
        phase=rng.uniform(0, RIB_STEP),
        enhanced=enhanced,
    )


def chest(
    rng: np.random.Generator, grid: Grid, body: Body, near_heart: np.ndarray, floor: float, blood: float
) -> np.ndarray:
    """The chest without its heart, HU float32 (x, y, z).

    `near_heart`: distance in mm to the heart and its vessels, around which there is fat instead of lung; `floor`: z of
    the heart's lower end, where the diaphragm is; `blood`: HU of the vessels in the lungs.
    """
    x, y, z = grid.axes
    cavity = superellipse(x, y + 6, (body.width, body.depth)) + 0.0 * z
    fat = body.fat + (y > 0) * body.breasts * np.exp(-(((np.abs(x) - 72) / 42) ** 2) - ((z - 12) / 42) ** 2)
    skin = superellipse(x, y + 12, (body.width + 26 + body.fat, body.depth + 30 + body.fat)) - (fat - body.fat)
    hu = np.full(grid.shape, np.float32(AIR))
    _table(hu, grid, y_back=-12 - body.depth - 30 - body.fat)
    hu[skin < 0] = 20
    hu[skin < -2.2] = FAT
    hu[skin + fat < 0] = MUSCLE
    # Fat between the layers of muscle.
    layers = (skin + fat < 0) & (np.abs(fractal(rng, grid.shape, np.array([24, 10, 30]) / grid.spacing, 2)) < 0.14)
    hu[layers & (cavity > 10)] = FAT
    _ribs(hu, grid, cavity, body.phase)

    spine = ((x / 30) ** 2 + ((y - SPINE_Y + 4) / 27) ** 2) < 1
    inside = (cavity < 0) & ~spine
    hu[inside] = FAT
    dome = _diaphragm(grid, cavity, floor)
    chest_space = inside & (z > dome)
    middle = (
        ((x / 27) ** 2 + ((y + 36) / 36) ** 2 < 1)
        | ((np.abs(x + 4 + 0.06 * z) < 5 + 0.12 * np.maximum(y, 0)) & (y > 0))
        | (near_heart < 4.5)
    )
    _lungs(rng, hu, grid, chest_space & ~middle, blood)
    _airways(hu, grid, chest_space)
    _belly(rng, hu, grid, (inside | spine) & (z <= dome), cavity, dome, floor, body.enhanced)
    _spine(rng, hu, grid, body.phase)
    soft = (hu > -150) & (hu < 200)
    return hu + soft * 9 * fractal(rng, grid.shape, 9 / grid.spacing, 2)


def _table(hu: np.ndarray, grid: Grid, y_back: float) -> None:
    x, y, z = grid.axes
    depth = (y_back + 0.0009 * x**2 - 5) - y + 0 * z
    hu[(depth > 0) & (depth < 16) & (np.abs(x) < 210)] = -930
    hu[(depth > 0) & (depth < 4) & (np.abs(x) < 210)] = 80


def _ribs(hu: np.ndarray, grid: Grid, cavity: np.ndarray, phase: float) -> None:
    """Flat bones that run downwards from the spine to the front, cartilage next to the sternum."""
    x, y, z = grid.axes
    along = (z + 0.42 * y + phase) % RIB_STEP - RIB_STEP / 2
    rib = np.hypot(along / 6.5, (cavity - 6) / 4.6)
    front = (y > 40) & (np.abs(x) < 62)
    hu[(rib < 1) & ~front] = BONE
    hu[(rib < 0.55) & ~front] = SPONGY
    hu[(rib < 1) & front] = CARTILAGE
    sternum = np.maximum(np.abs(x) / 19, np.abs(cavity - 7) / 6.5) + 0 * z
    plate = (y > 30) & (z > -45)
    hu[(sternum < 1) & plate] = BONE * 0.8
    hu[(sternum < 0.68) & plate] = SPONGY * 0.7


def _spine(rng: np.random.Generator, hu: np.ndarray, grid: Grid, phase: float) -> None:
    x, y, z = grid.axes
    level = np.abs((z + phase) % VERTEBRA - VERTEBRA / 2)
    body = np.hypot(x / (18 + 0.15 * level), (y - SPINE_Y) / 15.5) + 0 * z
    hu[(np.hypot(x / 44, (y - SPINE_Y + 30) / 17) + 0 * z < 1)] = MUSCLE  # muscles of the back
    bone = (body < 1) & (level < 11)
    hu[(body < 1) & (level >= 11)] = 85  # disc
    hu[bone] = (SPONGY + 45 * fractal(rng, grid.shape, 5 / grid.spacing, 2))[bone]
    hu[((body > 0.82) & (body < 1) & (level < 11)) | ((body < 1) & (level > 9) & (level < 11))] = 0.7 * BONE
    canal = np.hypot(x, y - SPINE_Y + 25) + 0 * z
    arch = (canal < 14) & (level < 10)
    spinous = (np.abs(x) < 3.5) & (y < SPINE_Y - 36) & (y > SPINE_Y - 47) & (level < 6)
    transverse = (np.abs(y - SPINE_Y + 21 - 0.1 * np.abs(x)) < 5) & (np.abs(x) < 34) & (level < 6)
    hu[arch | spinous | transverse] = BONE * 0.75
    hu[canal < 9] = 30


def _diaphragm(grid: Grid, cavity: np.ndarray, floor: float) -> np.ndarray:
    """z of the diaphragm (x, y, 1): a dome on each side, the right one higher, steep towards the ribs."""
    x, y, _ = grid.axes
    right = 30 * np.exp(-(((x - 58) / 48) ** 2) - ((y + 5) / 60) ** 2)
    left = 16 * np.exp(-(((x + 68) / 40) ** 2) - ((y + 15) / 55) ** 2)
    return (floor + right + left - 45 * np.exp(cavity[:, :, :1] / 16)).astype(np.float32)


def _lungs(rng: np.random.Generator, hu: np.ndarray, grid: Grid, lung: np.ndarray, blood: float) -> None:
    _, y, z = grid.axes
    air = LUNG - 0.35 * (y + 0 * z) + 22 * fractal(rng, grid.shape, 14 / grid.spacing, 3)  # blood sinks to the back
    hu[lung] = air[lung]
    vessels = np.zeros(grid.shape, bool)
    for side in (-1, 1):
        hilum = np.array([50.0 * side, -32.0, 24.0])
        for _ in range(40):
            direction = rng.normal(0, 1, 3) * (0.9, 1, 1) + (0.9 * side, 0, 0)
            direction /= np.linalg.norm(direction)
            reach = rng.uniform(35, 85)
            bend = hilum + direction * reach / 2 + rng.normal(0, 5, 3)
            radius = rng.uniform(2.2, 4.6)
            vessels |= grid.tube([hilum, bend, hilum + direction * reach], [radius, 0.75 * radius, 1.3], margin=0) < 0
    hu[lung & vessels] = blood


def _airways(hu: np.ndarray, grid: Grid, inside: np.ndarray) -> None:
    split = (2, -50, 62)
    paths = [([(3, -46, 160), split], (8.5, 8.5))]
    paths += [([split, (side * 20, -50, 46), (side * 46, -46, 26)], (7, 6.5, 4.5)) for side in (-1, 1)]
    for path, radii in paths:
        distance = grid.tube(path, radii)
        hu[(distance < 1.6) & (distance >= 0) & inside] = 20
        hu[(distance < 0) & inside] = AIR
    gullet = grid.tube([(-6, -60, 160), (-5, -63, 20), (-14, -58, -60)], 7)
    hu[(gullet < 0) & inside] = 35
    hu[(gullet < -5) & inside] = -700


def _belly(
    rng: np.random.Generator, hu: np.ndarray, grid: Grid, below: np.ndarray, cavity: np.ndarray, dome: np.ndarray,
    floor: float, enhanced: float,
) -> None:  # fmt: skip
    """Liver on the right, stomach with gas and spleen on the left, fat between them."""
    x, y, z = grid.axes
    depth = dome - z  # mm under the diaphragm
    hu[below & (depth < 3)] = MUSCLE
    liver = below & (depth >= 3) & (cavity < -3) & (x > -38 + 0.25 * np.abs(y) + 0.3 * depth)
    texture = fractal(rng, grid.shape, 16 / grid.spacing, 2)
    hu[liver] = 60 + enhanced
    hu[liver & (np.abs(texture) < 0.10)] = 60 + 1.7 * enhanced
    stomach = ellipsoid(grid.axes, (-58, 18, floor - 24), (34, 40, 33))
    gas = y > 22
    hu[below & (stomach < 0)] = 50
    hu[below & (stomach < -4) & ~gas] = 15
    hu[below & (stomach < -4) & gas] = AIR
    spleen = ellipsoid(grid.axes, (-78, -50, floor - 22), (22, 30, 42))
    hu[below & (spleen < 0)] = 55 + 1.1 * enhanced
