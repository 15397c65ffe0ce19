"""Whole runs on a small ISIC-like folder: every stage, going on, doing one stage again, and SIGKILL."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from clustercl import choose_cut, cut_tree, progress
from clustercl.data import augment
from clustercl.data.demo import write_demo
from clustercl.data.source import Source
from clustercl.errors import DataError, RunError, UsageError
from clustercl.files import read_json
from clustercl.models.checkpoint import read_checkpoint
from clustercl.owner import SILENT_SECONDS, owner
from clustercl.training import loop, stages
from clustercl.training.config import resolve
from clustercl.training.context import Context
from clustercl.training.devices import DeviceRequest
from clustercl.training.evaluate import evaluate_run
from clustercl.training.interrupt import Stopped
from clustercl.training.launch import start_fabric
from clustercl.training.lock import RunLock
from clustercl.training.pipeline import run_stage, train
from clustercl.training.run import TRAINING, RunFolder

CPU = DeviceRequest("cpu")


def weights(run, stage):
    return read_checkpoint(RunFolder(run).last(stage))["model"]


def weights_of(run):
    return RunFolder(run).last("finetune").read_bytes()


def assert_same_weights(first, second):
    for stage in TRAINING:
        one, other = weights(first, stage), weights(second, stage)
        for key, value in one.items():
            assert torch.equal(value, other[key]), f"{stage}: {key} differs"


@pytest.fixture(scope="module")
def finished(skin, tiny, tmp_path_factory):
    """One run of all stages; tests copy it before they change it."""
    out = tmp_path_factory.mktemp("runs") / "finished"
    metrics = train(tiny(), out, skin, [skin / "unlabelled"], devices=CPU, quiet=True)
    return out, metrics


def test_a_run_leaves_what_the_design_names(finished):
    out, metrics = finished
    for stage in TRAINING:
        assert {"last.pt", "best.pt", "metrics.jsonl"} <= {path.name for path in (out / stage).iterdir()}
    split = read_json(out / "split.json")
    units = (out / "clusters/units.csv").read_text().splitlines()
    assert units[0] == "unit,source,pseudo_class"
    learnt_from = {line.split(",")[1] for line in units[1:]}
    assert learnt_from == {*split["train"], *split["unlabelled"]}
    assert not learnt_from & {*split["test"], *split["validation"]}
    assert {line.split(",")[2] for line in units[1:]} == {"0", "1", "2"}
    n = len(units) - 1
    assert np.load(out / "clusters/features.npy").shape == (n, 4)
    assert np.load(out / "clusters/linkage.npy").shape == (n - 1, 4)
    assert metrics == read_json(out / "evaluation/metrics.json")
    assert metrics["cases"] == len(split["test"]) and set(metrics["dice"]["per_class"]) == {"lesion"}
    assert not [path for path in out.rglob(".*")], "temporary files were left"
    assert read_checkpoint(out / "finetune/best.pt")["config"]["method"] == "pseudo-class"


def test_started_again_it_skips_what_is_finished(finished, skin, tiny, capsys):
    out, metrics = finished
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.pt")}
    assert train(tiny(), out, skin, [skin / "unlabelled"], devices=CPU) == metrics
    log = capsys.readouterr().err
    assert log.count("finished before, skipped") == 5
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.pt")} == before


def test_the_log_begins_with_what_matters(finished, skin, tiny, capsys):
    out, _ = finished
    train(tiny(), out, skin, [skin / "unlabelled"], devices=CPU)
    head = capsys.readouterr().err.splitlines()[:4]
    for text, line in zip(("device: CPU", "loss kernel: ", "method pseudo-class", "test, 4 unlabelled"), head):
        assert text in line


def test_other_settings_are_refused(finished, skin, tiny):
    out, _ = finished
    with pytest.raises(UsageError, match=r"finetune\.steps was 8, is 9"):
        train(tiny("finetune.steps=9"), out, skin, [skin / "unlabelled"], devices=CPU, quiet=True)
    with pytest.raises(UsageError, match=r"source\.unlabelled"):
        train(tiny(), out, skin, devices=CPU, quiet=True)


def test_a_stage_done_again_discards_what_rests_on_it(finished, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(finished[0], run)
    run_stage("clusters", run, sets=["cluster.n_clusters=2"], devices=CPU)
    log = capsys.readouterr().err
    assert "discarded what was built on it: pretrain, finetune, evaluation" in log
    assert "clusters: done again from its start" in log
    assert {path.name for path in run.iterdir()} == {"config.json", "split.json", "autoencoder", "clusters"}
    assert read_json(run / "config.json")["cluster"]["n_clusters"] == 2
    with pytest.raises(RunError, match=r"stage pretrain is not finished: run clustercl pretrain"):
        run_stage("finetune", run, devices=CPU)
    with pytest.raises(UsageError, match=r"data\.size: does not belong to stage pretrain"):
        run_stage("pretrain", run, sets=["data.size=64"], devices=CPU)
    run_stage("pretrain", run, sets=["method=simclr"], devices=CPU, quiet=True)
    run_stage("finetune", run, sets=["label_fraction=0.5"], devices=CPU, quiet=True)
    before, after = read_json(finished[0] / "split.json"), read_json(run / "split.json")
    assert len(after["labelled"]) == round(len(before["labelled"]) / 2) and after["test"] == before["test"]
    assert read_checkpoint(run / "finetune/last.pt")["config"]["method"] == "simclr"
    assert evaluate_run(run, devices=CPU, quiet=True)["cases"] == len(after["test"])


def test_a_linkage_that_cannot_fit_is_refused_before_anything_is_trained_or_discarded(
    finished, skin, tiny, tmp_path, monkeypatch
):
    monkeypatch.setattr("clustercl.ops.linkage.available_bytes", lambda: 100)
    sentence = r"cluster.linkage=average: the distances of \d+ units want .* GB of memory, and .*cluster.linkage=ward"
    with pytest.raises(RunError, match=sentence):
        train(tiny("cluster.linkage=average"), tmp_path / "new", skin, devices=CPU, quiet=True)
    assert not (tmp_path / "new").exists()
    shutil.copytree(finished[0], tmp_path / "run")
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    with pytest.raises(RunError, match=sentence):
        run_stage("clusters", tmp_path / "run", ["cluster.linkage=average"], devices=CPU, quiet=True)
    assert {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()} == before


def test_the_automatic_cut_is_explained_and_the_clustering_tells_its_progress(finished, tmp_path, capsys, monkeypatch):
    run = tmp_path / "run"
    shutil.copytree(finished[0], run)
    monkeypatch.setattr(progress, "SECONDS_TO_FIRST_LINE", 0.0)
    run_stage("clusters", run, sets=["cluster.n_clusters=auto"], devices=CPU)
    log = capsys.readouterr().err
    features, tree = np.load(run / "clusters/features.npy"), np.load(run / "clusters/linkage.npy")
    assert f"clusters: {choose_cut(tree, features)}\n" in log and "silhouette" in log
    merges = len(tree)
    assert f"clustering: {merges}/{merges} merges" in log and " rounds\n" in log
    with open(run / "clusters/units.csv", newline="", encoding="utf-8") as file:
        found = [int(row["pseudo_class"]) for row in csv.DictReader(file)]
    assert found == cut_tree(tree, "auto").tolist()


@pytest.mark.parametrize("method", ["scratch", "autoencoder", "simclr"])
def test_other_methods_run_their_stages_alone(method, skin, tiny, tmp_path):
    train(tiny(method=method), tmp_path / "run", skin, devices=CPU, quiet=True)
    stages = {path.name for path in (tmp_path / "run").iterdir() if path.is_dir()}
    own = {"scratch": set(), "autoencoder": {"autoencoder"}, "simclr": {"pretrain"}}[method]
    assert stages == own | {"finetune", "evaluation"}
    if method != "scratch":
        return
    with pytest.raises(UsageError, match=r"method scratch has no pre-training, name another with --method$"):
        run_stage("pretrain", tmp_path / "run", devices=CPU)


def test_volumes_are_turned_by_the_spacing_of_the_run(tmp_path, monkeypatch):
    data = write_demo(tmp_path / "heart", "heart", cases=4)
    sets = ["model.features=[4,8,8]", "model.code_dim=4", "model.projection_dim=4", "data.patch=[16,16,8]",
            "data.spacing=[6,6,12]", "pretrain.steps=1", "pretrain.batch_size=2", "finetune.steps=1"]  # fmt: skip
    config = resolve("heart", "tiny", sets=sets, method="simclr")
    given = []

    def noted(draw, shape, recipe, spacing, plain=augment.random_affine):
        given.append(spacing)
        return plain(draw, shape, recipe, spacing)

    monkeypatch.setattr(augment, "random_affine", noted)
    train(config, tmp_path / "run", data, devices=CPU, quiet=True)
    assert len(given) > 2 and set(given) == {(6.0, 6.0, 12.0)}  # a step of each stage, and the validation of the first


def test_bad_data_leave_no_run(tmp_path, tiny, make_skin):
    data = make_skin(tmp_path / "data", labelled=6, unlabelled=0)
    broken = sorted(data.rglob("*.jpg"))[2]
    broken.write_bytes(broken.read_bytes()[:300])
    with pytest.raises(DataError, match=broken.name):
        train(tiny(), tmp_path / "run", data, devices=CPU, quiet=True)
    assert not (tmp_path / "run").exists()


def test_what_no_stage_reads_is_not_prepared(skin, tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("CLUSTERCL_CACHE", str(tmp_path / "cache"))
    train(tiny(method="scratch"), tmp_path / "run", skin, [skin / "unlabelled"], devices=CPU, quiet=True)
    split = read_json(tmp_path / "run" / "split.json")
    made = [path for path in (tmp_path / "cache" / "image").rglob("*") if path.is_file()]
    assert split["unlabelled"] and len(made) == len(split["labelled"]) + len(split["validation"])


def test_a_case_that_went_missing_is_named(tmp_path, tiny, make_skin):
    data = make_skin(tmp_path / "data")
    run = tmp_path / "run"
    train(tiny(method="scratch"), run, data, devices=CPU, quiet=True)
    shutil.rmtree(run / "finetune")
    name = read_json(run / "split.json")["labelled"][0]
    for path in data.rglob(f"{name}*"):
        path.unlink()
    with pytest.raises(DataError, match=rf"names the case {name}, which the data no longer hold"):
        train(tiny(method="scratch"), run, data, devices=CPU, quiet=True)


def test_a_label_that_went_missing_is_named(finished, tmp_path, tiny, make_skin):
    data = make_skin(tmp_path / "data")
    run = tmp_path / "run"
    train(tiny(method="scratch"), run, data, devices=CPU, quiet=True)
    (name,) = read_json(run / "split.json")["validation"]
    image, mask = (next(data.rglob(f"{name}{ending}")) for ending in (".jpg", "_segmentation.png"))
    mask.unlink()
    (tmp_path / "other").mkdir()
    image.rename(data / "unlabelled" / image.name)  # where no mask is due
    with pytest.raises(DataError, match=rf"{name}.jpg: .*split.json counts on its label, which is gone"):
        evaluate_run(run, devices=CPU, quiet=True)


def test_numbers_of_an_unfinished_network_never_count_as_the_result(skin, tiny, tmp_path, capsys):
    out = tmp_path / "run"
    metrics = train(tiny(method="scratch"), out, skin, devices=CPU, quiet=True)
    config = tiny("finetune.steps=12", method="scratch")  # as if the run had been killed at step 8 of 12
    RunFolder(out).write_config(config, RunFolder(out).read_config()[1])
    stale = read_json(out / "evaluation/metrics.json")
    assert stale == metrics
    shutil.rmtree(out / "evaluation")
    evaluate_run(out, devices=CPU)
    assert "finetune is not finished" in capsys.readouterr().err and not (out / "evaluation").exists()
    (out / "evaluation").mkdir()
    (out / "evaluation/metrics.json").write_text('{"left": "by an older version"}')
    assert "dice" in train(config, out, skin, devices=CPU, quiet=True)


@pytest.mark.parametrize("previous", [True, False])
def test_a_finished_stage_needs_its_best_alone(finished, skin, tiny, tmp_path, capsys, previous):
    """last.pt is for going on: damaged behind the end, it costs neither an evaluation nor the stages behind it."""
    out, metrics = tmp_path / "run", finished[1]
    shutil.copytree(finished[0], out)
    for stage in TRAINING:
        assert (out / stage / "previous.pt").is_file()
        (out / stage / "last.pt").write_bytes((out / stage / "last.pt").read_bytes()[:1000])
        if not previous:
            (out / stage / "previous.pt").unlink()
    assert evaluate_run(out, devices=CPU) == metrics
    assert "finetune is not finished" not in capsys.readouterr().err
    assert train(tiny(), out, skin, [skin / "unlabelled"], devices=CPU) == metrics
    said = capsys.readouterr().err
    for stage in TRAINING:
        assert f"{stage}: finished before, skipped" in said
        assert (out / stage / "last.pt").stat().st_size == 1000


def test_what_must_be_trained_again_is_named(finished, skin, tiny, tmp_path, capsys):
    out, again = tmp_path / "run", r"/run/finetune to train it again$"
    shutil.copytree(finished[0], out)
    last, best, previous, rows = (
        out / "finetune" / name for name in ("last.pt", "best.pt", "previous.pt", "metrics.jsonl")
    )
    previous.unlink()
    last.write_bytes(b"")
    rows.write_text("".join(rows.read_text().splitlines(keepends=True)[:-1]))  # as if killed before the last row
    with pytest.raises(DataError, match=rf"last.pt: is damaged.*\(it is empty\): delete .*{again}"):
        train(tiny(), out, skin, [skin / "unlabelled"], devices=CPU, quiet=True)
    evaluate_run(out, devices=CPU)
    said = capsys.readouterr().err
    assert "last.pt: is damaged" in said and "finetune is not finished: these are numbers of its best" in said
    best.write_bytes(b"")
    with pytest.raises(DataError, match=rf"best.pt: is damaged.*\(it is empty\): delete .*{again}"):
        evaluate_run(out, devices=CPU, quiet=True)
    shutil.rmtree(out / "finetune")
    assert train(tiny(), out, skin, [skin / "unlabelled"], devices=CPU, quiet=True) == finished[1]


@pytest.mark.parametrize("stage", ["autoencoder", "pretrain", "finetune"])
def test_a_damaged_best_stops_who_reads_it(finished, skin, tiny, tmp_path, stage):
    out = tmp_path / "run"
    shutil.copytree(finished[0], out)
    (out / stage / "best.pt").write_bytes(b"")
    later = {"autoencoder": "clusters", "pretrain": "finetune", "finetune": "evaluation"}[stage]
    shutil.rmtree(out / later)
    with pytest.raises(DataError, match=rf"{stage}/best.pt: is damaged.*: delete .*/run/{stage} to train it again$"):
        train(tiny(), out, skin, [skin / "unlabelled"], devices=CPU, quiet=True)


@pytest.mark.parametrize("name", ["run", "pretrain"])  # a run may be called what a stage is called
def test_only_files_of_dead_processes_are_swept(name, tmp_path):
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    machine, run = owner().split("-")[1], tmp_path / name
    run.mkdir()
    for process in (int(dead.stdout), os.getppid()):
        (run / f".{process}-{machine}.1.report.html").touch()
    RunFolder(run).sweep()
    assert [path.name for path in run.iterdir()] == [f".{os.getppid()}-{machine}.1.report.html"]


def test_files_of_another_machine_are_swept_when_it_is_silent(tmp_path):
    """Its evaluation or report of this run may be at work; a training of it may not, beside who holds the run."""
    evaluating, reporting = "evaluation/.999999999-0123abcd.clustercl", ".999999999-0123abcd.1.report.html"
    for name in (f"{evaluating}/masks/a.png", reporting, "finetune/.999999999-0123abcd.1.last.pt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()

    def left():
        RunFolder(tmp_path).sweep()
        return sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob(".*"))

    assert left() == [reporting, evaluating]
    old = time.time() - SILENT_SECONDS - 1
    for path in (tmp_path / reporting, tmp_path / evaluating):
        os.utime(path, (old, old))
    assert left() == [evaluating]  # it wrote a mask since
    for path in (tmp_path / evaluating).rglob("*"):
        os.utime(path, (old, old))
    assert left() == []


@pytest.mark.parametrize("method", ["simclr", "g-simclr"])
def test_no_unit_is_twice_in_a_contrastive_batch(skin, tiny, tmp_path, capsys, monkeypatch, method):
    """Where there are fewer than a batch; each has its turn all the same."""
    feeds, make = [], stages._unit_feed
    monkeypatch.setattr(stages, "_unit_feed", lambda *given: feeds.append(make(*given)) or feeds[-1])
    out = tmp_path / "run"
    train(tiny("pretrain.batch_size=64", method=method), out, skin, [skin / "unlabelled"], devices=CPU)
    split = read_json(out / "split.json")
    units = len(split["train"] + split["unlabelled"])
    assert 8 < units < 16
    assert f"pretrain: batches of 8, as there are only {units} units" in capsys.readouterr().err
    drawn = [feeds[-1].batch(step).units.tolist() for step in range(40)]
    assert {len({*batch}) for batch in drawn} == {8}
    assert set().union(*drawn) == {*range(units)}


PROGRAM = """
import json, sys
from pathlib import Path
from clustercl.training.config import Config
from clustercl.training.devices import DeviceRequest
from clustercl.training.pipeline import train
config, out, data = sys.argv[1:]
train(Config.from_dict(json.loads(config)), out, Path(data), [Path(data, "unlabelled")], devices=DeviceRequest("cpu"))
"""


ENDED = """
from clustercl.errors import ClusterclError
def ended(work):
    try:
        work()
    except KeyboardInterrupt:
        return 130
    except ClusterclError as error:
        print(error, file=sys.stderr)
        return error.exit_code
