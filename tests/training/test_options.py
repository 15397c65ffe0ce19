"""What --seed, --deterministic, --precision, --compile, --accumulate, --batch-size and --encoder promise."""

import shutil

import pytest
import torch
from click.testing import CliRunner

from clustercl.cli import options
from clustercl.errors import DataError, RunError, UsageError
from clustercl.files import read_json, read_rows
from clustercl.models.checkpoint import encoder_weights, read_checkpoint
from clustercl.models.encoder import Encoder
from clustercl.models.unet import UNet
from clustercl.training.devices import DeviceRequest
from clustercl.training.pipeline import run_stage, train
from clustercl.training.run import TRAINING

CPU = DeviceRequest("cpu")


def losses(out, stage):
    return [row["loss"] for row in read_rows(out / stage / "metrics.jsonl")]


@pytest.fixture(scope="module")
def plain(skin, tiny, tmp_path_factory):
    """One run of all stages, which the others are compared with."""
    out = tmp_path_factory.mktemp("runs") / "plain"
    train(tiny(), out, skin, [skin / "unlabelled"], devices=CPU, quiet=True)
    return out


@pytest.mark.parametrize("deterministic", [False, True])
def test_the_same_seed_gives_the_same_files(plain, skin, tiny, tmp_path, deterministic):
    """Every number of every stage; another seed gives another split, order and weights."""
    try:
        again = tiny(deterministic=deterministic or None)
        train(again, tmp_path / "again", skin, [skin / "unlabelled"], devices=CPU, quiet=True)
        assert torch.are_deterministic_algorithms_enabled() == deterministic
    finally:
        torch.use_deterministic_algorithms(False)
    for name in ("split.json", "evaluation/metrics.json", "evaluation/per_case.csv", "clusters/units.csv"):
        assert (tmp_path / "again" / name).read_bytes() == (plain / name).read_bytes(), name
    for stage in TRAINING:
        name = f"{stage}/metrics.jsonl"
        assert (tmp_path / "again" / name).read_bytes() == (plain / name).read_bytes(), name
    train(tiny(seed=1), tmp_path / "other", skin, [skin / "unlabelled"], devices=CPU, quiet=True)
    assert read_json(tmp_path / "other/split.json") != read_json(plain / "split.json")
    assert all(losses(tmp_path / "other", stage) != losses(plain, stage) for stage in TRAINING)


@pytest.mark.parametrize("parts", [2, 3])
def test_parts_of_a_batch_give_the_same_training(plain, skin, tiny, tmp_path, parts):
    sets = [f"{stage}.accumulate={parts}" for stage in TRAINING]
    train(tiny(*sets), tmp_path / "parts", skin, [skin / "unlabelled"], devices=CPU, quiet=True)
    for stage in TRAINING:
        # float32, and AdamW divides by the size of gradients, so that rounding grows from step to step.
        assert losses(tmp_path / "parts", stage) == pytest.approx(losses(plain, stage), rel=1e-3)


def test_bfloat16_on_the_cpu(plain, skin, tiny, tmp_path, capsys):
    train(tiny(precision="bf16"), tmp_path / "half", skin, [skin / "unlabelled"], devices=CPU)
    assert "precision bf16" in capsys.readouterr().err
    # bfloat16 keeps 8 bits; over the few steps here losses stay within a few per cent. Pseudo-classes do not.
    half = losses(tmp_path / "half", "autoencoder")
    assert half == pytest.approx(losses(plain, "autoencoder"), rel=0.1)
    for stage in TRAINING:
        assert losses(tmp_path / "half", stage) != losses(plain, stage)
        model = read_checkpoint(tmp_path / "half" / stage / "last.pt")["model"]
        assert {weight.dtype for weight in model.values() if weight.is_floating_point()} == {torch.float32}


def test_float16_wants_a_gpu(skin, tiny, tmp_path):
    with pytest.raises(UsageError, match="--precision 16: float16 training needs a GPU; on the CPU use 32 or bf16"):
        train(tiny(precision="16"), tmp_path / "run", skin, devices=CPU, quiet=True)
    assert not (tmp_path / "run").exists()


def test_another_precision_does_not_go_on(plain, skin, tiny, tmp_path):
    """As a run that began on a GPU, in bfloat16 by itself, and goes on where there is none."""
    shutil.copytree(plain, tmp_path / "run")
    last = tmp_path / "run/finetune/last.pt"
    content = torch.load(last, weights_only=True)
    torch.save(content | {"precision": "bf16-mixed", "step": 4}, last)
    with pytest.raises(RunError, match=r"finetune: precision was bf16-mixed, is 32-true: go on with the"):
        train(tiny(), tmp_path / "run", skin, [skin / "unlabelled"], devices=CPU, quiet=True)


