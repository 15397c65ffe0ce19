"""Masks lie over their image exactly, whatever its orientation; bad input leaves nothing behind."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from clustercl.data.cases import Case
from clustercl.data.check_case import check_case
from clustercl.data.task import get_task
from clustercl.errors import DataError, RunError
from clustercl.evaluation import predict as module
from clustercl.evaluation.predict import predict_files
from clustercl.models.checkpoint import SegmentationCheckpoint


@pytest.fixture
def predict(made, monkeypatch, tmp_path):
    """predict("skin", inputs, **options): with a network that reads the class off the intensity."""

    def call(task, inputs, labels=None, **options):
        network, settings = (made.Dark(), made.SKIN) if task == "skin" else (made.Hearts(), made.HEART)
        config = {"evaluation": {"overlap": 0.25}}
        loaded = SegmentationCheckpoint(network, get_task(task, labels).to_dict(), vars(settings), config)
        monkeypatch.setattr(module, "load_segmentation", lambda path: loaded)
        return predict_files(Path("best.pt"), inputs, tmp_path / "out", quiet=True, **options)

    return call


def oblique():
    """Axes swapped and flipped, 3 x 2 x 2 mm, 10 degrees off the scanner's axes."""
    turn = np.deg2rad(10)
    rotation = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = rotation @ np.array([[0, -2.0, 0], [-3.0, 0, 0], [0, 0, 2.0]])
    affine[:3, 3] = 12.5, -80.25, 1000.0
    return affine


def test_a_dicom_series_gets_a_mask_in_its_place(predict, made, tmp_path, write_slice):
    index = made.heart_index()
    same = made.save_heart(tmp_path / "same_image.nii.gz", index, np.diag([-2.0, -2.0, 3.0, 1.0]), 1, 1)
    stored = np.asarray(nibabel.load(same).dataobj)
    for z in range(stored.shape[2]):
        write_slice(tmp_path / f"scans/7/{z}.dcm", stored[:, :, z].T, (0, 0, 3 * z), spacing=(2, 2))
    (written,) = predict("heart", [tmp_path / "scans"])
    assert written == tmp_path / "out/7_segmentation.nii.gz"
    mask, wanted = nibabel.load(written), nibabel.load(predict("heart", [same])[0])
    np.testing.assert_allclose(mask.affine, wanted.affine)
    assert np.array_equal(np.asarray(mask.dataobj), np.asarray(wanted.dataobj)) and mask.header["sform_code"] == 1


@pytest.mark.parametrize("codes", [(1, 1), (2, 0), (0, 1), (4, 2)], ids=str)
@pytest.mark.parametrize("ending", [".nii.gz", ".nii"])
def test_volumes_keep_their_place(predict, made, tmp_path, codes, ending):
    index = made.heart_index()
    path = made.save_heart(tmp_path / f"ct_test_2001_image{ending}", index, oblique(), *codes)
    (written,) = predict("heart", [path])
    assert written == tmp_path / "out/ct_test_2001_segmentation.nii.gz"
    mask, image = nibabel.load(written), nibabel.load(path)
    np.testing.assert_array_equal(mask.affine, image.affine)
    for field in ("sform_code", "qform_code", "pixdim", "xyzt_units", "srow_x", "quatern_b", "qoffset_x"):
        np.testing.assert_array_equal(mask.header[field], image.header[field], err_msg=field)
    assert mask.get_data_dtype() == np.int16
    found = np.asarray(mask.dataobj)
    assert found.shape == index.shape
    # Its first axis goes from 3 mm to 2 mm and back, which blurs: only the voxels at the two faces there may differ.
    wrong = found != get_task("heart").to_values(index)
    face = np.diff(index, axis=0, prepend=0).astype(bool) | np.diff(index, axis=0, append=0).astype(bool)
    assert not (wrong & ~face).any()
    assert {600, 820} <= set(np.unique(found))


