"""Folders as the challenges ship them: files are recognised by name at any depth, upper or lower case.

skin   ISIC 2016, 2017, 2018 task 1: ISIC_0000000.jpg with ISIC_0000000_segmentation.png in a *GroundTruth* folder
       PH2: IMD002.bmp with IMD002_lesion.bmp
heart  MM-WHS CT: ct_train_1001_image.nii.gz with ct_train_1001_label.nii.gz
Other files (super-pixels, attributes, region masks, tables) are none of these names and are left alone.
"""

import filecmp
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from clustercl.data.dicom import holds_series
from clustercl.errors import DataError

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff")
VOLUME_ENDINGS = (".nii", ".nii.gz")
_PICTURE = r"\.(jpe?g|png|bmp|tiff?)$"
IMAGE_NAME = {
    "skin": re.compile(r"^(isic_\d+|imd\d+)" + _PICTURE, re.IGNORECASE),
    "heart": re.compile(r"^(ct_[a-z]+_\d+)_image\.nii(\.gz)?$", re.IGNORECASE),
}
LABEL_NAME = {
    "skin": re.compile(r"^(isic_\d+|imd\d+)_(segmentation|lesion)" + _PICTURE, re.IGNORECASE),
    "heart": re.compile(r"^(ct_[a-z]+_\d+)_label\.nii(\.gz)?$", re.IGNORECASE),
}
EXAMPLE = {"skin": "ISIC_0000000.jpg or IMD002.bmp", "heart": "ct_train_1001_image.nii.gz"}
# What lies beside images under a name that says it is none.
NO_IMAGE = re.compile(r"_(label|labels|seg|segmentation|mask|lesion|superpixels|attribute_\w+|r\d+_label\d+)$", re.I)


# ISIC-2017_Validation_Data, ISIC2018_Task1-2_Test_Input, ISBI2016_ISIC_Part1_Training_Data.
CHALLENGE_FOLDER = re.compile(
    r"^is(?:ic|bi)[-_]?20\d\d.*_(training|validation|test)(?:_v2)?_(?:data|input)$", re.IGNORECASE
)


class Found(NamedTuple):
    id: str
    image: Path
    label: Path | None = None
    group: str = ""
    split: str | None = None


class Fault(NamedTuple):
    """What is wrong with one file, in one sentence that names it. severity: "error", or "warning" where the rest of the
    data can be used without it."""

    file: Path
    sentence: str
    severity: str = "error"


def stem(path: Path) -> str:
    """The file name less its ending (.nii.gz is one ending) and less a trailing `_image`; of a folder its name."""
    if path.is_dir():
        return path.name
    name = path.name[:-3] if path.name.lower().endswith(".nii.gz") else path.name
    name = name.rsplit(".", 1)[0]
    return name[: -len("_image")] if name.lower().endswith("_image") and len(name) > len("_image") else name


def walk(folder: Path) -> tuple[list[Path], list[Path]]:
    """All visible files and folders under `folder`, sorted; links are followed, each real folder is read once."""
    if not folder.exists():
        raise DataError(f"{folder}: no such folder: check the path")
    if not folder.is_dir():
        raise DataError(f"{folder}: wanted a folder, this is a file: give its folder, or a CSV with --list")
    files, inner, seen = [], [], set()
    for base, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(base)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        # Archives made on a Mac carry a shadow of each file.
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != "__MACOSX")
        inner += [Path(base, name) for name in folders]
        files += [Path(base, name) for name in sorted(names) if not name.startswith(".")]
    if not files:
        raise DataError(f"{folder}: the folder is empty: wanted files such as those of `clustercl data demo`")
    return files, inner


