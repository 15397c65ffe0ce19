"""A task: what its images look like and what its label values mean."""

from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from clustercl.errors import DataError, UsageError

OUTSIDE = 255  # marks a stored value that is no class while a label map is translated


@dataclass(frozen=True)
class Task:
    """Foreground classes in the order of their indices 1..k; background is value 0 and index 0.

    `values[i]` is the number stored in label files for class i + 1 (the first of the classes); `aliases` maps further
    stored values to one of `values`. `threshold`: grey masks, brighter than this is the one class (skin).
    """

    name: str
    spatial_dims: int
    in_channels: int
    classes: tuple[str, ...]
    values: tuple[int, ...]
    aliases: dict[int, int] = field(default_factory=dict, hash=False)
    threshold: int | None = None

    @property
    def num_classes(self) -> int:
        """k + 1: the classes and background."""
        return len(self.classes) + 1

    def to_index(self, array: np.ndarray, source: Path | str) -> np.ndarray:
        """Stored label values to uint8 indices 0..k, same shape. DataError naming `source` and the values outside."""
        if self.threshold is not None:
            top = int(array.max()) if array.size else 0
            if 0 < top <= self.threshold:
                raise DataError(
                    f"{source}: the largest value of the mask is {top}, task {self.name} wants 0 and {self.values[0]}: "
                    f"store it as 0 and {self.values[0]}{self._or_else(f'pass --labels {self.classes[0]}={top}')}"
                )
            if top > 255:  # 16 bits
                return (array > self.threshold * 257).astype(np.uint8)
            return (array > self.threshold).astype(np.uint8)
        if array.dtype.kind == "f":
            whole = np.rint(array)
            if not np.array_equal(whole, array):
                raise DataError(f"{source}: a label map must hold whole numbers, this one holds fractions: was it "
                                "resampled with interpolation, or is it an image?")  # fmt: skip
            array = whole.astype(np.int64)
        elif array.dtype.kind == "b" or array.dtype == np.uint64:
            array = array.astype(np.int64)
        known = self.aliases | {value: value for value in self.values}
        top = max(known)
        table = np.full(top + 1, OUTSIDE, np.uint8)
        table[0] = 0
        for value, target in known.items():
            table[value] = self.values.index(target) + 1
        if array.size and (array.min() < 0 or array.max() > top or (table[array] == OUTSIDE).any()):
            raise DataError(self._outside(array, table, source))
        return table[array]

    def _outside(self, array: np.ndarray, table: np.ndarray, source: Path | str) -> str:
        found = [int(v) for v in np.unique(array) if not (0 <= v < len(table)) or table[v] == OUTSIDE]
        shown = ", ".join(map(str, found[:8])) + (", ..." if len(found) > 8 else "")
        wanted = ", ".join(f"{value} {name}" for value, name in zip(self.values, self.classes, strict=True))
        return (
            f"{source}: label value{'s' if len(found) > 1 else ''} {shown} outside task {self.name} (0 background, "
            f"{wanted}): correct the file{self._or_else('name its classes with --labels NAME=VALUE,...')}"
        )

    def _or_else(self, advice: str) -> str:
        return f", or {advice}"

    def to_values(self, index: np.ndarray) -> np.ndarray:
        """Indices 0..k to stored values: uint8 for 2D masks up to 255, int16 (int32 where needed) for volumes."""
        top = max(self.values)
        if self.spatial_dims == 2 and top <= 255:
            dtype = np.uint8
        else:
            dtype = np.int16 if top <= np.iinfo(np.int16).max else np.int32
        return np.array((0, *self.values), dtype)[index]

    def to_dict(self) -> dict:
        plain = asdict(self)
        return plain | {"classes": list(self.classes), "values": list(self.values),
                        "aliases": {str(key): value for key, value in self.aliases.items()}}  # fmt: skip

    @classmethod
    def from_dict(cls, plain: dict) -> "Task":
        aliases = {int(key): int(value) for key, value in plain["aliases"].items()}
        return cls(**plain | {"classes": tuple(plain["classes"]), "values": tuple(plain["values"]), "aliases": aliases})


class TrainedTask(Task):
    """The task of a network that is trained: its classes are what they are, and no command has --labels for it."""

    def _or_else(self, advice: str) -> str:
        return ", as the labels that the network learnt from are"


TASKS = {
    "skin": Task("skin", 2, 3, ("lesion",), (255,), threshold=127),
    # MM-WHS. Some of its label maps hold 421 where 420 is meant.
    "heart": Task("heart", 3, 1, ("LV", "RV", "LA", "RA", "MYO", "AA", "PA"), (500, 600, 420, 550, 205, 820, 850),
                  aliases={421: 420}),
}  # fmt: skip


def get_task(name: str, labels: str | None = None) -> Task:
    """The task `skin` or `heart`, with classes of one's own where `labels` is "RV=1,MYO=2,LV=3"."""
    if name not in TASKS:
        raise UsageError(f"unknown task {name!r}: wanted one of {', '.join(TASKS)}")
    task = TASKS[name]
    if labels is None:
        return task
    classes, values = [], []
    for part in labels.split(","):
        label, equals, number = (piece.strip() for piece in part.partition("="))
        if not (label and equals and number.isdecimal() and 0 < int(number) <= 65535):
            raise UsageError(f"--labels: wanted NAME=VALUE,NAME=VALUE,... with values 1..65535, got {part.strip()!r} "
                             f"in {labels!r}")  # fmt: skip
        if label in classes or int(number) in values:
            raise UsageError(f"--labels: {part.strip()!r} repeats a name or a value in {labels!r}")
        classes.append(label)
        values.append(int(number))
    return Task(task.name, task.spatial_dims, task.in_channels, tuple(classes), tuple(values))
