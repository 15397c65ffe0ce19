"""Ending a run early without losing a step: SIGTERM, Ctrl-C and the time limit of a queue."""

import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

from clustercl.errors import RunError, UsageError
from clustercl.files import awaits_its_place

EXIT_CODES = {"SIGINT": 130, "SIGTERM": 143, "the time limit": 143}
KEPT_STEPS = 2  # of the longest step so far, with its validation and saving, before a time limit


class Stopped(RunError):
    """The run was told to end and did, with everything saved. exit_code as shells have it: 128 and the signal."""

    def __init__(self, reason: str, where: str):
        super().__init__(f"stopped by {reason} {where}: the same command goes on from there")
        self.exit_code = EXIT_CODES[reason]


class Interrupt:
    """While entered, listens to SIGTERM and SIGINT: within `deferred` they wait for `step` or `between`, elsewhere,
    where nothing can be lost, they end the run at once. A second Ctrl-C never waits.

    limit: seconds from now on after which the queue kills the run; None for no such limit.
    """

    def __init__(self, limit: float | None = None):
        self.deadline = None if limit is None else monotonic() + limit
        self.longest, self.began = 0.0, monotonic()
        self._asked: str | None = None
        self._deferring = False
        self._before: dict = {}

    def __enter__(self) -> "Interrupt":
        if threading.current_thread() is threading.main_thread():  # nobody else gets signals
            self._before = {one: signal.signal(one, self._told) for one in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *exc) -> None:
        for one, handler in self._before.items():
            signal.signal(one, handler)

    def _told(self, number: int, frame) -> None:
        again = self._asked is not None and number == signal.SIGINT
        if self._deferring and not again:
            self._asked = signal.Signals(number).name
        elif number == signal.SIGINT:
            raise KeyboardInterrupt
        else:
            raise Stopped("SIGTERM", "between steps")

    @contextmanager
    def deferred(self) -> Iterator[None]:
        self._deferring, self.began = True, monotonic()
        try:
            yield
        finally:
            self._deferring = False

    def step(self) -> str | None:
        """To be called after every step: why the run is to end now, if it is."""
        now = monotonic()
        self.longest, self.began = max(self.longest, now - self.began), now
        if self._asked is None and self.deadline is not None and now + KEPT_STEPS * self.longest > self.deadline:
            self._asked = "the time limit"
        return self._asked

    def between(self, where: str) -> None:
        """Stopped where a signal came too late for the last step, or the time limit is over; `where` as in "before
        stage pretrain"."""
        if self._asked is None and self.deadline is not None and monotonic() > self.deadline:
            self._asked = "the time limit"
        if self._asked is not None:
            raise Stopped(self._asked, where)


class _Told(BaseException):
    """SIGTERM came."""


@contextmanager
def cleared_up(folder: Path | None) -> Iterator[None]:
    """While entered, SIGTERM raises, so that whoever has files half written removes them; exit code 143. `folder`: that
    of an `atomic_folder` inside, which may have been complete by then."""

    def told(number: int, frame) -> None:
        raise _Told

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, told)
    try:
        yield
    except _Told:
        error = RunError("stopped by SIGTERM: nothing was written" + ("" if folder is None else f" to {folder}"))
        if folder is not None and awaits_its_place(folder):
            error = RunError(f"stopped by SIGTERM: all was written, and what is not in its place in {folder} yet is "
                             "put there by the next command for that folder")  # fmt: skip
        error.exit_code = EXIT_CODES["SIGTERM"]
        raise error from None
    finally:
        signal.signal(signal.SIGTERM, before)


def parse_limit(text: str) -> float:
    """Seconds of "90", "45m", "3h30m" or "HH:MM:SS", as queues write them. UsageError where it is none of these."""
    if clock := re.fullmatch(r"(?:(\d+)-)?(\d+):(\d\d):(\d\d)", text):
        days, hours, minutes, seconds = (int(part or 0) for part in clock.groups())
    elif units := re.fullmatch(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", text + "s" * text.isdecimal()):
        days, hours, minutes, seconds = (int(part or 0) for part in units.groups())
    else:
        days = hours = minutes = seconds = 0
    total = 86400 * days + 3600 * hours + 60 * minutes + seconds
    if not total:
        raise UsageError(f"--time-limit: wanted a time as 3h30m, 45m or 03:30:00, got {text!r}")
    return float(total)