def find_layout(task: str, folder: Path) -> tuple[list[Found], list[Fault]]:
    """Images and their label maps under `folder`, and what is wrong. DataError where there is no image at all."""
    files, folders = walk(folder)
    faults: list[Fault] = []
    images = _by_id(files, IMAGE_NAME[task], faults)
    labels = _by_id(files, LABEL_NAME[task], faults)
    if not images:
        raise DataError(
            f"{folder}: no file is named as those of task {task} are ({EXAMPLE[task]}): check the folder, or list your "
            "own names in a CSV with the columns image,label and pass it with --list"
        )
    due = _folders_with_truth(folders, images, labels) if task == "skin" else set()
    for key, image in images.items():
        if key not in labels and image.parent in due:
            faults.append(Fault(image, f"{image}: the mask {stem(image)}_segmentation.png is missing from the "
                                       "GroundTruth folder: add it, or move the image to another folder"))  # fmt: skip
    for key, label in labels.items():
        if key not in images:
            faults.append(
                Fault(label, f"{label}: has no image and is left out: look whether one is missing", "warning")
            )
    splits = _challenge_splits({key: image for key, image in images.items() if key in labels})
    return [Found(stem(image), image, labels.get(key), split=splits.get(key)) for key, image in images.items()], faults


def _challenge_splits(labelled: dict[str, Path]) -> dict[str, str]:
    """The split of each labelled image, by a challenge's folders (ISIC2018_Task1-2_Validation_Input and the like).

    Nothing where those hold training images alone, or some images lie elsewhere.
    """
    splits = {}
    for key, image in labelled.items():
        match = CHALLENGE_FOLDER.match(image.parent.name)
        if match:
            splits[key] = match[1].lower().replace("training", "train")
    return splits if set(splits.values()) - {"train"} and len(splits) == len(labelled) else {}


def find_unlabelled(task: str, folder: Path) -> list[Found]:
    """Every image under `folder` whatever its name, never a label map.

    Where some volumes are called *_image.nii.gz, only those are images. A folder of DICOM files is one volume.
    """
    endings = IMAGE_ENDINGS if task == "skin" else VOLUME_ENDINGS
    files, folders = walk(folder)
    series = [path for path in (folder, *folders) if holds_series(path)] if task == "heart" else []
    files = [path for path in files if path.name.lower().endswith(endings) and not NO_IMAGE.search(stem(path))]
    if task == "heart":
        named = [path for path in files if re.search(r"_image\.nii(\.gz)?$", path.name, re.IGNORECASE)]
        files = [*(named or files), *series]
    if not files:
        raise DataError(f"{folder}: no images ({', '.join(endings)}) in this folder: check the path")
    return [Found(stem(path), path) for path in files]


def _by_id(files: Iterable[Path], pattern: re.Pattern, faults: list[Fault]) -> dict[str, Path]:
    """Files whose name matches, by lower-case id; a second file of an id is a fault, if no mere copy of the first."""
    result: dict[str, Path] = {}
    for path in files:
        match = pattern.match(path.name)
        if match:
            other = result.setdefault(match[1].lower(), path)
            if other is path:
                continue
            if is_copy(other, path):
                faults.append(copy_fault(other, path))
            else:
                faults.append(Fault(path, f"{other} and {path} have one id, {match[1]}: remove one of them"))
    return result


def is_copy(first: Path, second: Path) -> bool:
    """Whether two files hold the same bytes: archives unpacked twice, or into each other."""
    return first.is_file() and second.is_file() and filecmp.cmp(first, second, shallow=False)


def copy_fault(first: Path, second: Path) -> Fault:
    return Fault(second, f"{second}: is a copy of {first} and is left out", "warning")


def _folders_with_truth(folders: list[Path], images: dict[str, Path], labels: dict[str, Path]) -> set[Path]:
    """Image folders that have a GroundTruth folder of their own: by its name, or as it holds one of their masks."""
    other_tasks = re.compile(r"part[23]|task[23]")
    truths = {
        path for path in folders if "groundtruth" in path.name.lower() and not other_tasks.search(path.name.lower())
    }
    keys = {_challenge_part(path.name) for path in truths}
    due = {image.parent for image in images.values() if _challenge_part(image.parent.name) in keys}
    due |= {image.parent for key, image in images.items() if key in labels and labels[key].parent in truths}
    return due - truths


def _challenge_part(folder: str) -> tuple[str, ...]:
    """ISIC2018_Task1-2_Training_Input and ISIC2018_Task1_Training_GroundTruth both give (isic2018, training)."""
    words = re.split(r"[_\-\s]+", folder.lower())
    return tuple(word for word in words if word not in ("data", "input", "groundtruth", "part1", "task1", "2"))
