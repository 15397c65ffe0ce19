"""How images are brought to the form that the network sees."""

from collections.abc import Sequence
from dataclasses import dataclass

from clustercl.data.task import Task
from clustercl.errors import UsageError

INTENSITIES = ("auto", "hu", "zscore", "minmax")


@dataclass(frozen=True)
class DataSettings:
    """Photographs (2D tasks) use `size` alone, volumes (3D tasks) everything else.

    size: side in pixels of the square a photograph is resized to. spacing: voxel size in mm that volumes are resampled
    to. patch: voxels of one crop, unit and sliding window. intensity: "hu" clips to hu_window and maps it to 0..1,
    "zscore" gives each volume mean 0 and sd 1, "minmax" maps its range to 0..1; "auto" is "hu" for volumes and the only
    choice for photographs, which are divided by 255. hu_window: low and high, in HU.
    """

    size: int = 256
    spacing: tuple[float, float, float] = (1.5, 1.5, 1.5)
    patch: tuple[int, int, int] = (96, 96, 96)
    intensity: str = "auto"
    hu_window: tuple[float, float] = (-200.0, 600.0)

    def __post_init__(self):
        for name, length in (("spacing", 3), ("patch", 3), ("hu_window", 2)):
            values = tuple(getattr(self, name))  # lists come from JSON and TOML
            object.__setattr__(self, name, values)
            if len(values) != length:
                raise UsageError(f"data.{name}: wanted {length} numbers, got {list(values)}")
        if self.size < 8:
            raise UsageError(f"data.size: wanted at least 8 pixels, got {self.size}")
        if not all(value > 0 for value in self.spacing):
            raise UsageError(f"data.spacing: wanted millimetres above 0, got {list(self.spacing)}")
        if not all(value >= 4 for value in self.patch):
            raise UsageError(f"data.patch: wanted at least 4 voxels per axis, got {list(self.patch)}")
        if self.intensity not in INTENSITIES:
            raise UsageError(f"data.intensity: wanted one of {', '.join(INTENSITIES)}, got {self.intensity!r}")
        if not self.hu_window[0] < self.hu_window[1]:
            raise UsageError(f"data.hu_window: wanted low < high, got {list(self.hu_window)}")

    def spatial_shape(self, task: Task) -> tuple[int, ...]:
        """Spatial shape of the network's input: (size, size) or the patch."""
        return (self.size, self.size) if task.spatial_dims == 2 else self.patch

    def voxel(self, task: Task) -> tuple[float, ...]:
        """Sides of a voxel of the network's input, in mm; of a pixel, in pixels."""
        return (1.0, 1.0) if task.spatial_dims == 2 else self.spacing


def view_shape(shape: Sequence[int], scale: float) -> tuple[int, ...]:
    """Sides of a random view of an image with this spatial shape; `scale` is `pretrain.view_scale`."""
    return tuple(max(1, round(side * scale)) for side in shape)
