"""The benchmark of training: every stage has a row by one process and by two, and its shares are of one whole."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from clustercl.benchmarks import train
from clustercl.data.demo import write_demo
from clustercl.errors import RunError
from clustercl.files import write_json
from clustercl.training.run import TRAINING

SMALL = ["data.size=32", "model.features=[4,8,8]"]


@pytest.mark.parametrize(
    ("gpus", "options", "wanted"),
    [
        (0, {}, [("1", "cpu"), ("2", "cpu")]),
        (1, {}, [("1", "cuda")]),
        (4, {}, [("1", "cuda"), ("2", "cuda")]),
        (4, {"processes": [4]}, [("4", "cuda")]),
        (4, {"device": "cpu"}, [("1", "cpu"), ("2", "cpu")]),
    ],
)
def test_gpus_are_used_where_they_are(gpus, options, wanted, tmp_path, monkeypatch):
    asked = []

    def stand_in(command, **ignored):
        asked.append(tuple(command[5:7]))
        write_json(Path(command[9], "rows.json"), [])
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(train.subprocess, "run", stand_in)
    monkeypatch.setattr(train, "machine", lambda versions: {})
    train.run("skin", data=tmp_path, **options)
    assert asked == wanted


def test_a_case_that_hangs_is_given_up(tmp_path, monkeypatch):
    def stand_in(command, timeout, **ignored):
        raise train.subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(train.subprocess, "run", stand_in)
    with pytest.raises(RunError, match="bench train: skin, tiny: not finished after 3 s"):
        train.run("skin", processes=[1], device="cpu", data=tmp_path, most=3)


def test_a_loss_that_takes_much_of_a_step_is_marked():
    def row(loss: float) -> dict:
        share = {part: (1 - loss) / 4 for part in train.PARTS} | {"loss": loss}
        rates = {"steps_per_second": 1.0, "samples_per_second": 8.0}
        return {"task": "skin", "preset": "tiny", "stage": "finetune", "processes": 1, "batch_size": 8, **rates,
                "share": share}  # fmt: skip

    about = {"gpu": None, "cpu": "a CPU", "threads": 2, "commit": "1234567", "date": "2026-11-26"}
    lines = train.table({"machine": about, "rows": [row(0.0499), row(0.051)]}).splitlines()
    assert " 5.0% " in lines[3] and " 5.1%* " in lines[4]
    assert lines[-1] == "*: the loss takes more than 5% of a step."
    assert "*" not in train.table({"machine": about, "rows": [row(0.05)]})


@pytest.mark.slow
def test_every_stage_by_one_and_by_two(tmp_path):
    data = write_demo(tmp_path / "data", "skin", cases=16)
    found = train.run("skin", steps=2, data=data, sets=SMALL, out=tmp_path / "out", device="cpu")
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
        train.run("skin", processes=[3], data=data, sets=SMALL, device="cpu")
