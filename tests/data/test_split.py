"""Splits: grouped, seeded, nested, and honest about what they share."""

from itertools import pairwise
from pathlib import Path

import pytest

from clustercl.data.cases import Case
from clustercl.data.split import Split, make_split
from clustercl.data.task import get_task
from clustercl.errors import DataError, UsageError
from clustercl.files import write_json

SKIN, HEART = get_task("skin"), get_task("heart")


def case(name, group="", split=None, labelled=True):
    return Case(name, Path(f"{name}.png"), Path(f"{name}_m.png") if labelled else None, group, split)


def some(count, labelled=True, prefix="c"):
    return [case(f"{prefix}{number:03d}", labelled=labelled) for number in range(count)]


def parts(split: Split):
    return set(split.train), set(split.validation), set(split.test)


def test_seventy_ten_twenty(tmp_path):
    cases = some(100) + some(30, labelled=False, prefix="u")
    split = make_split(cases, SKIN)
    train, validation, test = parts(split)
    assert (len(train), len(validation), len(test), len(split.unlabelled)) == (70, 10, 20, 30)
    assert train | validation | test == {item.id for item in cases if item.label}
    assert split.labelled == split.train and split.note is None
    assert make_split(cases, SKIN) == split != make_split(cases, SKIN, seed=1)
    assert make_split(cases[:100], SKIN).test == split.test  # unlabelled images change nothing
    write_json(tmp_path / "split.json", split.to_dict())
    assert Split.read(tmp_path / "split.json") == split


@pytest.mark.parametrize("seed", range(5))
def test_groups_are_never_separated(seed):
    cases = [case(f"c{number:03d}", f"g{number % 17}") for number in range(60)]
    cases += [case(f"u{number:03d}", f"g{number % 34}", labelled=False) for number in range(34)]
    split = make_split(cases, SKIN, seed)
    group = {item.id: item.group for item in cases}
    train, validation, test = ({group[name] for name in part} for part in parts(split))
    assert not train & validation and not train & test and not validation & test
    assert not {group[name] for name in split.unlabelled} & (validation | test)
    left_out = 34 - len(split.unlabelled)
    assert left_out == len(validation | test) and f"{left_out} unlabelled cases are left out" in split.note


def test_label_fractions_are_nested_and_change_nothing_else():
    cases = some(100)
    fractions = [0.01, 0.1, 0.25, 0.5, 1.0]
    splits = [make_split(cases, SKIN, 3, fraction) for fraction in fractions]
    assert [len(split.labelled) for split in splits] == [1, 7, 18, 35, 70]
    for small, large in pairwise(splits):
        assert set(small.labelled) <= set(large.labelled) <= set(large.train)
        assert (small.train, small.validation, small.test) == (large.train, large.validation, large.test)


@pytest.mark.parametrize("seed", range(5))
def test_label_fractions_hold_small_and_large_lesions_alike(seed):
    cases = some(200)
    extents = {item.id: 7 * int(item.id[1:]) ** 2 for item in cases}
    splits = [make_split(cases, SKIN, seed, fraction, extents=extents) for fraction in (0.1, 0.25, 1.0)]
    for small, large in pairwise(splits):
        assert set(small.labelled) < set(large.labelled) and small.test == large.test
    ranks = {name: rank for rank, name in enumerate(sorted(splits[2].train, key=extents.get))}
    kept = sorted(ranks[name] for name in splits[0].labelled)
    assert len(kept) == 14 and len(ranks) == 140
    # Of every quarter of the sizes about a quarter: 3.5 of 14, and a golden section strays by less than two from it.
    assert all(2 <= sum(place <= rank < place + 35 for rank in kept) <= 5 for place in range(0, 140, 35))


def test_a_fraction_of_less_than_one_case_is_an_error():
    with pytest.raises(UsageError, match=r"--label-fraction 0.005: of 70 labelled .* wanted at least 0.014"):
        make_split(some(100), SKIN, 0, 0.005)


def test_folds_test_every_group_once():
    cases = [case(f"c{number:03d}", f"g{number % 23}") for number in range(60)]
    group = {item.id: item.group for item in cases}
    tested = []
    for number in range(1, 6):
        split = make_split(cases, SKIN, 1, fold=f"{number}/5")
        train, validation, test = ({group[name] for name in part} for part in parts(split))
        assert not test & (train | validation) and not train & validation and train and validation
        assert len(train | validation | test) == 23 and 4 <= len(test) <= 5
        tested += split.test
    assert sorted(tested) == [item.id for item in cases]
    assert make_split(mmwhs(), HEART, fold="1/4").test != make_split(mmwhs(), HEART).test  # instead of the published


@pytest.mark.parametrize("fold", ["0/5", "6/5", "1/1", "two", "1/5/2", "-1/5"])
def test_wrong_folds(fold):
    with pytest.raises(UsageError, match=r"--fold: wanted K/N as in 2/5"):
        make_split(some(10), SKIN, fold=fold)


