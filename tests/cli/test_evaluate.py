"""`clustercl evaluate`: what it asks for, and what it prints where."""

import json
from pathlib import Path

import pytest

from clustercl.cli.main import run
from clustercl.progress import say
from clustercl.training import evaluate


def measure(value):
    return {"mean": value, "per_class": {"RV": value, "LA": None}}


METRICS = {
    "cases": 3,
    **{name: measure(0.5) for name in ("dice", "jaccard", "hd95", "surface_dice")},
    "unit": "mm",
    "tolerance": 2.0,
    "note": "One case serves all.",
}


@pytest.fixture
def calls(monkeypatch):
    made = []

    def evaluate_run(*words, **options):
        made.append((words, options))
        say("progress")
        return METRICS

    monkeypatch.setattr(evaluate, "evaluate_run", evaluate_run)
    return made


def test_a_table_with_every_class_and_the_note(calls, capsys):
    assert run(["evaluate", "runs/heart"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:3] == ["class", "Dice", "Jaccard"] and "HD95 (mm)" in lines[0] and "at 2" in lines[0]
    assert lines[1].split() == ["RV", *["0.500"] * 4]
    assert lines[2].split() == ["LA", *["-"] * 4], "absent is not zero"
    assert lines[3].split()[0] == "mean"
    assert lines[-2:] == ["3 cases", "NOTE: One case serves all."]
    ((words, _),) = calls
    assert words[:4] == (Path("runs/heart"), None, None, None)


def test_json_is_json_alone(calls, capsys):
    assert run(["evaluate", "runs/heart", "--data", "other", "--out", "results", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == METRICS
    ((words, options),) = calls
    assert words[:4] == (Path("runs/heart"), Path("other"), None, Path("results"))
    assert options["save_masks"] is True and options["overwrite"] is False
    assert run(["evaluate", "runs/heart", "--out", "results", "--overwrite"]) == 0
    assert calls[1][1]["overwrite"] is True


def test_what_is_no_run_is_one_sentence(tmp_path, capsys):
    assert run(["evaluate", str(tmp_path / "nothing")]) == 1
    error = capsys.readouterr().err
    assert "is no run of clustercl" in error and "Traceback" not in error
