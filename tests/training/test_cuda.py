# ruff: noqa: E402  the packages are asked for before what imports them
"""Training on a GPU: every stage, method, task and precision, stopped and gone on. Needs packages that a machine with a
GPU may lack; there it is skipped."""

import warnings

import numpy as np
import pytest
import torch

pytest.importorskip("lightning_fabric")
pytest.importorskip("monai")
nibabel = pytest.importorskip("nibabel")

from clustercl.data.demo import write_demo
from clustercl.evaluation.predict import predict_files
from clustercl.methods import METHODS
from clustercl.models.checkpoint import read_checkpoint
from clustercl.training.config import resolve
from clustercl.training.devices import DeviceRequest
from clustercl.training.graph import needed
from clustercl.training.interrupt import Interrupt, Stopped
from clustercl.training.launch import FABRIC_NAMES, precision
from clustercl.training.pipeline import train
from clustercl.training.record import read_rows
from clustercl.training.run import TRAINING

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
GPU, CPU = DeviceRequest("cuda"), DeviceRequest("cpu")
EVERY_STEP = [f"{stage}.log_every=1" for stage in TRAINING]
SMALL_HEART = ["model.features=[4,8,8]", "model.code_dim=4", "model.projection_dim=4", "data.patch=[16,16,8]",
               "data.spacing=[6,6,12]", *(f"{stage}.steps=3" for stage in TRAINING)]  # fmt: skip


def trained(config, out, data, devices=GPU):
    """The metrics. A slow path in place of a kernel, which is told by a warning, is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        return train(config, out, data, devices=devices, quiet=True)


def checkpoints(run):
    return {stage: read_checkpoint(run / stage / "last.pt", stage) for stage in TRAINING}


@pytest.mark.cuda
@pytest.mark.parametrize("wanted", ["auto", "32", "16"])
def test_every_stage_in_every_precision(tmp_path, skin, tiny, wanted):
    config = tiny(*EVERY_STEP, precision=wanted)
    assert 0 <= trained(config, tmp_path, skin)["dice"]["mean"] <= 1
    for stage, checkpoint in checkpoints(tmp_path).items():
        assert checkpoint["precision"] == FABRIC_NAMES[precision(config, "cuda")]
        losses = [row["loss"] for row in read_rows(tmp_path / stage / "metrics.jsonl")]
        assert len(losses) == getattr(config, stage).steps and np.isfinite(losses).all()


@pytest.mark.cuda
@pytest.mark.parametrize("method", sorted(set(METHODS) - {"oracle-class"}))  # wants groups, and trains as pseudo-class
def test_every_method(tmp_path, skin, tiny, method):
    config = tiny("pretrain.recluster_epochs=1", method=method)
    trained(config, tmp_path, skin)
    for stage in set(needed(config)) & set(TRAINING):
        assert np.isfinite([row["loss"] for row in read_rows(tmp_path / stage / "metrics.jsonl")]).all()


@pytest.mark.cuda
def test_volumes_and_their_masks(tmp_path):
    data = write_demo(tmp_path / "data", "heart", cases=4)
    trained(resolve("heart", "tiny", sets=SMALL_HEART), tmp_path / "run", data)
    image = next(path for path in sorted(data.rglob("*.nii.gz")) if "image" in path.name)
    (mask,) = predict_files(tmp_path / "run/finetune/best.pt", [image], tmp_path / "masks", "cuda", quiet=True)
    (other,) = predict_files(tmp_path / "run/finetune/best.pt", [image], tmp_path / "others", "cpu", quiet=True)
    ours, theirs = (np.asarray(nibabel.load(path).dataobj) for path in (mask, other))
    # Of a network that learnt next to nothing: where two classes are all but alike, TF32's products decide otherwise.
    assert ours.shape == theirs.shape and (ours == theirs).mean() > 0.95


@pytest.mark.cuda
def test_the_first_step_is_that_of_the_cpu(tmp_path, skin, tiny):
    """Same weights, batches and random numbers; another view or batch would change the second digit."""
    config = tiny(*EVERY_STEP, precision="32", method="simclr")
    trained(config, tmp_path / "gpu", skin)
    trained(config, tmp_path / "cpu", skin, CPU)
    for stage in ("pretrain", "finetune"):
        ours, theirs = (read_rows(tmp_path / name / stage / "metrics.jsonl")[0] for name in ("gpu", "cpu"))
        # TF32's eleven digits in a network of some ten layers; fine-tuning begins with six steps of Adam behind it.
        assert ours["loss"] == pytest.approx(theirs["loss"], rel={"pretrain": 1e-2, "finetune": 5e-2}[stage])


@pytest.mark.cuda
@pytest.mark.parametrize("stage", TRAINING)
def test_stopped_within_a_row_and_gone_on(tmp_path, skin, tiny, stage, monkeypatch):
    """With --deterministic to the bits of a run that was never stopped."""
    config = tiny(*(f"{name}.log_every=4" for name in TRAINING), deterministic=True)
    trained(config, tmp_path / "whole", skin)
    asked = []

    def ask(self):
        asked.append(1)
        return "SIGTERM" if len(asked) == 3 + sum(getattr(config, name).steps for name in before) else None

    before = TRAINING[: TRAINING.index(stage)]
    with monkeypatch.context() as patch, pytest.raises(Stopped, match=f"in {stage} after step 3"):
        patch.setattr(Interrupt, "step", ask)
        trained(config, tmp_path / "stopped", skin)
    trained(config, tmp_path / "stopped", skin)
    whole, stopped = (checkpoints(tmp_path / name) for name in ("whole", "stopped"))
    for name in TRAINING:
        for key, value in whole[name]["model"].items():
            assert value.equal(stopped[name]["model"][key]), f"{name}: {key}"
