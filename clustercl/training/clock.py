"""How much of the time of training is spent waiting for data."""

from contextlib import contextmanager
from time import monotonic


class Clock:
    """The share of the time of steps, without validation and saving, that was spent waiting for batches.

    The first batch of all is left out: nothing runs yet that it could be drawn beside.
    """

    def __init__(self):
        self.steps, self.seconds, self.waited, self.began = 0, 0.0, 0.0, monotonic()

    @contextmanager
    def waiting(self):
        began = monotonic()
        yield
        self.steps += 1
        if self.steps == 1:
            self.began = monotonic()
        else:
            self.waited += monotonic() - began

    @contextmanager
    def stopped(self):
        self.pause()
        yield
        self.go_on()

    def pause(self) -> None:
        self.seconds += monotonic() - self.began

    def go_on(self) -> None:
        self.began = monotonic()

    @property
    def share(self) -> float:
        return self.waited / max(self.seconds, 1e-9)
