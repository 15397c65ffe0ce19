"""The linkage benchmark compares what it times, and writes what its numbers belong to."""

import numpy as np
import pytest
from PIL import Image

from clustercl.benchmarks import linkage as bench
from clustercl.benchmarks import linkage_case, linkage_programs
from clustercl.cli.main import run as command
from clustercl.errors import RunError
from clustercl.files import read_json


@pytest.mark.slow
def test_rows_files_and_table(tmp_path, monkeypatch):
    for name in set(linkage_programs.PROGRAMS) - {"clustercl", "scipy"}:
        monkeypatch.delitem(bench.PROGRAMS, name)
    rows = bench.run([60], tmp_path, features=[5], methods=["ward", "average"], repeats=2)
    assert [row["program"] for row in rows] == ["clustercl", "scipy"] * 4
    assert {(row["data"], row["method"]) for row in rows} == {
        (data, method) for data in ("blobs", "gaussian") for method in ("ward", "average")
    }
    assert all(0 < row["fastest"] <= row["seconds"] <= row["slowest"] and row["repeats"] == 2 for row in rows)
    assert rows[0]["ratio"] == 1 and rows[1]["ratio"] == rows[1]["seconds"] / rows[0]["seconds"]
    written = read_json(tmp_path / "linkage.json")
    assert written["rows"] == rows and written["machine"]["cpu"] and written["machine"]["versions"]["scipy"]
    with Image.open(tmp_path / "linkage.png") as picture:
        assert picture.size[0] > 300
    assert len(bench.table(rows).splitlines()) == 1 + 4 * 3


def test_a_program_beyond_its_limit_is_left_out_and_named(monkeypatch, capsys):
    limited = linkage_programs.Program(linkage_programs.scipys, most=10, why="it is slow")
    monkeypatch.setattr(bench, "PROGRAMS", {"scipy": limited})
    assert bench.run([64], methods=["ward"]) == []
    assert "scipy, blobs, ward, n = 64, d = 128: left out, it is slow" in capsys.readouterr().err


def test_a_wrong_tree_stops_it(monkeypatch, tmp_path):
    tree = tmp_path / "tree.npy"
    row = linkage_case.measure("scipy", "blobs", "ward", 60, 4, 1, tree)
    assert row["seconds"] > 0 and tree.exists()
    linkage_case.measure("clustercl", "blobs", "ward", 60, 4, 1, tree)
    right = linkage_programs.ours
    wrong = linkage_programs.Program(lambda x, method: right(x, method) * np.array([1, 1, 1.001, 1]))
    monkeypatch.setitem(linkage_programs.PROGRAMS, "clustercl", wrong)
    with pytest.raises(RunError, match="the tree of clustercl, blobs, ward, n = 60, d = 4 differs"):
        linkage_case.measure("clustercl", "blobs", "ward", 60, 4, 1, tree)


@pytest.mark.parametrize("words", [["--sizes", "1"], ["--features", "a"], ["--methods", "ward,median"]])
def test_wrong_options(words, capsys):
    assert command(["bench", "linkage", *words]) == 2
    assert words[0] in capsys.readouterr().err
