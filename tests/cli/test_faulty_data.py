"""Data sets with one fault each: one sentence that names the file, exit 1, no run folder, nothing in the cache."""

import gzip
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


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("CLUSTERCL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def assert_refused(capsys, code: int, out: Path, *wanted: str) -> None:
    error = capsys.readouterr().err
    assert not (out.parent / "cache").exists()
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


def no_bytes(folder):
    (folder / IMAGES / "ISIC_0000004.jpg").write_bytes(b"")
    return ("ISIC_0000004.jpg",)


def mask_cut_short(folder):
    path = folder / MASKS / "ISIC_0000002_segmentation.png"
    path.write_bytes(path.read_bytes()[:60])
    return "ISIC_0000002_segmentation.png", "broken or cut short"


def mask_that_is_text(folder):
    (folder / MASKS / "ISIC_0000002_segmentation.png").write_text("0 0 0 255")
    return "ISIC_0000002_segmentation.png", "no image that can be read"


def mask_of_zeros_and_ones(folder):
    pixels = np.zeros((40, 48), np.uint8)
    pixels[10:20] = 1
    Image.fromarray(pixels).save(folder / MASKS / "ISIC_0000002_segmentation.png")
    return "ISIC_0000002_segmentation.png", "the largest value of the mask is 1", "--labels lesion=1"


def photograph_of_fractions(folder):
    (folder / IMAGES / "ISIC_0000003.jpg").unlink()
    Image.fromarray(np.full((40, 48), 0.5, np.float32)).save(folder / IMAGES / "ISIC_0000003.tif")
    return "ISIC_0000003.tif", "holds fractions"


def photograph_of_four_hundred_megapixels(folder):
    (folder / IMAGES / "ISIC_0000003.jpg").unlink()
    Image.new("1", (20000, 20000)).save(folder / IMAGES / "ISIC_0000003.png")
    return "ISIC_0000003.png", "too large to be opened safely"


def link_to_nothing(folder):
    (folder / IMAGES / "ISIC_0000003.jpg").unlink()
    (folder / IMAGES / "ISIC_0000003.jpg").symlink_to(folder / "gone.jpg")
    return "ISIC_0000003.jpg", "no such file"


def turned_by_exif_and_its_mask_is_not(folder):
    path = folder / IMAGES / "ISIC_0000003.jpg"
    with Image.open(path) as picture:
        exif = picture.getexif()
        exif[0x0112] = 6
        picture.save(path, exif=exif)
    return "ISIC_0000003_segmentation.png", "turned by its EXIF tag"


def no_file_of_the_task(folder):
    for path in folder.rglob("ISIC_*"):
        if path.is_file():
            path.rename(path.with_name(path.name.replace("ISIC_", "photo")))
    return folder.name, "no file is named as those of task skin"


def no_mask_at_all(folder):
    shutil.rmtree(folder / MASKS)
    return ("none of the 6 cases has a label",)


def only_one_photograph(folder):
    for index in range(1, 6):
        (folder / IMAGES / f"ISIC_000000{index}.jpg").unlink()
        (folder / MASKS / f"ISIC_000000{index}_segmentation.png").unlink()
    return "ISIC_0000000.jpg", "the only image to learn from"


SKIN_FAULTS = [
    missing_folder,
    empty_folder,
    mask_missing_from_ground_truth,
    mask_of_another_size,
    broken_jpeg,
    two_files_with_one_id,
    not_an_image,
    no_bytes,
    mask_cut_short,
    mask_that_is_text,
    mask_of_zeros_and_ones,
    photograph_of_fractions,
    photograph_of_four_hundred_megapixels,
    link_to_nothing,
    turned_by_exif_and_its_mask_is_not,
    no_file_of_the_task,
    no_mask_at_all,
    only_one_photograph,
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


def label_of_fractions(folder):
    volume(folder / "ct_train_1001_label.nii.gz", np.full((20, 20, 20), 0.5, np.float32))
    return "ct_train_1001_label.nii.gz", "holds fractions"


def label_below_zero(folder):
    volume(folder / "ct_train_1001_label.nii.gz", np.full((20, 20, 20), -1, np.int16))
    return "ct_train_1001_label.nii.gz", "label value -1 outside task heart"


def label_that_is_the_image(folder):
    shutil.copy(folder / "ct_train_1001_image.nii.gz", folder / "ct_train_1001_label.nii.gz")
    return "ct_train_1001_label.nii.gz", "outside task heart"


def label_with_a_hole(folder):
    label = np.zeros((20, 20, 20), np.float32)
    label[2, 2, 2] = np.inf
    volume(folder / "ct_train_1001_label.nii.gz", label)
    return "ct_train_1001_label.nii.gz", "not finite"


def label_without_affine(folder):
    volume(folder / "ct_train_1001_label.nii.gz", np.zeros((20, 20, 20), np.int16), codes=(0, 0))
    return "ct_train_1001_label.nii.gz", "holds no affine"


def text_named_nifti(folder):
    (folder / "ct_train_1001_image.nii.gz").unlink()
    (folder / "ct_train_1001_image.nii").write_text("voxels")
    return "ct_train_1001_image.nii", "no NIfTI file"


def gzip_of_nothing(folder):
    (folder / "ct_train_1001_image.nii.gz").write_bytes(gzip.compress(b""))
    return ("ct_train_1001_image.nii.gz",)


def no_gzip(folder):
    (folder / "ct_train_1001_image.nii.gz").write_bytes(b"plainly not compressed")
    return ("ct_train_1001_image.nii.gz",)


def complex_voxels(folder):
    volume(folder / "ct_train_1001_image.nii.gz", np.zeros((20, 20, 20), np.complex64))
    return "ct_train_1001_image.nii.gz", "wanted one real number per voxel"


def flat_affine(folder):
    image = nibabel.Nifti1Image(np.zeros((20, 20, 20), np.int16), None)
    image.header.set_sform(np.diag([2.0, 2, 0, 1]), 1)
    nibabel.save(image, folder / "ct_train_1001_image.nii.gz")
    return "ct_train_1001_image.nii.gz", "the affine cannot be inverted"


def one_slice_alone(folder):
    volume(folder / "ct_train_1001_image.nii.gz", np.zeros((20, 20), np.int16))
    return "ct_train_1001_image.nii.gz", "(20, 20)"


def without_the_tail(path: Path) -> Path:
    """All voxels are there; of gzip's checksum and length the last six bytes are not."""
    path.write_bytes(path.read_bytes()[:-6])
    return path


def with_another_byte(path: Path) -> Path:
    """One byte within the voxels is another, and the stream is stored so that it unpacks all the same."""
    content = bytearray(gzip.decompress(path.read_bytes()))
    packed = bytearray(gzip.compress(content, compresslevel=0))
    packed[-2000] ^= 1
    path.write_bytes(packed)
    return path


def with_another_checksum(path: Path) -> Path:
    packed = bytearray(path.read_bytes())
    packed[-8] ^= 1
    path.write_bytes(packed)
    return path


def image_without_its_tail(folder):
    return without_the_tail(folder / "ct_train_1001_image.nii.gz").name, "broken or cut short", "end-of-stream"


def label_without_its_tail(folder):
    return without_the_tail(folder / "ct_train_1001_label.nii.gz").name, "broken or cut short", "end-of-stream"


def image_with_another_byte(folder):
    return with_another_byte(folder / "ct_train_1001_image.nii.gz").name, "broken or cut short (CRC check failed"


def label_with_another_byte(folder):
    return with_another_byte(folder / "ct_train_1001_label.nii.gz").name, "broken or cut short (CRC check failed"


def image_with_another_checksum(folder):
    return with_another_checksum(folder / "ct_train_1001_image.nii.gz").name, "broken or cut short (CRC check failed"


def image_of_another_length(folder):
    path = folder / "ct_train_1001_image.nii.gz"
    packed = bytearray(path.read_bytes())
    packed[-4] ^= 1
    path.write_bytes(packed)
    return path.name, "broken or cut short (Incorrect length of data"


def volume_twice_by_two_endings(folder):
    image = nibabel.load(folder / "ct_train_1001_image.nii.gz")
    nibabel.save(image, folder / "ct_train_1001_image.nii")
    return ("ct_train_1001",)


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
    label_of_fractions,
    label_below_zero,
    label_that_is_the_image,
    label_with_a_hole,
    label_without_affine,
    text_named_nifti,
    gzip_of_nothing,
    no_gzip,
    complex_voxels,
    flat_affine,
    one_slice_alone,
    image_without_its_tail,
    label_without_its_tail,
    image_with_another_byte,
    label_with_another_byte,
    image_with_another_checksum,
    image_of_another_length,
    volume_twice_by_two_endings,
]


@pytest.mark.parametrize("fault", HEART_FAULTS, ids=lambda fault: fault.__name__)
def test_heart(fault, heart, tmp_path, capsys):
    wanted = fault(heart)
    assert_refused(capsys, train("heart", tmp_path / "run", "--data", heart), tmp_path / "run", *wanted)


def rows_of(folder, extra=""):
    return [f"{IMAGES}/ISIC_000000{i}.jpg,{MASKS}/ISIC_000000{i}_segmentation.png{extra}" for i in range(6)]


def listed(folder, *lines) -> tuple[str, ...]:
    (folder / "list.csv").write_text("\n".join(lines))
    return ("list.csv",)


def listed_mask_is_missing(folder):
    listed(folder, "image,mask", *rows_of(folder))
    (folder / MASKS / "ISIC_0000005_segmentation.png").unlink()
    return "ISIC_0000005_segmentation.png", "line 7"


def listed_image_is_missing(folder):
    listed(folder, "image,mask", *rows_of(folder), "gone.jpg,")
    return "gone.jpg", "line 8"


def list_without_a_header(folder):
    return *listed(folder, *rows_of(folder)), "line 1 must name the columns"


def list_with_label_and_mask(folder):
    return *listed(folder, "image,label,mask", *rows_of(folder, ",")), "line 1 must name the columns"


def list_of_nothing(folder):
    return *listed(folder, "image,mask"), "names no image"


def list_with_an_unknown_split(folder):
    return *listed(folder, "image,mask,split", *rows_of(folder, ",training"), f"{IMAGES}/x.jpg,,dev"), "split 'dev'"


def list_with_an_id_that_is_a_path(folder):
    return *listed(folder, "image,mask,id", rows_of(folder, ",../a")[0]), "id '../a'"


def list_in_latin(folder):
    (folder / "list.csv").write_bytes("image,mask\nhäut.jpg,".encode("latin-1"))
    return "list.csv", "not UTF-8"


def group_in_two_splits(folder):
    first, second, *_ = rows_of(folder)
    listed(folder, "image,mask,group,split", f"{first},p,train", f"{second},p,test", *rows_of(folder, ",q,train")[2:])
    return "ISIC_0000001.jpg", "group p is in split"


def case_to_test_with_has_no_label(folder):
    listed(folder, "image,mask,split", *rows_of(folder, ",train")[1:], f"{IMAGES}/ISIC_0000000.jpg,,test")
    return "ISIC_0000000.jpg", "names no label"


def copies_in_two_given_splits(folder):
    shutil.copy(folder / IMAGES / "ISIC_0000000.jpg", folder / IMAGES / "ISIC_0000005.jpg")
    listed(folder, "image,mask,split", *rows_of(folder, ",train")[:5], rows_of(folder, ",test")[5])
    return "ISIC_0000000.jpg", "ISIC_0000005.jpg", "the given splits put copies into test and train"


LIST_FAULTS = [
    listed_mask_is_missing,
    listed_image_is_missing,
    list_without_a_header,
    list_with_label_and_mask,
    list_of_nothing,
    list_with_an_unknown_split,
    list_with_an_id_that_is_a_path,
    list_in_latin,
    group_in_two_splits,
    case_to_test_with_has_no_label,
    copies_in_two_given_splits,
]


@pytest.mark.parametrize("fault", LIST_FAULTS, ids=lambda fault: fault.__name__)
def test_list(fault, skin, tmp_path, capsys):
    wanted = fault(skin)
    assert_refused(capsys, train("skin", tmp_path / "run", "--list", skin / "list.csv"), tmp_path / "run", *wanted)


def unlabelled_folder_is_missing(folder):
    return folder / "more", "more: no such folder"


def unlabelled_folder_holds_no_image(folder):
    (folder / "more").mkdir()
    (folder / "more/notes.txt").write_text("none")
    return folder / "more", "more: no images"


def unlabelled_image_is_broken(folder):
    (folder / "more").mkdir()
    (folder / "more/a.jpg").write_text("none")
    return folder / "more", "a.jpg: this is no image"


UNLABELLED_FAULTS = [unlabelled_folder_is_missing, unlabelled_folder_holds_no_image, unlabelled_image_is_broken]


@pytest.mark.parametrize("fault", UNLABELLED_FAULTS, ids=lambda fault: fault.__name__)
def test_unlabelled(fault, skin, tmp_path, capsys):
    more, wanted = fault(skin)
    code = train("skin", tmp_path / "run", "--data", skin, "--unlabelled", more)
    assert_refused(capsys, code, tmp_path / "run", wanted)


def test_there_are_forty_of_them():
    assert len(SKIN_FAULTS) + len(HEART_FAULTS) + len(LIST_FAULTS) + len(UNLABELLED_FAULTS) >= 40


@pytest.mark.parametrize("fault", [*SKIN_FAULTS, *HEART_FAULTS], ids=lambda fault: fault.__name__)
def test_data_check_tells_the_same(fault, skin, heart, capsys):
    folder, task = (skin, "skin") if fault in SKIN_FAULTS else (heart, "heart")
    wanted = fault(folder)
    code = run(["data", "check", "--task", task, "--data", str(folder)])
    told = capsys.readouterr()
    if fault in (no_mask_at_all, only_one_photograph):  # which serve pre-training, or another method
        assert code == 0
        return
    lines = [line for line in (told.out + told.err).splitlines() if line.startswith(("error: ", "clustercl: "))]
    assert code == 1 and any(all(text in line for text in wanted) for line in lines), told
