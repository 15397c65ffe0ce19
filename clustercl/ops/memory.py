"""How much memory there is, so that what cannot fit is refused before the kernel's out-of-memory killer ends it."""

from pathlib import Path


def available_bytes(root: Path = Path("/")) -> int | None:
    """What a new allocation may take: of the machine, and of the control group (container, batch job) around.

    None where neither tells (not Linux).
    """
    found = []
    if (there := _number(root / "proc/meminfo", "MemAvailable:")) is not None:
        found.append(1024 * there)
    # Control groups of version 2, then 1. Not their whole usage: files in the cache give way to an allocation.
    for folder, limit, anonymous in ((".", "memory.max", "anon"), ("memory", "memory.limit_in_bytes", "total_rss")):
        group = root / "sys/fs/cgroup" / folder
        most, taken = _number(group / limit), _number(group / "memory.stat", anonymous)
        if most is not None and taken is not None:
            found.append(most - taken)
    return max(0, min(found)) if found else None


def _number(path: Path, name: str | None = None) -> int | None:
    """The number in a file, or behind `name` in one of its lines; None where there is none ("max" means no limit)."""
    try:
        lines = [line.split() for line in path.read_text().splitlines()]
        return int(lines[0][0] if name is None else next(line[1] for line in lines if line[:1] == [name]))
    except (OSError, ValueError, IndexError, StopIteration):
        return None
