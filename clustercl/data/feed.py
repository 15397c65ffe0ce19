"""Batches for training. Each is a pure function of the feed's seed and the step, so a resumed run sees the same stream.

An epoch is a seeded permutation cut into whole batches; what is left over waits for the next one's permutation, so that
no batch holds an item twice unless the batch is larger than the set, which is then repeated.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from clustercl.data.prepare import Prepared
from clustercl.data.seeds import mix
from clustercl.data.settings import DataSettings
from clustercl.data.task import Task
from clustercl.data.units import Unit, axis_origins, crop
from clustercl.errors import DataError

FOREGROUND_SHARE = 0.5  # of the labelled crops of volumes; nnU-Net guarantees a third
VOXELS_KEPT = 20_000  # per class and volume, as centres of such crops


@dataclass
class UnitBatch:
    """images (b, c, *s) as `Prepared.image`, bytes for photographs, a quarter of what a device would get else; not
    augmented; units (b,) long, indices into the feed's units; seeds (b,) long."""

    images: torch.Tensor
    units: torch.Tensor
    seeds: torch.Tensor


@dataclass
class LabelledBatch:
    """images (b, c, *s) as in `UnitBatch`; labels (b, *s) uint8 with indices 0..k; seeds (b,) long."""

    images: torch.Tensor
    labels: torch.Tensor
    seeds: torch.Tensor


