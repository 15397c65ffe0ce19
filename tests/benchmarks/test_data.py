"""The benchmark of reading and feeding: every phase runs and its row is what it says."""

import json
import signal
import subprocess

import pytest

from clustercl.benchmarks import data, data_case
from clustercl.data.cases import find_cases
from clustercl.data.demo import write_demo
from clustercl.data.task import get_task
from clustercl.errors import RunError
from clustercl.training.config import resolve


@pytest.fixture(scope="module")
def skin(tmp_path_factory):
    return write_demo(tmp_path_factory.mktemp("bench") / "skin", "skin", cases=4)


def test_every_phase_but_training(skin, tmp_path, monkeypatch):
    monkeypatch.setattr(data, "PHASES", data.PHASES[:-2])
    found = data.run("skin", data=skin, out=tmp_path)
    assert json.loads((tmp_path / "data.json").read_text()) == found
    rows = {row["phase"]: row for row in found["rows"]}
    assert list(rows) == ["check", "prepare", "prepared before", "feed"]
    assert [row["cases"] for row in rows.values()] == [6, 6, 6, data_case.FEED_SAMPLES]
    assert rows["check"]["cache_megabytes"] == 0 < rows["prepare"]["cache_megabytes"]
    # Six photographs of 256 x 256, four masks.
    assert rows["prepare"]["cache_megabytes"] == pytest.approx(256**2 * (6 * 3 + 4) * 1e-6, rel=0.05)
    assert rows["prepared before"]["seconds"] < rows["prepare"]["seconds"]
    for row in rows.values():
        assert row["cases_per_second"] == pytest.approx(row["cases"] / row["seconds"]) and row["waiting"] is None
    text = data.table(found)
    assert "prepared before" in text and "cases/s" in text


@pytest.mark.parametrize("stage", ["autoencoder", "pretrain"])
def test_training_tells_its_waiting(stage, skin, tmp_path, monkeypatch):
    monkeypatch.setenv("CLUSTERCL_CACHE", str(tmp_path))
    task = get_task("skin")
    count, waiting = data_case._trained(task, resolve("skin", "tiny"), find_cases(task, skin), stage)
    assert count == data_case.STEPS["skin"] * data_case.BATCH["skin"] and 0 <= waiting < 1


def test_bad_data_are_told(skin, tmp_path):
    (tmp_path / "ISIC_0000001.jpg").write_text("none")
    with pytest.raises(RunError, match=r"bench data: skin, check: .*ISIC_0000001.jpg: this is no image"):
        data.run("skin", data=tmp_path)


def test_a_phase_that_is_killed_is_told(skin, monkeypatch):
    killed = subprocess.CompletedProcess([], -signal.SIGKILL, "", "")
    monkeypatch.setattr(data.subprocess, "run", lambda *words, **options: killed)
    with pytest.raises(RunError, match=r"bench data: skin, check: ended by SIGKILL, perhaps for lack of memory"):
        data.run("skin", data=skin)
