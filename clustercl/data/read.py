"""Reading photographs, masks and volumes; every fault of a file is a DataError that names it."""

import gzip
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clustercl.data.cases import Case
from clustercl.data.dicom import read_series
from clustercl.data.task import Task
from clustercl.errors import DataError, one_line

AFFINE_TOLERANCE_MM = 1e-3
STRIP = 256  # rows of a picture that are copied at a time


@dataclass
class Volume:
    """array (x, y, z) as stored, with its scale factor applied; affine (4, 4) from voxel indices to mm in RAS."""

    array: np.ndarray
    affine: np.ndarray

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel size along each array axis in mm."""
        return tuple(float(value) for value in np.sqrt((self.affine[:3, :3] ** 2).sum(axis=0)))


def read_image(path: Path) -> np.ndarray:
    """A photograph as uint8 (h, w, 3), turned upright by its EXIF tag; grey, palette, CMYK and transparent pictures are
    converted, 12 and 16 bits scaled to 8."""

    def convert(picture):
        from PIL import Image

        if picture.mode.startswith("I"):  # Pillow would cut its values off at 255
            picture = Image.fromarray(_eight_bits(_pixels(picture), path))
        if picture.mode == "F":
            raise DataError(f"{path}: the image holds fractions, wanted 8 or 16 bits per channel: convert it")
        return _pixels(picture if picture.mode == "RGB" else picture.convert("RGB"))

    return _picture(path, convert)


def read_mask(path: Path, indices: bool = False) -> np.ndarray:
    """A mask as whole numbers (h, w), values as stored, of any number of bits; colour pictures become their luminance.

    Palettes become their luminance too, so that black and white are 0 and 255, or with `indices` their indices; one bit
    per pixel is 0 and 255, with `indices` 0 and 1.
    """

    def convert(picture):
        if picture.mode == "F":
            raise DataError(f"{path}: the mask holds fractions, wanted whole numbers: convert it")
        as_stored = picture.mode.startswith("I") or (indices and picture.mode in ("P", "1"))
        stored = _pixels(picture if as_stored or picture.mode == "L" else picture.convert("L"))
        return stored.astype(np.int64) if as_stored else stored

    return _picture(path, convert)


def _eight_bits(values: np.ndarray, path: Path) -> np.ndarray:
    """12 bits come in files of 16: the smallest of 8, 12 and 16 that holds the largest value is taken for the depth."""
    if values.min() < 0 or values.max() > 65535:
        raise DataError(f"{path}: the image holds values from {values.min()} to {values.max()}, wanted 8 or 16 bits "
                        "per channel: convert it")  # fmt: skip
    step = next(step for step in (1, 16, 257) if values.max() // step <= 255)
    return (values // step).astype(np.uint8)


def _pixels(picture) -> np.ndarray:
    """A writable array of a picture, strip by strip: in one piece Pillow would hold its bytes twice more meanwhile."""
    width, height = picture.size
    first = np.asarray(picture.crop((0, 0, width, 1)))
    array = np.empty((height, *first.shape[1:]), first.dtype)
    for top in range(0, height, STRIP):
        array[top : top + STRIP] = np.asarray(picture.crop((0, top, width, min(top + STRIP, height))))
    return array


def _picture(path: Path, convert: Callable) -> np.ndarray:
    from PIL import Image, ImageOps, UnidentifiedImageError

    _must_exist(path)
    try:
        with Image.open(path) as picture:
            ImageOps.exif_transpose(picture, in_place=True)  # no second copy of what need not be turned
            return convert(picture)
    except UnidentifiedImageError:
        if path.name.lower().endswith((".nii", ".nii.gz", ".dcm")):
            raise DataError(f"{path}: is a volume, wanted a photograph: choose a task, or a checkpoint, for volumes"
                            ) from None  # fmt: skip
        raise DataError(f"{path}: this is no image that can be read (JPEG, PNG, WebP, BMP, TIFF): replace it") from None
    except Image.DecompressionBombError as error:
        raise DataError(f"{path}: the image is too large to be opened safely ({one_line(error)}): shrink it") from None
    except (OSError, SyntaxError, ValueError, EOFError, zlib.error) as error:
        raise DataError(
            f"{path}: the image is broken or cut short ({one_line(error)}): copy or download it again"
        ) from None


def read_volume(path: Path) -> Volume:
    """A NIfTI volume (.nii, .nii.gz), or a folder of one DICOM series; three axes (further ones of length 1 are
    dropped), a valid affine and finite values, or DataError."""
    array, affine = read_series(path) if path.is_dir() else _read_nifti(path)
    if array.dtype.kind not in "iufb":
        raise DataError(f"{path}: wanted one real number per voxel, got data type {array.dtype}: convert the volume")
    if not array.size:
        raise DataError(f"{path}: the volume holds no voxel, its shape is {array.shape}: replace the file")
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-12:
        raise DataError(f"{path}: the affine cannot be inverted, so voxels have no place: write it again")
    if array.dtype == np.float64:
        array = array.astype(np.float32)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise DataError(f"{path}: the volume holds values that are not finite (NaN or inf): replace them")
    return Volume(array, affine)


def _read_nifti(path: Path) -> tuple[np.ndarray, np.ndarray]:
    import nibabel

    _must_exist(path)
    if not path.name.lower().endswith((".nii", ".nii.gz")):
        raise DataError(
            f"{path}: wanted a NIfTI volume (.nii or .nii.gz) or a folder of DICOM: convert it, or correct the list"
        )
    try:
        image = nibabel.load(path)
        shape = image.shape
        while len(shape) > 3 and shape[-1] == 1:  # one time point, one channel: converters write such axes
            shape = shape[:-1]
        if len(shape) != 3:
            raise DataError(f"{path}: wanted a volume with three axes, got shape {image.shape}: store each time point "
                            "or channel as a file of its own")  # fmt: skip
        if not (image.header["sform_code"] or image.header["qform_code"]):
            raise DataError(f"{path}: the header holds no affine (sform and qform codes are 0), so orientation and "
                            "spacing are unknown: write it again with its affine")  # fmt: skip
        return _voxels(path, image.dataobj).reshape(shape), np.asarray(image.affine, np.float64)
    except nibabel.filebasedimages.ImageFileError:
        raise DataError(f"{path}: this is no NIfTI file although it is named as one: replace the file") from None
    except (gzip.BadGzipFile, nibabel.spatialimages.HeaderDataError) as error:
        raise DataError(f"{path}: the file is no valid NIfTI ({one_line(error)}): replace it") from None
    except (OSError, EOFError, zlib.error, ValueError, TypeError, OverflowError, struct.error) as error:
        raise DataError(
            f"{path}: the volume is broken or cut short ({one_line(error)}): copy or download it again"
        ) from None


def _voxels(path: Path, stored) -> np.ndarray:
    """What nibabel's array proxy `stored` stands for, its scale factor applied.

    A compressed file is read to its very end, where gzip keeps the checksum and the length: the voxels alone would not
    tell of a file that lost its tail or a bit on its way. By Python's gzip, as indexed_gzip checks neither.
    """
    if not path.name.lower().endswith(".gz"):
        return np.asarray(stored)
    from nibabel.arrayproxy import ArrayProxy

    try:
        with gzip.open(path) as stream:
            about = (stored.shape, stored.dtype, stored.offset, stored.slope, stored.inter)
            array = np.asarray(ArrayProxy(stream, about, mmap=False))
            while stream.read(1 << 20):
                pass
        return array
    except gzip.BadGzipFile as error:  # its header was in order: no file of another kind, but a broken one
        raise EOFError(str(error)) from None


def read_source(case: Case, task: Task) -> np.ndarray | Volume:
    """The image of a case: uint8 (h, w, 3) for photographs, a Volume for volumes."""
    return read_image(case.image) if task.spatial_dims == 2 else read_volume(case.image)


def read_label(case: Case, task: Task, shape: tuple[int, ...], affine: np.ndarray | None) -> np.ndarray:
    """Label indices 0..k of a labelled case, uint8, in the axis order of its image of that spatial shape and affine.

    DataError where they differ from the image in size, or in affine by more than 1e-3 mm, or where a value is no class.
    """
    stored, own = read_stored_label(case, task)
    for sentence in misfits(case, (stored.shape, own), (shape, affine)):
        raise DataError(sentence)
    return task.to_index(stored, case.label)


def read_stored_label(case: Case, task: Task) -> tuple[np.ndarray, np.ndarray | None]:
    """The label of a case as it is stored, whether it fits the image or not; and, of a volume, its affine."""
    if task.spatial_dims == 2:
        return read_mask(case.label, indices=task.threshold is None), None
    label = read_volume(case.label)
    return label.array, label.affine


Extent = tuple[tuple[int, ...], np.ndarray | None]  # spatial shape and, of a volume, affine


def misfits(case: Case, label: Extent, image: Extent) -> Iterator[str]:
    """A sentence for each way in which a label lies on another grid than its image: size, affine."""
    (shape, affine), (wanted, wanted_affine) = label, image
    if shape != tuple(wanted):
        why = "replace the mask by one of the image's size"
        sizes = "x".join(map(str, shape)) + " voxels", "x".join(map(str, wanted))
        if len(wanted) == 2:
            sizes = f"{shape[1]} x {shape[0]} pixels", f"{wanted[1]} x {wanted[0]}"
            if shape == tuple(wanted)[::-1] and is_turned(case.image):
                why = "the image is turned by its EXIF tag and its mask was drawn on the unturned one: store it turned"
        yield f"{case.label}: the mask has {sizes[0]}, its image {case.image} has {sizes[1]}: {why}"
    if wanted_affine is not None:
        apart = float(np.abs(affine - wanted_affine).max())
        if apart > AFFINE_TOLERANCE_MM:
            yield (
                f"{case.label}: its affine differs from that of {case.image} by {apart:.3g} mm (at most "
                f"{AFFINE_TOLERANCE_MM:g}): resample the label onto the image, or correct its header"
            )


def is_turned(path: Path) -> bool:
    """Whether an EXIF tag tells how a photograph is to be turned."""
    from PIL import ExifTags, Image

    with Image.open(path) as picture:
        return picture.getexif().get(ExifTags.Base.Orientation, 1) != 1


def read_pair(case: Case, task: Task) -> tuple[np.ndarray | Volume, np.ndarray | None]:
    """Image and label indices (`read_source`, `read_label`) of a case; None: it has no label."""
    image = read_source(case, task)
    if case.label is None:
        return image, None
    return image, read_label(case, task, *extent(image))


def extent(image: np.ndarray | Volume) -> Extent:
    """Spatial shape and, of a volume, affine."""
    return (image.array.shape, image.affine) if isinstance(image, Volume) else (image.shape[:2], None)


def _must_exist(path: Path) -> None:
    if not path.is_file():
        raise DataError(f"{path}: no such file: check the path")
