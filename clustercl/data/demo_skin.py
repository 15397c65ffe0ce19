"""Synthetic dermoscopic photographs with the mask of their lesion.

Colours come from concentrations by the law of Beer and Lambert: light that returns from skin is weakened by melanin
near the surface (brown), by melanin that lies deep (blue-grey) and by blood (red). A lesion adds to those
concentrations in the pattern of its kind; hair, rulers, gel and the dermatoscope's dark edge come on top
(`demo_optics`). Skin tone, size, place and light are drawn independently of the kind, so no single threshold finds it.
"""

import numpy as np

from clustercl.data import demo_optics
from clustercl.data.demo_noise import cells, fractal, sigmoid

KINDS = ("network", "globules", "blue", "vascular", "crusted")
SIZES = ((192, 256), (171, 256), (224, 224), (192, 240), (240, 192), (192, 192))  # (h, w)

WHITE = np.array([0.98, 0.93, 0.90])  # what bloodless skin without pigment returns, red, green, blue
MELANIN = np.array([0.42, 0.74, 1.05])  # absorbance per unit of concentration
DEEP_MELANIN = np.array([1.00, 0.80, 0.62])
BLOOD = np.array([0.13, 0.80, 0.62])
KERATIN = np.array([0.84, 0.75, 0.58])  # opaque: covers instead of absorbing

# Smallest and largest half diameter as a share of half the shorter side; softness of the border in pixels.
RADIUS = {"network": (0.34, 0.72), "globules": (0.34, 0.66), "blue": (0.24, 0.48), "vascular": (0.30, 0.60),
          "crusted": (0.32, 0.68)}  # fmt: skip
SOFTNESS = {"network": 3.0, "globules": 2.0, "blue": 1.4, "vascular": 3.2, "crusted": 0.8}
IRREGULARITY = {"network": 1.0, "globules": 0.8, "blue": 0.5, "vascular": 0.8, "crusted": 1.0}


class Concentrations:
    """What absorbs or covers at each pixel, all float32 (h, w): melanin, deep melanin, blood, keratin (0..1)."""

    def __init__(self, shape: tuple[int, int]):
        self.melanin, self.deep, self.blood, self.keratin = np.zeros((4, *shape), np.float32)

    def colour(self) -> np.ndarray:
        """(h, w, 3) reflected light, 0..1."""
        absorbed = sum(
            amount.clip(0)[..., None] * spectrum
            for amount, spectrum in ((self.melanin, MELANIN), (self.deep, DEEP_MELANIN), (self.blood, BLOOD))
        )
        cover = self.keratin.clip(0, 1)[..., None]
        return (WHITE * np.exp(-absorbed)) * (1 - cover) + KERATIN * cover


