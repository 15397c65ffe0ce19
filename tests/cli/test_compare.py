"""`clustercl compare`: what it prints and leaves, and what it refuses."""

import pytest
from PIL import Image

from clustercl.cli.main import run
from clustercl.data.demo import write_demo

SMALL = ["data.size=32", "model.features=[4,8,8]", "model.code_dim=4", "model.projection_dim=4", "cluster.n_clusters=3",
         "autoencoder.steps=2", "autoencoder.batch_size=4", "pretrain.steps=2", "pretrain.batch_size=4",
         "finetune.steps=2", "finetune.batch_size=4"]  # fmt: skip
SETS = [word for setting in SMALL for word in ("--set", setting)]


def test_table_files_and_another_folder(tmp_path, capsys, monkeypatch):
    data = write_demo(tmp_path / "data", "skin", cases=8)
    monkeypatch.chdir(tmp_path)
    words = ["compare", "--task", "skin", "--data", str(data), "--preset", "tiny", "--device", "cpu", *SETS]
    other = write_demo(tmp_path / "other", "skin", cases=3, seed=1)
    assert run([*words, "--label-fractions", "1", "--test-data", str(other)]) == 0
    shown = capsys.readouterr()
    out = tmp_path / "runs" / "compare"  # the default
    assert shown.out.startswith("| labels | method |") and f"On {other}:" in shown.out
    assert (out / "table.md").read_text() in shown.out and (out / "table_test_data.md").read_text() in shown.out
    for method in ("scratch", "simclr", "pseudo-class"):
        assert f"| 1 | {method} |" in shown.out
    with Image.open(out / "figure.png") as picture:
        assert picture.format == "PNG"
    assert (out / "results.csv").read_text().startswith("method,label_fraction,fold,seed,case,dice,jaccard,hd95")
    # What is finished there may be the baseline of methods that join it.
    assert run([*words, "--label-fractions", "1", "--methods", "pseudo-class", "--baseline", "scratch"]) == 0
    assert "to scratch" in capsys.readouterr().out
    # A part without the baseline has rows, and no table yet.
    part = [*words, "--label-fractions", "1", "--methods", "scratch,simclr", "--shard", "1/2", "--out", "part"]
    assert run(part) == 0
    assert (
        capsys.readouterr().out
        == "no run of simclr is finished yet, so there is no table: part/results.csv has the rows\n"
    )


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["--methods", "simclr,moco"], "there is no method 'moco'"),
        (["--label-fractions", "a"], "--label-fractions: wanted numbers as 0.1,1, got 'a'"),
        (["--label-fractions", "0"], "wanted a share above 0"),
        (["--seeds", "1.5"], "--seeds: wanted whole numbers as 0,1,2, got '1.5'"),
        (["--shard", "3/2"], "--shard: wanted I/N"),
        (["--folds", "0"], "--folds: wanted a number from 1 on"),
        (["--vary", "cluster.clusters=3"], "there is no setting cluster.clusters: did you mean cluster.n_clusters?"),
        (["--vary", "temperature=0.1,0.5"], "there is no setting temperature: did you mean pretrain.temperature?"),
        (["--vary", "cluster.n_clusters"], "--vary cluster.n_clusters: wanted KEY=VALUE,VALUE"),
        (["--unlabelled", "PH2"], "--unlabelled needs --data or --list"),
        (["--baseline", "mae"], "--baseline: 'mae' is not compared, wanted one of scratch, simclr, pseudo-class"),
    ],
)
def test_bad_usage_is_exit_2_and_leaves_nothing(arguments, wanted, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(["compare", "--task", "skin", "--out", str(out), *arguments]) == 2
    assert wanted in capsys.readouterr().err
    assert not out.exists()
