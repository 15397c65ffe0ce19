"""One DICOM series per folder, as scanners export CT: slices put in order by where they lie, values rescaled to HU."""

from pathlib import Path

import numpy as np

from clustercl.errors import DataError, one_line

APART = 0.01  # share of the distance of slices by which distances may differ, and mm by which rows may


def holds_series(folder: Path) -> bool:
    """Whether a folder looks like one: its first visible file is DICOM by its ending or by what it says of itself."""
    files = _files(folder)
    if not files:
        return False
    if files[0].suffix.lower() in (".dcm", ".dicom", ".ima"):
        return True
    with open(files[0], "rb") as file:
        return file.read(132)[128:] == b"DICM"


def read_series(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Array (x, y, z) in rescaled units and affine (4, 4) to mm in RAS. DataError naming the folder or file."""
    slices = _headers(folder)
    first = slices[0]
    across, down = np.array(first.ImageOrientationPatient, np.float64).reshape(2, 3)
    normal = np.cross(across, down)
    slices.sort(key=lambda one: float(np.dot(one.ImagePositionPatient, normal)))
    places = np.array([one.ImagePositionPatient for one in slices], np.float64)
    step = _step(folder, places, normal)
    planes = [_plane(folder, one) for one in slices]
    rows, columns = (float(value) for value in first.PixelSpacing)
    affine = np.eye(4)
    affine[:3, :3] = np.stack([across * columns, down * rows, step], axis=1)
    affine[:3, 3] = places[0]
    affine[:2] *= -1  # DICOM counts to the left and back, NIfTI to the right and front
    return np.stack(planes, axis=-1).transpose(1, 0, 2), affine


def _files(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.iterdir()
        if path.is_file() and not path.name.startswith(".") and path.name != "DICOMDIR"
    )


def _headers(folder: Path) -> list:
    """The slices of the folder's one series, pixels not read yet; all with a place, of one size and direction."""
    try:
        from pydicom import dcmread
        from pydicom.errors import InvalidDicomError
    except ImportError:
        raise DataError(f"{folder}: reading DICOM needs pydicom: pip install 'clustercl[dicom]'") from None
    slices = []
    for path in _files(folder):
        try:
            slices.append(dcmread(path, defer_size="1 KB"))
        except (InvalidDicomError, OSError, EOFError, ValueError) as error:
            raise DataError(f"{path}: this is no DICOM file, or it is broken ({one_line(error)}): keep one series and "
                            "nothing else in a folder") from None  # fmt: skip
    if not slices:
        raise DataError(f"{folder}: no DICOM file in this folder")
    for one in slices:
        for name in ("SeriesInstanceUID", "ImageOrientationPatient", "ImagePositionPatient", "PixelSpacing"):
            if name not in one:
                raise DataError(f"{one.filename}: has no {name}, so its slice has no place: is it a slice of a volume?")
        if int(one.get("NumberOfFrames", 1)) > 1:
            raise DataError(f"{one.filename}: holds several frames: convert it to NIfTI, as by dcm2niix")
    series = sorted({str(one.SeriesInstanceUID) for one in slices})
    if len(series) > 1:
        raise DataError(f"{folder}: holds {len(series)} series: wanted one in a folder of its own")
    first = slices[0]
    for one in slices:
        size = (one.get("Rows"), one.get("Columns")) == (first.get("Rows"), first.get("Columns"))
        turned = np.abs(np.subtract(one.ImageOrientationPatient, first.ImageOrientationPatient, dtype=np.float64)).max()
        if not size or turned > 1e-4 or list(one.PixelSpacing) != list(first.PixelSpacing):
            raise DataError(f"{one.filename}: has another size, spacing or direction than {first.filename}: is it of "
                            "this series?")  # fmt: skip
    return slices


def _step(folder: Path, places: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """From each slice to the next, mm. DataError where that differs: slices are missing, doubled or shifted."""
    if len(places) == 1:
        raise DataError(f"{folder}: holds a single slice, wanted the whole series")
    steps = np.diff(places, axis=0)
    along = steps @ normal
    if along.min() <= 0:
        raise DataError(f"{folder}: two slices lie in one place: keep one series in a folder")
    typical = np.median(along)
    wrong = np.abs(along - typical) > APART * typical
    if wrong.any():
        raise DataError(f"{folder}: slices are {along.min():.4g} to {along.max():.4g} mm apart, wanted one distance: "
                        "are some missing?")  # fmt: skip
    step = (places[-1] - places[0]) / (len(places) - 1)
    if np.abs(places - (places[0] + np.arange(len(places))[:, None] * step)).max() > max(APART, APART * typical):
        raise DataError(f"{folder}: slices are shifted against each other: convert the series to NIfTI")
    return step


def _plane(folder: Path, one) -> np.ndarray:
    """The values of a slice (rows, columns): int16 where rescaling leaves whole numbers, else float32."""
    try:
        stored = one.pixel_array
    except Exception as error:  # pydicom's decoders raise what they like
        why = one_line(error)[:160]
        raise DataError(f"{one.filename}: its pixels cannot be read ({why}): copy the file again, or convert the "
                        "series to NIfTI, as by dcm2niix") from None  # fmt: skip
    if stored.ndim != 2:
        raise DataError(f"{one.filename}: wanted one value per pixel, got shape {stored.shape}")
    slope, intercept = float(one.get("RescaleSlope", 1)), float(one.get("RescaleIntercept", 0))
    values = stored.astype(np.float64) * slope + intercept
    whole = slope == round(slope) and intercept == round(intercept) and np.abs(values).max(initial=0) <= 32767
    return values.astype(np.int16 if whole else np.float32)
