"""Bad usage gets one sentence that names the thing, exit 2, and leaves nothing behind."""

import pytest

from clustercl.cli.main import run


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["--gpus", "4"], ["--gpus 4", "no GPU is visible"]),
        (["--preset", "huge"], ["huge", "tiny"]),
        (["--method", "nonsense"], ["nonsense", "simclr"]),
        (["--label-fraction", "0"], ["label-fraction"]),
        (["--label-fraction", "1.5"], ["label-fraction"]),
        (["--set", "pretrain.temprature=0.2"], ["temprature", "temperature"]),
        (["--set", "nonsense"], ["nonsense"]),
        (["--labels", "RV=one", "--data", "."], ["RV=one"]),
        (["--device", "tpu"], ["tpu"]),
        (["--config", "missing.toml"], ["missing.toml"]),
        (["--list", "a.csv", "--data", "b"], ["--list", "--data"]),
        (["--data", ""], ["--data", "wanted a path, got an empty one"]),
        (["--unlabelled", "", "--data", "."], ["--unlabelled", "wanted a path, got an empty one"]),
        (["--config", ""], ["--config", "wanted a path, got an empty one"]),
        (["--processes", "0"], ["--processes: wanted a number from 1 on, got 0"]),
        (["--preset", "tiny", "--set", "data.patch=[8,8,8]"], ["data.patch", "16", "got 8"]),
        (["--set", "finetune.weight_decay=-1"], ["finetune.weight_decay", "from 0 on"]),
        (["--set", "finetune.clip_norm=-1"], ["finetune.clip_norm", "from 0 on"]),
    ],
    ids=lambda value: value[0] if isinstance(value, list) and value[0].startswith("--") else "",
)
def test_bad_usage_is_exit_2(arguments, wanted, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    code = run(["train", "--task", "heart", "--out", str(tmp_path / "run"), *arguments])
    error = capsys.readouterr().err
    assert code == 2, error
    for text in wanted:
        assert text in error
    assert not (tmp_path / "run").exists()


def test_an_empty_path_is_never_the_current_folder(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # The first that imports another comes first: it would keep what stands there for the other.
    for called in ("training.compare.compare", "evaluation.predict.predict_files", "training.pipeline.train"):
        monkeypatch.setattr(f"clustercl.{called}", lambda *_, **__: None)
    for words in (
        ["train", "--task", "skin", "--out", ""],
        ["compare", "--task", "skin", "--out", ""],
        ["data", "demo", "", "--task", "skin"],
        ["data", "check", "--task", "skin", "--data", ""],
        ["report", ""],
        ["finetune", ""],
        ["predict", "--checkpoint", "best.pt", "--out", "", "a.png"],
    ):
        assert run(words) == 2
        assert "wanted a path, got an empty one" in capsys.readouterr().err
        assert not [*tmp_path.iterdir()]
