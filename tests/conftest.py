"""Fixtures that every part of the suite shares."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def root() -> Path:
    """The root of the source tree."""
    return ROOT


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory):
    """Prepared images of the tests stay among their temporary files, for commands that they start too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLUSTERCL_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def write_slice():
    """write_slice(path, values, place): a slice of a CT as DICOM, values (rows, columns) in HU, its corner at place."""
    import numpy as np
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

    one_series = generate_uid()

    def write(path, values, place, direction=(1, 0, 0, 0, 1, 0), spacing=(0.8, 0.7), series=one_series, **more):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, generate_uid()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        one = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
        one.SOPClassUID, one.SOPInstanceUID, one.SeriesInstanceUID = CTImageStorage, generate_uid(), series
        one.Modality, one.Rows, one.Columns = "CT", *values.shape
        one.ImagePositionPatient, one.ImageOrientationPatient = list(map(float, place)), list(map(float, direction))
        one.PixelSpacing = list(map(float, spacing))
        one.RescaleSlope, one.RescaleIntercept = 1, -1024
        one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
        one.BitsAllocated, one.BitsStored, one.HighBit, one.PixelRepresentation = 16, 16, 15, 0
        one.PixelData = (values + 1024).astype(np.uint16).tobytes()
        for name, value in more.items():
            setattr(one, name, value)
        path.parent.mkdir(parents=True, exist_ok=True)
        one.save_as(path)

    return write


@pytest.fixture
def clustercl(tmp_path):
    """Run the `clustercl` command in a process of its own: clustercl("info", "--json") -> CompletedProcess."""

    def call(*arguments, timeout: float = 600, **options) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, "-m", "clustercl", *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=timeout,
            cwd=options.pop("cwd", tmp_path),
            **options,
        )

    return call