def test_a_volume_with_two_places_is_told_once_as_data_check_tells_it(predict, made, tmp_path, capsys):
    path = made.save_heart(tmp_path / "a.nii.gz", made.heart_index())
    image = nibabel.load(path)
    moved = image.affine.copy()
    moved[0, 3] += 30
    image.set_qform(moved, 1)
    nibabel.save(image, path)
    (told,) = (problem.sentence for problem in check_case(Case("a", path), get_task("heart"))[1])
    assert "its sform and its qform place it up to 30 mm apart, of which the sform is taken" in told
    predict("heart", [path, path])
    assert capsys.readouterr().err.count(f"warning: {told}\n") == 1


def test_exact_where_nothing_is_resampled(predict, made, tmp_path):
    path = made.save_heart(tmp_path / "a.nii.gz", made.heart_index())
    found = nibabel.load(predict("heart", [path])[0])
    np.testing.assert_array_equal(np.asarray(found.dataobj), get_task("heart").to_values(made.heart_index()))


def test_a_volume_of_one_frame_gets_a_mask_of_its_three_axes(predict, made, tmp_path):
    """As nibabel and 3D Slicer lay label maps over such a volume."""
    index = made.heart_index()
    path = made.save_heart(tmp_path / "a.nii.gz", index[..., None], oblique())
    mask, image = nibabel.load(predict("heart", [path])[0]), nibabel.load(path)
    assert image.shape == (*index.shape, 1) and mask.shape == index.shape
    np.testing.assert_array_equal(mask.affine, image.affine)
    assert mask.header["dim"][0] == 3 and len(mask.header.get_zooms()) == 3
    assert {600, 820} <= set(np.unique(np.asarray(mask.dataobj)))


def test_what_an_input_header_says_of_intensities_and_patients_stays_out(predict, made, tmp_path):
    path = made.save_heart(tmp_path / "a.nii.gz", made.heart_index())
    image = nibabel.load(path)
    image = nibabel.Nifti1Image(np.asarray(image.dataobj).astype(np.float32), None, image.header)
    image.header.set_slope_inter(2.0, -1024.0)
    image.header["cal_max"] = 400
    image.header.set_intent("z score")
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"name of a patient"))
    nibabel.save(image, path)
    mask = nibabel.load(predict("heart", [path])[0])
    assert mask.header.get_slope_inter() in ((None, None), (1.0, 0.0))
    assert mask.header["cal_max"] == 0 and mask.header.get_intent()[0] == "none"
    assert not mask.header.extensions


def test_labels_of_ones_own(predict, made, tmp_path):
    path = made.save_heart(tmp_path / "a.nii.gz", made.heart_index())
    names = ",".join(f"c{value}={value}" for value in (9, 3, 5, 1, 8, 40, 7))
    assert set(np.unique(np.asarray(nibabel.load(predict("heart", [path], names)[0]).dataobj))) == {0, 3, 40}


@pytest.mark.parametrize("size", [(64, 96), (57, 131), (7, 5)], ids=str)
def test_photographs_keep_their_size(predict, made, tmp_path, size):
    path = made.save_skin(tmp_path / "IMG.final.png", made.skin_index(*size))
    (written,) = predict("skin", [path])
    assert written.name == "IMG.final_segmentation.png"
    with Image.open(written) as mask:
        assert mask.mode == "L" and mask.size == size[::-1]
        assert set(np.unique(mask)) <= {0, 255}


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_turned_photograph_gets_a_mask_of_what_viewers_show(predict, made, tmp_path, orientation):
    """Cameras store the sensor's pixels and how to turn them. The mask has no such tag, so it is the turned picture."""
    from PIL import ImageOps

    exif = Image.Exif()
    exif[274] = orientation
    path = made.save_skin(tmp_path / "photo.jpg", made.skin_index(), exif=exif, quality=95)
    with Image.open(path) as stored, Image.open(predict("skin", [path])[0]) as mask:
        shown = ImageOps.exif_transpose(stored)
        assert mask.size == shown.size == ((96, 64) if orientation in (1, 3) else (64, 96))
        wrong = (np.asarray(shown.convert("L")) < 128) != (np.asarray(mask) == 255)
    assert wrong.mean() < 0.02, "resampling may move the lesion's edge by a pixel"


