"""Writing files so that a kill at any moment leaves either the old file or the new one, never half of one."""

import csv
import errno
import json
import os
import shutil
import tempfile
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
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
        raise _no_space(path) from error
    finally:
        aside.unlink(missing_ok=True)


@contextmanager
def atomic_folder(folder: Path | str, last: str) -> Iterator[Path]:
    """Yield an empty folder inside `folder`; on success its files are renamed to their places in `folder`, the one
    called `last` after all others. On failure nothing is left, no folder either that was not there before.

    What a kill leaves of it is removed by the next one in the same folder.
    """
    folder = Path(folder)
    is_new = not folder.exists()
    aside = folder / f".{os.getpid()}.clustercl"
    try:
        for left in folder.glob(".*.clustercl"):
            owner = left.name.split(".")[1]
            if owner.isdecimal() and not is_alive(int(owner)):
                shutil.rmtree(left, ignore_errors=True)
        aside.mkdir(parents=True)
        yield aside
        (folder / last).unlink(missing_ok=True)  # a kill from here on must not leave it beside files of another time
        for path in sorted(aside.rglob("*"), key=lambda path: path == aside / last):
            place = folder / path.relative_to(aside)
            if path.is_dir():
                place.mkdir(exist_ok=True)
            else:
                os.replace(path, place)
    except RunError as error:
        if str(aside) not in str(error):
            raise
        raise RunError(str(error).replace(str(aside), str(folder))) from error  # the place that the user knows
    except OSError as error:
        if not disk_is_full(error, folder):
            raise
        raise _no_space(folder) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
        if is_new:
            with suppress(OSError):  # it holds files
                folder.rmdir()


def _no_space(path: Path) -> RunError:
    return RunError(f"{path}: cannot be written, the disk is full: what was there before is kept; free some space, "
                    "then the same command goes on")  # fmt: skip


def is_alive(process: int) -> bool:
    """Whether another process of this machine has that id."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return process != os.getpid()


def disk_is_full(error: Exception, folder: Path) -> bool:
    """Whether that is why writing into a folder failed; torch.save says but that a file is not as long as it should."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return shutil.disk_usage(folder).free < SMALL


def require_writable(folder: Path | str, advice: str = "choose another folder") -> None:
    """RunError, with `advice`, unless files can be written into the folder, which need not be there yet and is not
    made."""
    folder = Path(folder)
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not there.is_dir():
        raise RunError(f"{there}: is a file, wanted a folder to write into")
    try:
        with tempfile.TemporaryDirectory(prefix=".clustercl.", dir=there):
            pass
    except OSError as error:
        raise RunError(f"{folder}: cannot be written to ({error.strerror} in {there}): {advice}") from None


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
