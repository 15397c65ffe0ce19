"""The steps of `make gpu-check`: commands that have so long at most, and do not outlive who started them."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from clustercl.progress import say

ROOT = Path(__file__).resolve().parent.parent
STEP_SECONDS = 240
_running: set[int] = set()  # groups of processes


def step(name: str, command: list, most: float | None = None) -> dict:
    """Runs a command for at most so many seconds, STEP_SECONDS by default."""
    say(f"{name} ...")
    began = time.monotonic()
    try:
        with subprocess.Popen(
            [str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT,
            env={**os.environ, "PYTHONUNBUFFERED": "1"}, start_new_session=True,
        ) as process:  # fmt: skip
            _running.add(process.pid)
            try:
                output, _ = process.communicate(timeout=most or STEP_SECONDS)
                passed = process.returncode == 0
            except subprocess.TimeoutExpired as error:
                _end(process.pid)
                passed, output = False, f"{error}\n{process.communicate()[0]}"
            finally:
                _running.discard(process.pid)
    except OSError as error:
        passed, output = False, str(error)
    if not passed:
        say(output[-3000:])
    # The file tells nothing of this machine's folders.
    output = output.replace(str(ROOT), ".").replace(sys.prefix, "python")
    output = output[-1000:] if not passed else output.rstrip().rpartition("\n")[2]
    return {"name": name, "passed": passed, "seconds": time.monotonic() - began, "output": output}


def _end(group: int) -> None:
    """The process and what it started: a program that hangs holds the GPU."""
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def end_all(number: int, _frame=None) -> None:
    for group in list(_running):
        _end(group)
    os._exit(128 + number)  # at once: threads would go on with the next step
