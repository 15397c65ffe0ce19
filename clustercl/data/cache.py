"""Prepared images and labels on disk, made once and mapped from there by every run and process that wants them.

An entry is one file, named by what it was made from: the bytes of the source file, the settings that matter for it, and
FORMAT; so nothing can go out of date, and data that were moved or copied find their entries again. It is written aside
and renamed: processes that start at once may both make it, and either's is the same. The digest of a source file is
remembered under its path, size and time of change, so that a second run need not read the sources at all.
"""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from clustercl.data.cases import Case
from clustercl.data.prepare import Geometry, prepare_image, prepare_label
from clustercl.data.settings import DataSettings
from clustercl.data.task import Task
from clustercl.data.workers import in_threads
from clustercl.errors import RunError
from clustercl.files import atomic
from clustercl.progress import track

FORMAT = 2  # raise it when prepare.py makes something else of the same file
HEADER = 4096  # bytes before the array: one page, so that the array can be mapped
KINDS = ("image", "label", "digest")


def cache_folder() -> Path:
    """$CLUSTERCL_CACHE, or clustercl in $XDG_CACHE_HOME or ~/.cache."""
    if given := os.environ.get("CLUSTERCL_CACHE"):
        return Path(given)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "clustercl"
    except RuntimeError:  # a user without a home, as in some containers
        raise RunError("there is no home folder for the cache of prepared images: name a folder in the variable "
                       "CLUSTERCL_CACHE") from None  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """An array in a file of the cache."""

    path: Path
    shape: tuple[int, ...]
    dtype: str

    def tensor(self) -> torch.Tensor:
        """The array, mapped: what is looked at is read. Never to be written to.

        RunError where the entry is gone or was cut short.
        """
        try:
            # Copy on write: torch wants memory that might be written to, and the file stays as it is.
            return torch.from_numpy(np.memmap(self.path, self.dtype, "c", HEADER, self.shape))
        except (OSError, ValueError) as error:
            raise RunError(f"{self.path}: this part of the cache is gone or broken ({error}): start the command again, "
                           "it makes it anew") from None  # fmt: skip


@dataclass(frozen=True)
class CachedCase:
    """A case as `prepare.Prepared` has it; arrays are mapped anew at each access, so that thousands cost no memory."""

    case: Case
    geometry: Geometry
    image_entry: Entry
    label_entry: Entry | None

    @property
    def content(self) -> str:
        """The same for an image of the same bytes and settings, wherever it lies, and for no other."""
        return self.image_entry.path.name

    @property
    def image(self) -> torch.Tensor:
        return self.image_entry.tensor()

    @property
    def label(self) -> torch.Tensor | None:
        return None if self.label_entry is None else self.label_entry.tensor()


