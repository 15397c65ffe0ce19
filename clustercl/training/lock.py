"""One training per run folder, or shared stage: a file that names the process at work, and tells when that is gone."""

import json
import os
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path

from clustercl.errors import RunError
from clustercl.owner import owner

BEAT_SECONDS = 60.0
SILENT_SECONDS = 600.0  # without a beat, a process on another machine counts as gone


class RunLock:
    """The file `path` while it is held. Of this machine's processes it is known whether they live; others' must beat,
    but for those of the same SLURM job before it was requeued, which SLURM has ended."""

    def __init__(self, path: Path):
        self.path = path
        self._stop: threading.Event | None = None
        self._content = ""

    @property
    def held(self) -> bool:
        return self._stop is not None

    def take(self) -> None:
        """Hold it, or go on holding it. RunError naming host and process where another does."""
        if self.held:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        aside = self.path.with_name(f"{self.path.name}.{owner()}")
        own = {"host": socket.gethostname(), "pid": os.getpid(), "born": _born(os.getpid()), "job": _job()}
        self._content = json.dumps(own)
        aside.write_text(self._content)
        try:
            while True:
                try:
                    os.link(aside, self.path)  # fails where it is there, on network file systems too
                    break
                except FileExistsError:
                    self._remove_stale()
        finally:
            aside.unlink()
        self._stop = threading.Event()
        threading.Thread(target=self._beat, args=(self._stop,), daemon=True).start()

    def release(self) -> None:
        if self._stop is not None:
            self._stop.set()
            self._stop = None
            if self._is_own():
                self.path.unlink(missing_ok=True)

    def _is_own(self) -> bool:
        """A process that was suspended for long may find the lock of whoever took it for gone."""
        try:
            return self.path.read_text() == self._content
        except OSError:
            return False

    def _remove_stale(self) -> None:
        try:
            content = self.path.read_bytes()
            holder, silent = json.loads(content), time.time() - self.path.stat().st_mtime
            host, pid, born, job = holder["host"], holder["pid"], holder["born"], holder.get("job")
        except FileNotFoundError:
            return
        except (ValueError, KeyError, TypeError):  # a disk that was full
            host, pid, born, job, silent = "an unknown machine", 0, None, None, SILENT_SECONDS + 1
        here = host == socket.gethostname()
        if _born(pid) == born is not None if here else silent < SILENT_SECONDS and not _requeued(job):
            raise RunError(f"{self.path.parent}: process {pid} on {host} is at work in this run folder: wait for it, "
                           "stop it, or choose another --out")  # fmt: skip
        gone = self.path.with_name(f"{self.path.name}.{owner()}.stale")
        try:
            os.rename(self.path, gone)  # of several that find it stale, one succeeds
        except FileNotFoundError:
            return
        if gone.read_bytes() != content:  # another was faster, and this is its lock
            with suppress(FileExistsError):
                os.link(gone, self.path)
        gone.unlink()

    def _beat(self, stop: threading.Event) -> None:
        while not stop.wait(BEAT_SECONDS):
            with suppress(OSError):  # for a moment, as while another looks at it, or a network file system is silent
                if self.path.read_text() != self._content:
                    return
                os.utime(self.path)


def _job() -> list[str] | None:
    """Number of the SLURM job that this process is of, and how often SLURM had started it before; None in no job."""
    number = os.environ.get("SLURM_JOB_ID")
    return None if number is None else [number, os.environ.get("SLURM_RESTART_COUNT", "0")]


def _requeued(job: list[str] | None) -> bool:
    """Whether that is this process' own job at an earlier start. Of the same start it may be another step, at work."""
    own = _job()
    return None not in (own, job) and own[0] == job[0] and own[1] != job[1]


def _born(process: int) -> str | None:
    """When a living process of this machine began, so that a number used again is not mistaken for it; None if dead."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[19]
    except (OSError, IndexError):
        pass
    if Path("/proc/self/stat").exists():
        return None
    try:
        os.kill(process, 0)  # no Linux: alive is all that can be known
    except ProcessLookupError:
        return None
    except OSError:
        pass
    return "alive"