def test_folds_that_the_data_do_not_allow():
    with pytest.raises(DataError, match=r"--fold 1/5: wanted at least 5 labelled groups, there are 4"):
        make_split(some(4), SKIN, fold="1/5")
    given = [case("a", split="test"), case("b", split="train"), case("c", split="train")]
    with pytest.raises(UsageError, match=r"--fold 1/2: the data name their own splits"):
        make_split(given, SKIN, fold="1/2")


@pytest.mark.parametrize("fraction", [0, -0.5, 1.5, float("nan")])
def test_wrong_fractions(fraction):
    with pytest.raises(UsageError, match=r"--label-fraction"):
        make_split(some(10), SKIN, 0, fraction)


def mmwhs():
    return [case(f"ct_train_{1000 + number}") for number in range(1, 21)] + [
        case(f"ct_test_{2000 + number}", labelled=False) for number in range(1, 41)
    ]


def test_published_heart_split():
    counts = {}
    for fraction in (1, 0.5, 0.25, 0.125):
        split = make_split(mmwhs(), HEART, 0, fraction)
        assert split.test == [f"ct_train_{number}" for number in (1003, 1006, 1012, 1015)]
        assert len(split.validation) == 2 and len(split.train) == 14 and len(split.unlabelled) == 40
        assert not set(split.validation) & set(split.train)
        counts[fraction] = len(split.labelled)
        assert split.note == ("14 of the 16 labelled training cases train, as 2 validate" if fraction == 1 else None)
    assert counts == {1: 14, 0.5: 8, 0.25: 4, 0.125: 2}
    assert len(make_split(mmwhs(), HEART, 0, 0.875).labelled) == 14
    with pytest.raises(UsageError, match=r"--label-fraction 0.95: this is 15 cases, but 14 of the 16 .* train, as 2 "
                                         r"validate: wanted at most 0.875, or 1 for all 14"):  # fmt: skip
        make_split(mmwhs(), HEART, 0, 0.95)


def test_a_published_split_of_one_more_case_shares_it_and_counts_it_once():
    cases = [case(f"ct_train_{number}") for number in (1001, 1003, 1006, 1012, 1015)]
    split = make_split(cases, HEART)
    assert split.train == split.labelled == split.validation == ["ct_train_1001"]
    assert "also validates it" in split.note and " of the " not in split.note


def test_published_split_needs_all_four_and_the_task():
    cases = [item for item in mmwhs() if item.id != "ct_train_1015"]
    assert "ct_train_1015" not in make_split(cases, HEART).test
    assert len(make_split(cases, HEART).test) == 4
    seeds = {tuple(make_split(mmwhs(), get_task("heart", "A=1"), seed).test) for seed in range(3)}
    assert len(seeds) == 3


def test_one_labelled_case_serves_all_and_says_so():
    split = make_split([case("a"), case("u", labelled=False)], HEART)
    assert split.train == split.labelled == split.validation == split.test == ["a"] and split.unlabelled == ["u"]
    assert "1 labelled case in 1 group: what trains the network also tests it" in split.note


def test_two_labelled_cases_keep_the_test_apart():
    split = make_split([case("a"), case("b")], HEART)
    assert split.train == split.validation and split.train != split.test and len(split.test) == 1
    assert "also validates" in split.note and "tests" not in split.note


@pytest.mark.parametrize("count", range(3, 12))
@pytest.mark.parametrize("seed", range(3))
def test_from_three_on_nothing_is_shared(count, seed):
    split = make_split(some(count), SKIN, seed)
    train, validation, test = parts(split)
    assert train and validation and test and len(train | validation | test) == count == sum(map(len, parts(split)))
    assert split.note is None and split.labelled == split.train


def test_many_cases_of_one_patient():
    split = make_split([case(f"c{number}", "p") for number in range(5)], SKIN)
    assert len(split.train) == len(split.test) == 5 and "in 1 group:" in split.note


def test_a_list_is_obeyed():
    cases = [case("a", split="train"), case("b", split="validation"), case("c", split="test"), case("d")]
    cases += [case("e", labelled=False, split="train")]
    split = make_split(cases, SKIN)
    assert parts(split) == ({"a", "d"}, {"b"}, {"c"}) and split.unlabelled == ["e"] and split.note is None
    split = make_split([item for item in cases if item.id != "b"], SKIN)
    assert split.test == ["c"] and set(split.train) | set(split.validation) == {"a", "d"}
    assert len(split.train) == len(split.validation) == 1
    split = make_split(
        [case(f"t{number}", split="train") for number in range(10)] + [case("v", split="validation")], SKIN
    )
    assert split.validation == ["v"] and len(split.test) == 2 and "no test case is named" in split.note


def test_contradictory_lists():
    with pytest.raises(DataError, match=r"b.png: group g is in split test here and in train for a.png"):
        make_split([case("a", "g", "train"), case("b", "g", "test")], SKIN)
    with pytest.raises(DataError, match=r"a.png: the list puts it in split test, but names no label"):
        make_split([case("a", split="test", labelled=False), case("b")], SKIN)
    with pytest.raises(DataError, match=r"no labelled case to split train"):
        make_split([case("a", split="test"), case("b", split="validation")], SKIN)
    with pytest.raises(DataError, match=r"none of the 4 cases has a label"):
        make_split(some(4, labelled=False), SKIN)
