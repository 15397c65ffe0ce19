"""The loss benchmark compares before it times, and writes what its numbers belong to."""

import pytest
import torch

from clustercl.benchmarks import loss as bench
from clustercl.errors import RunError
from clustercl.files import read_json
from clustercl.reference import pseudo_class_nt_xent as reference


def test_rows_and_file(tmp_path):
    rows = bench.run([65], tmp_path, features=(8,), repeats=1)
    assert [row["program"] for row in rows] == ["kernel", "blocked", "naive"]
    for row in rows:
        assert row["n"] == 64 and row["d"] == 8
        assert row["fastest"] <= row["both"] <= row["slowest"] and row["gflops"] > 0 and row["ratio"] > 0
        assert row["error"] < 1e-5  # float32
    written = read_json(tmp_path / "loss.json")
    assert written["rows"] == rows and written["machine"]["versions"]["torch"] == torch.__version__


def test_naive_peer_is_the_same_loss():
    x, c = torch.randn(20, 6, dtype=torch.float64), torch.arange(10) % 4
    torch.testing.assert_close(bench.naive(x, c), reference(x, c).mean())


def test_a_wrong_answer_stops_it(monkeypatch):
    monkeypatch.setitem(bench.PROGRAMS, "kernel", lambda x, c: bench.naive(x, c) * 1.001)
    with pytest.raises(RunError, match="kernel, n = 64, d = 8 is off"):
        bench.run([64], features=(8,))
