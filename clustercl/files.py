"""Writing files so that a kill at any moment leaves either the old file or the new one, never half of one."""

import csv
import errno
import json
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from clustercl.errors import RunError
from clustercl.owner import is_left, owner
from clustercl.progress import say

PLAN = ".plan.json"
SMALL = 1 << 20  # bytes left on a disk that is full


@contextmanager
def atomic(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside `path` with the same ending; renamed onto it on success, removed on failure.

    RunError where the disk is full; what `path` held before is still there then.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The ending stays last because nibabel and numpy choose the format by it.
    aside = path.with_name(f".{owner()}.{threading.get_native_id()}.{path.name}")
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
def atomic_folder(
    folder: Path | str, last: str, replaces: Callable[[Path], Iterable[Path]] = lambda folder: ()
) -> Iterator[Path]:
    """Yield an empty folder inside `folder`; on success its files are renamed to their places in `folder`, the one
    called `last` after all others. On failure nothing is left, no folder either that was not there before.

    `replaces` names the files of `folder` that go in exchange, once the new ones are there; those that it names and
    that are new stay. A kill leaves all that was there before, or what `finish_folder` puts in its place: the next one
    in the same folder calls it.
    """
    folder = Path(folder)
    is_new = not folder.exists()
    aside = folder / f".{owner()}.clustercl"
    whole = folder / f".{owner()}.whole.clustercl"
    try:
        finish_folder(folder)
        aside.mkdir(parents=True)
        yield aside
        new = {path.relative_to(aside) for path in aside.rglob("*")}
        goes = sorted({path.relative_to(folder) for path in replaces(folder)} - new)
        write_json(aside / PLAN, {"last": last, "goes": [str(path) for path in goes]})
        os.replace(aside, whole)
        _put_in_place(whole)
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


def finish_folder(folder: Path | str) -> None:
    """What kills left of `atomic_folder`: files that were complete are put in place, which is said, others go."""
    for left in Path(folder).glob(".*.clustercl"):
        if not is_left(left):
            continue
        if left.name.endswith(".whole.clustercl") and not _is_older(left):
            _put_in_place(left)
            say(f"{folder}: what was complete when it was stopped is in its place now")
        else:
            shutil.rmtree(left, ignore_errors=True)


def awaits_its_place(folder: Path | str) -> bool:
    """Whether this process ended an `atomic_folder` there while the files, all of them written, went to their places:
    `finish_folder` of the next one will move what is left."""
    return (Path(folder) / f".{owner()}.whole.clustercl").exists()


def _put_in_place(whole: Path) -> None:
    """Start again after a kill at any moment, it ends with the same files."""
    folder = whole.parent
    if (whole / PLAN).is_file():
        plan = read_json(whole / PLAN)
        last = plan["last"]
        if (whole / last).exists():
            (folder / last).unlink(missing_ok=True)  # no kill must leave it beside files of another time
            for path in (folder / name for name in plan["goes"]):
                path.unlink(missing_ok=True)
                with suppress(OSError):  # it holds other files
                    path.parent.rmdir()
            files = sorted(whole.rglob("*"), key=lambda path: path == whole / last)
            for path in (path for path in files if path != whole / PLAN):
                place = folder / path.relative_to(whole)
                if path.is_dir():
                    place.mkdir(exist_ok=True)
                else:
                    os.replace(path, place)
    shutil.rmtree(whole, ignore_errors=True)


def _is_older(whole: Path) -> bool:
    """Whether another machine, which let it lie, has put something newer in its place."""
    try:
        plan = whole / PLAN
        return (whole.parent / read_json(plan)["last"]).stat().st_mtime > plan.stat().st_mtime
    except OSError:
        return False


def _no_space(path: Path) -> RunError:
    return RunError(f"{path}: cannot be written, the disk is full: what was there before is kept; free some space, "
                    "then the same command goes on")  # fmt: skip


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


def read_rows(path: Path) -> list[dict]:
    """The rows of a metrics.jsonl, none where it does not exist; a row that a kill cut short is left out."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return rows


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

    # An open file, as torch would write the name of `aside`, with this process' number, into what it saves.
    with atomic(path) as aside, open(aside, "wb") as file:
        torch.save(content, file)
