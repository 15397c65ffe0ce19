"""Units: what gets one feature vector and one pseudo-class. A photograph, or a sub-volume of a fixed grid."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import torch

from clustercl.data.prepare import Prepared
from clustercl.data.settings import DataSettings
from clustercl.data.task import Task


@dataclass(frozen=True)
class Unit:
    """id: the case's id, or "caseid@x-y-z"; source: the case's id; case: index into the list of prepared cases;
    origin: first voxel of the window in the prepared volume, None for a photograph."""

    id: str
    source: str
    case: int
    origin: tuple[int, ...] | None


def axis_origins(length: int, patch: int) -> list[int]:
    """Where windows of `patch` voxels begin on an axis: from end to end, spaced evenly by about half a patch.

    What exceeds the patch by less than a quarter of it gets no window of its own, as that would show almost the same.
    """
    excess = max(0, length - patch)
    steps = round(excess / max(1, patch // 2))
    return [round(excess * step / steps) for step in range(steps + 1)] if steps else [excess // 2]


def make_units(prepared: Sequence[Prepared], task: Task, settings: DataSettings) -> list[Unit]:
    """The units of all prepared cases, in order: one per photograph, a grid of windows per volume."""
    units = []
    for number, item in enumerate(prepared):
        name = item.case.id
        if task.spatial_dims == 2:
            units.append(Unit(name, name, number, None))
            continue
        grid = [axis_origins(length, patch) for length, patch in zip(item.image.shape[1:], settings.patch)]
        units += [Unit(f"{name}@{'-'.join(map(str, origin))}", name, number, origin) for origin in product(*grid)]
    return units


def unit_image(prepared: Sequence[Prepared], unit: Unit, settings: DataSettings) -> torch.Tensor:
    """The image of a unit of these prepared cases, (c, *spatial) as `Prepared.image`, padded to the patch."""
    image = prepared[unit.case].image
    return image if unit.origin is None else crop(image, unit.origin, settings.patch)


def crop(image: torch.Tensor, origin: Sequence[int], patch: Sequence[int], value: float | None = None) -> torch.Tensor:
    """A window (c, *patch) of a volume (c, x, y, z); where it reaches beyond the far end it is filled with `value`.

    By default that is the volume's smallest value: air in CT, and what lies outside a scan is most like air whatever
    the normalisation.
    """
    window = image[(slice(None), *(slice(start, start + size) for start, size in zip(origin, patch)))]
    if tuple(window.shape[1:]) == tuple(patch):
        return window.clone()
    return pad_to(window, patch, float(image.min()) if value is None else value)


def pad_to(image: torch.Tensor, patch: Sequence[int], value: float) -> torch.Tensor:
    """(c, *spatial) grown to at least `patch` at the far end of each axis, filled with `value`."""
    missing = [max(0, size - length) for size, length in zip(patch, image.shape[1:])]
    widths = [width for size in reversed(missing) for width in (0, size)]
    return torch.nn.functional.pad(image, widths, value=value)