class Cache:
    """The entries in a folder, which need not be there yet."""

    def __init__(self, folder: Path | None = None):
        self.folder = cache_folder() if folder is None else folder

    def prepare(self, case: Case, task: Task, settings: DataSettings, with_label: bool = True) -> CachedCase:
        """As `prepare.prepare_case`: what is not in the cache is made and put there."""
        about = ["image", task.spatial_dims]
        about += [settings.size] if task.spatial_dims == 2 else [settings.spacing, *_intensity(settings)]
        key = self._key(case.image, about)
        entry, more = self._entry("image", key, lambda: _with_geometry(*prepare_image(case, task, settings)))
        geometry = _geometry(more["geometry"])
        label = None
        if with_label and case.label is not None:
            of_label = self._key(case.label, ["label", key, task.to_dict()])
            make = lambda: (prepare_label(case, task, geometry, entry.shape[1:]), {})  # noqa: E731
            label, _ = self._entry("label", of_label, make)
        return CachedCase(case, geometry, entry, label)

    def clean(self) -> tuple[int, int]:
        """Remove the entries; what else lies in the folder stays. How many, and bytes with the digests'.

        RunError where one cannot be removed.
        """
        count = size = 0
        parts = [part for kind in KINDS for part in sorted((self.folder / kind).glob("*/"))]
        for part in track(parts, "removing", unit="folder"):
            for file in part.glob("*"):  # of a folder that is gone, nothing
                try:
                    bytes_there = file.stat().st_size
                    file.unlink()
                except FileNotFoundError:  # somebody else removes them too
                    continue
                except OSError as error:
                    raise RunError(f"{file}: cannot be removed from the cache ({error.strerror})") from error
                size += bytes_there
                count += part.parent.name != "digest"
            with suppress(OSError):  # a run is writing to it
                part.rmdir()
        for folder in (*(self.folder / kind for kind in KINDS), self.folder):
            with suppress(OSError):  # what is not the cache's lies in it
                folder.rmdir()
        return count, size

    def _entry(self, kind: str, key: str, make: Callable[[], tuple[torch.Tensor, dict]]) -> tuple[Entry, dict]:
        path = self.folder / kind / key[:2] / key
        header = _header(path)
        if header is None:
            tensor, more = make()
            array = np.ascontiguousarray(tensor.numpy())
            header = {"shape": array.shape, "dtype": array.dtype.str, **more}
            self._write(path, json.dumps(header).encode().ljust(HEADER), array)
        return Entry(path, tuple(header["shape"]), header["dtype"]), header

    def _key(self, source: Path, about: Sequence) -> str:
        return _hash(json.dumps([FORMAT, *about, self._digest(source)], sort_keys=True).encode())

    def _digest(self, source: Path) -> str:
        """Of the bytes of a file, or of all files of a folder; what cannot be read has none: its reader says why."""
        if source.is_dir():
            inner = sorted(path for path in source.iterdir() if path.is_file())
            return _hash("".join(self._digest(path) for path in inner).encode())
        try:
            state = source.stat()
            known = _hash(f"{source.resolve()}\0{state.st_size}\0{state.st_mtime_ns}".encode())
            path = self.folder / "digest" / known[:2] / known
            if path.is_file() and len(text := path.read_text()) == 32:
                return text
            with open(source, "rb") as file:
                digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
        except OSError:
            return "unreadable"
        self._write(path, digest.encode())
        return digest

    def _write(self, path: Path, head: bytes, array: np.ndarray | None = None) -> None:
        try:
            with atomic(path) as aside, open(aside, "wb") as file:
                file.write(head)
                if array is not None:
                    file.write(array.data)
        except OSError as error:
            raise RunError(f"{self.folder}: the cache of prepared images cannot be written ({error.strerror}): make "
                           "room, or name another folder in the variable CLUSTERCL_CACHE") from None  # fmt: skip


def prepare_cached(
    cases: Sequence[Case],
    task: Task,
    settings: DataSettings,
    with_label: bool = True,
    label: str = "reading",
    quiet: bool = False,
    workers: int | None = None,
) -> list[CachedCase]:
    """`Cache.prepare` for all, in threads, in the given order; the first case in order that fails raises its error."""
    cache = Cache()

    def prepare(case: Case) -> CachedCase:
        return cache.prepare(case, task, settings, with_label)

    return in_threads(prepare, cases, label, "case", quiet, workers, heavy=task.spatial_dims == 3)


def _header(path: Path) -> dict | None:
    """What an entry says of itself; None where there is none, or not the whole of it."""
    try:
        with open(path, "rb") as file:
            header = json.loads(file.read(HEADER))
            size = os.fstat(file.fileno()).st_size
        array = int(np.prod(header["shape"], dtype=np.int64)) * np.dtype(header["dtype"]).itemsize
        return header if size == HEADER + array else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _with_geometry(image: torch.Tensor, geometry: Geometry) -> tuple[torch.Tensor, dict]:
    affine = None if geometry.affine is None else geometry.affine.tolist()
    return image, {"geometry": {"shape": geometry.shape, "affine": affine, "spacing": geometry.spacing}}


def _geometry(plain: dict) -> Geometry:
    affine = None if plain["affine"] is None else np.array(plain["affine"])
    return Geometry(tuple(plain["shape"]), affine, tuple(plain["spacing"]))


def _intensity(settings: DataSettings) -> list:
    return [settings.intensity, settings.hu_window] if settings.intensity in ("auto", "hu") else [settings.intensity]


def _hash(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()
