"""What must not pass unseen: full memory, a full disk, losses that are not finite, embeddings all alike."""

import errno
import os
import subprocess
from dataclasses import dataclass, replace

import pytest
import torch
from lightning_fabric import Fabric

from clustercl.errors import RunError
from clustercl.evaluation.memory import memory_advice_untrained
from clustercl.files import read_rows, write_text
from clustercl.models.checkpoint import read_checkpoint
from clustercl.models.projection import embedding_spread
from clustercl.training import clusters, pipeline
from clustercl.training.devices import DeviceRequest
from clustercl.training.evaluate import evaluate_run
from clustercl.training.guards import NORMS_KEPT
from clustercl.training.loop import fit
from clustercl.training.settings import FinetuneSettings
from clustercl.training.work import Work

SETTINGS = FinetuneSettings(steps=24, batch_size=8, lr=1e-2, validate_every=0, log_every=4, save_seconds=0)


@dataclass
class Batch:
    x: torch.Tensor


def train(folder, loss=None, settings=SETTINGS, quiet=True, **more):
    torch.manual_seed(0)
    model = torch.nn.Linear(4, 3)

    def batch(step):
        return Batch(torch.randn(8, 4, generator=torch.Generator().manual_seed(step)))

    def square(model, batch):
        return model(batch.x).square().mean()

    work = Work("finetune", model, batch, loss or square, None, "validation_dice", True, {"config": {}, "task": {}})
    work.files = lambda step: [f"image{step}_{number}.png" for number in range(10)]
    for name, value in more.items():
        setattr(work, name, value)
    fabric = Fabric(accelerator="cpu", devices=1)
    fabric.launch()
    fit(work, settings, fabric, folder, 0, quiet)
    return read_checkpoint(folder / "last.pt")


def at_step(number, then):
    """A loss that calls `then` with itself in the given step, counted from 1."""
    calls = []

    def loss(model, batch):
        calls.append(1)
        value = model(batch.x).square().mean()
        return then(value) if len(calls) == number else value

    return loss


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("step", [2, 4, 8, 9])
def test_a_loss_that_is_not_finite(tmp_path, value, step):
    """Told with the step, its files and the norms before it; saved as it was before that step, and it can go on."""
    whole = train(tmp_path / "whole")
    with pytest.raises(RunError) as caught:
        train(tmp_path / "broken", at_step(step, lambda loss: loss * value))
    text = str(caught.value)
    assert text.startswith(f"finetune: the loss was not finite in step {step} (gradient norms before it: ")
    norms = text.split("before it: ")[1].split(";")[0].split(", ")
    assert len(norms) == min(step - 1, NORMS_KEPT) and all(0 < float(norm) < 10 for norm in norms)
    assert f"its batch: image{step - 1}_0.png, " in text and "image{step - 1}_8" not in text and "and 2 more)" in text
    assert text.endswith(f"lower finetune.lr, or check these images; saved after step {step - 1}")
    assert read_checkpoint(tmp_path / "broken/last.pt")["step"] == step - 1
    again = train(tmp_path / "broken")  # the image was mended
    assert all(torch.equal(value, whole["model"][key]) for key, value in again["model"].items())
    assert (tmp_path / "broken/metrics.jsonl").read_text() == (tmp_path / "whole/metrics.jsonl").read_text()


def test_spoilt_weights_are_never_saved(tmp_path):
    """A finite loss with a gradient that is not: the weights are spoilt before the next loss tells."""

    def spoil(loss):
        loss.register_hook(lambda grad: grad * float("nan"))
        return loss

    settings = replace(SETTINGS, save_seconds=1e9, clip_norm=0.0)
    with pytest.raises(RunError, match=r"not finite in step 7 .* norms before it: .*, nan; .* the state before that$"):
        train(tmp_path, at_step(6, spoil), settings)
    assert not (tmp_path / "last.pt").exists()
    with pytest.raises(RunError, match=r"finetune: a weight is not finite at step 8"):
        train(tmp_path, at_step(8, spoil))  # a row ends there, and would save
    assert read_checkpoint(tmp_path / "last.pt")["step"] == 4


def allocate(loss):
    """More than any machine has: 2^52 numbers."""
    return loss + torch.empty(1 << 52).sum()


def cuda_is_full(loss):
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")


@pytest.mark.parametrize("full", [allocate, cuda_is_full])
def test_out_of_memory_says_what_helps(tmp_path, full):
    settings = replace(SETTINGS, batch_size=8)
    with pytest.raises(RunError) as caught:
        train(tmp_path, at_step(6, full), settings)
    assert str(caught.value) == (
        "finetune: out of memory on the CPU with batches of 8: --set finetune.accumulate=2 gives the same result in "
        "about half the memory, finetune.batch_size=4 would likely fit too"
    )
    assert train(tmp_path)["step"] == 24  # the checkpoint before is whole
    with pytest.raises(RunError, match=r"one sample at a time is too much, lower data.size or data.patch"):
        train(tmp_path / "single", at_step(1, full), replace(SETTINGS, batch_size=8, accumulate=8))


