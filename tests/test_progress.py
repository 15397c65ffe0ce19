"""When progress is printed where there is no terminal, and that it never is where there is no stream."""

import sys

import pytest

from clustercl import progress
from clustercl.progress import Progress, say


@pytest.fixture
def clock(monkeypatch):
    """clock.now: the seconds that time.monotonic gives."""

    class Clock:
        now = 100.0

        def monotonic(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def counts(clock, capsys, seconds):
    """Counts of the lines that work of one item after each of so many seconds prints, and at its end."""
    clock.now = 100.0
    with Progress("work", len(seconds), "step") as shown:
        for second in seconds:
            clock.now = 100.0 + second
            shown.update()
    return [int(line.split()[1].partition("/")[0]) for line in capsys.readouterr().err.splitlines()]


def test_the_first_line_comes_after_two_seconds_then_one_every_five(clock, capsys):
    assert counts(clock, capsys, range(1, 14)) == [2, 7, 12, 13]


def test_the_last_line_is_printed_once(clock, capsys):
    assert counts(clock, capsys, [1, 3, 8]) == [2, 3]
    assert counts(clock, capsys, [1, 2.5, 4]) == [2, 3]


def test_an_item_that_takes_long_tells_what_is_being_done(clock, capsys):
    with Progress("work", 2, "case") as shown:
        tell = shown.about("a")
        for second, doing in ((1, "reading"), (4, "measuring x"), (5, "measuring y"), (12, "measuring z")):
            clock.now = 100.0 + second
            tell(doing)
        clock.now = 120.0
        shown.update(note="")
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(", ")[-1] for line in lines] == ["a: measuring x", "a: measuring z", "20 s left"]
    assert lines[0] == "work: 0/2 case, 0 case/s, time left unknown, a: measuring x"


def test_short_work_prints_nothing(clock, capsys):
    assert counts(clock, capsys, [0.5, 1, 1.9]) == []


def test_a_closed_stream_is_silent(clock, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    say("hello")
    with Progress("work", 2) as shown:
        clock.now += 9
        shown.update()
    assert capsys.readouterr().out == ""  # where print puts what is for a file that is None
