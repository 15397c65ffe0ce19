"""The loss benchmark compares before it times, and writes what its numbers belong to."""

import pytest
import torch
from PIL import Image

from clustercl.benchmarks import loss as bench
from clustercl.benchmarks import loss_case, loss_programs
from clustercl.cli.main import run as command
from clustercl.errors import RunError
from clustercl.files import read_json
from clustercl.reference import pseudo_class_nt_xent as reference


@pytest.fixture
def few(monkeypatch):
    """The programs that start quickly; the others take a compiler or seconds of imports."""
    kept = {name: what for name, what in loss_programs.PROGRAMS.items() if name in ("kernel", "naive torch")}
    for name in set(loss_programs.PROGRAMS) - set(kept):
        monkeypatch.delitem(bench.PROGRAMS, name)


@pytest.mark.slow
def test_rows_files_and_table(few, tmp_path, capsys):
    rows = bench.run([65], tmp_path, features=(8,), repeats=2)
    assert [row["program"] for row in rows] == ["kernel", "naive torch"]
    for row in rows:
        assert row["n"] == 64 and row["d"] == 8 and row["repeats"] == 2
        assert row["fastest"] <= row["both"] <= row["slowest"] and row["forward"] > 0 and row["backward"] > 0
        assert row["gflops"] > 0 and row["ceiling"] > 1 and row["of_ceiling"] < 1
        assert row["error"] < 1e-5  # float32
    assert rows[0]["ratio"] == 1 and rows[1]["ratio"] == rows[1]["both"] / rows[0]["both"]
    written = read_json(tmp_path / "loss.json")
    assert written["rows"] == rows and written["machine"]["versions"]["torch"] == torch.__version__
    with Image.open(tmp_path / "loss.png") as picture:
        assert picture.size[0] > 300
    lines = bench.table(rows).splitlines()
    assert "of FMA" in lines[0] and lines[2].split()[2] == "kernel" and len(lines) == 4
    assert "naive torch, n = 64, d = 8 ..." in capsys.readouterr().err


def test_a_program_beyond_its_limit_is_left_out_and_named(monkeypatch, capsys, tmp_path):
    limited = loss_programs.Program(loss_programs.naive, most=10, why="it is slow")
    monkeypatch.setattr(bench, "PROGRAMS", {"naive torch": limited})
    assert bench.run([64], features=(8,)) == []
    assert "naive torch, n = 64, d = 8: left out, it is slow" in capsys.readouterr().err


def test_peers_are_the_same_loss():
    x, c = torch.randn(20, 6, dtype=torch.float64), torch.arange(10) % 4
    for name, what in loss_programs.PROGRAMS.items():
        if name != "torch.compile":
            wanted = reference(x, c, temperature=loss_programs.TEMPERATURE, same_class=what.question).mean()
            torch.testing.assert_close(what.call(x, c), wanted, msg=name)


def test_a_wrong_answer_stops_it(monkeypatch):
    wrong = loss_programs.Program(lambda x, c: loss_programs.naive(x, c) * 1.001)
    monkeypatch.setitem(loss_programs.PROGRAMS, "kernel", wrong)
    with pytest.raises(RunError, match="the answer of kernel, n = 64, d = 8 is off by 1"):
        loss_case.measure("kernel", 64, 8, 1, loss_programs.truth(64, 8, "exclude"))


@pytest.mark.parametrize("words", [["--sizes", "1"], ["--features", "a"], ["--repeats", "0"]])
def test_wrong_options(words, capsys):
    assert command(["bench", "loss", *words]) == 2
    assert words[0] in capsys.readouterr().err
