"""Processes that wait for others to start: they can be ended at once, and nobody waits for ever."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

PROGRAM = """
import os, sys, time
from lightning_fabric.strategies import DDPStrategy
from clustercl.training import rendezvous
from clustercl.training.config import resolve
from clustercl.training.devices import DeviceRequest
from clustercl.training.launch import start_fabric
rendezvous.SECONDS = float(sys.argv[1])
if "late" in sys.argv and not int(os.environ.get("LOCAL_RANK", 0)):
    DDPStrategy.setup_environment = lambda self: time.sleep(1000)  # it has started the second, and never comes
start_fabric(DeviceRequest("cpu", processes=2), resolve("skin", "tiny"))
"""


def waiting(arguments: list, log: Path, **options) -> subprocess.Popen:
    """Started, and come as far as to say that it waits."""
    with open(log, "w") as file:
        process = subprocess.Popen([sys.executable, *arguments], stderr=file, start_new_session=True, **options)
    end = time.monotonic() + 100
    while "waiting for 2 processes" not in log.read_text() and process.poll() is None and time.monotonic() < end:
        time.sleep(0.02)
    if "waiting for 2 processes" not in log.read_text():
        os.killpg(process.pid, signal.SIGKILL)
        pytest.fail(f"it never said that it waits: {log.read_text()}")
    return process


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_signals_end_one_that_waits(tmp_path, number, srun):
    """As one of srun's, whose other ended with an error before it came."""
    arguments = ["-m", "clustercl", "train", "--task", "skin", "--device", "cpu", "--out", tmp_path / "run"]
    process = waiting(arguments, tmp_path / "log", env=srun(0))
    time.sleep(0.5)
    process.send_signal(number)
    try:
        assert process.wait(timeout=10) == -number
    finally:
        process.kill()
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_nobody_waits_for_ever(rank, srun):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "0.1"], env=srun(rank), capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 1
    assert "clustercl: waited 0 minutes for 2 processes and not all came: an error of one stands above" in done.stderr
    assert done.stderr.count("waiting for 2 processes") == (rank == 0)


@pytest.mark.slow
def test_those_that_the_first_started_end_with_it(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    process = waiting([program, "600", "late"], tmp_path / "log")
    time.sleep(1)
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=10)
    end = time.monotonic() + 60  # the second may have to import everything first
    while time.monotonic() < end:
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    pytest.fail("the second process lives on")
