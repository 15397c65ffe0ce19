"""From files to what the network sees, and from the network's probabilities back onto the original grid.

Resampling convention: the field of view is kept, that is the outer faces of the first and last voxel stay where they
are, and values belong to voxel centres (torch's align_corners=False). An axis of n voxels of s mm becomes
round(n s / wanted) voxels, so that over the whole axis the spacing obtained is off by less than half a voxel;
`grid_affine` says where the centres lie. Shrinking is anti-aliased, labels are taken from the nearest voxel.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from clustercl.data.cases import Case
from clustercl.data.read import Volume, read_label, read_source
from clustercl.data.settings import DataSettings
from clustercl.data.task import Task
from clustercl.errors import UsageError

SLAB = 2**22  # voxels of the original grid that are held as floats at once: 16 slices of a CT


@dataclass
class Geometry:
    """The grid a case came on: spatial shape in the file's own axis order; affine and spacing (mm) for volumes,
    None and (1, 1) for photographs."""

    shape: tuple[int, ...]
    affine: np.ndarray | None
    spacing: tuple[float, ...]


@dataclass
class Prepared:
    """image (c, *spatial): uint8 for photographs (a quarter of the memory), float32 for volumes; label uint8 (*spatial)
    with indices 0..k. Volumes are in RAS order; smaller than the patch they may be, who crops pads. The same attributes
    has `cache.CachedCase`."""

    case: Case
    image: torch.Tensor
    label: torch.Tensor | None
    geometry: Geometry


def prepare_case(case: Case, task: Task, settings: DataSettings, with_label: bool = True) -> Prepared:
    """Read, check, reorient to RAS, resample and normalise one case. What is used again comes from `cache` instead."""
    image, geometry = prepare_image(case, task, settings)
    wanted = with_label and case.label is not None
    return Prepared(case, image, prepare_label(case, task, geometry, image.shape[1:]) if wanted else None, geometry)


def prepare_image(case: Case, task: Task, settings: DataSettings) -> tuple[torch.Tensor, Geometry]:
    """`Prepared.image` and its geometry."""
    return prepare_image_array(read_source(case, task), task, settings)


def prepare_label(case: Case, task: Task, geometry: Geometry, shape: Sequence[int]) -> torch.Tensor:
    """`Prepared.label` for an image of that geometry, prepared to that spatial shape."""
    return prepare_label_array(read_label(case, task, geometry.shape, geometry.affine), geometry, tuple(shape))


def prepare_image_array(
    source: np.ndarray | Volume, task: Task, settings: DataSettings
) -> tuple[torch.Tensor, Geometry]:
    """A photograph (h, w, 3) uint8 or a Volume to the tensor (c, *spatial) of `Prepared.image` and its geometry."""
    if task.spatial_dims == 2:
        if settings.intensity != "auto":
            raise UsageError(
                f"data.intensity={settings.intensity} applies to volumes; task {task.name} has photographs"
            )
        # Without a copy where it can be had: one of 6000 x 4000 pixels takes 72 MB.
        picture = torch.from_numpy(np.require(source, requirements=("C", "W"))).permute(2, 0, 1)
        resized = resample(picture, (settings.size, settings.size))
        return resized, Geometry(tuple(source.shape[:2]), None, (1.0, 1.0))
    geometry = Geometry(tuple(source.array.shape), source.affine, source.spacing)
    upright, shape = to_ras(source.array, source.affine), grid_shape(geometry, settings)
    # The first axis is the last that `resample` goes along, so slabs across it give the planes of the whole.
    depth = max(1, SLAB // math.prod(upright.shape[1:]))
    planes = [
        resample(torch.from_numpy(np.array(part, np.float32, order="C"))[None], (len(part), *shape[1:]))
        for part in (upright[start : start + depth] for start in range(0, len(upright), depth))
    ]
    return normalise(resample(torch.cat(planes, dim=1), shape), settings), geometry


def prepare_label_array(index: np.ndarray, geometry: Geometry, shape: tuple[int, ...]) -> torch.Tensor:
    """A label map in the file's order, uint8, to `shape` by nearest neighbour (after turning volumes to RAS)."""
    if geometry.affine is not None:
        index = to_ras(index, geometry.affine)
    for axis, (old, new) in enumerate(zip(index.shape, shape)):
        # The old voxel that the new voxel's centre lies in.
        index = index.take(((np.arange(new) + 0.5) * old / new).astype(np.int64), axis=axis)
    return torch.from_numpy(np.ascontiguousarray(index))


def normalise(image: torch.Tensor, settings: DataSettings) -> torch.Tensor:
    """Intensities of a volume (1, x, y, z) float32 as `settings.intensity` says."""
    if settings.intensity == "zscore":
        return (image - image.mean()) / image.std(correction=0).clamp_min(1e-6)
    if settings.intensity == "minmax":
        low, high = image.amin(), image.amax()
        return (image - low) / (high - low).clamp_min(1e-6)
    low, high = settings.hu_window
    return (image.clamp(low, high) - low) / (high - low)


