"""Configurations: what overrules what, and what is refused with the nearest known key."""

import json

import pytest

from clustercl.data.task import get_task
from clustercl.errors import UsageError
from clustercl.training.config import Config, require_fitting, resolve, settings_of_methods
from clustercl.training.presets import PRESETS
from clustercl.training.toml import to_toml


@pytest.mark.parametrize("task, preset", PRESETS)
def test_presets_resolve_and_survive_json(task, preset):
    config = resolve(task, preset)
    assert (config.task, config.preset) == (task, preset)
    assert Config.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_later_sources_overrule_earlier(tmp_path):
    toml = tmp_path / "mine.toml"
    toml.write_text('seed = 1\nmethod = "simclr"\n[data]\nsize = 64\n[finetune]\nlr = 1\nsteps = 5\n')
    config = resolve("skin", "tiny", toml, ["finetune.steps=7", "model.features=8,16"], seed=3, method=None)
    assert config.data.size == 64 and config.method == "simclr" and config.finetune.lr == 1.0
    assert config.finetune.steps == 7 and config.model.features == (8, 16) and config.seed == 3
    assert config.finetune.batch_size == resolve("skin", "tiny").finetune.batch_size


@pytest.mark.parametrize(
    "text, key, value",
    [
        ("cluster.n_clusters=auto", "n_clusters", "auto"),
        ("cluster.n_clusters=7", "n_clusters", 7),
        ("cluster.linkage = average", "linkage", "average"),
    ],
)
def test_set_reads_numbers_and_words(text, key, value):
    assert getattr(resolve("skin", "tiny", sets=[text]).cluster, key) == value


@pytest.mark.parametrize(
    "assignment, sentence",
    [
        ("data.sise=128", "no setting data.sise: did you mean data.size"),
        ("size=128", "no setting size: did you mean data.size"),
        ("finetune.step=1", "did you mean finetune.steps"),
        ("pretrian.temperature=0.2", "no setting pretrian.temperature: did you mean pretrain.temperature?"),
        ("pretrian.lr=0.2", "no setting pretrian.lr: did you mean pretrain.lr?"),
        ("pretrian.temprature=0.2", "no setting pretrian.temprature: did you mean pretrain.temperature?"),
        ("finetune.temperature=0.2", "no setting finetune.temperature: did you mean pretrain.temperature?"),
        ("foo.qqqq=1", "no setting foo.qqqq: known are task, preset, seed"),
        (
            "model.zzzzzzzzzzzzzzz=1",
            "no setting model.zzzzzzzzzzzzzzz: known are model.features, model.code_dim, model.projection_dim, ",
        ),
        ("data=3", "data: is a section"),
        ("data.size.x=3", "size is a value, not a section"),
        ("data.size=big", "data.size: wanted a whole number, got 'big'"),
        ("data.size=1.5", "data.size: wanted a whole number"),
        ("finetune.lr=inf", "finetune.lr: wanted a finite number, got inf"),
        ("data.hu_window=[nan,600]", "data.hu_window: wanted a finite number, got nan"),
        (
            "pretrain.temperature=1e-50",
            "pretrain: pseudo_class_nt_xent: temperature must be a positive number, got 1e-50",
        ),
        (
            "pretrain.tree_weights=[1e-20,1e-20,1,0]",
            "pretrain: pseudo_class_nt_xent: level_weight must be 0 where the product of",
        ),
        ("seed=true", "seed: wanted a whole number"),
        ("data.spacing=[1,2]", "data.spacing: wanted a list of 3"),
        ("data.size", "wanted KEY=VALUE"),
        ("task=heart", "task is chosen with --task"),
        ("method=magic", "no method 'magic', wanted one of pseudo-class"),
        ("label_fraction=0", "label-fraction"),
        ("precision=half", "precision: wanted one of"),
        ("pretrain.batch_size=1", "pretrain.batch_size"),
        ("autoencoder.batch_size=1", "autoencoder.batch_size"),
        ("pretrain.temperature=0", "pretrain.temperature"),
        ("pretrain.view_scale=0", "pretrain.view_scale: wanted a share above 0"),
        ("pretrain.start=zero", "pretrain.start"),
        ("finetune.steps=0", "finetune.steps: wanted at least 1"),
        ("autoencoder.warmup=2", "autoencoder.warmup"),
        ("cluster.n_clusters=0", "cluster.n_clusters"),
        ("cluster.whiten=-1", "cluster.whiten: wanted a number from 0 on"),
        ("cluster.linkage=median", "cluster.linkage"),
        ("evaluation.overlap=1", "evaluation.overlap"),
    ],
)
def test_wrong_settings_are_refused(assignment, sentence):
    with pytest.raises(UsageError) as caught:
        resolve("skin", "tiny", sets=[assignment])
    assert sentence in str(caught.value)


