"""The benchmark of training: every stage has a row by one process and by two, and its shares are of one whole."""

import json

import pytest

from clustercl.benchmarks import train
from clustercl.data.demo import write_demo
from clustercl.errors import RunError
from clustercl.training.run import TRAINING

SMALL = ["data.size=32", "model.features=[4,8,8]"]


@pytest.mark.slow
def test_every_stage_by_one_and_by_two(tmp_path):
    data = write_demo(tmp_path / "data", "skin", cases=16)
    found = train.run("skin", steps=2, data=data, sets=SMALL, out=tmp_path / "out")
    assert json.loads((tmp_path / "out/train.json").read_text()) == found
    assert [(row["stage"], row["processes"]) for row in found["rows"]] == [
        (stage, count) for count in (1, 2) for stage in TRAINING
    ]
    for row in found["rows"]:
        assert set(row["share"]) == set(train.PARTS) and sum(row["share"].values()) == pytest.approx(1)
        assert min(row["share"].values()) > 0
        assert row["samples_per_second"] == pytest.approx(row["batch_size"] * row["steps_per_second"])
    assert train.table(found).count("finetune") == 2
    with pytest.raises(RunError, match=r"bench train: .*cannot be shared evenly by 3 processes"):
        train.run("skin", processes=[3], data=data, sets=SMALL)
