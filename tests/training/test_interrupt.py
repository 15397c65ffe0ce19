"""Signals, time limits and locks: nothing is lost, and nobody works in a folder that is in use."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from clustercl.errors import RunError, UsageError
from clustercl.training import lock
from clustercl.training.interrupt import Interrupt, Stopped, parse_limit
from clustercl.training.lock import SILENT_SECONDS, RunLock


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("45m", 2700), ("3h30m", 12600), ("1d2h", 93600), ("03:30:00", 12600),
     ("2-00:00:10", 172810)],
)  # fmt: skip
def test_time_limits(text, seconds):
    assert parse_limit(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "soon", "3:30", "-5m", "1h30"])
def test_what_is_no_time(text):
    with pytest.raises(UsageError, match=r"--time-limit: wanted a time as 3h30m, 45m or 03:30:00"):
        parse_limit(text)


def test_signals_wait_for_the_step_and_no_longer():
    with Interrupt() as interrupt:
        with interrupt.deferred():
            os.kill(os.getpid(), signal.SIGTERM)
            assert interrupt.step() == "SIGTERM"
        with pytest.raises(Stopped) as caught:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(1)
        assert caught.value.exit_code == 143
    with Interrupt() as interrupt, pytest.raises(KeyboardInterrupt), interrupt.deferred():
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupt.step() == "SIGINT"
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_limit_leaves_time_for_two_steps():
    interrupt = Interrupt(limit=0.5)
    with interrupt.deferred():
        time.sleep(0.1)
        assert interrupt.step() is None
        time.sleep(0.25)  # two more such steps would end behind the limit
        assert interrupt.step() == "the time limit"
    with pytest.raises(Stopped, match=r"stopped by the time limit before stage pretrain: the same command goes on"):
        Interrupt(limit=-1.0).between("before stage pretrain")
    Interrupt().between("before stage pretrain")


def test_a_signal_after_the_last_step_ends_the_run_before_the_next_stage():
    with Interrupt() as interrupt:
        with interrupt.deferred():  # as a stage's last validation and saving
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.1)
        with pytest.raises(Stopped, match=r"stopped by SIGTERM before stage clusters: the same") as told:
            interrupt.between("before stage clusters")
        assert told.value.exit_code == 143


def test_a_folder_is_held_once(tmp_path):
    first, second = RunLock(tmp_path / "run/.lock"), RunLock(tmp_path / "run/.lock")
    first.take()
    first.take()
    with pytest.raises(RunError, match=rf"run: process {os.getpid()} on {socket.gethostname()} is at work in this run"):
        second.take()
    second.release()  # never held: nothing to give back
    assert (tmp_path / "run/.lock").exists()
    first.release()
    second.take()
    second.release()
    assert not list((tmp_path / "run").iterdir())


def test_a_lock_that_somebody_took_over_is_left_to_them(tmp_path):
    """As of a process that was suspended for longer than SILENT_SECONDS, seen from another machine."""
    lock, other = RunLock(tmp_path / ".lock"), json.dumps(stale_pid() | {"host": "elsewhere"})
    lock.take()
    lock.path.write_text(other)
    lock.release()
    assert lock.path.read_text() == other


def test_a_lock_that_cannot_be_read_for_a_moment_beats_on(tmp_path, monkeypatch):
    """Or another machine took it for gone while its training goes on."""
    monkeypatch.setattr(lock, "BEAT_SECONDS", 0.05)
    held = RunLock(tmp_path / ".lock")
    held.take()
    held.path.rename(tmp_path / "aside")
    time.sleep(0.3)
    os.utime(tmp_path / "aside", (0, 0))
    (tmp_path / "aside").rename(held.path)
    until = time.monotonic() + 10
    while held.path.stat().st_mtime == 0 and time.monotonic() < until:
        time.sleep(0.05)
    assert held.path.stat().st_mtime > 0
    held.release()


def stale_pid() -> dict:
    done = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    return {"host": socket.gethostname(), "pid": int(done.stdout), "born": "1"}


def slurm(monkeypatch, job: str | None, restarts: str | None) -> None:
    """The variables of a SLURM job, of none where they are None."""
    for name, value in (("SLURM_JOB_ID", job), ("SLURM_RESTART_COUNT", restarts)):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    "content", ["dead", "number used again", "other machine", "requeued", "first start requeued", "cut short"]
)
def test_stale_locks_are_taken_over(tmp_path, content, monkeypatch):
    path = tmp_path / ".lock"
    if content == "dead":
        path.write_text(json.dumps(stale_pid()))
    elif content == "number used again":
        path.write_text(json.dumps({"host": socket.gethostname(), "pid": os.getppid(), "born": "1"}))
    elif content == "other machine":
        path.write_text(json.dumps({"host": "elsewhere", "pid": 1, "born": "1"}))
        with pytest.raises(RunError, match=r"process 1 on elsewhere is at work"):
            RunLock(path).take()  # it may well be alive
        old = time.time() - SILENT_SECONDS - 1
        os.utime(path, (old, old))
    elif content == "requeued":
        before = {"host": "elsewhere", "pid": 1, "born": "1", "job": ["77", "1"]}
        path.write_text(json.dumps(before))
        # Another job; none; and another step of this very start, which may well be alive.
        for job, restarts in (("78", "2"), (None, None), ("77", "1")):
            slurm(monkeypatch, job, restarts)
            with pytest.raises(RunError, match=r"process 1 on elsewhere is at work"):
                RunLock(path).take()
        slurm(monkeypatch, "77", "2")
    elif content == "first start requeued":  # as the lock itself has written it, before there was a count
        slurm(monkeypatch, "77", None)
        first = RunLock(path)
        first.take()
        before = json.loads(path.read_text())
        first.release()
        path.write_text(json.dumps(before | {"host": "elsewhere"}))
        slurm(monkeypatch, "77", "1")
    else:
        path.write_text('{"host": "a')
    second = RunLock(path)
    second.take()
    assert json.loads(path.read_text())["pid"] == os.getpid()
    second.release()
    assert not list(tmp_path.iterdir())


def test_of_two_that_find_a_lock_stale_one_gets_it(tmp_path, monkeypatch):
    path = tmp_path / ".lock"
    path.write_text(json.dumps(stale_pid()))
    alive = {"host": socket.gethostname(), "pid": os.getppid(), "born": lock._born(os.getppid())}
    real = os.rename

    def late(source, target):
        """Meanwhile another has taken it over."""
        path.write_text(json.dumps(alive))
        monkeypatch.undo()
        real(source, target)

    monkeypatch.setattr(lock.os, "rename", late)
    with pytest.raises(RunError, match=rf"process {os.getppid()} on .* is at work in this run folder"):
        RunLock(path).take()
    assert json.loads(path.read_text()) == alive and [*tmp_path.iterdir()] == [path]
