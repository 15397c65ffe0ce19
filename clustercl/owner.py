"""Whose is what is not finished: named by a process and its machine, as several machines may see one folder."""

import hashlib
import os
import re
import socket
import time
from pathlib import Path

SILENT_SECONDS = 86400.0  # without a word, what a process of another machine was writing counts as left behind


def owner() -> str:
    """Names this process among those of all machines. What it has not finished is called ".OWNER." and its own name."""
    return f"{os.getpid()}-{_machine()}"


def owner_of(path: Path) -> tuple[int, str] | None:
    """Process and machine that something is named by; None where it is not named so."""
    found = re.match(r"\.(\d+)-([0-9a-f]{8})\.", path.name)
    return None if found is None else (int(found[1]), found[2])


def is_left(path: Path) -> bool:
    """Whether the owner of a file or folder left it behind: on this machine one that lives no more. One of another
    machine may live; it wrote something within a day then."""
    if (named := owner_of(path)) is None:
        return False
    process, machine = named
    if machine == _machine():
        return not is_alive(process)
    try:
        return time.time() - max(file.stat().st_mtime for file in (path, *path.rglob("*"))) > SILENT_SECONDS
    except OSError:  # it is being renamed or removed
        return False


def is_alive(process: int) -> bool:
    """Whether another process of this machine has that id."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return process != os.getpid()


def _machine() -> str:
    """Within which process numbers differ: containers have numbers of their own, maybe with one host name."""
    try:
        numbers = os.readlink("/proc/self/ns/pid")
    except OSError:  # not Linux
        numbers = ""
    return hashlib.blake2b(f"{socket.gethostname()} {numbers}".encode(), digest_size=4).hexdigest()
