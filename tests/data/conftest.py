"""Small files in the real layouts."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from clustercl.data.cases import Case
from clustercl.data.prepare import Geometry, Prepared


def save_picture(path: Path, array) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(array)).save(path)
    return path


def save_volume(path: Path, array, affine=None, code: int = 1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nibabel.Nifti1Image(np.asarray(array), np.eye(4) if affine is None else affine)
    image.set_sform(image.affine, code)
    image.set_qform(image.affine if code else None, code)
    nibabel.save(image, path)
    return path


def photograph(height=20, width=30, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def mask(height=20, width=30):
    array = np.zeros((height, width), np.uint8)
    array[5:12, 8:20] = 255
    return array


def hearts(shape=(12, 14, 10), seed=0):
    """A CT-like int16 volume and a label map with all seven MM-WHS values, 421 among them."""
    image = np.random.default_rng(seed).integers(-1000, 1000, shape, dtype=np.int16)
    label = np.zeros(shape, np.int16)
    for place, value in enumerate((500, 600, 420, 550, 205, 820, 850, 421)):
        label[place, 2:6, 3:6] = value
    return image, label


@pytest.fixture
def skin_folder(tmp_path) -> Path:
    """ISIC 2017: four photographs with masks, one more without in a folder that has no ground truth."""
    root = tmp_path / "skin"
    for number in range(4):
        name = f"ISIC_000000{number}"
        save_picture(root / "ISIC-2017_Training_Data" / f"{name}.jpg", photograph(seed=number))
        save_picture(root / "ISIC-2017_Training_Part1_GroundTruth" / f"{name}_segmentation.png", mask())
    save_picture(root / "ISIC-2017_Training_Data" / "ISIC_0000000_superpixels.png", photograph())
    save_picture(root / "ISIC-2017_Test_v2_Data" / "ISIC_0000009.jpg", photograph(seed=9))
    return root


@pytest.fixture
def heart_folder(tmp_path) -> Path:
    """MM-WHS: three labelled volumes, one test volume, and a file that is neither."""
    root = tmp_path / "heart"
    for number in (1001, 1002, 1003):
        image, label = hearts(seed=number)
        save_volume(root / "ct_train" / f"ct_train_{number}_image.nii.gz", image)
        save_volume(root / "ct_train" / f"ct_train_{number}_label.nii.gz", label)
    save_volume(root / "ct_test" / "ct_test_2001_image.nii.gz", hearts()[0])
    save_volume(root / "heart_region_1001.nii.gz", np.zeros((4, 4, 4), np.uint8))
    return root


@pytest.fixture
def prepared_volumes():
    """A function: shapes -> prepared volumes whose voxels hold their own flat index, with a small foreground."""
    import torch

    def make(*shapes) -> list[Prepared]:
        result = []
        for number, shape in enumerate(shapes):
            image = torch.arange(np.prod(shape), dtype=torch.float32).reshape(1, *shape)
            label = torch.zeros(shape, dtype=torch.uint8)
            label[-2:, -2:, -2:] = 3
            label[0, 0, :2] = 1
            case = Case(f"v{number}", Path(f"v{number}.nii.gz"), Path("label.nii.gz"))
            result.append(Prepared(case, image, label, Geometry(shape, np.eye(4), (1.0, 1.0, 1.0))))
        return result

    return make


class Files:
    """What tests write files with."""

    save_picture = staticmethod(save_picture)
    save_volume = staticmethod(save_volume)
    photograph = staticmethod(photograph)
    mask = staticmethod(mask)
    hearts = staticmethod(hearts)


@pytest.fixture
def files() -> type[Files]:
    return Files