@pytest.mark.parametrize("sets", [["data.size=8"], ["data.size=64", "pretrain.view_scale=0.2"]])
def test_images_and_views_too_small_for_the_network_are_refused(sets):
    config = resolve("skin", "tiny", sets=sets)
    with pytest.raises(UsageError, match=sets[-1].partition("=")[0] + ": wanted 16 or more pixels per axis"):
        require_fitting(config, get_task("skin"))


def test_wrong_files_and_presets_are_refused(tmp_path):
    with pytest.raises(UsageError, match=r"no preset 'huge' for task 'skin', wanted one of tiny, default, full$"):
        resolve("skin", "huge")
    with pytest.raises(UsageError, match=r"none\.toml cannot be read"):
        resolve("skin", "tiny", tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("size = = 3")
    with pytest.raises(UsageError, match="is not TOML"):
        resolve("skin", "tiny", tmp_path / "bad.toml")
    (tmp_path / "heart.toml").write_text('task = "heart"')
    with pytest.raises(UsageError, match="is for task 'heart'"):
        resolve("skin", "tiny", tmp_path / "heart.toml")


def test_without_a_preset_the_one_of_the_file_counts(tmp_path):
    toml = tmp_path / "tiny.toml"
    toml.write_text('preset = "tiny"\nseed = 3\n')
    assert resolve("skin", toml_path=toml) == resolve("skin", "tiny", seed=3)
    assert resolve("skin").preset == "default"
    with pytest.raises(UsageError, match=r"tiny\.toml is for preset 'tiny', this run is for 'default'"):
        resolve("skin", "default", toml)
    toml.write_text('preset = "huge"\n')
    with pytest.raises(UsageError, match=r"--config: .*tiny\.toml: there is no preset 'huge' for task 'skin'"):
        resolve("skin", toml_path=toml)


def test_a_file_gives_one_method_settings_of_its_own(tmp_path):
    toml = tmp_path / "mine.toml"
    toml.write_text(
        "[pretrain]\nlr = 1e-3\n[methods.mae]\npretrain.lr = 4e-3\n[methods.byol.pretrain]\nmomentum = 0.9\n"
    )
    lr = {method: resolve("skin", "tiny", toml, method=method).pretrain.lr for method in ("mae", "byol", "simclr")}
    assert lr == {"mae": 4e-3, "byol": 1e-3, "simclr": 1e-3}
    assert resolve("skin", "tiny", toml, ["method=byol"]).pretrain.momentum == 0.9
    assert resolve("skin", "tiny", toml, ["pretrain.lr=2e-3"], method="mae").pretrain.lr == 2e-3
    assert resolve("skin", "tiny", toml, own=False, method="mae").pretrain.lr == 1e-3
    assert settings_of_methods("skin", "tiny", toml) == {
        "mae": {"pretrain.lr": 4e-3},
        "byol": {"pretrain.momentum": 0.9},
    }


@pytest.mark.parametrize(
    "text, sentence",
    [
        ("methods = 3", "methods holds a section for each method"),
        ("[methods]\nlr = 3", "methods holds a section for each method"),
        ("[methods.mea.pretrain]\nlr = 3", r"\[methods.mea\]: wanted one of pseudo-class"),
        ("[methods.mae.pretrain]\nlrr = 3", r"\[methods.mae\]: there is no setting pretrain.lrr: did you mean"),
        ("[methods.mae.data]\nsize = 64", "data.size: a method may have settings of its own in autoencoder, "),
        ("[method.mae.pretrain]\nlr = 3", r"settings of single methods are in \[methods.NAME.SECTION\]"),
        ("[methods.mae]\nseed = 4", "seed: a method may have"),
    ],
)
def test_wrong_settings_of_methods_are_refused_whichever_runs(text, sentence, tmp_path):
    (tmp_path / "bad.toml").write_text(text)
    with pytest.raises(UsageError, match=sentence):
        resolve("skin", "tiny", tmp_path / "bad.toml", method="simclr")


@pytest.mark.parametrize(("task", "preset"), PRESETS)
def test_the_commented_file_reads_back_as_the_same(task, preset, tmp_path):
    config = resolve(
        task, preset, sets=["cluster.n_clusters=auto", "pretrain.lr=3e-5", "fold=2/5", "deterministic=true"]
    )
    (tmp_path / "c.toml").write_text(to_toml(config))
    assert resolve(task, preset, tmp_path / "c.toml") == config
    text = (tmp_path / "c.toml").read_text()
    assert all(len(line) <= 100 for line in text.splitlines())
    for section in ("data", "model", "autoencoder", "cluster", "pretrain", "finetune", "evaluation"):
        comment, _, keys = text.partition(f"[{section}]\n")
        assert keys and comment.rstrip().splitlines()[-1].startswith("# ")


def test_every_setting_is_explained():
    """Each key is named with a colon in the comment above its section."""
    text = to_toml(resolve("heart", "default"))
    for part in text.split("\n\n")[1:]:
        comment = " ".join(line[2:] for line in part.splitlines() if line.startswith("# "))
        for key in (line.partition(" = ")[0] for line in part.splitlines() if " = " in line and line[0] != "#"):
            assert f"{key}:" in comment, (key, comment)
