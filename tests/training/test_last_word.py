"""The last line of a run, where some classes never occurred."""

from types import SimpleNamespace

import pytest

from clustercl.files import write_json
from clustercl.training.pipeline import _metrics


@pytest.mark.parametrize(
    ("per_class", "mean", "wanted"),
    [
        ({"LV": None, "AA": 0.75}, 0.75, "evaluation: 1 test case, mean Dice 0.750 (LV absent, AA 0.750)"),
        ({"LV": None}, None, "evaluation: 1 test case, mean Dice absent (LV absent)"),
    ],
)
def test_absent_classes_are_said(tmp_path, per_class, mean, wanted):
    write_json(tmp_path / "metrics.json", {"cases": 1, "dice": {"mean": mean, "per_class": per_class}})
    said = []
    _metrics(SimpleNamespace(run=SimpleNamespace(evaluation=tmp_path), say=said.append))
    assert said == [wanted]
