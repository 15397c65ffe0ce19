"""`clustercl data check`, `data clean` and `train --fold`, from the command line."""

import json

import pytest

from clustercl.cli.main import run
from clustercl.data import findings


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CLUSTERCL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_run_uses_the_cache_and_clean_empties_it(tmp_path, cache, capsys):
    assert run(["data", "demo", str(tmp_path / "skin"), "--task", "skin", "--cases", "12"]) == 0
    few = [f"--set={stage}.steps=2" for stage in ("autoencoder", "pretrain", "finetune")]
    few += [f"--set={stage}.batch_size=4" for stage in ("autoencoder", "pretrain", "finetune")]
    common = ["--task", "skin", "--preset", "tiny", "--device", "cpu", "--data", str(tmp_path / "skin"), *few]
    tested = []
    for number in (1, 2, 3):
        out = tmp_path / f"run{number}"
        assert run(["train", *common, "--out", str(out), "--fold", f"{number}/3", "--workers", "0"]) == 0
        tested += json.loads((out / "split.json").read_text())["test"]
    assert sorted(tested) == [f"ISIC_{number:07d}" for number in range(1, 13)]
    made = sorted(path.name for path in cache.rglob("*") if path.is_file())
    assert len(made) == 2 * (18 + 12)  # images, masks and their digests; nothing twice, whatever the fold
    capsys.readouterr()
    assert run(["data", "clean"]) == 0
    assert capsys.readouterr().out.startswith("removed 30 prepared images and label maps, 0.") and not cache.exists()
    assert run(["data", "clean"]) == 0
    assert capsys.readouterr().out.startswith("removed 0 prepared images")


def test_a_wrong_fold_is_bad_usage(tmp_path, capsys):
    code = run(["train", "--task", "skin", "--out", str(tmp_path / "run"), "--fold", "3/2"])
    assert code == 2 and "--fold: wanted K/N as in 2/5" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_check_exits_by_what_it_found(tmp_path, capsys, monkeypatch):
    folder = tmp_path / "heart"
    assert run(["data", "demo", str(folder), "--task", "heart", "--cases", "3"]) == 0
    arguments = ["data", "check", "--task", "heart", "--data", str(folder)]
    capsys.readouterr()
    assert run(arguments) == 0
    table = capsys.readouterr().out
    assert table.splitlines()[0].split() == ["case", "size", "spacing", "axes", "values", "labelled"]
    assert "\nvoxels: background " in table and table.endswith("no problems\n")
    monkeypatch.setattr(findings, "TABLE_MOST", 3)
    assert run(arguments) == 0
    assert capsys.readouterr().out.startswith("cases: ")
    assert run([*arguments, "--table"]) == 0
    assert capsys.readouterr().out == table
    first = min(folder.rglob("ct_train_*_label.nii.gz"))
    first.unlink()
    assert run(arguments) == 0  # a warning
    assert f"warning: {first.with_name(first.name.replace('label', 'image'))}: its label" in capsys.readouterr().out
    min(folder.rglob("ct_train_*_label.nii.gz")).write_bytes(b"")
    assert run([*arguments, "--json"]) == 1
    found = json.loads(capsys.readouterr().out)  # and nothing else there
    assert [problem["severity"] for problem in found["problems"]].count("error") == 1
    assert len(found["rows"]) == found["summary"]["cases"] > 2
