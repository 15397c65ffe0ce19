"""What every benchmark writes beside its numbers, and how it times."""

import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path


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
        "versions": {"clustercl": __version__, **{name: _version(name) for name in packages}},
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


def timed(call: Callable[[], object], repeats: int) -> dict:
    """Median, smallest and largest seconds of `repeats` calls after one that warms up."""
    call()
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - began)
    return {"seconds": statistics.median(seconds), "fastest": min(seconds), "slowest": max(seconds)}


def _version(package: str) -> str | None:
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
    here = Path(__file__).resolve().parent
    try:
        return subprocess.run(
            ["git", "describe", "--always", "--dirty"], cwd=here, capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):  # installed without its repository
        return None