@pytest.mark.slow
def test_compiled_networks_learn_the_same(skin, tiny, tmp_path):
    """The first loss, and the gradient; later AdamW makes steps of gradients that are but rounding."""
    found = {}
    for compiled in (False, True):
        sets = [f"{stage}.log_every=1" for stage in TRAINING]
        config = tiny(*sets, compile=compiled, method="simclr")
        train(config, tmp_path / str(compiled), skin, [skin / "unlabelled"], devices=CPU, quiet=True)
        torch.manual_seed(0)
        network = UNet(Encoder(2, 3, (4, 8, 8)), 2).to(memory_format=torch.channels_last)
        if compiled:
            network.compile()
        image = torch.rand(2, 3, 32, 32).to(memory_format=torch.channels_last)
        network(image).square().mean().backward()
        found[compiled] = torch.cat([weight.grad.flatten() for weight in network.parameters()])
    # float32, and compiled kernels sum in another order.
    assert (found[True] - found[False]).norm() < 1e-4 * found[False].norm()
    one, other = losses(tmp_path / "True", "pretrain"), losses(tmp_path / "False", "pretrain")
    assert one[0] == pytest.approx(other[0], rel=1e-4) and one != other, "compiled or not made no difference"
    for stage in ("pretrain", "finetune"):
        names = [read_checkpoint(tmp_path / kind / stage / "last.pt")["model"].keys() for kind in ("True", "False")]
        assert names[0] == names[1]


def test_options_become_settings():
    seen = []

    import click

    @click.command()
    @options.training
    def command(own_sets):
        seen.extend(own_sets)

    CliRunner().invoke(command, ["--batch-size", "32", "--accumulate", "2", "--precision", "bf16", "--compile"])
    assert seen == [
        *(f"{stage}.batch_size=32" for stage in TRAINING),
        *(f"{stage}.accumulate=2" for stage in TRAINING),
        'precision="bf16"',
        "compile=true",
    ]


@pytest.fixture
def theirs(plain, tmp_path):
    """The encoder of another training, as some other program would have saved it."""
    weights = encoder_weights(read_checkpoint(plain / "pretrain/best.pt"))
    path = tmp_path / "theirs.pth"
    torch.save({"state_dict": {f"module.{name}": weight for name, weight in weights.items()}}, path)
    return path


def test_an_encoder_from_elsewhere(theirs, skin, tiny, tmp_path, capsys):
    """Fine-tuning begins with it; the run keeps it, and neither goes on without being told nor with another."""
    config, out = tiny(method="scratch"), tmp_path / "run"
    train(config, out, skin, devices=CPU, encoder=theirs)
    said = capsys.readouterr().err
    assert f"--encoder {theirs}: " in said and " of its weights fit, 0 are missing, 0 have another shape" in said
    assert "  matched     conv_0.conv_0.conv.weight (4, 3, 3, 3)" in said
    train(config, tmp_path / "without", skin, devices=CPU, quiet=True)
    assert losses(out, "finetune") != losses(tmp_path / "without", "finetune")
    theirs.unlink()
    run_stage("finetune", out, devices=CPU, quiet=True)
    train(config, out, skin, devices=CPU, quiet=True, encoder=theirs)
    with pytest.raises(UsageError, match=r"with other settings \(source.encoder was '.*theirs.pth', is None"):
        train(config, out, skin, devices=CPU, quiet=True)
    with pytest.raises(UsageError, match=r"\(source.encoder was None, is '.*theirs.pth'"):
        train(config, tmp_path / "without", skin, devices=CPU, quiet=True, encoder=theirs)


def test_an_encoder_that_was_moved_is_no_other(theirs, skin, tiny, tmp_path):
    """The run keeps its weights: what config.json says that they are is so."""
    config, out, moved = tiny(method="scratch"), tmp_path / "run", tmp_path / "moved.pth"
    train(config, out, skin, devices=CPU, quiet=True, encoder=theirs)
    theirs.rename(moved)
    weights = torch.load(moved, weights_only=True)["state_dict"]
    torch.save({name: weight + 1 for name, weight in weights.items()}, tmp_path / "other.pth")
    with pytest.raises(UsageError, match=r"--encoder .*other.pth: holds other weights than .*run/encoder.pt"):
        train(config, out, skin, devices=CPU, quiet=True, encoder=tmp_path / "other.pth")
    with pytest.raises(DataError, match=r"none.pth: there is no such"):
        train(config, out, skin, devices=CPU, quiet=True, encoder=tmp_path / "none.pth")
    train(config, out, skin, devices=CPU, quiet=True, encoder=moved)
    assert read_json(out / "config.json")["source"]["encoder"] == str(moved)


def test_it_begins_with_the_very_weights(theirs, skin, tiny, tmp_path, monkeypatch):
    """Of every stage that begins at random; what is not in the file stays as the seed has it."""
    from clustercl.training import stages

    begun = {}
    monkeypatch.setattr(stages, "fit", lambda work, *rest: begun.update({work.stage: work.model}) or 1 / 0)
    given = torch.load(theirs, weights_only=True)["state_dict"]
    for method, stage in (("scratch", "finetune"), ("simclr", "pretrain"), ("pseudo-class", "autoencoder")):
        with pytest.raises(ZeroDivisionError):
            train(tiny(method=method), tmp_path / method, skin, devices=CPU, quiet=True, encoder=theirs)
        for name, weight in begun[stage].encoder.state_dict().items():
            assert torch.equal(weight, given[f"module.{name}"])


def test_an_encoder_that_does_not_fit_leaves_no_run(skin, tiny, tmp_path):
    torch.save({"layer1.weight": torch.ones(3)}, tmp_path / "resnet.pt")
    for path, sentence in ((tmp_path / "resnet.pt", "nothing in it fits"), (tmp_path / "none.pt", "there is no such")):
        with pytest.raises(DataError, match=sentence):
            train(tiny(), tmp_path / "run", skin, devices=CPU, quiet=True, encoder=path)
        assert not (tmp_path / "run").exists()