def test_folders_are_searched_and_label_maps_left_out(predict, made, tmp_path):
    for name in ("in/a.jpg", "in/deep/er/b.PNG", "in/a_segmentation.png"):
        made.save_skin(tmp_path / name, made.skin_index())
    (tmp_path / "in/notes.txt").write_text("no image")
    made.save_skin(tmp_path / "c.png", made.skin_index())
    written = predict("skin", [tmp_path / "in", tmp_path / "c.png", tmp_path / "in/a.jpg"])
    assert [path.name for path in written] == ["a_segmentation.png", "b_segmentation.png", "c_segmentation.png"]


def test_what_is_left_out_of_a_folder_is_said(predict, made, tmp_path, capsys):
    for name in ("a.webp", "b.jpg", "c.gif"):
        made.save_skin(tmp_path / "in" / name, made.skin_index())
    (tmp_path / "in/b.jpg").rename(tmp_path / "in/b.jfif")
    written = predict("skin", [tmp_path / "in"])
    assert [path.name for path in written] == ["a_segmentation.png", "b_segmentation.png"]
    said = capsys.readouterr().err
    assert said.count("warning: ") == 1 and "left out: 1 file that is no image by the ending (.gif)" in said


def listing(folder):
    return sorted(path.name for path in folder.rglob("*")) if folder.exists() else []


def test_a_broken_input_stops_it_before_the_first_mask(predict, made, tmp_path):
    good = made.save_skin(tmp_path / "a.jpg", made.skin_index())
    broken = made.save_skin(tmp_path / "b.jpg", made.skin_index())
    broken.write_bytes(broken.read_bytes()[:300])
    with pytest.raises(DataError, match=r"b\.jpg"):
        predict("skin", [good, broken])
    assert listing(tmp_path / "out") == []


def empty_folder(folder):
    folder.mkdir()
    return folder


def text_file(folder):
    folder.with_suffix(".png").write_text("text")
    return folder.with_suffix(".png")


@pytest.mark.parametrize("make", [empty_folder, text_file, lambda folder: folder / "missing.png"],
                         ids=["empty folder", "text", "missing"])  # fmt: skip
def test_inputs_that_are_none(predict, tmp_path, make):
    path = make(tmp_path / "x")
    with pytest.raises(DataError, match=path.name):
        predict("skin", [path])
    assert listing(tmp_path / "out") == []


def test_an_image_for_the_wrong_task(predict, made, tmp_path):
    with pytest.raises(DataError, match="NIfTI"):
        predict("heart", [made.save_skin(tmp_path / "a.jpg", made.skin_index())])
    with pytest.raises(DataError, match="is a volume, wanted a photograph"):
        predict("skin", [made.save_heart(tmp_path / "a.nii.gz", made.heart_index())])


def test_two_inputs_for_one_mask(predict, made, tmp_path):
    pair = [made.save_skin(tmp_path / name / "a.png", made.skin_index()) for name in ("one", "two")]
    with pytest.raises(DataError) as error:
        predict("skin", pair)
    assert all(str(path) in str(error.value) for path in pair)
    assert listing(tmp_path / "out") == []


def test_masks_that_are_there_are_not_lost(predict, made, tmp_path):
    """ISIC's own masks have these names: `--out` on their folder must not replace an expert's work."""
    first = made.save_skin(tmp_path / "in/ISIC_0.png", made.skin_index())
    second = made.save_skin(tmp_path / "in/ISIC_1.png", made.skin_index())
    expert = tmp_path / "out/ISIC_1_segmentation.png"
    expert.parent.mkdir()
    expert.write_bytes(b"by an expert")
    with pytest.raises(DataError, match=r"ISIC_1_segmentation.*--overwrite"):
        predict("skin", [first, second])
    assert expert.read_bytes() == b"by an expert" and listing(tmp_path / "out") == [expert.name]
    predict("skin", [first, second], overwrite=True)
    with Image.open(expert) as mask:
        assert mask.size == (96, 64)


def test_out_is_a_file(predict, made, tmp_path):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(RunError, match="wanted a folder"):
        predict("skin", [made.save_skin(tmp_path / "a.png", made.skin_index())])


def test_a_kill_while_writing_leaves_no_half_mask(predict, made, tmp_path, monkeypatch):
    path = made.save_heart(tmp_path / "a.nii.gz", made.heart_index())

    def killed(image, target):
        Path(target).write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(nibabel, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        predict("heart", [path])
    assert listing(tmp_path / "out") == []
