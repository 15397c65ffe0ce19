"""Masks for images that nobody labelled, from a fine-tuned checkpoint."""

from collections.abc import Sequence
from pathlib import Path

import torch

from clustercl.data.cases import Case
from clustercl.data.layouts import find_unlabelled, stem
from clustercl.data.prepare import prepare_image_array, restore, to_float
from clustercl.data.read import read_source
from clustercl.data.settings import DataSettings
from clustercl.data.task import Task
from clustercl.errors import UsageError
from clustercl.evaluation.inference import predict_probabilities
from clustercl.evaluation.masks import mask_name, write_mask
from clustercl.models.checkpoint import load_segmentation
from clustercl.progress import track


def predict_files(
    checkpoint: Path, inputs: Sequence[Path], out: Path, device: str | torch.device = "cpu", quiet: bool = False
) -> list[Path]:
    """Segment images, or every image in folders at any depth, into `out`; the paths of the masks, in order.

    Each mask has its image's size (photographs: as displayed, turned by an EXIF tag) or shape and affine, and holds the
    label values of the task. Every mask is written whole or not at all. DataError on inputs that cannot be read,
    UsageError on two inputs whose masks would have one name; the latter before anything is written.
    """
    loaded = load_segmentation(checkpoint)
    task, settings = Task.from_dict(loaded.task), DataSettings(**loaded.data)
    overlap = loaded.config["evaluation"]["overlap"]
    images = _images(inputs, task)
    targets: dict[Path, Path] = {}
    for image in images:
        target = Path(out) / mask_name(image, task)
        if target in targets:
            raise UsageError(f"{targets[target]} and {image} would both give {target}: predict them into two folders")
        targets[target] = image
    network = loaded.network.to(device)
    for target, image in track(targets.items(), "predict", total=len(targets), unit="image", quiet=quiet):
        source = read_source(Case(stem(image), image), task)
        prepared, geometry = prepare_image_array(source, task, settings)
        probabilities = predict_probabilities(network, to_float(prepared), settings, task, device, overlap)
        write_mask(target, restore(probabilities, geometry, settings), task, image)
    return list(targets)


def _images(inputs: Sequence[Path], task: Task) -> list[Path]:
    """The files to segment; of folders every image in them. read_source says what is wrong with one of them."""
    found: list[Path] = []
    for path in map(Path, inputs):
        found += [item.image for item in find_unlabelled(task.name, path)] if path.is_dir() else [path]
    return found
