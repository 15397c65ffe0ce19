"""What every benchmark writes beside its numbers, and how it times."""

import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from clustercl.progress import say

CALM = 0.8  # share of the run's highest ceiling below which other programs had a part of the machine
PATIENCE = 10.0  # seconds to wait for them
LONG_SECONDS = 60.0


def machine(packages: tuple[str, ...]) -> dict:
    """The CPU, threads, instruction set, versions and commit that a row of numbers belongs to."""
    import torch

    from clustercl import __version__
    from clustercl.ops._extension import build_info

    return {
        "cpu": _cpu(),
        "memory_gigabytes": 1e-9 * (memory() or 0) or None,
        "threads": torch.get_num_threads(),
        "instruction_set": build_info().get("cpu"),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "commit": _commit(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {"clustercl": __version__, **{name: version(name) for name in packages}},
    }


def memory() -> int | None:
    """Bytes of memory that this machine or its container has; None where the system does not tell."""
    try:
        machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):  # not POSIX
        return None
    try:
        return min(machine, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    except (OSError, ValueError):  # no container, or "max": no limit of its own
        return machine


def last_word(done: subprocess.CompletedProcess) -> str:
    """Why a case failed in a process of its own: the last line that it said, or the signal that ended it."""
    if done.returncode < 0:
        return f"ended by {signal.Signals(-done.returncode).name}, perhaps for lack of memory"
    return (done.stderr.strip().splitlines() or ["no further word"])[-1]


def measured_calmly(case: Callable[[], dict], best: float) -> dict:
    """The row of `case`, measured again where other programs had a part of the machine, once they let go of it.

    best: the highest ceiling of this run so far, in GFLOP/s as row["ceiling"]. A row of minutes is not measured again.
    """
    from clustercl.ops._extension import fma_ceiling

    row = case()
    if row["ceiling"] < CALM * best and row.get("seconds", 0.0) < LONG_SECONDS:
        say(f"    only {row['ceiling'] / best:.0%} of the machine was free: measured again")
        began = time.monotonic()
        while 1e-9 * fma_ceiling() < CALM * best and time.monotonic() - began < PATIENCE:
            time.sleep(1)
        row = max(row, case(), key=lambda one: one["ceiling"])
    return row


def version(package: str) -> str | None:
    """Of an installed package, else None; of torch, which must be imported, with its build: +cpu or +cu130."""
    if package == "torch":
        return sys.modules[package].__version__  # the name of its wheel may lack the build
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{len(names)} x {names[0]}" if names else platform.processor()


def _commit() -> str | None:
    # Who copies the files without their repository, or with an older one, tells which commit they are of.
    if told := os.environ.get("CLUSTERCL_COMMIT"):
        return told
    here = Path(__file__).resolve().parent
    try:
        return subprocess.run(
            ["git", "describe", "--always", "--dirty"], cwd=here, capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):  # installed without its repository
        return None
