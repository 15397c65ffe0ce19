"""Files as people have them, and every way in which one can be wrong."""

import gzip

import nibabel
import numpy as np
import pytest
from PIL import Image

from clustercl.data.cases import Case
from clustercl.data.read import STRIP, read_image, read_mask, read_pair, read_volume
from clustercl.data.task import get_task
from clustercl.errors import DataError

SKIN, HEART = get_task("skin"), get_task("heart")


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1", "LA"])
def test_modes_become_rgb(mode, tmp_path, files):
    grey = Image.fromarray(files.mask()).convert("RGB")
    path = tmp_path / ("x.tif" if mode == "CMYK" else "x.png")
    grey.convert(mode).save(path)
    image = read_image(path)
    assert image.shape == (20, 30, 3) and image.dtype == np.uint8
    assert np.array_equal(image[..., 1], files.mask())
    assert np.array_equal(read_mask(path), files.mask())


def test_sixteen_bits_are_scaled(tmp_path):
    Image.fromarray(np.array([[0, 257, 65535]], np.uint16)).save(tmp_path / "x.png")
    assert read_image(tmp_path / "x.png")[..., 0].tolist() == [[0, 1, 255]]


@pytest.mark.parametrize(
    ("values", "wanted"), [([0, 7, 255], [0, 7, 255]), ([0, 16, 4095], [0, 1, 255]), ([0, 257, 65535], [0, 1, 255])]
)
def test_other_depths_keep_their_range(values, wanted, tmp_path):
    Image.fromarray(np.array([values], np.uint16)).save(tmp_path / "x.png")
    assert read_image(tmp_path / "x.png")[..., 0].tolist() == [wanted]
    assert read_mask(tmp_path / "x.png").tolist() == [values]
    Image.fromarray(np.array([values], np.int32)).save(tmp_path / "x.tif")
    assert read_image(tmp_path / "x.tif")[..., 0].tolist() == [wanted]


def test_pictures_without_whole_numbers_are_refused(tmp_path):
    Image.fromarray(np.array([[0.0, 1.0]], np.float32)).save(tmp_path / "x.tif")
    with pytest.raises(DataError, match=r"x.tif: the image holds fractions, wanted 8 or 16 bits"):
        read_image(tmp_path / "x.tif")
    with pytest.raises(DataError, match=r"x.tif: the mask holds fractions"):
        read_mask(tmp_path / "x.tif")
    Image.fromarray(np.array([[-1, 70000]], np.int32)).save(tmp_path / "y.tif")
    with pytest.raises(DataError, match=r"y.tif: the image holds values from -1 to 70000"):
        read_image(tmp_path / "y.tif")


def test_masks_as_indices(tmp_path):
    """As PASCAL VOC stores them: class 1 is a dark red, whose luminance is 38."""
    palette = Image.fromarray(np.array([[0, 1]], np.uint8), mode="P")
    palette.putpalette([0, 0, 0, 128, 0, 0])
    palette.save(tmp_path / "m.png")
    assert read_mask(tmp_path / "m.png").tolist() == [[0, 38]]
    assert read_mask(tmp_path / "m.png", indices=True).tolist() == [[0, 1]]
    Image.fromarray(np.array([[False, True]])).save(tmp_path / "b.png")
    assert read_mask(tmp_path / "b.png").tolist() == [[0, 255]]
    assert read_mask(tmp_path / "b.png", indices=True).tolist() == [[0, 1]]


def test_exif_rotation(tmp_path, files):
    picture = Image.fromarray(files.photograph())
    exif = picture.getexif()
    exif[0x0112] = 6  # the camera was held so that the picture must be turned a quarter clockwise
    picture.save(tmp_path / "x.png", exif=exif)
    assert np.array_equal(read_image(tmp_path / "x.png"), np.rot90(files.photograph(), -1))


