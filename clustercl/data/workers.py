"""Threads for work on many files: reading and decoding leave Python's lock alone most of the time."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from clustercl.progress import track

Item, Result = TypeVar("Item"), TypeVar("Result")
MAX_THREADS = 8  # beyond that reading waits for the disk, and each thread holds a volume


def in_threads(
    work: Callable[[Item], Result], items: Sequence[Item], label: str, unit: str = "it", quiet: bool = False
) -> list[Result]:
    """[work(item) for item in items], several at a time; the first that fails, in order, raises and ends it."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    pool = ThreadPoolExecutor(min(cores, MAX_THREADS))
    try:
        jobs = [pool.submit(work, item) for item in items]
        return [job.result() for job in track(jobs, label, unit=unit, quiet=quiet)]
    finally:
        pool.shutdown(cancel_futures=True)
