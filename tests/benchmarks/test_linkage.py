"""The linkage benchmark compares before it times, and writes what its numbers belong to."""

import numpy as np
import pytest

import clustercl
from clustercl.benchmarks import linkage as bench
from clustercl.errors import RunError
from clustercl.files import read_json


def test_rows_and_machine_are_written(tmp_path):
    rows = bench.run([60], tmp_path, repeats=1)
    assert {row["program"] for row in rows} >= {"clustercl", "scipy"}
    assert {row["method"] for row in rows} == {"ward", "average", "complete", "single"}
    assert all(row["equal"] and 0 < row["fastest"] <= row["seconds"] <= row["slowest"] for row in rows)
    written = read_json(tmp_path / "linkage.json")
    assert written["rows"] == rows and written["machine"]["cpu"] and written["machine"]["versions"]["scipy"]


def test_a_wrong_tree_is_not_timed(tmp_path, monkeypatch):
    right = clustercl.linkage
    monkeypatch.setattr(clustercl, "linkage", lambda x, method: right(x, method) * np.array([1, 1, 1.001, 1]))
    with pytest.raises(RunError, match="the tree differs from SciPy's on blobs, ward, n = 60"):
        bench.run([60], tmp_path)
    assert not list(tmp_path.iterdir())
