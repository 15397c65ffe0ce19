"""Rows of a comparison and the lines made of them."""

import json

import pytest

from clustercl.errors import DataError, UsageError
from clustercl.evaluation.comparison import Row, collect, summarise


def cell(out, method, seed, text, fraction=0.5):
    folder = out / "runs" / method / f"labels{fraction:g}-seed{seed}"
    (folder / "evaluation").mkdir(parents=True)
    content = {"method": method, "label_fraction": fraction, "fold": "", "seed": seed}
    (folder / "cell.json").write_text(json.dumps(content))
    (folder / "evaluation" / "per_case.csv").write_text("case,class,dice,jaccard,hd95,surface_dice\n" + text)
    return folder


def test_a_row_is_the_mean_over_the_classes_that_a_case_holds(tmp_path):
    cell(tmp_path, "simclr", 0, "a,LV,0.8,0.7,2,1\na,RV,0.6,0.5,4,1\na,LA,,,,\nb,LV,0.5,0.4,9,1\n")
    (tmp_path / "runs" / "mae" / "labels1-seed0").mkdir(parents=True)  # not finished
    rows = collect(tmp_path)
    assert rows == [
        Row("simclr", 0.5, "", 0, "a", pytest.approx(0.7), pytest.approx(0.6), 3.0),
        Row("simclr", 0.5, "", 0, "b", 0.5, 0.4, 9.0),
    ]


def test_a_damaged_file_is_named(tmp_path):
    folder = cell(tmp_path, "simclr", 0, "a,LV,high,0.7,2,1\n")
    with pytest.raises(DataError, match=r"per_case.csv: is damaged .*high.*: remove .*labels0.5-seed0"):
        collect(tmp_path)
    (folder / "evaluation" / "per_case.csv").unlink()
    assert collect(tmp_path) == []


def rows(method, values, fraction=0.5, seed=0):
    return [Row(method, fraction, "", seed, f"case{n}", v, v / 2, 10 * v) for n, v in enumerate(values)]


def test_lines_average_over_seeds_before_they_compare():
    many = [0.5 + 0.01 * n for n in range(20)]
    table = rows("simclr", many) + rows("simclr", many, seed=1)
    table += rows("new", [v + 0.1 for v in many]) + rows("new", [v + 0.3 for v in many], seed=1)
    simclr, new = summarise(table, "simclr")
    assert (simclr.method, simclr.difference, simclr.won, simclr.better, simclr.p, simclr.over_seeds) == (
        "simclr", *4 * [None], 0,
    )  # fmt: skip
    assert (new.cases, new.seeds, new.won, new.better) == (20, 2, (2, 2), 1)
    assert new.dice == pytest.approx(simclr.dice + 0.2) and new.difference == pytest.approx(0.2)
    assert new.over_seeds == pytest.approx(0.2 / 2**0.5)
    assert new.interval[0] < new.dice < new.interval[1]
    assert new.jaccard == pytest.approx(new.dice / 2) and new.hd95 == pytest.approx(10 * new.dice)
    assert new.p < 1e-4


def test_only_seeds_that_both_have_are_compared():
    """Another seed has other labelled cases: one that only the baseline has says nothing of the method."""
    many = [0.5 + 0.01 * n for n in range(20)]
    table = rows("simclr", many) + rows("simclr", [v - 0.4 for v in many], seed=1)
    table += rows("simclr", [v + 0.2 for v in many], seed=2)
    table += rows("new", [v - 0.1 for v in many]) + rows("new", [v + 0.24 for v in many], seed=2)
    simclr, new = summarise(table, "simclr")
    assert (simclr.seeds, new.seeds, new.won) == (3, 2, (1, 2))
    assert new.difference == pytest.approx(-0.03)
    apart = summarise(rows("simclr", many) + rows("new", many, seed=1), "simclr")[1]
    assert (apart.difference, apart.won, apart.better, apart.p) == (None, None, None, None)


def test_the_share_of_cases_tells_what_a_mean_may_hide():
    simclr = rows("simclr", [0.8, 0.8, 0.8, 0.1])
    new = summarise(simclr + rows("new", [0.7, 0.7, 0.8, 0.9]), "simclr")[1]
    assert new.difference == pytest.approx(0.15) and new.better == pytest.approx((1 + 0.5) / 4)


def test_agreeing_that_there_is_nothing_is_right_and_finding_it_is_wrong(tmp_path):
    """Or a method that finds lesions in healthy skin would be compared on the other cases alone."""
    cell(tmp_path, "simclr", 0, "a,lesion,0.8,0.7,2,1\nb,lesion,,,,\n")
    cell(tmp_path, "mae", 0, "a,lesion,0.8,0.7,2,1\nb,lesion,0,0,99,0\n")
    found = collect(tmp_path)
    assert Row("simclr", 0.5, "", 0, "b", 1.0, 1.0, 0.0) in found and len(found) == 4
    assert summarise(found, "simclr")[0].difference == pytest.approx(-0.5)  # in the order of the folders: mae


def test_folds_test_other_cases_and_are_paired_each_with_its_own(tmp_path):
    one = [Row(name, 0.5, "1/2", 0, f"a{n}", 0.5 + off, 0.4, 9.0) for name, off in (("simclr", 0), ("mae", 0.1))
           for n in range(6)]  # fmt: skip
    two = [Row(name, 0.5, "2/2", 0, f"b{n}", 0.6 + off, 0.4, 9.0) for name, off in (("simclr", 0), ("mae", -0.05))
           for n in range(6)]  # fmt: skip
    mae = summarise(one + two, "simclr")[1]
    assert (mae.cases, mae.won, mae.better) == (12, (1, 2), 0.5) and mae.difference == pytest.approx(0.025)


def test_p_is_corrected_for_all_lines_of_the_table():
    many = [0.5 + 0.01 * (n % 7) for n in range(12)]
    other = [v + (0.02 if n % 3 else -0.03) for n, v in enumerate(many)]
    alone = summarise(rows("simclr", many) + rows("a", other), "simclr")[1].p
    table = rows("simclr", many) + rows("a", other) + rows("b", other) + rows("simclr", many, 1.0)
    lines = summarise(table, "simclr")
    assert [line.p for line in lines if line.method != "simclr"] == pytest.approx([min(1, 2 * alone)] * 2)


def test_without_the_baseline_there_is_nothing_to_compare_with():
    with pytest.raises(UsageError, match="no run of 'simclr', wanted one of mae"):
        summarise(rows("mae", [0.5]), "simclr")
    table = rows("simclr", [0.5], fraction=0.1) + rows("mae", [0.6], fraction=0.2)
    assert [line.p for line in summarise(table, "simclr")] == [None, None]  # no case in common at one fraction
