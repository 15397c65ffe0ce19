"""DICOM series: the same voxels in the same places as the NIfTI file of the same scan."""

import shutil

import numpy as np
import pydicom
import pytest
from pydicom.uid import generate_uid

from clustercl.data.cache import Cache
from clustercl.data.cases import Case, discover
from clustercl.data.check import check_data
from clustercl.data.layouts import find_unlabelled
from clustercl.data.read import read_pair, read_volume
from clustercl.data.settings import DataSettings
from clustercl.data.task import get_task
from clustercl.errors import DataError

HEART = get_task("heart")


@pytest.fixture
def scan(tmp_path, files, write_slice):
    """A folder of ten slices 2.5 mm apart, named in no order, and its voxels (x, y, z) in HU."""
    voxels = files.hearts()[0]
    for z in range(10):
        name = f"IM{(7 * z) % 10}"
        write_slice(tmp_path / "patient.1/1.2.840.113" / name, voxels[:, :, z].T, (-10, 20, 30 + 2.5 * z))
    return tmp_path / "patient.1/1.2.840.113", voxels


def test_voxels_and_places(scan, tmp_path, files):
    folder, voxels = scan
    volume = read_volume(folder)
    assert volume.array.dtype == np.int16 and np.array_equal(volume.array, voxels)
    assert volume.spacing == pytest.approx((0.7, 0.8, 2.5))
    # To the left and back in DICOM is to the right and front in NIfTI.
    wanted = np.array([[-0.7, 0, 0, 10], [0, -0.8, 0, -20], [0, 0, 2.5, 30], [0, 0, 0, 1]])
    assert np.allclose(volume.affine, wanted)
    label = files.save_volume(tmp_path / "label.nii.gz", files.hearts()[1], affine=wanted)
    image, index = read_pair(Case("x", folder, label), HEART)
    assert index.max() == 7 and image.array.shape == index.shape


def test_slices_of_any_direction(tmp_path, files, write_slice):
    """Sagittal slices, numbered from right to left: the last axis of the array runs that way."""
    voxels = files.hearts((9, 5, 4))[0]
    for z in range(4):
        write_slice(tmp_path / f"s/{z}.dcm", voxels[:, :, z].T, (50 - 3 * z, 0, 0), (0, 1, 0, 0, 0, -1), (1, 2))
    volume = read_volume(tmp_path / "s")
    # The normal of (back, down) points to the right: slices are sorted along it, which is the order they came in.
    assert np.array_equal(volume.array, voxels)
    assert np.allclose(volume.affine[:3, :3], np.array([[0, 0, 3], [-2, 0, 0], [0, -1, 0]]))


def test_scales_that_are_no_whole_numbers(tmp_path, files, write_slice):
    for z in range(3):
        write_slice(tmp_path / f"s/{z}.dcm", files.hearts()[0][:, :, z].T, (0, 0, z), RescaleSlope=0.5)
    volume = read_volume(tmp_path / "s")
    assert volume.array.dtype == np.float32
    assert np.array_equal(volume.array, (files.hearts()[0][:, :, :3] + 1024.0) * 0.5 - 1024)


def test_found_in_folders_and_lists(scan, tmp_path):
    folder, _ = scan
    (found,), _ = find_unlabelled("heart", tmp_path)
    assert (found.id, found.image) == ("1.2.840.113", folder)
    assert find_unlabelled("heart", folder)[0][0].image == folder
    (tmp_path / "list.csv").write_text("image,label\npatient.1/1.2.840.113,\n")
    cases, faults = discover(HEART, None, (), tmp_path / "list.csv")
    assert [case.id for case in cases] == ["1.2.840.113"] and not faults
    row = check_data(HEART, cases, quiet=True).rows[0]
    assert (row.size, row.orientation) == ((12, 14, 10), "LPS") and row.spacing == pytest.approx((0.7, 0.8, 2.5))


def test_the_cache_follows_every_slice(scan, tmp_path, write_slice):
    folder, _ = scan
    cache, settings = Cache(tmp_path / "cache"), DataSettings(spacing=(2, 2, 2))
    before = cache.prepare(Case("x", folder), HEART, settings)
    assert cache.prepare(Case("x", folder), HEART, settings).image_entry == before.image_entry
    write_slice(folder / "IM0", np.zeros((14, 12)), (-10, 20, 30))
    assert cache.prepare(Case("x", folder), HEART, settings).image_entry != before.image_entry


def another_series(folder, write_slice):
    write_slice(folder / "IM99", np.zeros((14, 12)), (-10, 20, 55), series=generate_uid())
    return "holds 2 series"


def missing_slice(folder, write_slice):
    (folder / "IM5").unlink()
    return "slices are 2.5 to 5 mm apart, wanted one distance: are some missing?"


def doubled_slice(folder, write_slice):
    shutil.copy(folder / "IM5", folder / "IM5 (copy)")
    return "two slices lie in one place"


def one_slice(folder, write_slice):
    for path in list(folder.iterdir())[1:]:
        path.unlink()
    return "holds a single slice"


def other_file(folder, write_slice):
    (folder / "notes.txt").write_text("none")
    return "notes.txt: this is no DICOM file"


def no_place(folder, write_slice):
    one = pydicom.dcmread(folder / "IM3")
    del one.ImagePositionPatient
    one.save_as(folder / "IM3")
    return "IM3: has no ImagePositionPatient"


def other_size(folder, write_slice):
    write_slice(folder / "IM3", np.zeros((14, 13)), (-10, 20, 30 + 2.5 * 9))
    return "has another size, spacing or direction"


def several_frames(folder, write_slice):
    one = pydicom.dcmread(folder / "IM3")
    one.NumberOfFrames = 3
    one.save_as(folder / "IM3")
    return "IM3: holds several frames"


def cut_short(folder, write_slice):
    path = folder / "IM3"
    path.write_bytes(path.read_bytes()[:-100])
    return "IM3: its pixels cannot be read"


def sheared(folder, write_slice):
    for z in range(10):
        write_slice(folder / f"IM{(7 * z) % 10}", np.zeros((14, 12)), (-10, 20 + (z % 2), 30 + 2.5 * z))
    return "slices are shifted against each other"


FAULTS = [another_series, missing_slice, doubled_slice, one_slice, other_file, no_place, other_size, several_frames,
          cut_short, sheared]  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_each_fault_has_its_sentence(fault, scan, write_slice):
    message = fault(scan[0], write_slice)
    with pytest.raises(DataError) as caught:
        read_volume(scan[0])
    assert message in str(caught.value) and str(scan[0]) in str(caught.value)


def test_without_pydicom_it_says_what_to_install(scan, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pydicom", None)
    with pytest.raises(DataError, match=r"reading DICOM needs pydicom: pip install 'clustercl\[dicom\]'"):
        read_volume(scan[0])
