"""The linkage benchmark compares what it times, and writes what its numbers belong to."""

import numpy as np
import pytest
from PIL import Image

from clustercl.benchmarks import linkage as bench
from clustercl.benchmarks import linkage_case, linkage_programs, linkage_show
from clustercl.cli.main import run as command
from clustercl.errors import RunError
from clustercl.files import read_json


@pytest.mark.slow
def test_rows_files_and_table(tmp_path, monkeypatch):
    for name in ("fastcluster", "fastcluster vector"):  # not a dependency
        monkeypatch.delitem(bench.PROGRAMS, name, raising=False)
    found = bench.run([60], tmp_path, features=[5], methods=["ward", "average"], repeats=2)
    rows = found["rows"]
    ward, average = ["clustercl", "scipy", "scikit-learn"], ["clustercl", "clustercl float32", "scipy", "scikit-learn"]
    assert [row["program"] for row in rows] == (ward + average) * 2 and not found["left_out"]
    assert {(row["data"], row["method"]) for row in rows} == {
        (data, method) for data in ("blobs", "gaussian") for method in ("ward", "average")
    }
    assert all(0 < row["fastest"] <= row["seconds"] <= row["slowest"] and row["repeats"] == 2 for row in rows)
    assert rows[0]["ratio"] == 1 and rows[1]["ratio"] == rows[1]["seconds"] / rows[0]["seconds"]
    written = read_json(tmp_path / "linkage.json")
    assert written == found and written["machine"]["cpu"] and written["machine"]["versions"]["scipy"]
    with Image.open(tmp_path / "linkage.png") as picture:
        assert picture.size[0] > 300
    shown = linkage_show.table(found)
    assert all(f"{row['seconds']:.4f}" in shown for row in rows) and "60  5       scikit-learn" in shown
    for row in rows:
        if row["program"].startswith("clustercl"):
            assert (
                row["rounds"] > 3 and 0.4 < row["scans"] < 8 and row["of_ceiling"] == row["gflops"] / found["ceiling"]
            )
            assert row["gflops"] == pytest.approx(1e-9 * 2 * 5 * row["scans"] * 60**2 / row["seconds"])
        else:
            assert row["rounds"] is row["scans"] is row["gflops"] is row["of_ceiling"] is None


def test_a_program_that_would_take_too_long_is_left_out():
    what = linkage_programs.PROGRAMS["scipy"]
    earlier = [{"n": 1000, "seconds": 1.0}, {"n": 2000, "seconds": 5.0}]
    assert linkage_programs.why_not(what, "ward", 10_000, earlier) is None
    assert linkage_programs.why_not(what, "ward", 20_000, earlier) == "it would take about 500 s"
    assert linkage_programs.why_not(what, "average", 100_000, []) == linkage_programs.MATRIX


def test_a_program_beyond_its_limit_is_left_out_and_named(monkeypatch, capsys):
    limited = linkage_programs.Program(linkage_programs.scipys, most=10, why="it is slow")
    monkeypatch.setattr(bench, "PROGRAMS", {"scipy": limited})
    found = bench.run([64], methods=["ward"])
    line = "scipy, blobs, ward, n 64, d 128: left out, it is slow"
    assert found["rows"] == [] and found["left_out"][0] == line and line in capsys.readouterr().err


def test_a_wrong_tree_stops_it(monkeypatch, tmp_path):
    tree = tmp_path / "tree.npy"
    row = linkage_case.measure("scipy", "blobs", "ward", 60, 4, 1, tree)
    assert row["seconds"] > 0 and tree.exists()
    linkage_case.measure("clustercl", "blobs", "ward", 60, 4, 1, tree)
    right = linkage_programs.ours
    wrong = linkage_programs.Program(lambda x, method, progress=None: right(x, method) * np.array([1, 1, 1.001, 1]))
    monkeypatch.setitem(linkage_programs.PROGRAMS, "clustercl", wrong)
    with pytest.raises(RunError, match="the tree of clustercl, blobs, ward, n = 60, d = 4 differs"):
        linkage_case.measure("clustercl", "blobs", "ward", 60, 4, 1, tree)


@pytest.mark.parametrize("words", [["--sizes", "1"], ["--features", "a"], ["--methods", "ward,median"]])
def test_wrong_options(words, capsys):
    assert command(["bench", "linkage", *words]) == 2
    assert words[0] in capsys.readouterr().err


@pytest.mark.slow
def test_what_was_measured_before_ctrl_c_is_kept(tmp_path, monkeypatch):
    whole = bench._compare

    def compare(data, method, *more):
        if method == "single":
            raise KeyboardInterrupt
        whole(data, method, *more)

    monkeypatch.setattr(bench, "_compare", compare)
    monkeypatch.setattr(bench, "PROGRAMS", {"clustercl": linkage_programs.PROGRAMS["clustercl"]})
    with pytest.raises(KeyboardInterrupt):
        bench.run([60], tmp_path, features=[5], methods=["ward", "single"], repeats=1)
    (row,) = read_json(tmp_path / "linkage.json")["rows"]
    assert row["method"] == "ward" and row["seconds"] > 0
