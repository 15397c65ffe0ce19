"""Networks that read the class off the intensity, so that what a file must give is known voxel by voxel."""

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image

from clustercl.data.settings import DataSettings

STEP = 100  # HU between the intensities of two classes


class Hearts(torch.nn.Module):
    """Class = intensity in steps of 100 HU, seen through the window of `HEART`."""

    def forward(self, x):
        levels = torch.arange(8).view(1, 8, 1, 1, 1)
        return -50 * (x * 7 - levels) ** 2


class Dark(torch.nn.Module):
    """Lesion where the photograph is darker than half."""

    def forward(self, x):
        bright = x.mean(1, keepdim=True) - 0.5
        return 50 * torch.cat([bright, -bright], 1)


HEART = DataSettings(spacing=(2.0, 2.0, 2.0), patch=(16, 16, 16), hu_window=(0.0, 7.0 * STEP))
SKIN = DataSettings(size=64)


def heart_index(shape=(20, 24, 18)) -> np.ndarray:
    """Boxes of classes 2 (RV) and 6 (AA) in no symmetric place."""
    index = np.zeros(shape, np.uint8)
    index[3:9, 5:15, 4:8] = 2
    index[10:16, 2:6, 9:16] = 6
    return index


def save_heart(path, index, affine=None, sform=1, qform=1, dtype=np.int16):
    """The volume that `Hearts` sees `index` in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nibabel.Nifti1Image((index.astype(np.int16) * STEP).astype(dtype), None)
    affine = np.diag([2.0, 2.0, 2.0, 1.0]) if affine is None else affine
    image.set_sform(affine if sform else None, sform)
    image.set_qform(affine if qform else None, qform)
    image.header.set_xyzt_units("mm")
    nibabel.save(image, path)
    return path


def skin_index(height=64, width=96) -> np.ndarray:
    index = np.zeros((height, width), np.uint8)
    index[8:24, 16:64] = 1
    return index


def save_skin(path, index, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    grey = np.where(index[..., None] == 1, (60, 50, 40), (230, 190, 180)).astype(np.uint8)
    Image.fromarray(grey).save(path, **options)
    return path


class Made:
    """What the tests of this folder share."""

    Hearts, Dark, HEART, SKIN = Hearts, Dark, HEART, SKIN
    heart_index, save_heart = staticmethod(heart_index), staticmethod(save_heart)
    skin_index, save_skin = staticmethod(skin_index), staticmethod(save_skin)


@pytest.fixture
def made() -> type[Made]:
    return Made