"""


@pytest.mark.slow
def test_sigkill_in_every_stage(skin, tiny, tmp_path):
    """Killed twice in each stage, behind its first file and some steps later; the end equals a run never stopped."""
    saves = [f"{stage}.{key}" for stage in TRAINING for key in ("save_seconds=0", "log_every=1", "steps=40")]
    config = tiny(*saves)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    train(config, whole, skin, [skin / "unlabelled"], devices=CPU, quiet=True)
    arguments = [sys.executable, "-c", PROGRAM, json.dumps(config.to_dict()), str(killed), str(skin)]
    environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    seen = []
    for name, times in (
        ("autoencoder/last.pt", 1), ("autoencoder/last.pt", 3), ("clusters/features.npy", 1),
        ("clusters/linkage.npy", 1), ("pretrain/last.pt", 1), ("pretrain/last.pt", 3), ("finetune/last.pt", 1),
        ("finetune/last.pt", 3),
    ):  # fmt: skip
        path = killed / name
        if path.name == "linkage.npy":  # else clustering may have been quicker than the signal before, and is over
            (killed / "clusters/units.csv").unlink(missing_ok=True)
        written = {path.stat().st_mtime_ns} if path.exists() else {0}
        process = subprocess.Popen(arguments, env=environment, stderr=subprocess.DEVNULL)
        try:
            while process.poll() is None and len(written) <= times:
                if path.exists():
                    written.add(path.stat().st_mtime_ns)
                time.sleep(0.002)
        finally:
            process.send_signal(signal.SIGKILL)
        seen.append(process.wait())
    assert seen.count(-signal.SIGKILL) >= 6, f"stages were over before the signal came: make them longer ({seen})"
    train(config, killed, skin, [skin / "unlabelled"], devices=CPU, quiet=True)
    assert_same_weights(whole, killed)
    assert read_json(whole / "evaluation/metrics.json") == read_json(killed / "evaluation/metrics.json")
    for stage in TRAINING:
        assert (whole / stage / "metrics.jsonl").read_text() == (killed / stage / "metrics.jsonl").read_text()
    assert not [*killed.rglob(".*")], "what the kills left half-written is still there"


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=["SIGTERM", "SIGINT"])
def test_a_signal_in_every_stage(skin, tiny, tmp_path, number, code):
    """Told to stop in each stage, it exits as shells expect, gives the folder back, and loses nothing."""
    config = tiny(*(f"{stage}.steps=120" for stage in TRAINING), *(f"{stage}.log_every=7" for stage in TRAINING))
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    train(config, whole, skin, [skin / "unlabelled"], devices=CPU, quiet=True)
    program = ENDED + PROGRAM.replace("train(Config", "sys.exit(ended(lambda: train(Config").rstrip() + "))"
    arguments = [sys.executable, "-c", program, json.dumps(config.to_dict()), str(stopped), str(skin)]
    environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    seen = []
    for first in ("autoencoder/metrics.jsonl", "pretrain/metrics.jsonl", "finetune/metrics.jsonl"):
        process = subprocess.Popen(arguments, env=environment, stderr=subprocess.PIPE, text=True)
        while process.poll() is None and not (stopped / first).exists():
            time.sleep(0.002)
        process.send_signal(number)
        error = process.communicate(timeout=300)[1]  # it imports torch, on a machine that may be busy
        seen.append(process.returncode)
        assert process.returncode in (0, code), error
        assert not (stopped / ".lock").exists()
    assert seen.count(code) >= 2, "the stages were over before the signal came: make them longer"
    train(config, stopped, skin, [skin / "unlabelled"], devices=CPU, quiet=True)
    assert_same_weights(whole, stopped)
    for stage in TRAINING:
        assert (whole / stage / "metrics.jsonl").read_text() == (stopped / stage / "metrics.jsonl").read_text()


def test_a_signal_while_the_last_step_is_validated_ends_the_run(skin, tiny, tmp_path, monkeypatch):
    """Nobody asks for it in that stage any more, and evaluation may take longer than a queue waits."""
    validated = loop._validated

    def told(work, fabric):
        os.kill(os.getpid(), signal.SIGTERM)
        return validated(work, fabric)

    monkeypatch.setattr(loop, "_validated", told)
    config = tiny("finetune.validate_every=0", method="scratch")
    with pytest.raises(Stopped, match="stopped by SIGTERM before stage evaluation: the same command goes on"):
        train(config, tmp_path / "run", skin, devices=CPU, quiet=True)
    assert RunFolder(tmp_path / "run").finished("finetune", config) and not (tmp_path / "run/evaluation").exists()


def test_a_run_goes_on_where_its_data_were_moved_to(make_skin, tiny, tmp_path, capsys):
    """And not with fewer of them."""
    old, new, run, config = make_skin(tmp_path / "old"), tmp_path / "new", tmp_path / "run", tiny(method="scratch")
    train(config, run, old, [old / "unlabelled"], devices=CPU, quiet=True)
    before = weights_of(run)
    old.rename(new)
    with pytest.raises(DataError, match=r"old: is gone, where data of .*run lay: put it back"):
        evaluate_run(run, devices=CPU, quiet=True)
    train(config, run, new, [new / "unlabelled"], devices=CPU)
    assert f"data: {old} is now {new}, {old}/unlabelled is now {new}/unlabelled, with all" in capsys.readouterr().err
    assert weights_of(run) == before and evaluate_run(run, devices=CPU, quiet=True)
    new.rename(old)
    (lost := next(old.glob("unlabelled/*"))).unlink()
    with pytest.raises(DataError, match=f"names the case {lost.stem}, which the data no longer hold"):
        train(config, run, old, [old / "unlabelled"], devices=CPU)
    assert RunFolder(run).read_config()[1].data == str(new)


def test_a_folder_in_use_is_refused(skin, tiny, tmp_path):
    run = tmp_path / "run"
    train(tiny(method="scratch"), run, skin, devices=CPU, quiet=True)
    lock = RunLock(run / ".lock")
    lock.take()
    for again in (
        lambda: train(tiny(method="scratch"), run, skin, devices=CPU, quiet=True),
        lambda: run_stage("finetune", run, devices=CPU, quiet=True),
    ):
        with pytest.raises(RunError, match=rf"run: process {os.getpid()} on .* is at work in this run folder"):
            again()
    # Looking is allowed, and takes no file from who is at work, on whatever machine its process is.
    (writing := run / f"finetune/.999999999-{owner().split('-')[1]}.1.last.pt").write_text("")
    evaluate_run(run, devices=CPU, quiet=True)
    assert writing.exists()
    lock.release()
    train(tiny(method="scratch"), run, skin, devices=CPU, quiet=True)
    assert not writing.exists()


def test_a_time_limit_ends_it_before_the_next_stage(skin, tiny, tmp_path):
    run = tmp_path / "run"
    with pytest.raises(Stopped, match=r"stopped by the time limit before stage autoencoder:"):
        train(tiny(), run, skin, devices=CPU, quiet=True, time_limit=1e-3)
    assert not (run / ".lock").exists()
    assert "dice" in train(tiny(), run, skin, devices=CPU, quiet=True)


class Second:
    """The second of two processes, which hears from the first how the check of the data ended."""

    is_global_zero, world_size = False, 2

    def __init__(self, *heard):
        self.heard = iter(heard)

    def barrier(self):
        pass

    def broadcast(self, _):
        return next(self.heard)()


def test_other_processes_leave_the_check_to_the_first(tmp_path, monkeypatch):
    data = write_demo(tmp_path / "data", "skin", cases=6)
    config = resolve("skin", "tiny")
    source = Source.of(data, (), None, None)
    first = Context(RunFolder(tmp_path / "run"), config, source, start_fabric(CPU, config), quiet=True)
    wrong = Context(
        RunFolder(tmp_path / "wrong"), config, source, Second(lambda: (None, None), lambda: (None, 1)), quiet=True
    )
    monkeypatch.setattr(wrong, "_begin", lambda *given: pytest.fail("not its work"))
    with pytest.raises(SystemExit) as ended:
        wrong.open()
    assert ended.value.code == 1
    second = Context(
        first.run,
        config,
        source,
        Second(lambda: (None, None), lambda: (first.open(), (first.split, None))[1]),
        quiet=True,
    )
    monkeypatch.setattr(second, "_begin", lambda *given: pytest.fail("not its work"))
    second.open()
    assert second.split == first.split and len(second.prepared(second.split.labelled)) == len(first.split.labelled)


def test_what_is_left_out_of_the_data_is_told_by_the_first_process_alone(tmp_path, make_skin, tiny, capsys):
    data = make_skin(tmp_path / "data")
    next(data.rglob("ISIC_0000003.jpg")).unlink()
    run, source = RunFolder(tmp_path / "run"), Source.of(data, (), None, None)
    for fabric, count in ((start_fabric(CPU, tiny()), 1), (Second(lambda: (None, None), lambda: (None, None)), 0)):
        context = Context(run, tiny(), source, fabric, quiet=not fabric.is_global_zero)
        context.open()
        assert capsys.readouterr().err.count("ISIC_0000003_segmentation.png: has no image and is left out") == count


def test_a_batch_that_the_processes_cannot_share_is_told_before_anything_is_written(skin, tiny, tmp_path):
    """Of fewer units than a batch: how many there are is known from the data alone."""

    class OfThree(Second):
        is_global_zero, world_size = True, 3

        def broadcast(self, value):
            return value

    config, source = tiny("pretrain.batch_size=60", method="simclr"), Source.of(skin, (), None, None)
    context = Context(RunFolder(tmp_path / "run"), config, source, OfThree(), quiet=True)
    with pytest.raises(UsageError, match=r"pretrain.batch_size: batches of 8, as there are only 9 units, cannot be sh"):
        context.open()
    assert not (tmp_path / "run").exists()