def photograph(rng: np.random.Generator, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """One photograph, uint8 (h, w, 3), and its mask, uint8 (h, w) of 0 and 255; `kind` is one of KINDS."""
    shape = SIZES[rng.integers(len(SIZES))]
    skin = _skin(rng, shape)
    inside, mask = _outline(rng, shape, kind)
    _PATTERNS[kind](rng, skin, inside)
    return demo_optics.photograph(rng, skin.colour(), mask), mask.astype(np.uint8) * 255


def _skin(rng: np.random.Generator, shape: tuple[int, int]) -> Concentrations:
    skin = Concentrations(shape)
    tone = rng.beta(0.9, 1.7)  # light skin is the more frequent in the archives, dark skin is there
    skin.melanin += (0.05 + 0.95 * tone) * (1 + 0.09 * fractal(rng, shape, 70) + 0.03 * fractal(rng, shape, 4, 2))
    skin.blood += rng.uniform(0.04, 0.28) * (1 + 0.22 * fractal(rng, shape, 45, 4))
    # Furrows of the skin: two families of fine lines that cross.
    for _ in range(2):
        lines = np.abs(fractal(rng, shape, rng.permutation([5.0, 26.0]), 2))
        skin.melanin += rng.uniform(0.0, 0.05) * np.exp(-((lines / 0.25) ** 2))
    for _ in range(rng.poisson(4)):  # freckles, and small moles that nobody outlined
        spot = _spot(shape, rng.uniform((0, 0), shape), rng.uniform(1.5, 5.0))
        skin.melanin += rng.uniform(0.05, 0.35) * spot
    for _ in range(rng.poisson(2)):
        skin.blood += rng.uniform(0.1, 0.5) * _spot(shape, rng.uniform((0, 0), shape), rng.uniform(1.5, 9.0))
    return skin


def _spot(shape: tuple[int, int], centre, radius: float) -> np.ndarray:
    """A soft round spot, 1 at its centre."""
    y, x = np.ogrid[: shape[0], : shape[1]]
    return np.exp(-((((y - centre[0]) ** 2 + (x - centre[1]) ** 2) / radius**2) ** 1.5)).astype(np.float32)


def _outline(rng: np.random.Generator, shape: tuple[int, int], kind: str) -> tuple[np.ndarray, np.ndarray]:
    """How much of the lesion there is at each pixel (0..1, half at the border), and the mask as bool."""
    from scipy import ndimage

    half = min(shape) / 2
    radius = rng.uniform(*RADIUS[kind]) * half
    reach = max(0.0, half - radius)
    centre = np.array(shape) / 2 + rng.uniform(-0.45, 0.45, 2) * reach
    y, x = np.ogrid[: shape[0], : shape[1]]
    y, x = y - centre[0], x - centre[1]
    turn, stretch = rng.uniform(0, np.pi), rng.uniform(1.0, 1.45) ** 0.5
    along = (np.cos(turn) * x + np.sin(turn) * y) / stretch
    across = (-np.sin(turn) * x + np.cos(turn) * y) * stretch
    angle, distance = np.arctan2(across, along), np.hypot(across, along)
    rough = IRREGULARITY[kind]
    border = np.ones_like(angle)
    for harmonic in range(2, 8):
        border += rough * rng.normal(0, 0.11 / harmonic**0.7) * np.cos(harmonic * angle + rng.uniform(0, 2 * np.pi))
    depth = radius * border - distance + rough * radius * 0.07 * fractal(rng, shape, 0.45 * radius, 4)
    mask, _ = ndimage.label(depth > 0)
    sizes = np.bincount(mask.ravel())
    sizes[0] = 0
    mask = ndimage.binary_fill_holes(mask == sizes.argmax())
    # Islands that the noise cut off, and holes that it made, follow the mask.
    depth = np.where(mask, np.abs(depth), -np.abs(depth))
    return sigmoid(2 * depth / (SOFTNESS[kind] * rng.uniform(0.8, 1.5))).astype(np.float32), mask


def _network(rng: np.random.Generator, skin: Concentrations, inside: np.ndarray) -> None:
    """A brown net with lighter holes, fading towards the border, with darker blotches."""
    shape = inside.shape
    near, second = cells(rng, shape, rng.uniform(5.5, 9.0), jitter=0.55)
    width = 1.5 * np.exp(0.3 * fractal(rng, shape, 20))
    net = np.exp(-(((second - near) / width) ** 2)) * sigmoid(2 * fractal(rng, shape, 30) + 0.8)
    blotch = sigmoid(3 * fractal(rng, shape, 40) - 2.0)
    ground = 0.5 + 0.2 * fractal(rng, shape, 30, 4).clip(-2, 2)
    skin.melanin += inside * rng.uniform(0.4, 0.9) * (ground + rng.uniform(0.5, 1.1) * net + 1.3 * blotch)


def _globules(rng: np.random.Generator, skin: Concentrations, inside: np.ndarray) -> None:
    """Many round dark globules on a tan ground."""
    shape = inside.shape
    spacing = rng.uniform(9.0, 13.0)
    near, _ = cells(rng, shape, spacing)
    size = spacing * (0.30 + 0.07 * fractal(rng, shape, 20).clip(-2, 2))
    globule = sigmoid(1.6 * (size - near)) * (1 + 0.25 * fractal(rng, shape, spacing, 1))
    skin.melanin += inside * (
        rng.uniform(0.25, 0.5) * (1 + 0.3 * fractal(rng, shape, 30)) + rng.uniform(0.9, 1.6) * globule
    )
    skin.blood += inside * 0.15


def _blue(rng: np.random.Generator, skin: Concentrations, inside: np.ndarray) -> None:
    """A smooth blue-grey nodule under a whitish veil."""
    shape = inside.shape
    veil = sigmoid(2 * fractal(rng, shape, 35) - 0.8)
    skin.melanin *= 1 - 0.75 * inside  # the dome stretches the skin above it
    skin.blood *= 1 - 0.8 * inside
    skin.deep += inside * rng.uniform(0.7, 1.6) * (1 - 0.45 * veil) * (1 + 0.14 * fractal(rng, shape, 18))
    skin.melanin += inside * 0.5 * sigmoid(3 * fractal(rng, shape, 22) - 2.5)


def _vascular(rng: np.random.Generator, skin: Concentrations, inside: np.ndarray) -> None:
    """A pink to red patch with winding and branching vessels."""
    shape = inside.shape
    vessels = demo_optics.vessels(rng, inside)
    skin.blood += inside * (rng.uniform(0.30, 0.75) * (1 + 0.25 * fractal(rng, shape, 22)) + 1.3 * vessels)
    skin.melanin *= 1 - rng.uniform(0.0, 0.4) * inside
    skin.keratin += 0.25 * inside * sigmoid(4 * fractal(rng, shape, 16, 2) - 6)


def _crusted(rng: np.random.Generator, skin: Concentrations, inside: np.ndarray) -> None:
    """Waxy and stuck on: fissures, pale cysts, dark plugs, yellow scale; a sharp border."""
    shape = inside.shape
    fissure = np.exp(-((np.abs(fractal(rng, shape, 16, 2)) / 0.16) ** 2))
    cyst = sigmoid(2.2 * (1.6 - cells(rng, shape, rng.uniform(13, 20), jitter=0.8)[0]))
    plug = sigmoid(1.8 * (2.0 - cells(rng, shape, rng.uniform(18, 26), jitter=0.9)[0]))
    waxy = rng.uniform(0.25, 0.75) * (1 + 0.25 * fractal(rng, shape, 14))
    skin.melanin += inside * (waxy + 0.55 * fissure + 1.6 * plug)
    scale = 0.4 * sigmoid(3 * fractal(rng, shape, 24) - 1.5)
    skin.keratin += inside * np.maximum(scale, 0.75 * cyst) * (1 - plug) + 0.12 * inside


_PATTERNS = dict(zip(KINDS, (_network, _globules, _blue, _vascular, _crusted)))
