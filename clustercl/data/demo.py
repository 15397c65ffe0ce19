"""Demo data: synthetic photographs and volumes in the layouts that real data sets have, to try everything without one.

A case is a function of (seed, task, labelled or not, its number) alone, so asking for more cases keeps those before.
"""

import os
import shutil
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from clustercl.data import demo_full
from clustercl.errors import DataError, UsageError
from clustercl.files import write_csv
from clustercl.owner import owner
from clustercl.progress import track

CASES = {"skin": 48, "heart": 10}  # labelled ones, where the caller names no number


def write_demo(folder: Path | str, task: str, seed: int = 0, cases: int | None = None, full_size: bool = False) -> Path:
    """Write `cases` labelled cases and half as many unlabelled ones (rounded up), and return the folder.

    skin   ISIC-2017_Training_Data/ISIC_0000001.jpg, its mask (0 and 255) as
           ISIC-2017_Training_Part1_GroundTruth/ISIC_0000001_segmentation.png, and unlabelled/ISIC_0010001.jpg
    heart  ct_train/ct_train_1001_image.nii.gz with ct_train_1001_label.nii.gz, and ct_test/ct_test_2001_image.nii.gz
    both   kinds.csv (id,kind): which of a few distinct kinds each case was drawn from, a table for --groups

    `full_size`: photographs of 3000 x 2000 pixels and volumes of 512 x 512 x 250 voxels, the same images enlarged.
    UsageError for an unknown task or a number out of range, DataError where `folder` is a file or not empty. The cases
    appear in the folder all at once, when the last is written.
    """
    writers: dict[str, Callable[[Path, int, int, bool, bool], tuple[str, str]]] = {
        "skin": _skin_case,
        "heart": _heart_case,
    }
    if task not in writers:
        raise UsageError(f"unknown task {task!r}: wanted one of {', '.join(writers)}")
    count = CASES[task] if cases is None else cases
    if not 1 <= count <= 9999:
        raise UsageError(f"--cases: wanted 1 to 9999 labelled cases, got {count}")
    if seed < 0:
        raise UsageError(f"--seed: wanted a whole number from 0 on, got {seed}")
    folder = Path(folder)
    plan = [(number, True) for number in range(count)] + [(number, False) for number in range((count + 1) // 2)]
    with _all_at_once(folder) as aside:
        rows = [
            writers[task](aside, seed, *case, full_size)
            for case in track(plan, f"writing {task} demo data", unit="case")
        ]
        write_csv(aside / "kinds.csv", ("id", "kind"), rows)
    return folder


def generator(seed: int, task: str, labelled: bool, number: int) -> np.random.Generator:
    """The source of all chance in one case."""
    return np.random.default_rng([seed, zlib.crc32(task.encode()), int(labelled), number])


def _skin_case(folder: Path, seed: int, number: int, labelled: bool, full_size: bool) -> tuple[str, str]:
    """Write one photograph, with its mask if `labelled`; returns id and kind."""
    from PIL import Image

    from clustercl.data.demo_skin import KINDS, photograph

    rng = generator(seed, "skin", labelled, number)
    kind = KINDS[number % len(KINDS)]
    image, mask = photograph(rng, kind)
    if full_size:
        image, mask = demo_full.photograph(rng, image, mask)
    name = f"ISIC_{number + (1 if labelled else 10001):07d}"
    images = _inner(folder, "ISIC-2017_Training_Data" if labelled else "unlabelled")
    Image.fromarray(image).save(images / f"{name}.jpg", quality=int(rng.integers(80, 95)))
    if labelled:
        truth = _inner(folder, "ISIC-2017_Training_Part1_GroundTruth")
        Image.fromarray(mask).save(truth / f"{name}_segmentation.png")
    return name, kind


def _heart_case(folder: Path, seed: int, number: int, labelled: bool, full_size: bool) -> tuple[str, str]:
    """Write one volume, with its label map if `labelled`; returns id and kind."""
    from clustercl.data.demo_heart import KINDS, ORIENTATIONS, volume

    rng = generator(seed, "heart", labelled, number)
    kind = KINDS[number % len(KINDS)]
    # Their numbers have no common divisor, so that in time each kind comes in each orientation.
    image, label, affine = volume(rng, kind, ORIENTATIONS[number % len(ORIENTATIONS)])
    if full_size:
        image, label, affine = demo_full.volume(rng, image, label, affine)
    part, first = ("ct_train", 1001) if labelled else ("ct_test", 2001)
    name = f"{part}_{first + number}"
    inner = _inner(folder, part)
    _write_nifti(inner / f"{name}_image.nii.gz", image, affine)
    if labelled:
        _write_nifti(inner / f"{name}_label.nii.gz", label, affine)
    return name, kind


def _write_nifti(path: Path, array: np.ndarray, affine: np.ndarray) -> None:
    import nibabel

    image = nibabel.Nifti1Image(array, affine)
    image.header.set_xyzt_units("mm")
    image.set_qform(affine, code=1)  # 1: coordinates of the scanner
    image.set_sform(affine, code=1)
    nibabel.save(image, path)


def _inner(folder: Path, name: str) -> Path:
    inner = folder / name
    inner.mkdir(exist_ok=True)
    return inner


@contextmanager
def _all_at_once(folder: Path) -> Iterator[Path]:
    """Yield a hidden folder whose content becomes that of `folder` on success and is removed on failure."""
    existed = folder.exists()
    if existed and not folder.is_dir():
        raise DataError(f"{folder}: wanted a folder for demo data, this is a file: name another")
    held = sorted(entry.name for entry in folder.iterdir()) if existed else []
    if held:
        raise DataError(
            f"{folder}: wanted a new or an empty folder for demo data, this one holds {held[0]}"
            f"{f' and {len(held) - 1} more' if held[1:] else ''}: name another folder, or empty this one"
        )
    # A folder that exists may be a mount point, or the one the user stands in: it stays and takes what is written.
    parent = folder if existed else folder.absolute().parent
    aside = parent / f".{owner()}.{folder.absolute().name}"
    try:
        aside.mkdir(parents=True)
        yield aside
        if existed:
            for entry in sorted(aside.iterdir()):
                os.replace(entry, folder / entry.name)
        else:
            os.replace(aside, folder)
    except OSError as error:
        raise DataError(f"{folder}: demo data cannot be written here ({error}): check rights and free space") from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)