def to_float(images: torch.Tensor) -> torch.Tensor:
    """Prepared images, one or a batch, as float32 in the network's range: uint8 is divided by 255."""
    return images.float().div_(255) if images.dtype == torch.uint8 else images.float()


def restore(
    probabilities: torch.Tensor,
    geometry: Geometry,
    settings: DataSettings,
    tell: Callable[[str], None] = lambda doing: None,
) -> np.ndarray:
    """Probabilities (k+1, *prepared spatial) to class indices, uint8, in the original shape and axis order.

    Resampled linearly, class by class, in slabs across the last axis. Along it `resample` goes first, and along the
    others with each of its places alone, so that slabs give the bits of the whole in the memory of a slab. `tell` hears
    how far it is.
    """
    result = np.empty(geometry.shape, np.uint8)
    upright = result if geometry.affine is None else to_ras(result, geometry.affine)  # a view of it
    *others, last = upright.shape
    across = probabilities.detach().float().cpu()
    if across.shape[-1] != last:
        across = resample(across, (*across.shape[1:-1], last))
    width = max(1, SLAB // math.prod(others))
    for start in range(0, last, width):
        tell(f"back to its own grid, {start / last:.0%}")
        part = across[..., start : start + width]
        best = index = None
        for number, channel in enumerate(part):
            values = resample(channel[None].contiguous(), (*others, part.shape[-1]))[0]
            if best is None:
                best, index = values, torch.zeros(values.shape, dtype=torch.uint8)
            else:
                better = values > best
                index[better] = number
                torch.maximum(best, values, out=best)
        upright[..., start : start + width] = index.numpy()
    return result


def resample(image: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """(c, *spatial) to (c, *shape): linear between centres, anti-aliased where an axis shrinks; uint8 or float."""
    shape = tuple(shape)
    if tuple(image.shape[1:]) == shape:
        return image.clone()
    if len(shape) == 2:
        return _in_plane(image, shape)
    # Torch has no anti-aliased trilinear mode; the filter is separable, so two planar passes are the same.
    channels, x, _, _ = image.shape
    if tuple(image.shape[2:]) != shape[1:]:
        image = _in_plane(image.flatten(0, 1), shape[1:])
    if x != shape[0]:
        image = _in_plane(image.reshape(channels, x, shape[1] * shape[2]), (shape[0], shape[1] * shape[2]))
    return image.reshape(channels, *shape)


def _in_plane(image: torch.Tensor, shape: tuple[int, int]) -> torch.Tensor:
    """(c, h, w) to (c, *shape)."""
    from torch.nn.functional import interpolate

    how = {"mode": "bilinear", "align_corners": False, "antialias": True}
    if shape[1] > 1 or shape[0] == image.shape[1]:
        return interpolate(image[None], shape, **how)[0]
    # Where what it makes is one column wide, torch (2.13) gives each row the first one's value: it makes two.
    if image.shape[2] > 1:
        image = interpolate(image[None], (image.shape[1], 1), **how)[0]
    return interpolate(image[None].repeat(1, 1, 1, 2), (shape[0], 2), **how)[0, :, :, :1]


def grid_shape(geometry: Geometry, settings: DataSettings) -> tuple[int, ...]:
    """Shape in RAS order of a volume at `settings.spacing`."""
    extent = (count * size for count, size in zip(_ras_shape(geometry), ras_spacing(geometry)))
    return tuple(max(1, round(length / wanted)) for length, wanted in zip(extent, settings.spacing))


def grid_affine(geometry: Geometry, shape: Sequence[int]) -> np.ndarray:
    """Affine (4, 4) of the prepared grid of that shape: its voxel indices to the mm of the original's affine."""
    from nibabel.orientations import inv_ornt_aff, io_orientation

    affine = geometry.affine @ inv_ornt_aff(io_orientation(geometry.affine), geometry.shape)
    factor = np.array(_ras_shape(geometry)) / np.array(shape)
    scale = np.diag([*factor, 1.0])
    scale[:3, 3] = (factor - 1) / 2  # the first centre lies half a new voxel inside the outer face
    return affine @ scale


def to_ras(array: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Axes permuted and flipped to the closest right, anterior, superior order; oblique grids are not rotated."""
    from nibabel.orientations import apply_orientation, io_orientation

    return apply_orientation(array, io_orientation(affine))


def _ras_shape(geometry: Geometry) -> tuple[int, ...]:
    return tuple(geometry.shape[axis] for axis in _ras_order(geometry))


def ras_spacing(geometry: Geometry) -> tuple[float, ...]:
    """Voxel size in mm along each axis of that order."""
    return tuple(geometry.spacing[axis] for axis in _ras_order(geometry))


def _ras_order(geometry: Geometry) -> list[int]:
    """For each axis of the RAS order, the axis of the file that it came from."""
    from nibabel.orientations import io_orientation

    return np.argsort(io_orientation(geometry.affine)[:, 0]).tolist()