class _Stream:
    """Which items are in which batch, and the seed of each sample."""

    def __init__(self, items: int, batch_size: int, seed: int, what: str):
        if items < 1:
            raise DataError(f"there are no {what} to train with: check the data and the label fraction")
        self.items, self.batch_size, self.seed = items, batch_size, seed
        self.steps_per_epoch = max(1, items // batch_size)
        self._order: tuple[int, np.ndarray] = (-1, np.empty(0))

    def draw(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Indices (b,) of the items of a step, and seeds (b,) int64 of its samples."""
        epoch, place = divmod(step, self.steps_per_epoch)
        order = self._order  # another thread draws the next step meanwhile
        if order[0] != epoch:
            order = self._order = epoch, np.random.default_rng([self.seed & 0xFFFFFFFF, epoch]).permutation(self.items)
        positions = (place * self.batch_size + np.arange(self.batch_size)) % self.items
        return order[1][positions], mix(self.seed, step * self.batch_size + np.arange(self.batch_size))


class _ClassStream(_Stream):
    """One item of each class in every batch; the items of a class come in turn, in an order drawn anew each time."""

    def __init__(self, classes: np.ndarray, batch_size: int, seed: int, what: str):
        super().__init__(len(classes), batch_size, seed, what)
        self.members = [np.flatnonzero(classes == name) for name in np.unique(classes)]
        if len(self.members) < batch_size:
            raise DataError(f"there are only {len(self.members)} different groups of {what} for batches of "
                            f"{batch_size}: wanted a smaller pretrain.batch_size")  # fmt: skip

    def draw(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        chosen = []
        for number, items in enumerate(self.members[: self.batch_size]):
            round_, place = divmod(step, len(items))
            order = np.random.default_rng([self.seed & 0xFFFFFFFF, number, round_]).permutation(len(items))
            chosen.append(items[order[place]])
        return np.array(chosen), mix(self.seed, step * self.batch_size + np.arange(self.batch_size))


class UnitFeed:
    """Batches of units. A volume's crop is moved about its unit at random, never so far that another is nearer."""

    def __init__(
        self,
        prepared: Sequence[Prepared],
        units: Sequence[Unit],
        settings: DataSettings,
        task: Task,
        batch_size: int,
        seed: int,
    ):
        self.prepared, self.units, self.settings, self.task = prepared, units, settings, task
        self._stream = _Stream(len(units), batch_size, seed, "units")
        self.steps_per_epoch = self._stream.steps_per_epoch

    def take_one_of_each(self, classes: np.ndarray) -> None:
        """From now on a batch holds one unit of each of these classes (n,) of the units. DataError where they are fewer
        than a batch."""
        self._stream = _ClassStream(classes, self._stream.batch_size, self._stream.seed, "units")

    def batch(self, step: int) -> UnitBatch:
        chosen, seeds = self._stream.draw(step)
        images = [self._image(self.units[index], seed) for index, seed in zip(chosen, seeds)]
        return UnitBatch(torch.stack(images), torch.from_numpy(chosen), torch.from_numpy(seeds))

    def files(self, step: int) -> list[str]:
        """The images of a step's batch."""
        return [str(self.prepared[self.units[index].case].case.image) for index in self._stream.draw(step)[0]]

    def _image(self, unit: Unit, seed: np.int64) -> torch.Tensor:
        image = self.prepared[unit.case].image
        if unit.origin is None:
            return image
        return crop(image, jittered(unit.origin, image.shape[1:], self.settings.patch, seed), self.settings.patch)


class LabelledFeed:
    """Batches of images with labels. Half of the crops of volumes are centred on a foreground voxel, its class drawn
    first among those the volume holds so that small structures are seen as often as large ones."""

    def __init__(self, prepared: Sequence[Prepared], settings: DataSettings, task: Task, batch_size: int, seed: int):
        for item in prepared:
            if item.label is None:
                raise DataError(f"{item.case.image}: has no label, so it cannot be trained on with labels")
        self.prepared, self.settings, self.task = prepared, settings, task
        self._stream = _Stream(len(prepared), batch_size, seed, "labelled cases")
        self.steps_per_epoch = self._stream.steps_per_epoch
        self._voxels: dict[int, list[np.ndarray]] = {}

    def batch(self, step: int) -> LabelledBatch:
        chosen, seeds = self._stream.draw(step)
        pairs = [self._pair(int(index), seed) for index, seed in zip(chosen, seeds)]
        images, labels = (torch.stack(part) for part in zip(*pairs))
        return LabelledBatch(images, labels, torch.from_numpy(seeds))

    def files(self, step: int) -> list[str]:
        """The images of a step's batch."""
        return [str(self.prepared[index].case.image) for index in self._stream.draw(step)[0]]

    def _pair(self, number: int, seed: np.int64) -> tuple[torch.Tensor, torch.Tensor]:
        item = self.prepared[number]
        if self.task.spatial_dims == 2:
            return item.image, item.label
        shape, patch = item.label.shape, self.settings.patch
        draw = np.random.default_rng([int(seed), 1])
        room = [max(0, length - size) for length, size in zip(shape, patch)]
        origin = [int(draw.integers(0, most + 1)) for most in room]
        classes = self._foreground(number)
        if classes and draw.random() < FOREGROUND_SHARE:
            voxels = classes[draw.integers(len(classes))]
            centre = np.unravel_index(voxels[draw.integers(len(voxels))], shape)
            origin = [int(min(max(0, at - size // 2), most)) for at, size, most in zip(centre, patch, room)]
        return crop(item.image, origin, patch), crop(item.label[None], origin, patch, value=0)[0]

    def _foreground(self, number: int) -> list[np.ndarray]:
        """Flat indices of voxels of each class present in a volume, evenly thinned; kept from the first use on."""
        if number not in self._voxels:
            flat = self.prepared[number].label.numpy().ravel()
            voxels = [np.flatnonzero(flat == index) for index in range(1, self.task.num_classes)]
            self._voxels[number] = [
                part[:: len(part) // VOXELS_KEPT + 1].astype(np.int64) for part in voxels if len(part)
            ]
        return self._voxels[number]


def jittered(origin: Sequence[int], shape: Sequence[int], patch: Sequence[int], seed: int) -> list[int]:
    """A random window near a unit's: on each axis closer to the unit's origin than to its neighbours' on the grid."""
    draw = np.random.default_rng([int(seed), 0])
    result = []
    for start, length, size in zip(origin, shape, patch):
        starts = axis_origins(length, size)
        place = starts.index(start)
        # Strictly less than half way, or the neighbour would be as near; at the rim as far as the volume reaches.
        before = (start - starts[place - 1] - 1) // 2 if place else start
        after = (starts[place + 1] - start - 1) // 2 if starts[place + 1 :] else max(0, length - size) - start
        result.append(start + int(draw.integers(-before, after + 1)))
    return result
