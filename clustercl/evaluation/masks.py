"""Writing masks that overlay their image exactly."""

from pathlib import Path

import numpy as np

from clustercl.data.task import Task
from clustercl.files import atomic

ENDINGS = {2: ".png", 3: ".nii.gz"}  # by the number of axes


def mask_name(stem: str, task: Task) -> str:
    """`<stem>_segmentation.png` for photographs, `.nii.gz` for volumes."""
    return f"{stem}_segmentation{ENDINGS[task.spatial_dims]}"


def write_mask(path: Path, index: np.ndarray, task: Task, source: Path, affine: np.ndarray | None) -> None:
    """Write class indices 0..k, on the grid of the image `source`, as the values that the task stores.

    Volumes keep the affine, its codes and the units of the image's header, so that every viewer lays them over it; of a
    DICOM series, which has no such header, the affine (4, 4) that it was read with.
    """
    values = task.to_values(index)
    if task.spatial_dims == 2:
        from PIL import Image

        with atomic(path) as aside:
            Image.fromarray(values).save(aside)
        return
    import nibabel

    if source.is_dir():
        image = nibabel.Nifti1Image(values, affine)
        image.header.set_xyzt_units("mm")
        image.set_qform(affine, 1)  # 1: coordinates of the scanner
        image.set_sform(affine, 1)
        with atomic(path) as aside:
            nibabel.save(image, aside)
        return
    image = nibabel.load(source)
    header = image.header.copy()
    header.extensions.clear()  # may name the patient
    header.set_intent("none")
    header.set_data_dtype(values.dtype)
    header.set_slope_inter(1, 0)
    header["cal_min"] = header["cal_max"] = 0  # the display window of the image would hide the labels
    with atomic(path) as aside:
        nibabel.save(type(image)(values, image.affine, header), aside)