def test_out_of_memory_where_nothing_is_trained(skin, tiny, tmp_path, monkeypatch):
    """Encoding units and evaluation: the run is kept, and goes on where the memory is enough."""
    run, cpu = tmp_path / "run", DeviceRequest("cpu")

    def full(*ignored, **options):
        torch.empty(1 << 52)

    def trained(**options):
        return pipeline.train(tiny(**options), run, skin, devices=cpu, quiet=True)

    with monkeypatch.context() as patch, pytest.raises(RunError) as caught:
        patch.setattr(clusters, "unit_image", full)
        trained()
    assert str(caught.value) == (
        "encoding units in batches of 4: out of memory on the CPU: start a new run with --set autoencoder.batch_size=2"
    )
    sentence = "evaluation: out of memory on the CPU: start a new run with a smaller data.size or data.patch, a coarser"
    with monkeypatch.context() as patch:
        patch.setattr("clustercl.evaluation.evaluate.predict_probabilities", full)
        with pytest.raises(RunError, match=sentence):
            trained()
        with pytest.raises(RunError, match=sentence):
            evaluate_run(run, devices=cpu, quiet=True)
    assert 0 <= trained()["dice"]["mean"] <= 1


def test_a_gpu_that_is_too_small_is_not_needed_where_nothing_is_trained(monkeypatch):
    monkeypatch.setattr("clustercl.evaluation.memory._place", lambda device: "a small GPU")
    for on_host, helps in (("clustercl cluster run", "clustercl cluster run --device cpu needs none of it"),
                           (None, "start a new run with --set autoencoder.batch_size=8")):  # fmt: skip
        smaller = "--set autoencoder.batch_size=8"
        advice = memory_advice_untrained("encoding", torch.device("cuda"), smaller, on_host)
        with pytest.raises(RunError) as caught, advice:
            cuda_is_full(0)
        assert str(caught.value) == f"encoding: out of memory on a small GPU: {helps}"
    advice = memory_advice_untrained("encoding", torch.device("cuda"), "less")
    with pytest.raises(RuntimeError, match="something else"), advice:
        raise RuntimeError("something else")


def test_other_errors_keep_their_words(tmp_path):
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        train(tmp_path, lambda model, batch: model(batch.x[:, :2]).sum())


def test_a_full_disk_keeps_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "rows.csv"
    write_text(path, "before")
    real = os.fsync

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunError, match=r"rows.csv: cannot be written, the disk is full: what was there before is kept"):
        write_text(path, "after")
    monkeypatch.setattr(os, "fsync", real)
    assert path.read_text() == "before" and list(tmp_path.iterdir()) == [path]


def test_on_a_disk_that_fills_up_it_stops_and_goes_on(tmp_path):
    """A real file system of 150 kB, where the user may make one; a checkpoint of this network takes some 60 kB."""
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=152k", "tmpfs", small], capture_output=True).returncode:
        pytest.skip("only root may mount a file system")
    try:
        torch.manual_seed(0)
        wide = torch.nn.Linear(4, 1000)
        with pytest.raises(RunError, match=r"cannot be written, the disk is full"):
            train(small / "run", model=wide, settings=replace(SETTINGS, log_every=1))
        step = read_checkpoint(small / "run/last.pt")["step"]
        assert step >= 1
        subprocess.run(["mount", "-o", "remount,size=4m", small], check=True)
        torch.manual_seed(0)
        assert train(small / "run", model=torch.nn.Linear(4, 1000), settings=replace(SETTINGS, log_every=1))
        rows = read_rows(small / "run/metrics.jsonl")
        assert [row["step"] for row in rows] == list(range(1, 25))
    finally:
        subprocess.run(["umount", "-l", small], check=True)


def test_the_spread_of_embeddings():
    draw = torch.Generator().manual_seed(0)
    assert embedding_spread(torch.randn(4000, 32, generator=draw)).item() == pytest.approx(1, abs=0.02)
    assert embedding_spread(torch.ones(10, 4)).item() == pytest.approx(0, abs=1e-6)
    nearly = torch.ones(4000, 32) + 0.01 * torch.randn(4000, 32, generator=draw)
    assert embedding_spread(nearly).item() == pytest.approx(0.01, rel=0.05)


def test_a_collapse_is_warned_of_once(tmp_path, capsys):
    settings = replace(SETTINGS, warmup=0.3)
    train(tmp_path / "alike", settings=settings, quiet=False, numbers=lambda: {"embedding_spread": torch.tensor(0.03)})
    said = capsys.readouterr().err
    assert said.count("warning: finetune: the embeddings are nearly all alike at step 8 (spread 0.030;") == 1
    assert said.count("warning") == 1, "once, and not in the warm-up"
    rows = read_rows(tmp_path / "alike/metrics.jsonl")
    assert [row["embedding_spread"] for row in rows] == pytest.approx([0.03] * 6)
    train(tmp_path / "apart", settings=settings, quiet=False, numbers=lambda: {"embedding_spread": torch.tensor(0.8)})
    assert "warning" not in capsys.readouterr().err
