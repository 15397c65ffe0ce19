"""Progress and log lines on standard error: a bar on a terminal, plain lines in a log file."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import TypeVar

T = TypeVar("T")
SECONDS_TO_FIRST_LINE, SECONDS_BETWEEN_LINES = 2.0, 5.0


def _on_terminal() -> bool:
    return sys.stderr is not None and sys.stderr.isatty()


def say(text: str) -> None:
    """Print one log line to standard error, above a bar that may be running; nothing where it is closed."""
    if _on_terminal():
        from tqdm import tqdm

        tqdm.write(text, file=sys.stderr)
    elif sys.stderr is not None:  # None is what a closed one is, and print takes standard output for it
        print(text, file=sys.stderr, flush=True)


@cache
def say_once(text: str) -> None:
    """Say it the first time only."""
    say(text)


class Progress:
    """Counts work that takes longer than two seconds.

    On a terminal a tqdm bar; elsewhere a line after two seconds and then now and then, with count, rate and time left.
    `note` is shown behind it.
    """

    def __init__(self, label: str, total: int, unit: str = "it", start: int = 0, quiet: bool = False):
        self.label, self.total, self.unit, self.start, self.quiet = label, total, unit, start, quiet
        self.count, self.note, self.bar = start, "", None
        self.began = time.monotonic()
        self.next_line, self.told = self.began + SECONDS_TO_FIRST_LINE, None  # told: the count of the last line
        if not quiet and _on_terminal():
            from tqdm import tqdm

            self.bar = tqdm(desc=label, total=total, unit=unit, initial=start, file=sys.stderr, dynamic_ncols=True)

    def update(self, amount: int = 1, note: str | None = None) -> None:
        self.count += amount
        if note is not None:
            self.note = note
        if self.bar is not None:
            if note is not None:
                self.bar.set_postfix_str(note, refresh=not amount)
            self.bar.update(amount)
        elif not self.quiet and time.monotonic() >= self.next_line:
            self._line()

    def about(self, name: str) -> Callable[[str], None]:
        """What tells, of the item in work, what is being done with it: a whole CT may take minutes."""
        return lambda doing: self.update(0, f"{name}: {doing}")

    def _line(self) -> None:
        now = time.monotonic()
        self.next_line, self.told = now + SECONDS_BETWEEN_LINES, self.count
        rate = (self.count - self.start) / max(now - self.began, 1e-9)
        left = f"{(self.total - self.count) / rate:.0f} s left" if rate > 0 else "time left unknown"
        note = f", {self.note}" if self.note else ""
        say(f"{self.label}: {self.count}/{self.total} {self.unit}, {rate:.3g} {self.unit}/s, {left}{note}")

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()
        elif not self.quiet and self.told != self.count and time.monotonic() - self.began >= SECONDS_TO_FIRST_LINE:
            self._line()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *exc) -> None:
        self.close()


def track(
    iterable: Iterable[T], label: str, total: int | None = None, unit: str = "it", quiet: bool = False
) -> Iterator[T]:
    """Yield from `iterable`, showing progress; `total` defaults to its length."""
    total = len(iterable) if total is None else total
    with Progress(label, total, unit, quiet=quiet) as progress:
        for item in iterable:
            yield item
            progress.update()
