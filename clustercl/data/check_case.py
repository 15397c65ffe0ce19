"""What is wrong or odd with one case: its image, its label, and the two together."""

import hashlib
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np

from clustercl.data.cases import Case
from clustercl.data.findings import Problem, Row
from clustercl.data.read import Extent, Volume, extent, misfits, read_source, read_stored_label
from clustercl.data.task import Task
from clustercl.errors import DataError

SPACING_MM = (0.01, 100.0)  # beyond it no scanner measures
SEVERAL = (".tif", ".tiff", ".png", ".webp")  # endings of files that may hold more than one picture


def check_case(case: Case, task: Task) -> tuple[Row, list[Problem]]:
    """The row of a case and all its problems; its label is looked at even where its image cannot be read."""
    row, problems, grid = Row(case.id, str(case.image), case.group, case.split), [], None
    try:
        image = read_source(case, task)
    except DataError as error:
        problems.append(Problem(str(case.image), "error", str(error)))
    else:
        grid = extent(image)
        _describe(image, row)
        del image  # lest it lies beside its label
        if row.low == row.high:
            sentence = f"{case.image}: every value of the image is {row.low:g}: look whether the file is right"
            problems.append(Problem(str(case.image), "warning", sentence))
        for axis, spacing in zip("xyz", row.spacing or ()):
            if not SPACING_MM[0] <= spacing <= SPACING_MM[1]:
                sentence = (
                    f"{case.image}: its voxels are {spacing:g} mm along axis {axis}, wanted {SPACING_MM[0]:g} to "
                    f"{SPACING_MM[1]:g}: look whether the header is right"
                )
                problems.append(Problem(str(case.image), "warning", sentence))
        if sentence := more_pictures(case.image) if task.spatial_dims == 2 else two_places(case.image, grid):
            problems.append(Problem(str(case.image), "warning", sentence))
    if case.label is not None:
        found = _check_label(case, task, grid, row)
        problems += [Problem(str(case.label), severity, sentence) for severity, sentence in found]
    return row, problems


def _describe(image: np.ndarray | Volume, row: Row) -> None:
    if isinstance(image, Volume):
        from nibabel.orientations import aff2axcodes

        array, row.size, row.spacing = image.array, image.array.shape, image.spacing
        row.orientation = "".join(aff2axcodes(image.affine))
    else:
        array, row.size = image, (image.shape[1], image.shape[0])
    row.content = _content(array)
    row.low, row.high = float(array.min()), float(array.max())


def two_places(image: Path, grid: Extent) -> str | None:
    """The sentence on a NIfTI volume whose header places it twice, by its sform and its qform, more than a voxel apart.
    `grid`: its extent as it was read."""
    shape, affine = grid
    if affine is None or image.is_dir():
        return None
    import nibabel

    header = nibabel.load(image).header
    if not (header["sform_code"] and header["qform_code"]):
        return None
    corners = np.array([[*corner, 1] for corner in product(*((0, length - 1) for length in shape))])
    try:
        apart = np.linalg.norm(((header.get_qform() - affine) @ corners.T)[:3], axis=0).max()
    except nibabel.spatialimages.HeaderDataError:  # of what is no rotation only the sform is read
        return None
    if apart <= np.linalg.norm(affine[:3, :3], axis=0).min():
        return None
    return (
        f"{image}: its sform and its qform place it up to {apart:.3g} mm apart, of which the sform is taken: "
        "other programs may take the qform, so correct the header"
    )


def more_pictures(path: Path) -> str | None:
    """The sentence on a file, read before, that holds several: pages of a TIFF, an animation."""
    from PIL import Image

    if path.suffix.lower() not in SEVERAL:
        return None
    with Image.open(path) as picture:
        try:
            count = getattr(picture, "n_frames", 1)
        except Exception:  # what follows the picture that is read is damaged
            return None
    if count == 1:
        return None
    return f"{path}: holds {count} pictures, pages or frames, of which the first is read: store each in its own file"


def _content(array: np.ndarray) -> str:
    """A hash of values and shape, in the order of memory: no copy of a volume."""
    digest = hashlib.blake2b(f"{array.shape} {array.strides} {array.dtype}".encode(), digest_size=16)
    digest.update(array.ravel(order="K").data)
    return digest.hexdigest()


def _check_label(case: Case, task: Task, grid: Extent | None, row: Row) -> Iterator[tuple[str, str]]:
    """Severity and sentence of each problem; counts go into the row. `grid`: of the image, None where it has none."""
    if case.label.resolve() == case.image.resolve():
        yield "error", f"{case.label}: is named as an image and as its own label: name the file that holds its label"
        return
    try:
        stored, affine = read_stored_label(case, task)
    except DataError as error:
        yield "error", str(error)
        return
    if grid is not None:
        for sentence in misfits(case, (stored.shape, affine), grid):
            yield "error", sentence
    try:
        index = task.to_index(stored, case.label)
    except DataError as error:
        yield "error", str(error)
        return
    # Class by class, as bincount would first make a copy of eight times the size.
    counts = [int(np.count_nonzero(index == number)) for number in range(task.num_classes)]
    row.counts = dict(zip(("background", *task.classes), counts, strict=True))
    if task.threshold is None:
        row.values = _of_each_value(task, stored, counts)
    if task.spatial_dims == 2 and (sentence := more_pictures(case.label)):
        yield "warning", sentence
    for sentence in _oddities(case, task, stored, counts[0]):
        yield "warning", sentence


def _of_each_value(task: Task, stored: np.ndarray, counts: list[int]) -> dict[str, int]:
    """Pixels or voxels of each stored value that occurs; `counts` are those of background and classes."""
    found = dict(zip((0, *task.values), counts, strict=True))
    for alias, value in task.aliases.items():
        found[alias] = int(np.count_nonzero(stored == alias))
        found[value] -= found[alias]
    return {str(value): count for value, count in sorted(found.items()) if count}


def _oddities(case: Case, task: Task, stored: np.ndarray, background: int) -> Iterator[str]:
    """What is odd about a label map that can be used."""
    if background == stored.size:
        yield f"{case.label}: the label map is empty: look whether nothing was to be outlined there"
    elif not background:
        yield f"{case.label}: the label map has no background: look whether it is the label of this image"
    if task.threshold is None:
        return
    top = int(stored.max())
    grey = int(np.count_nonzero((stored > 0) & (stored < top)))
    if grey:
        yield (
            f"{case.label}: {grey} pixels ({100 * grey / stored.size:.2g}%) are neither 0 nor {top}: those above "
            f"{task.threshold * (257 if top > 255 else 1)} count as {task.classes[0]}"
        )
