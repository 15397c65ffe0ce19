"""Labels of pre-training in a run: groups, one unit of each class in a batch, clustering again."""

import json
import re
import shutil
from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from clustercl.data.feed import UnitFeed
from clustercl.errors import DataError, UsageError
from clustercl.files import read_json, write_json
from clustercl.training import stages
from clustercl.training.devices import DeviceRequest
from clustercl.training.interrupt import Interrupt, Stopped
from clustercl.training.labels import agreement, weight_left_out
from clustercl.training.pipeline import run_stage, train

CPU = DeviceRequest("cpu", workers=0)


def rows(run):
    return [json.loads(line) for line in (run / "pretrain" / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    "method", ["pseudo-class-tree", "random-class", "g-simclr", "byol", "mae", "pseudo-class-attract"]
)
def test_every_method_runs_and_leaves_an_encoder(tiny, skin, tmp_path, method):
    run = tmp_path / "run"
    metrics = train(tiny(method=method), run, skin, [skin / "unlabelled"], devices=CPU, quiet=True)
    assert 0 <= metrics["dice"]["mean"] <= 1
    content = torch.load(run / "pretrain" / "best.pt", weights_only=True)
    assert any(key.startswith("encoder.conv_0") for key in content["model"])
    labels = content["model"]["labels"]
    known = {"byol": 1, "mae": 1, "pseudo-class-tree": 3}
    assert len(labels.unique()) >= known.get(method, 2) and len(labels) >= 8


def test_oracle_class_needs_groups_and_obeys_them(tiny, skin, tmp_path):
    table, run = tmp_path / "groups.csv", tmp_path / "run"
    with pytest.raises(UsageError, match="method oracle-class compares with true groups: name a table of them with "):
        train(tiny(method="oracle-class"), run, skin, devices=CPU, quiet=True)
    for method in ("oracle-class", "simclr"):
        with pytest.raises(DataError, match=r"groups\.csv: wanted a CSV file with the columns id,group"):
            train(tiny(method=method), run, skin, devices=CPU, quiet=True, groups=table)
    with pytest.raises(DataError, match=r"groups\.csv: wanted a CSV file"):  # before the data are looked at
        train(tiny(method="oracle-class"), run, tmp_path / "no data", devices=CPU, quiet=True, groups=table)
    assert not run.exists()  # what was wrong is put right with the same --out
    table.write_text("id,group\n" + "".join(f"ISIC_{n:07d},{'benign' if n % 2 else 'melanoma'}\n" for n in range(6)))
    train(tiny(method="oracle-class"), run, skin, devices=CPU, quiet=True, groups=table)
    assert not (run / "clusters").exists()
    labels = torch.load(run / "pretrain" / "best.pt", weights_only=True)["model"]["labels"]
    assert set(labels.tolist()) <= {-1, 0, 1} and len(labels.unique()) > 1
    table.write_text("id,group\nother,x\n")
    with pytest.raises(DataError, match="names none of the"):
        train(tiny(method="oracle-class"), tmp_path / "other", skin, devices=CPU, quiet=True, groups=table)
    assert not (tmp_path / "other").exists()
    table.unlink()  # pre-training again tells it before it discards what there is
    with pytest.raises(DataError, match=r"groups\.csv: wanted a CSV file"):
        run_stage("pretrain", run, ["pretrain.lr=0.01"], devices=CPU, quiet=True)
    assert (run / "evaluation/metrics.json").is_file()


def test_a_run_without_groups_is_left_as_it_is(tiny, skin, tmp_path):
    run = tmp_path / "run"
    train(tiny(method="simclr"), run, skin, devices=CPU, quiet=True)
    before = (run / "config.json").read_bytes()
    with pytest.raises(UsageError, match="run was started without a table of them: start a new run with --groups"):
        run_stage("pretrain", run, ["method=oracle-class"], devices=CPU, quiet=True)
    assert (run / "config.json").read_bytes() == before and (run / "evaluation/metrics.json").is_file()


@pytest.mark.parametrize("method", ["pseudo-class", "random-class", "pseudo-class-attract"])
def test_one_pseudo_class_is_refused_where_no_negative_is_left(tiny, skin, tmp_path, method):
    sentence = f"cluster.n_clusters: wanted 2 or more, or auto, for method {method}, got 1: in one pseudo-class of all"
    with pytest.raises(UsageError, match=sentence):
        train(tiny("cluster.n_clusters=1", method=method), tmp_path / "run", skin, devices=CPU, quiet=True)
    assert not (tmp_path / "run").exists()


def test_one_pseudo_class_is_refused_in_a_run_that_exists(tiny, skin, tmp_path):
    run = tmp_path / "run"
    train(tiny(), run, skin, devices=CPU, quiet=True)
    with pytest.raises(UsageError, match=r"cluster\.n_clusters: wanted 2 or more"):
        run_stage("clusters", run, ["cluster.n_clusters=1"], devices=CPU, quiet=True)
    assert (run / "clusters/units.csv").is_file() and (run / "evaluation/metrics.json").is_file()
    train(tiny("cluster.n_clusters=1", method="simclr"), tmp_path / "simclr", skin, devices=CPU, quiet=True)


def test_a_run_of_one_pseudo_class_from_when_that_was_allowed_goes_on(skin, tiny, tmp_path, capsys):
    """Its pre-training is behind it; what wants clusters says what to do, as no --set of its own can."""
    config, run = tiny("cluster.n_clusters=1"), tmp_path / "run"
    train(tiny("cluster.n_clusters=3"), run, skin, devices=CPU, quiet=True)
    write_json(run / "config.json", read_json(run / "config.json") | {"cluster": config.to_dict()["cluster"]})
    capsys.readouterr()
    run_stage("finetune", run, ["label_fraction=0.5"], devices=CPU)
    advice = f"; cluster and pre-train again, from clustercl cluster {run} --set cluster.n_clusters=auto on"
    wanted = "cluster.n_clusters: wanted 2 or more, or auto, .* no negative is left to learn from" + re.escape(advice)
    assert re.search(f"^warning: {wanted}$", capsys.readouterr().err, re.M)
    half = tiny("cluster.n_clusters=1", label_fraction=0.5)
    assert train(half, run, skin, devices=CPU)["cases"] >= 1
    assert re.search(f"^warning: {wanted}$", capsys.readouterr().err, re.M)
    with pytest.raises(UsageError, match=f"^{wanted}$"):
        run_stage("pretrain", run, devices=CPU, quiet=True)
    shutil.rmtree(run / "pretrain")
    with pytest.raises(UsageError, match=f"^{wanted}$"):
        train(half, run, skin, devices=CPU, quiet=True)
    run_stage("clusters", run, ["cluster.n_clusters=auto"], devices=CPU, quiet=True)
    run_stage("pretrain", run, devices=CPU, quiet=True)


def test_labels_that_leave_no_negative_are_warned_of(tiny, skin, tmp_path, capsys):
    table = tmp_path / "groups.csv"
    told = []
    for kinds in (1, 2):
        table.write_text("id,group\n" + "".join(f"ISIC_{n:07d},{n % kinds}\n" for n in range(12)))
        train(tiny(method="oracle-class"), tmp_path / str(kinds), skin, devices=CPU, groups=table)
        told.append(capsys.readouterr().err)
    assert "warning: pretrain: with 100.0% of the weight of the negatives taken away there is hardly" in told[0]
    assert "labels take away" in told[1] and "warning: pretrain" not in told[1]


def test_clustering_again_into_one_class_is_warned_of(tiny, skin, tmp_path, capsys, monkeypatch):
    def one_class(context, known, encoder, feed):
        return replace(known, pseudo_class=torch.zeros_like(known.pseudo_class))

    monkeypatch.setattr("clustercl.training.labels.clustered_again", one_class)
    train(tiny(*RECLUSTER), tmp_path / "run", skin, [skin / "unlabelled"], devices=CPU)
    assert "clustered again" in (said := capsys.readouterr().err)
    assert said.partition("clustered again")[2].count("warning: pretrain: with 100.0% of the weight") >= 1
    assert "warning: pretrain: with" not in said.partition("clustered again")[0]


def test_a_batch_holds_one_unit_of_each_class(tiny, monkeypatch):
    classes = torch.tensor([0, 0, 0, 1, 1, 2, 3, 3, 3, 3]).numpy()
    feed = UnitFeed([], list(range(10)), None, None, 4, seed=5)
    feed.take_one_of_each(classes)
    drawn = [feed._stream.draw(step)[0] for step in range(24)]
    for batch in drawn:
        assert sorted(classes[batch]) == [0, 1, 2, 3]
    assert sorted(batch[0] for batch in drawn[:3]) == [0, 1, 2]  # of a class each comes in turn
    assert len({tuple(batch) for batch in drawn}) > 6
    again = UnitFeed([], list(range(10)), None, None, 4, seed=5)
    again.take_one_of_each(classes)
    assert (again._stream.draw(17)[0] == drawn[17]).all()
    with pytest.raises(DataError, match="only 4 different groups of units for batches of 5"):
        UnitFeed([], list(range(10)), None, None, 5, seed=5).take_one_of_each(classes)


def test_the_share_of_negatives_that_labels_take_away():
    # Of 12 ordered pairs of four units, two are of one class.
    assert weight_left_out(torch.tensor([0, 0, 1, -1])) == pytest.approx(2 / 12)
    assert weight_left_out(torch.tensor([-1, -1, -1])) == pytest.approx(0)
    levels = torch.tensor([[0, 0], [0, 1], [0, 1], [1, 2]])  # 6 pairs share the first level, 2 of them both
    assert weight_left_out(levels, (0.5, 0.2)) == pytest.approx((4 * 0.5 + 2 * 0.9) / 12)
    many = torch.arange(9000) % 4
    assert weight_left_out(many) == pytest.approx(0.25, abs=0.02)  # 2,000 drawn of them


RECLUSTER = ("pretrain.recluster_epochs=1", "pretrain.steps=9", "pretrain.log_every=1")


@pytest.mark.parametrize("method", ["pseudo-class", "pseudo-class-tree"])
def test_clustering_again_changes_labels_and_logs_how_many(tiny, skin, tmp_path, capsys, monkeypatch, method):
    run, compared = tmp_path / "run", []

    def recorded(before, after):
        compared.append((before.clone(), after.clone(), agreement(before, after)))
        return compared[-1][2]

    monkeypatch.setattr("clustercl.training.stages.agreement", recorded)
    train(tiny(*RECLUSTER, method=method), run, skin, [skin / "unlabelled"], devices=CPU)
    told = capsys.readouterr().err
    found = rows(run)
    epoch = (5 + 4) // 4  # train and unlabelled units, batches of 4
    assert {row["class_agreement"] for row in found[:epoch]} == {1.0}
    assert all(-0.5 <= row["class_agreement"] <= 1 for row in found[epoch:])
    # The classes that were with those that came, which are those that were the next time; and some do change.
    assert any(not torch.equal(before, after) and told < 1 for before, after, told in compared)
    assert all(torch.equal(one[1], other[0]) for one, other in pairwise(compared))
    assert found[-1]["class_agreement"] == pytest.approx(compared[-1][2])
    assert told.count("clustered again after step") == 8 // epoch
    assert f"clustered again after step {epoch}: adjusted Rand index" in told
    first = torch.load(run / "pretrain" / "last.pt", weights_only=True)["model"]["labels"]
    assert first.shape == ((9,) if method == "pseudo-class" else (9, 4))


@pytest.mark.parametrize("steps", [2, 3, 5])
def test_clustering_again_is_resumed_exactly(tiny, skin, tmp_path, monkeypatch, steps):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    train(tiny(*RECLUSTER), whole, skin, [skin / "unlabelled"], devices=CPU, quiet=True)
    real, seen = Interrupt.step, []

    def step(self):
        seen.append(1)
        # The auto-encoder takes 6 steps.
        return "SIGINT" if len(seen) == 6 + steps else real(self)

    monkeypatch.setattr(Interrupt, "step", step)
    with pytest.raises(Stopped, match=f"in pretrain after step {steps}"):
        train(tiny(*RECLUSTER), cut, skin, [skin / "unlabelled"], devices=CPU, quiet=True)
    monkeypatch.undo()
    train(tiny(*RECLUSTER), cut, skin, [skin / "unlabelled"], devices=CPU, quiet=True)
    assert rows(cut) == rows(whole)
    one, other = (torch.load(run / "pretrain" / "last.pt", weights_only=True)["model"] for run in (whole, cut))
    for key, value in one.items():
        assert torch.equal(value, other[key]), key


def test_methods_without_pseudo_classes_are_not_clustered_again(tiny, skin, tmp_path, capsys):
    train(tiny(*RECLUSTER, method="g-simclr"), tmp_path / "run", skin, [skin / "unlabelled"], devices=CPU)
    told = capsys.readouterr().err
    assert "method g-simclr is not clustered again" in told and "clustered again after step" not in told


@pytest.mark.parametrize(("name", "content"), [("features", b"x"), ("linkage", b"")])
def test_clusters_that_are_not_of_this_run(tiny, skin, tmp_path, name, content):
    run = tmp_path / "run"
    train(tiny(), run, skin, devices=CPU, quiet=True)
    (run / "clusters" / f"{name}.npy").write_bytes(content)
    with pytest.raises(DataError, match=rf"{name}.npy: cannot be read .*: cluster again with clustercl cluster"):
        run_stage("pretrain", run, ["pretrain.lr=0.01"], devices=CPU, quiet=True)
    assert stages.WORKS  # the stage itself is what refused


@pytest.mark.parametrize(
    "text, message",
    [
        ("pretrain.recluster_epochs=-1", "recluster_epochs: wanted a number from 0 on, got -1"),
        ("pretrain.tree_cuts=[1.0]", "tree_cuts: wanted 1 to 4 numbers and as many tree_weights, got 1 and 4"),
        ("pretrain.tree_cuts=[1,2,0,3]", "tree_cuts: wanted numbers above 0, got 0"),
        ("pretrain.tree_weights=[1,2,0,0]", "tree_weights: wanted 0 to 1, got 2"),
        ("pretrain.momentum=1.5", "momentum: wanted 0 to 1, got 1.5"),
        ("pretrain.mask_share=1.0", "mask_share: wanted a share between 0 and 1, got 1"),
        ("pretrain.mask_cell=0", "mask_cell: wanted at least 1, got 0"),
    ],
)
def test_settings_of_methods_are_checked(tiny, text, message):
    with pytest.raises(UsageError, match=message):
        tiny(text)
