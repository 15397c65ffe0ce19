"""The loss benchmark compares before it times, and writes what its numbers belong to."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from PIL import Image

from clustercl.benchmarks import loss as bench
from clustercl.benchmarks import loss_case, loss_programs, loss_show
from clustercl.benchmarks.loss_programs import PROGRAMS, Program, naive, truth
from clustercl.benchmarks.record import machine, memory
from clustercl.cli.main import run as command
from clustercl.errors import RunError
from clustercl.files import read_json
from clustercl.reference import pseudo_class_nt_xent as reference


@pytest.fixture
def only():
    """only({name: program, ...}) puts these in the place of all programs until the test ends, in this process."""
    saved = dict(PROGRAMS)

    def put(programs):
        PROGRAMS.clear()
        PROGRAMS.update(programs)

    yield put
    put(saved)


@pytest.fixture
def few(only):
    """The programs that start quickly; the others take a compiler or seconds of imports."""
    only({name: PROGRAMS[name] for name in ("kernel", "naive torch")})


def row(program="kernel", n=64, d=8, **changes):
    """A row as the benchmark gives it, for table and plot."""
    times = {f"{what}{end}": 0.5 for what in ("forward", "backward", "both") for end in ("", "_fastest", "_slowest")}
    rest = {"both_gflops": 50.0, "of_ceiling": 0.5, "ceiling": 100.0, "calm": True, "peak_megabytes": 3.0, "ratio": 1.0}
    return {"program": program, "question": PROGRAMS[program].question, "n": n, "d": d} | times | rest | changes


@pytest.mark.slow
def test_rows_files_and_table(few, tmp_path, capsys):
    found = bench.run([65, 64], tmp_path, features=(8,), repeats=2)
    rows = found["rows"]
    assert [one["program"] for one in rows] == ["kernel", "naive torch"]
    for one in rows:
        assert one["n"] == 64 and one["d"] == 8 and one["repeats"] == 2 and one["question"] == "exclude"
        for what in ("forward", "backward", "both"):
            assert 0 < one[f"{what}_fastest"] <= one[what] <= one[f"{what}_slowest"]
        assert one["both_gflops"] == pytest.approx(4e-9 * 64 * 64 * 8 / one["both"])
        assert one["forward_gflops"] == pytest.approx(1e-9 * 64 * 64 * 8 / one["forward"])
        assert one["ceiling"] > 1 and one["of_ceiling"] < 1 and 0 <= one["peak_megabytes"] < 100
        assert one["error"] < loss_case.TOLERANCE
    assert rows[0]["ratio"] == 1 and rows[1]["ratio"] == rows[1]["both"] / rows[0]["both"]
    assert read_json(tmp_path / "loss.json") == found and found["ceiling"] >= max(one["ceiling"] for one in rows)
    assert found["machine"]["versions"]["torch"] == torch.__version__ and found["machine"]["threads"] > 0
    assert {"cpu", "commit", "date", "memory_gigabytes", "instruction_set"} <= set(found["machine"])
    with Image.open(tmp_path / "loss.png") as picture:
        assert picture.size[0] > 300
    assert "of FMA" in loss_show.table(found) and torch.__version__ in loss_show.table(found)
    assert "[2/2] naive torch, n 64, d 8 ..." in capsys.readouterr().err


def test_a_ratio_is_as_calm_as_both_its_sides(few, monkeypatch):
    rows = [row(n=64, ceiling=1e6), row("naive torch", n=64, ceiling=0.9e6), row(n=66, ceiling=0.7e6)]
    rows.append(row("naive torch", n=66, ceiling=1e6, both=1.0))
    monkeypatch.setattr(bench, "_rows", lambda *_: (rows, []))
    found = bench.run([64, 66], features=(8,))["rows"]
    assert [one["calm"] for one in found] == [True, True, False, False]
    assert [one["ratio"] for one in found] == [1, 1, 1, 2]


def test_table_and_plot(tmp_path):
    rows = [row(), row("naive torch", ratio=4.0, calm=False), row(n=128), row("kernel, ignore", n=128, d=9)]
    found = {
        "machine": machine(("torch",)),
        "ceiling": 100.0,
        "rows": rows,
        "left_out": ["n 128: naive torch left out"],
    }
    lines = loss_show.table(found).splitlines()
    assert "commit" in lines[0] and lines[2].split()[:4] == ["n", "d", "same_class", "program"]
    assert lines[4].split()[2:] == ["exclude", "kernel", *["0.5000"] * 3, "0.5000-0.5000", "50", "50%", "3", "1.00"]
    assert lines[5].endswith("4.00*") and lines[6] == "" and lines[8] == "" and "ignore" in lines[9]
    assert "other programs had a part of the machine" in lines[-2] and lines[-1] == found["left_out"][0]
    assert max(map(len, lines)) <= 120
    loss_show.plot(rows, list(PROGRAMS), tmp_path / "loss.png")
    with Image.open(tmp_path / "loss.png") as picture:
        assert picture.size[0] > 600  # two panels


def test_a_program_beyond_its_limit_is_left_out_and_named(only, capsys):
    slow = {"most": 10, "why": "it is slow"}
    only(
        {
            "kernel, ignore": Program(naive, "ignore"),
            "naive torch": Program(naive, **slow),
            "torch.compile": Program(naive, pair_bytes=memory() / 1000),
            "metric-learning": Program(naive, "ignore", **slow),
        }
    )
    assert bench.run([64], features=(8,))["rows"] == []  # ours on another question has no peer left
    said = capsys.readouterr().err
    assert "n 64: naive torch left out, it stops at 10 rows: it is slow" in said
    assert "n 64: torch.compile left out, it takes" in said and "more than a third of this machine's" in said


@pytest.mark.parametrize("code, said", [(1, "InductorError: no compiler"), (-9, "ended by SIGKILL")])
def test_a_peer_that_fails_is_a_line_and_our_kernel_an_error(few, code, said, monkeypatch, capsys, tmp_path):
    real = subprocess.run

    def failing(words, **options):
        if words[4:5] != [failing.program]:
            return real(words, **options)
        return subprocess.CompletedProcess(words, code, "", "warning: deprecated\nInductorError: no compiler\n")

    monkeypatch.setattr(bench.subprocess, "run", failing)
    failing.program = "kernel"
    with pytest.raises(RunError, match=f"bench loss: kernel, n = 64, d = 8: {said}"):
        bench.run([64], features=(8,), repeats=1)
    failing.program = "naive torch"
    found = bench.run([64], tmp_path, features=(8,), repeats=1)
    assert [one["program"] for one in found["rows"]] == ["kernel"]
    assert f"n 64, d 8: naive torch left out, it failed: {said}" in capsys.readouterr().err
    assert said in read_json(tmp_path / "loss.json")["left_out"][0]


def test_peers_are_the_same_loss():
    x, c = torch.randn(20, 6, dtype=torch.float64), torch.arange(10) % 4
    for name, what in PROGRAMS.items():
        if name != "torch.compile":
            wanted = reference(x, c, temperature=loss_programs.TEMPERATURE, same_class=what.question).mean()
            torch.testing.assert_close(what.call(x, c), wanted, msg=name)


@pytest.mark.parametrize("factor", [1.0001, float("nan")])
def test_a_wrong_answer_is_not_timed(factor, only):
    calls = []

    def wrong(x, c):
        calls.append(len(x))
        return naive(x, c) * factor

    only({"kernel": Program(wrong)})
    with pytest.raises(RunError, match="the answer of kernel, n = 66, d = 8 is wrong: loss off by"):
        loss_case.measure("kernel", 66, 8, 5, truth(66, 8, "exclude"))
    assert calls == [64, 66]  # one to load what it needs, one to compare


def test_a_gradient_that_is_off_is_wrong():
    right = truth(64, 8, "exclude")
    off = right[1].clone()
    off[3, 2] += 1e-4 * off.abs().max()
    assert loss_case.compare(right, right, "it") == 0
    with pytest.raises(RunError, match="gradient by 1e-04"):
        loss_case.compare((right[0], off), right, "it")


def test_a_wrong_answer_stops_the_run(few, monkeypatch, tmp_path):
    loss, grad = truth(64, 8, "exclude")
    monkeypatch.setattr(bench, "truth", lambda n, d, question: (loss * 1.0001, grad))
    with pytest.raises(RunError, match="the answer of kernel, n = 64, d = 8 is wrong"):
        bench.run([64], tmp_path, features=(8,))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "words", [["--sizes", "1"], ["--sizes", ""], ["--features", "a"], ["--features", "0"], ["--repeats", "0"]]
)
def test_wrong_options(words, capsys):
    assert command(["bench", "loss", *words]) == 2
    assert words[0] in capsys.readouterr().err


def test_more_rows_than_memory_are_refused_before_anything_runs(capsys):
    assert command(["bench", "loss", "--sizes", "64,1000000000000"]) == 2
    said = capsys.readouterr().err
    assert "1000000000000 rows of 128 features are too many for the memory" in said and "[1/" not in said


def test_a_folder_that_is_a_file_is_refused_before_anything_runs(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert command(["bench", "loss", "--sizes", "64", "--out", str(tmp_path / "file")]) == 1
    said = capsys.readouterr().err
    assert "wanted a folder" in said and "[1/" not in said


def test_json_is_all_of_standard_output(few, capsys):
    assert command(["bench", "loss", "--sizes", "64", "--features", "8", "--repeats", "1", "--json"]) == 0
    assert [one["program"] for one in json.loads(capsys.readouterr().out)] == ["kernel", "naive torch"]


@pytest.mark.slow
def test_interrupt_ends_it_and_its_child(tmp_path):
    # A shell starts background jobs with SIGINT ignored, and so would this be under `make test &`.
    code = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from clustercl.cli.main import main; main(['bench', 'loss', '--sizes', '8192', '--repeats', '99'])"
    )
    words = [sys.executable, "-c", code]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, cwd=tmp_path, start_new_session=True)
    while "[1/" not in process.stderr.readline():
        pass
    deadline = time.monotonic() + 60
    while not (children := os.popen(f"pgrep -P {process.pid}").read().split()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=5)[1]
    assert process.returncode == 130 and "clustercl: stopped" in said
    states = os.popen(f"ps -o stat= -p {','.join(children)}").read().split()
    assert all(state.startswith("Z") for state in states)  # dead, at most not yet collected by init
