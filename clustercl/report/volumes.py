"""Slices of volumes as radiologists look at them: from the front or from the feet, the patient's right on the left."""

from dataclasses import dataclass

import numpy as np

from clustercl.data.settings import DataSettings


@dataclass(frozen=True)
class View:
    """axis: what a slice is taken along; axes: which volume axes run across and up the picture (RAS order)."""

    axis: int
    axes: tuple[int, int]


VIEWS = {"axial": View(2, (0, 1)), "coronal": View(1, (0, 2)), "sagittal": View(0, (1, 2))}


def view(volume: np.ndarray, name: str, index: int) -> np.ndarray:
    """The slice `index` of a volume (x, y, z) in RAS order as a picture (rows, columns).

    Rows run from anterior or superior down; columns from the patient's right, or from anterior, to the right.
    """
    return volume.take(index, axis=VIEWS[name].axis).T[::-1, ::-1]


def aspect(spacing: tuple[float, ...], name: str) -> float:
    """Height of a pixel of that view over its width, for voxels of `spacing` mm in RAS order."""
    across, up = VIEWS[name].axes
    return spacing[up] / spacing[across]


def grey_range(volume: np.ndarray, settings: DataSettings, prepared: bool = False) -> tuple[float, float]:
    """What is shown as black and as white: the window in HU, or all but the extremes where intensities have no unit.

    `prepared`: the values are those the network sees, in which the window is 0..1.
    """
    if settings.intensity in ("auto", "hu"):
        return (0.0, 1.0) if prepared else settings.hu_window
    low, high = np.percentile(volume[..., ::4, ::4, ::4], (1, 99.5))
    return float(low), float(max(high, low + 1e-6))
