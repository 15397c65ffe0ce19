"""The peak memory of a call, in a process of its own."""

import ctypes
import gc
import sys
from pathlib import Path


def give_back() -> None:
    """Return freed memory to the system, lest the allocator's store hides what the measured call takes."""
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError):  # glibc alone has it
        pass


def peak_megabytes(reset: bool = False) -> float:
    """The largest resident size of this process so far; `reset`: from now on, where the system can do that (Linux)."""
    try:
        if reset:
            Path("/proc/self/clear_refs").write_text("5")
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024
    except OSError:
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "linux" else 1024**2)
