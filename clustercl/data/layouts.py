"""Folders as the challenges ship them: files are recognised by name at any depth, upper or lower case.

skin   ISIC 2016, 2017, 2018 task 1: ISIC_0000000.jpg with ISIC_0000000_segmentation.png in a *GroundTruth* folder
       PH2: IMD002.bmp with IMD002_lesion.bmp
heart  MM-WHS CT: ct_train_1001_image.nii.gz with ct_train_1001_label.nii.gz
Other files (super-pixels, attributes, region masks, tables) are none of these names and are left alone.
"""

import filecmp
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from clustercl.data.challenge import given_splits, images_with_truth
from clustercl.data.dicom import holds_series
from clustercl.errors import DataError

IMAGE_ENDINGS = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff")
VOLUME_ENDINGS = (".nii", ".nii.gz")
ENDINGS = {"skin": IMAGE_ENDINGS, "heart": VOLUME_ENDINGS}
# What somebody may take for such files, and is not read.
OTHER_ENDINGS = {
    "skin": (".gif", ".heic", ".heif", ".avif", ".jp2", ".j2k", ".jxl", ".ppm", ".pgm", ".pnm", ".tga", ".psd", ".svs",
             ".raw", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".dcm", *VOLUME_ENDINGS),
    "heart": (".mha", ".mhd", ".nrrd", ".nhdr", ".hdr", ".img", ".mgz", ".mgh", ".mnc", ".gipl", ".nii.bz2", ".nii.xz",
              ".npy", ".npz", ".h5"),
}  # fmt: skip
_PICTURE = r"\.(jpe?g|jpe|jfif|png|webp|bmp|tiff?)$"
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
    return path.name if path.is_dir() else file_stem(path.name)


def file_stem(name: str) -> str:
    """`stem` of what is known to be a file, by its name alone: no look at the disk."""
    name = name[:-3] if name.lower().endswith(".nii.gz") else name
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
        here = Path(base)
        inner += [here / name for name in folders]
        files += [here / name for name in sorted(names) if not name.startswith(".")]
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
    due = images_with_truth(folders, images, labels, folder) if task == "skin" else set()
    for key, image in images.items():
        if key in due and key not in labels:
            faults.append(Fault(image, f"{image}: the mask {stem(image)}_segmentation.png is missing from the "
                                       "GroundTruth folder: add it, or move the image to another folder"))  # fmt: skip
    for key, label in labels.items():
        if key not in images:
            faults.append(
                Fault(label, f"{label}: has no image and is left out: look whether one is missing", "warning")
            )
    labelled = {key: image for key, image in images.items() if key in labels}
    splits = given_splits(labelled, folder)
    beside = {key: "train" for key in labelled if splits and key not in splits}
    # First what concerns the whole: of many warnings training says the first.
    faults = [*_beside_a_challenge([images[key] for key in beside]), *_without_label(images, labels), *faults]
    splits |= beside
    return [
        Found(file_stem(image.name), image, labels.get(key), split=splits.get(key)) for key, image in images.items()
    ], faults


def _beside_a_challenge(others: Sequence[Path]) -> list[Fault]:
    """Labelled images beside a challenge's folders, whose splits they must not undo."""
    if not others:
        return []
    more = f" (and {len(others) - 1} more)" if others[1:] else ""
    sentence = (
        f"{others[0]}: has a mask and lies outside the challenge's training, validation and test folders, whose splits "
        f"are kept, so it trains{more}: to split otherwise, use a list with the column split"
    )
    return [Fault(others[0], sentence, "warning")]


def _without_label(images: dict[str, Path], labels: dict[str, Path]) -> list[Fault]:
    """Volumes of MM-WHS's training set that lack the label which others of it have."""
    training = [key for key in images if key.startswith("ct_train_")]
    missing = [key for key in training if key not in labels]
    if len(missing) == len(training):
        return []
    faults = []
    for image in (images[key] for key in missing):
        label = re.sub(r"_image(?=\.nii(\.gz)?$)", "_label", image.name, flags=re.IGNORECASE)
        sentence = f"{image}: its label {label} is missing, while others have theirs: it is used as unlabelled"
        faults.append(Fault(image, sentence, "warning"))
    return faults


def find_unlabelled(task: str, folder: Path) -> tuple[list[Found], list[Fault]]:
    """Every image under `folder` whatever its name, never a label map; and what was left out though it may be an image.

    Where some volumes are called *_image.nii.gz, only those are images. A folder of DICOM files is one volume.
    """
    endings = ENDINGS[task]
    files, folders = walk(folder)
    series = [path for path in (folder, *folders) if holds_series(path)] if task == "heart" else []
    faults = _not_read(task, folder, files)
    files = [
        path for path in files if path.name.lower().endswith(endings) and not NO_IMAGE.search(file_stem(path.name))
    ]
    if task == "heart":
        named = [path for path in files if re.search(r"_image\.nii(\.gz)?$", path.name, re.IGNORECASE)]
        others = sorted({*files} - {*named}) if named else []
        if others:
            sentence = (
                f"{folder}: left out: {_number(others, 'volume')} such as {others[0].relative_to(folder)}, as others "
                "there are named *_image.nii.gz: rename what is an image so, or name its own folder"
            )
            faults.append(Fault(folder, sentence, "warning"))
        files = named or files
    if not files and not series:
        what = "; ".join(["", *(fault.sentence.removeprefix(f"{folder}: ") for fault in faults)]) or ": check the path"
        raise DataError(f"{folder}: no images ({', '.join(endings)}) in this folder{what}")
    found = [Found(file_stem(path.name), path) for path in files]
    return found + [Found(path.name, path) for path in series], faults


def _not_read(task: str, folder: Path, files: Iterable[Path]) -> list[Fault]:
    """Files that are no images by their ending, where one may take them for images."""
    others = [path for path in files if path.name.lower().endswith(OTHER_ENDINGS[task])]
    others = [path for path in others if not NO_IMAGE.search(file_stem(path.name))]
    if not others:
        return []
    found = [end for end in OTHER_ENDINGS[task] if any(path.name.lower().endswith(end) for path in others)]
    kind, wanted = ("image", "PNG or JPEG") if task == "skin" else ("volume", "NIfTI")
    sentence = (
        f"{folder}: left out: {_number(others, 'file')} that {'is' if len(others) == 1 else 'are'} no {kind} by the "
        f"ending ({' '.join(found)}): convert what is meant as one to {wanted}"
    )
    return [Fault(folder, sentence, "warning")]


def _number(paths: Sequence[Path], what: str) -> str:
    return f"{len(paths)} {what}{'s' * (len(paths) != 1)}"


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
