"""The product as a user runs it: `clustercl train` in a process of its own, on demo data, through every stage."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

# Less of everything than --preset tiny, and coarser, so that the suite stays fast; stages and code are the same.
SHORT = {
    "skin": ["autoencoder.steps=30", "pretrain.steps=20", "finetune.steps=120", "data.size=64"],
    "heart": [
        "autoencoder.steps=12",
        "pretrain.steps=8",
        "finetune.steps=300",
        "data.spacing=[6,6,6]",
        "data.patch=[32,32,16]",
    ],
}
CASES = {"skin": 30, "heart": 6}


def settings(task: str, **more) -> list[str]:
    pairs = [*SHORT[task], *(f"{key}={value}" for key, value in more.items())]
    return [word for pair in pairs for word in ("--set", pair)]


def train_command(task: str, data: Path, out: Path, *arguments) -> list[str]:
    words = ["train", "--task", task, "--data", data, "--preset", "tiny", "--device", "cpu", "--out", out, *arguments]
    return [str(word) for word in words]


def trivial_dice(task: str, data: Path, ids: list[str], classes: int) -> float:
    """The best mean Dice of a prediction that ignores the image: one class everywhere."""
    from clustercl.data.cases import find_cases
    from clustercl.data.read import read_pair
    from clustercl.data.task import get_task

    definition = get_task(task)
    truths = [read_pair(case, definition)[1] for case in find_cases(definition, data) if case.id in ids]
    assert len(truths) == len(ids)
    means = []
    for index in range(1, classes + 1):
        shares = [float((truth == index).mean()) for truth in truths]
        means.append(np.mean([2 * share / (1 + share) for share in shares]) / classes)
    return max(means)


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """Folder of demo data of a task, written once."""
    from clustercl.data.demo import write_demo

    written: dict[str, Path] = {}

    def folder(task: str) -> Path:
        if task not in written:
            written[task] = tmp_path_factory.mktemp("demo") / task
            write_demo(written[task], task, cases=CASES[task])
        return written[task]

    return folder


def units_of(run: Path) -> list[dict]:
    with open(run / "clusters/units.csv", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
@pytest.mark.parametrize("task", ["skin", "heart"])
def test_train_runs_every_stage_and_learns(task, demo, clustercl, tmp_path):
    data, run = demo(task), tmp_path / "run"
    done = clustercl(*train_command(task, data, run, *settings(task)))
    assert done.returncode == 0, done.stderr[-3000:]

    for stage in ("autoencoder", "pretrain", "finetune"):
        for name in ("last.pt", "best.pt", "metrics.jsonl"):
            assert (run / stage / name).is_file(), f"{stage}/{name}"
        steps = [json.loads(line)["step"] for line in (run / stage / "metrics.jsonl").read_text().splitlines()]
        assert steps == sorted(steps) and steps
    assert list(run.rglob("events.out.tfevents*")), "TensorBoard files"

    split = json.loads((run / "split.json").read_text())
    assert not set(split["test"]) & set(split["train"] + split["validation"] + split["unlabelled"])
    units = units_of(run)
    assert {unit["source"] for unit in units}.isdisjoint(split["test"]), "no stage sees a test image"
    classes = {int(unit["pseudo_class"]) for unit in units}
    assert classes == set(range(len(classes))) and len(classes) > 1
    assert np.load(run / "clusters/linkage.npy").shape == (len(units) - 1, 4)

    metrics = json.loads((run / "evaluation/metrics.json").read_text())
    assert metrics["cases"] == len(split["test"])
    trivial = trivial_dice(task, data, split["test"], len(metrics["dice"]["per_class"]))
    # Above by a clear margin: a network that learned nothing lands at the trivial value or below.
    assert metrics["dice"]["mean"] > trivial + 0.1, (metrics["dice"], trivial)
    assert (run / "evaluation/per_case.csv").is_file()

    # Started again, it finds everything done and changes nothing.
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*.pt")}
    again = clustercl(*train_command(task, data, run, *settings(task)))
    assert again.returncode == 0, again.stderr[-3000:]
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*.pt")} == before

    # With another setting it refuses and names the setting.
    other = clustercl(*train_command(task, data, run, *settings(task), "--seed", 5))
    assert other.returncode == 2
    assert "seed" in other.stderr

    predicted = tmp_path / "masks"
    image = next(path for path in sorted(data.rglob("*")) if path.name.endswith((".jpg", "_image.nii.gz")))
    done = clustercl("predict", "--checkpoint", run / "finetune/best.pt", image, "--out", predicted)
    assert done.returncode == 0, done.stderr[-3000:]
    (written,) = predicted.iterdir()
    if task == "skin":
        from PIL import Image

        assert Image.open(written).size == Image.open(image).size
    else:
        import nibabel

        mask, source = nibabel.load(written), nibabel.load(image)
        assert mask.shape == source.shape
        np.testing.assert_array_equal(mask.affine, source.affine)

    done = clustercl("report", run)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (run / "report.html").stat().st_size > 10_000


def start(arguments: list[str], log: Path) -> subprocess.Popen:
    with open(log, "ab") as stream:
        return subprocess.Popen([sys.executable, "-m", "clustercl", *arguments], stderr=stream, stdout=stream)


def kill_when(process: subprocess.Popen, seen, what: str) -> None:
    """SIGKILL the process as soon as seen() is true."""
    deadline = time.monotonic() + 300
    while not seen():
        assert process.poll() is None, f"the run ended before {what}"
        assert time.monotonic() < deadline, f"waited too long for {what}"
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait(timeout=60)


@pytest.mark.slow
def test_killed_in_every_stage_it_completes(demo, tmp_path):
    """SIGKILL in the middle of each stage; every start goes on, and the weights are those of a run never stopped."""
    data, log = demo("skin"), tmp_path / "log"
    short = ["--set", "data.size=32"]
    for stage in ("autoencoder", "pretrain", "finetune"):
        short += ["--set", f"{stage}.steps=40", "--set", f"{stage}.log_every=2", "--set", f"{stage}.save_seconds=0"]
    arguments = train_command("skin", data, tmp_path / "run", *short)
    run = tmp_path / "run"

    for stage in ("autoencoder", "pretrain", "finetune"):
        process = start(arguments, log)
        kill_when(process, lambda stage=stage: (run / stage / "last.pt").exists(), f"{stage}/last.pt")
    process = start(arguments, log)
    kill_when(process, lambda: (run / "evaluation").exists(), "evaluation")
    assert start(arguments, log).wait(timeout=300) == 0, log.read_text()[-3000:]
    metrics = (run / "evaluation/metrics.json").read_text()

    reference = tmp_path / "reference"
    assert start(train_command("skin", data, reference, *short), log).wait(timeout=300) == 0, log.read_text()[-3000:]
    assert metrics == (reference / "evaluation/metrics.json").read_text()
    assert units_of(run) == units_of(reference)
