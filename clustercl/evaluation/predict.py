"""Masks for images that nobody labelled, from a fine-tuned checkpoint."""

from collections.abc import Sequence
from pathlib import Path

import torch

from clustercl.data.cases import Case
from clustercl.data.check_case import two_places
from clustercl.data.layouts import find_unlabelled, stem
from clustercl.data.prepare import prepare_image_array, restore, to_float
from clustercl.data.read import extent, read_source
from clustercl.data.settings import DataSettings
from clustercl.data.task import Task
from clustercl.data.workers import in_threads
from clustercl.errors import DataError
from clustercl.evaluation.inference import predict_probabilities
from clustercl.evaluation.masks import mask_name, write_mask
from clustercl.files import require_writable
from clustercl.models.checkpoint import load_segmentation
from clustercl.progress import Progress, say


def predict_files(
    checkpoint: Path,
    inputs: Sequence[Path],
    out: Path,
    device: str | torch.device = "cpu",
    overwrite: bool = False,
    quiet: bool = False,
) -> list[Path]:
    """Segment images, or every image in folders at any depth, into `out`; the paths of the masks, in order.

    Each mask has its image's size (photographs: as displayed, turned by an EXIF tag) or shape and affine, and holds the
    label values of the task. Every mask is written whole or not at all.

    DataError, before anything is written: an input cannot be read (each is read once beforehand, so that hours of work
    do not end at a broken file), two masks would have one name, or a mask is there already and `overwrite` is not set.
    """
    loaded = load_segmentation(checkpoint)
    task, settings = Task.from_dict(loaded.task), DataSettings(**loaded.data)
    overlap = loaded.config["evaluation"]["overlap"]
    require_writable(out)
    targets = _targets(_images(inputs, task), Path(out), task, overwrite)
    heavy = task.spatial_dims == 3
    for odd in in_threads(
        lambda image: _check(image, task), list(targets.values()), "checking inputs", "image", quiet, heavy=heavy
    ):
        if odd is not None:
            say(f"warning: {odd}")
    network = loaded.network.to(device)
    with Progress("predict", len(targets), "image", quiet=quiet) as progress:
        for target, image in targets.items():
            tell = progress.about(image.name)
            source = read_source(Case(stem(image), image), task)
            prepared, geometry = prepare_image_array(source, task, settings)
            del source  # of a whole CT 190 MB or twice that
            probabilities = predict_probabilities(network, to_float(prepared), settings, task, device, overlap, tell)
            index = restore(probabilities, geometry, settings, tell)
            tell("writing its mask")
            write_mask(target, index, task, image, geometry.affine)
            progress.update(note="")
    return list(targets)


def _check(image: Path, task: Task) -> str | None:
    """What is odd about where it lies, in a sentence. DataError where it cannot be read."""
    return two_places(image, extent(read_source(Case(stem(image), image), task)))


def _targets(images: Sequence[Path], out: Path, task: Task, overwrite: bool) -> dict[Path, Path]:
    """{mask: its image}; an image given twice counts once."""
    targets: dict[Path, Path] = {}
    for image in images:
        target = out / mask_name(stem(image), task)
        other = targets.setdefault(target, image)
        if other.resolve() != image.resolve():
            raise DataError(f"{other} and {image} would both give {target}: predict them into two folders")
        # The masks of ISIC have the very same names: an expert's work must not be lost to a wrong --out.
        if target.exists() and not overwrite:
            raise DataError(f"{target}: exists already: choose another --out, or replace it with --overwrite")
    return targets


def _images(inputs: Sequence[Path], task: Task) -> list[Path]:
    """The files to segment; of folders every image in them, and what is left out there is said. read_source says what
    is wrong with one of them."""
    images: list[Path] = []
    for path in map(Path, inputs):
        if not path.is_dir():
            images.append(path)
            continue
        found, faults = find_unlabelled(task.name, path)
        images += [item.image for item in found]
        for fault in faults:
            say(f"warning: {fault.sentence}")
    return images