def test_broken_pictures(tmp_path, files):
    path = files.save_picture(tmp_path / "x.jpg", files.photograph(200, 300))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"x.jpg: the image is broken or cut short"):
        read_image(path)
    path.write_bytes(b"no picture at all")
    with pytest.raises(DataError, match=r"x.jpg: this is no image"):
        read_image(path)
    path.write_bytes(b"")
    with pytest.raises(DataError, match=r"x.jpg: this is no image"):
        read_image(path)
    with pytest.raises(DataError, match=r"none.jpg: no such file"):
        read_image(tmp_path / "none.jpg")


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.DCM"])
def test_a_volume_for_a_photograph_is_told_to_be_one(name, tmp_path):
    (tmp_path / name).write_bytes(b"no picture")
    with pytest.raises(DataError, match=rf"{name}: is a volume, wanted a photograph: choose a task, or a checkpoint"):
        read_image(tmp_path / name)


def test_volume(tmp_path, files):
    affine = np.diag([-0.5, -0.75, 2.0, 1.0])
    volume = read_volume(files.save_volume(tmp_path / "v.nii.gz", files.hearts()[0], affine))
    assert np.array_equal(volume.array, files.hearts()[0]) and volume.array.dtype == np.int16
    assert volume.spacing == (0.5, 0.75, 2.0)


def test_compressed_volumes_are_those_of_nibabel(tmp_path, files):
    """Read by a way of our own, to their end; several members, as of bgzip, and zeros behind them are no fault."""
    image = nibabel.Nifti2Image(files.hearts()[0], np.diag([-1.0, 2, 3, 1]))
    image.header.set_slope_inter(0.5, -3)
    nibabel.save(image, tmp_path / "v.nii.gz")
    wanted = np.asarray(nibabel.load(tmp_path / "v.nii.gz").dataobj)
    found = read_volume(tmp_path / "v.nii.gz").array
    assert np.array_equal(found, wanted) and found.flags.f_contiguous
    content = gzip.decompress((tmp_path / "v.nii.gz").read_bytes())
    (tmp_path / "W.NII.GZ").write_bytes(gzip.compress(content[:999]) + gzip.compress(content[999:]) + bytes(512))
    assert np.array_equal(read_volume(tmp_path / "W.NII.GZ").array, wanted)


def test_large_pictures_are_copied_strip_by_strip(tmp_path, files):
    picture = files.photograph(2 * STRIP + 3, 5)
    image = read_image(files.save_picture(tmp_path / "x.png", picture))
    assert np.array_equal(image, picture) and image.flags.writeable and image.flags.c_contiguous


def test_scale_factor_is_applied(tmp_path):
    image = nibabel.Nifti1Image(np.arange(8, dtype=np.int16).reshape(2, 2, 2), np.eye(4))
    image.header.set_slope_inter(2, -1000)
    nibabel.save(image, tmp_path / "v.nii")
    array = read_volume(tmp_path / "v.nii").array
    assert array.dtype == np.float32 and array.ravel().tolist() == [2 * value - 1000 for value in range(8)]


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("further", [(1,), (1, 1)])
def test_further_axes_of_length_one_are_dropped(ending, further, tmp_path, files):
    image, label = files.hearts()
    shape = image.shape + further
    paths = [files.save_volume(tmp_path / f"{name}{ending}", array.reshape(shape), np.diag([2.0, 2, 3, 1]))
             for name, array in (("image", image), ("label", label))]  # fmt: skip
    volume, index = read_pair(Case("x", *paths), HEART)
    assert np.array_equal(volume.array, image) and np.array_equal(index > 0, label > 0)
    assert volume.spacing == (2, 2, 3)


