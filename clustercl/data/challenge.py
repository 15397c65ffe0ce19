"""The ISIC challenges' own folders: which split they stand for, and which of them have a ground truth.

ISIC-2017_Validation_Data, ISIC2018_Task1-2_Test_Input, ISBI2016_ISIC_Part1_Training_Data, at any depth, with whatever
folders lie inside and with what unzipping, copying and downloading add to a name: " (1)", "-copy", "_1".
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

_NAME = r"^(is(?:ic|bi)[-_]?20\d\d.*_"
FOLDER = re.compile(_NAME + r"(training|validation|test)(?:_v2)?_(?:data|input))$", re.IGNORECASE)
ADDED = re.compile(  # the last but one by Google Drive
    _NAME + r"(?:data|input|groundtruth))(?:[\s_-]*(?:\(\d+\)|copy|-\d{8}t\d{6}z(?:-\d+)*|\d+))+$", re.IGNORECASE
)
OTHER_TASKS = re.compile(r"part[23]|task[23]")


def given_splits(labelled: Mapping[str, Path], root: Path) -> dict[str, str]:
    """The split of each labelled image (by id) in a challenge's folder below `root`; the others have none.

    Nothing where those folders hold training images alone.
    """
    splits = {}
    for key, image in labelled.items():
        match = FOLDER.match(_plain(_home(image, root).name))
        if match:
            splits[key] = match[2].lower().replace("training", "train")
    return splits if set(splits.values()) - {"train"} else {}


def images_with_truth(
    folders: Iterable[Path], images: Mapping[str, Path], labels: Mapping[str, Path], root: Path
) -> set[str]:
    """Ids of the images in folders that have a GroundTruth folder of their own: by its name, or as it holds one of
    their masks."""
    truths = {path for path in folders if _is_truth(path)}
    keys = {_part(path.name) for path in truths}
    homes = {key: _home(image, root) for key, image in images.items()}
    due = {home for home in homes.values() if _part(home.name) in keys}
    due |= {homes[key] for key in images if key in labels and not truths.isdisjoint(labels[key].parents)}
    return {key for key, home in homes.items() if home in due - truths}


def _home(image: Path, root: Path) -> Path:
    """The innermost folder below `root` around an image that is named as a challenge's; else the one it lies in."""
    inner: Sequence[Path] = image.parents[: len(image.relative_to(root).parts) - 1]
    return next((folder for folder in inner if FOLDER.match(_plain(folder.name))), image.parent)


def _is_truth(folder: Path) -> bool:
    name = folder.name.lower()
    return "groundtruth" in name and not OTHER_TASKS.search(name)


def _part(folder: str) -> tuple[str, ...]:
    """ISIC2018_Task1-2_Training_Input and ISIC2018_Task1_Training_GroundTruth (1) both give (isic2018, training)."""
    words = re.split(r"[_\-\s]+", _plain(folder).lower())
    return tuple(word for word in words if word not in ("data", "input", "groundtruth", "part1", "task1", "2"))


def _plain(folder: str) -> str:
    """A challenge's name less what was added to it; any other as it is."""
    return ADDED.sub(r"\1", folder)
