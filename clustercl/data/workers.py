"""Threads for work on many files: reading and decoding leave Python's lock alone most of the time."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from clustercl.errors import ClusterclError, RunError
from clustercl.progress import track

Item, Result = TypeVar("Item"), TypeVar("Result")
MAX_THREADS = 4  # a photograph of 6000 x 4000 pixels takes some 170 MB while it is read
MAX_HEAVY = 3  # a CT of 512 x 512 x 360 takes some 1.5 GB while it is resampled


def in_threads(
    work: Callable[[Item], Result],
    items: Sequence[Item],
    label: str,
    unit: str = "it",
    quiet: bool = False,
    workers: int | None = None,
    heavy: bool = False,
) -> list[Result]:
    """[work(item) for item in items], several at a time; the first that fails, in order, raises and ends it.

    workers: threads, 0 for none but the caller's; by default one per core, up to 4, or up to 3 of `heavy` work. What is
    raised that is no error of ours comes as a RunError that names the item: the first message on the terminal.
    """

    def named(item: Item) -> Result:
        try:
            return work(item)
        except ClusterclError:
            raise
        except MemoryError:
            raise RunError(f"{label}: {_name(item)}: there is not enough memory for it: end other programs, or take "
                           "fewer --workers where the command has that option") from None  # fmt: skip
        except Exception as error:
            raise RunError(f"{label}: {_name(item)}: {type(error).__name__}: {error}") from error

    if workers == 0:
        return [named(item) for item in track(items, label, unit=unit, quiet=quiet)]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    pool = ThreadPoolExecutor(workers or min(cores, MAX_HEAVY if heavy else MAX_THREADS))
    try:
        jobs = [pool.submit(named, item) for item in items]
        return [job.result() for job in track(jobs, label, unit=unit, quiet=quiet)]
    finally:
        pool.shutdown(cancel_futures=True)


def _name(item) -> str:
    return str(getattr(item, "image", item))