def test_wrong_volumes(tmp_path, files):
    image = files.hearts()[0]

    def error(message, path):
        with pytest.raises(DataError, match=message) as caught:
            read_volume(path)
        assert path.name in str(caught.value) and "\n" not in str(caught.value)

    error("header holds no affine", files.save_volume(tmp_path / "a.nii.gz", image, code=0))
    error(
        r"three axes, got shape \(12, 14, 10, 2\)", files.save_volume(tmp_path / "b.nii.gz", np.stack([image] * 2, 3))
    )
    error(r"three axes, got shape \(12, 14\)", files.save_volume(tmp_path / "c.nii.gz", image[..., 0]))
    bad = image.astype(np.float32)
    bad[0, 0, 0] = np.nan
    error("not finite", files.save_volume(tmp_path / "d.nii.gz", bad))
    error("data type complex", files.save_volume(tmp_path / "e.nii.gz", image.astype(np.complex64)))
    whole = files.save_volume(tmp_path / "f.nii.gz", image).read_bytes()
    (tmp_path / "f.nii.gz").write_bytes(whole[: len(whole) // 2])
    error("broken or cut short", tmp_path / "f.nii.gz")
    whole = files.save_volume(tmp_path / "f.nii", image).read_bytes()
    (tmp_path / "f.nii").write_bytes(whole[: len(whole) // 2])
    error("broken or cut short", tmp_path / "f.nii")
    (tmp_path / "g.nii.gz").write_bytes(gzip.compress(b"text"))
    error("no NIfTI file", tmp_path / "g.nii.gz")
    (tmp_path / "h.nii.gz").write_bytes(b"text that was never compressed")
    error("NIfTI", tmp_path / "h.nii.gz")
    plain = files.save_volume(tmp_path / "i.nii", image)
    plain.write_bytes(plain.read_bytes()[:1000])
    error("broken or cut short", plain)
    error("wanted a NIfTI volume", files.save_picture(tmp_path / "j.png", files.photograph()))
    flat = files.save_volume(tmp_path / "k.nii", image)
    content = bytearray(flat.read_bytes())
    content[280:328] = bytes(48)  # the three rows of the sform
    flat.write_bytes(content)
    error("cannot be inverted", flat)


def test_pair_of_photographs(tmp_path, files):
    image = files.save_picture(tmp_path / "x.png", files.photograph())
    label = files.save_picture(tmp_path / "x_mask.png", files.mask())
    picture, index = read_pair(Case("x", image, label), SKIN)
    assert np.array_equal(picture, files.photograph()) and np.array_equal(index, files.mask() // 255)
    assert read_pair(Case("x", image), SKIN)[1] is None
    files.save_picture(label, files.mask(21, 30))
    with pytest.raises(DataError, match=r"x_mask.png: the mask has 30 x 21 pixels, its image .*x.png has 30 x 20"):
        read_pair(Case("x", image, label), SKIN)
    with pytest.raises(DataError, match=r"x.nii.gz: is a volume, wanted a photograph"):
        read_pair(Case("x", files.save_volume(tmp_path / "x.nii.gz", files.hearts()[0])), SKIN)


def test_pair_of_volumes(tmp_path, files):
    image, label = files.hearts()
    case = Case("x", tmp_path / "x.nii.gz", tmp_path / "x_label.nii.gz")
    files.save_volume(case.image, image)
    files.save_volume(case.label, label)
    assert sorted(np.unique(read_pair(case, HEART)[1])) == list(range(8))
    files.save_volume(case.label, label[..., 1:])
    with pytest.raises(DataError, match=r"x_label.nii.gz: the mask has 12x14x9 voxels, .* has 12x14x10"):
        read_pair(case, HEART)
    shifted = np.eye(4)
    shifted[0, 3] = 2e-3
    files.save_volume(case.label, label, shifted)
    with pytest.raises(DataError, match=r"x_label.nii.gz: its affine differs from that of .* by 0.002 mm"):
        read_pair(case, HEART)
    shifted[0, 3] = 5e-4  # rounding of another program
    files.save_volume(case.label, label, shifted)
    read_pair(case, HEART)
    label[0, 0, 0] = 7
    files.save_volume(case.label, label)
    with pytest.raises(DataError, match=r"x_label.nii.gz: label value 7 outside"):
        read_pair(case, HEART)
