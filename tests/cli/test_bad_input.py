"""Bad input gets one sentence that names the thing, exit 1 (2 for usage), and leaves nothing half-written."""

import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from clustercl.cli.main import run


def photograph(path: Path, size=(48, 40), seed=0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def mask(path: Path, size=(48, 40)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((size[1], size[0]), dtype=np.uint8)
    pixels[10:30, 10:30] = 255
    Image.fromarray(pixels).save(path)


def volume(path: Path, array: np.ndarray, affine=None, codes=(1, 1)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nibabel.Nifti1Image(array, np.diag([2.0, 2.0, 2.0, 1.0]) if affine is None else affine)
    image.set_sform(image.affine, codes[0])
    image.set_qform(image.affine, codes[1])
    nibabel.save(image, path)


@pytest.fixture
def skin(tmp_path) -> Path:
    """A sound ISIC 2017 folder of six labelled photographs."""
    for index in range(6):
        photograph(tmp_path / f"skin/ISIC-2017_Training_Data/ISIC_000000{index}.jpg", seed=index)
        mask(tmp_path / f"skin/ISIC-2017_Training_Part1_GroundTruth/ISIC_000000{index}_segmentation.png")
    return tmp_path / "skin"


@pytest.fixture
def heart(tmp_path) -> Path:
    """A sound MM-WHS folder of three labelled volumes."""
    for index in range(3):
        image = np.random.default_rng(index).normal(0, 50, (20, 20, 20)).astype(np.int16)
        label = np.zeros((20, 20, 20), dtype=np.int16)
        label[5:10, 5:10, 5:10] = 500
        volume(tmp_path / f"heart/ct_train_100{index}_image.nii.gz", image)
        volume(tmp_path / f"heart/ct_train_100{index}_label.nii.gz", label)
    return tmp_path / "heart"


def train(task: str, out: Path, *arguments) -> int:
    return run(
        ["train", "--task", task, "--preset", "tiny", "--device", "cpu", "--out", str(out), *map(str, arguments)]
    )


def assert_refused(capsys, code: int, out: Path, *wanted: str) -> None:
    error = capsys.readouterr().err
    sentence = [line for line in error.splitlines() if line.startswith(("clustercl: ", "Error: "))]
    assert len(sentence) == 1, error
    for text in wanted:
        assert text in sentence[0], f"{text!r} is not in: {sentence[0]}"
    assert "Traceback" not in error
    assert code == 1, error
    assert not out.exists(), f"left behind: {[str(path) for path in out.rglob('*')]}"


IMAGES = "ISIC-2017_Training_Data"
MASKS = "ISIC-2017_Training_Part1_GroundTruth"


def missing_folder(folder):
    shutil.rmtree(folder)
    return folder.name, "no such folder"


def empty_folder(folder):
    shutil.rmtree(folder)
    folder.mkdir()
    return (folder.name,)


def mask_missing_from_ground_truth(folder):
    (folder / MASKS / "ISIC_0000002_segmentation.png").unlink()
    return ("ISIC_0000002",)


def mask_of_another_size(folder):
    mask(folder / MASKS / "ISIC_0000001_segmentation.png", size=(30, 40))
    return "ISIC_0000001", "30", "48"


def broken_jpeg(folder):
    path = folder / IMAGES / "ISIC_0000003.jpg"
    path.write_bytes(path.read_bytes()[:200])
    return ("ISIC_0000003.jpg",)


def two_files_with_one_id(folder):
    photograph(folder / "again/ISIC-2017_Training_Data/ISIC_0000001.jpg", seed=9)
    return ("ISIC_0000001",)


def not_an_image(folder):
    (folder / IMAGES / "ISIC_0000004.jpg").write_text("this is text")
    return ("ISIC_0000004.jpg",)


SKIN_FAULTS = [
    missing_folder,
    empty_folder,
    mask_missing_from_ground_truth,
    mask_of_another_size,
    broken_jpeg,
    two_files_with_one_id,
    not_an_image,
]


@pytest.mark.parametrize("fault", SKIN_FAULTS, ids=lambda fault: fault.__name__)
def test_skin(fault, skin, tmp_path, capsys):
    wanted = fault(skin)
    assert_refused(capsys, train("skin", tmp_path / "run", "--data", skin), tmp_path / "run", *wanted)


def label_value_outside_the_task(folder):
    label = np.zeros((20, 20, 20), dtype=np.int16)
    label[5:10] = 37
    volume(folder / "ct_train_1001_label.nii.gz", label)
    return "ct_train_1001_label.nii.gz", "37"


def without_affine(folder):
    volume(folder / "ct_train_1001_image.nii.gz", np.zeros((20, 20, 20), dtype=np.int16), codes=(0, 0))
    return ("ct_train_1001_image.nii.gz",)


def four_dimensions(folder):
    volume(folder / "ct_train_1001_image.nii.gz", np.zeros((20, 20, 20, 3), dtype=np.int16))
    return "ct_train_1001_image.nii.gz", "(20, 20, 20, 3)"


def label_of_another_size(folder):
    volume(folder / "ct_train_1001_label.nii.gz", np.zeros((20, 20, 10), dtype=np.int16))
    return "ct_train_1001", "20x20x10", "20x20x20"


def label_of_another_affine(folder):
    label = np.zeros((20, 20, 20), dtype=np.int16)
    volume(folder / "ct_train_1001_label.nii.gz", label, affine=np.diag([2.0, 2.0, 2.1, 1.0]))
    return ("ct_train_1001",)


def truncated_nifti(folder):
    path = folder / "ct_train_1001_image.nii.gz"
    path.write_bytes(path.read_bytes()[:300])
    return ("ct_train_1001_image.nii.gz",)


def non_finite_voxels(folder):
    array = np.zeros((20, 20, 20), dtype=np.float32)
    array[3, 3, 3] = np.nan
    volume(folder / "ct_train_1001_image.nii.gz", array)
    return ("ct_train_1001_image.nii.gz",)


HEART_FAULTS = [
    missing_folder,
    empty_folder,
    label_value_outside_the_task,
    without_affine,
    four_dimensions,
    label_of_another_size,
    label_of_another_affine,
    truncated_nifti,
    non_finite_voxels,
]


@pytest.mark.parametrize("fault", HEART_FAULTS, ids=lambda fault: fault.__name__)
def test_heart(fault, heart, tmp_path, capsys):
    wanted = fault(heart)
    assert_refused(capsys, train("heart", tmp_path / "run", "--data", heart), tmp_path / "run", *wanted)


def test_listed_mask_is_missing(skin, tmp_path, capsys):
    rows = ["image,mask"] + [f"{IMAGES}/ISIC_000000{i}.jpg,{MASKS}/ISIC_000000{i}_segmentation.png" for i in range(6)]
    (skin / "list.csv").write_text("\n".join(rows))
    (skin / MASKS / "ISIC_0000005_segmentation.png").unlink()
    code = train("skin", tmp_path / "run", "--list", skin / "list.csv")
    assert_refused(capsys, code, tmp_path / "run", "ISIC_0000005_segmentation.png")


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["--gpus", "4"], ["--gpus 4", "no GPU is visible"]),
        (["--preset", "huge"], ["huge", "tiny"]),
        (["--method", "nonsense"], ["nonsense", "simclr"]),
        (["--label-fraction", "0"], ["label-fraction"]),
        (["--label-fraction", "1.5"], ["label-fraction"]),
        (["--set", "pretrain.temprature=0.2"], ["temprature", "temperature"]),
        (["--set", "nonsense"], ["nonsense"]),
        (["--labels", "RV=one", "--data", "."], ["RV=one"]),
        (["--device", "tpu"], ["tpu"]),
        (["--config", "missing.toml"], ["missing.toml"]),
        (["--list", "a.csv", "--data", "b"], ["--list", "--data"]),
        (["--processes", "2"], ["--processes 2", "not supported yet"]),
        (["--preset", "tiny", "--set", "data.patch=[8,8,8]"], ["data.patch", "16", "got 8"]),
        (["--set", "finetune.weight_decay=-1"], ["finetune.weight_decay", "from 0 on"]),
        (["--set", "finetune.clip_norm=-1"], ["finetune.clip_norm", "from 0 on"]),
    ],
    ids=lambda value: value[0] if isinstance(value, list) and value[0].startswith("--") else "",
)
def test_bad_usage_is_exit_2(arguments, wanted, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    code = run(["train", "--task", "heart", "--out", str(tmp_path / "run"), *arguments])
    error = capsys.readouterr().err
    assert code == 2, error
    for text in wanted:
        assert text in error
    assert not (tmp_path / "run").exists()
