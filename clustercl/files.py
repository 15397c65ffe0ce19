"""Writing files so that a kill at any moment leaves either the old file or the new one, never half of one."""

import csv
import errno
import json
import os
import shutil
import tempfile
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from clustercl.errors import RunError

SMALL = 1 << 20  # bytes left on a disk that is full


@contextmanager
def atomic(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside `path` with the same ending; renamed onto it on success, removed on failure.

    RunError where the disk is full; what `path` held before is still there then.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The ending stays last because nibabel and numpy choose the format by it.
    aside = path.with_name(f".{os.getpid()}.{threading.get_native_id()}.{path.name}")
    try:
        yield aside
        with open(aside, "rb") as file:
            os.fsync(file.fileno())
        os.replace(aside, path)
    except (OSError, RuntimeError) as error:
        if not disk_is_full(error, path.parent):
            raise
        raise RunError(f"{path}: cannot be written, the disk is full: what was there before is kept; free some space, "
                       "then the same command goes on") from error  # fmt: skip
    finally:
        aside.unlink(missing_ok=True)


def disk_is_full(error: Exception, folder: Path) -> bool:
    """Whether that is why writing into a folder failed; torch.save says but that a file is not as long as it should."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return shutil.disk_usage(folder).free < SMALL


def require_writable(folder: Path | str) -> None:
    """RunError unless files can be written into the folder, which need not be there yet and is not made."""
    folder = Path(folder)
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not there.is_dir():
        raise RunError(f"{there}: is a file, wanted a folder to write into")
    try:
        with tempfile.TemporaryDirectory(prefix=".clustercl.", dir=there):
            pass
    except OSError as error:
        raise RunError(f"{folder}: cannot be written to ({error.strerror} in {there}): choose another folder") from None


def keep_as(path: Path, other: Path) -> None:
    """Give a file a second name, over what has it, so that the first can be replaced; where links fail, a copy."""
    with atomic(other) as aside:
        try:
            os.link(path, aside)
        except OSError:
            shutil.copyfile(path, aside)


def write_text(path: Path | str, text: str) -> None:
    with atomic(path) as aside:
        aside.write_text(text, encoding="utf-8")


def write_json(path: Path | str, content) -> None:
    write_text(path, json.dumps(content, indent=2) + "\n")


def read_json(path: Path | str):
    return json.loads(Path(path).read_text(encoding="utf-8"))


def write_csv(path: Path | str, header: Sequence[str], rows: Iterable[Sequence]) -> None:
    with atomic(path) as aside, open(aside, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)


def save_npy(path: Path | str, array) -> None:
    import numpy as np

    with atomic(path) as aside, open(aside, "wb") as file:
        np.save(file, array)


def save_torch(path: Path | str, content) -> None:
    import torch

    with atomic(path) as aside:
        torch.save(content, aside)
