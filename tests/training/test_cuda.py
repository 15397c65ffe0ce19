"""Training on a GPU: every stage, task and precision, all methods but one, stopped and gone on. Needs packages that a
machine with a GPU may lack; there it is skipped."""

import os
import re
import socket
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch

from clustercl.benchmarks.train_gpu import missing
from clustercl.files import read_rows

if missing():
    pytest.skip(f"not installed: {', '.join(missing())}", allow_module_level=True)

import nibabel

from clustercl.data import intensity
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
from clustercl.training.run import TRAINING
from clustercl.training.toml import to_toml

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
GPU, CPU = DeviceRequest("cuda"), DeviceRequest("cpu")
EVERY_STEP = [f"{stage}.log_every=1" for stage in TRAINING]
SMALL_HEART = ["model.features=[4,8,8]", "model.code_dim=4", "model.projection_dim=4", "data.patch=[16,16,8]",
               "data.spacing=[6,6,12]", *(f"{stage}.steps=3" for stage in TRAINING)]  # fmt: skip


def trained(config, out, data, devices=GPU):
    """The metrics. A slow path in place of a kernel, which is told by a warning, is an error."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "clustercl:", RuntimeWarning)
        return train(config, out, data, devices=devices, quiet=True)


@pytest.fixture
def without_tf32(monkeypatch):
    """Convolutions in float32, as on the CPU."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


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
def test_volumes_and_their_masks(tmp_path, without_tf32):
    data = write_demo(tmp_path / "data", "heart", cases=4)
    trained(resolve("heart", "tiny", sets=SMALL_HEART), tmp_path / "run", data)
    image = next(path for path in sorted(data.rglob("*.nii.gz")) if "image" in path.name)
    (mask,) = predict_files(tmp_path / "run/finetune/best.pt", [image], tmp_path / "masks", "cuda", quiet=True)
    (other,) = predict_files(tmp_path / "run/finetune/best.pt", [image], tmp_path / "others", "cpu", quiet=True)
    ours, theirs = (np.asarray(nibabel.load(path).dataobj) for path in (mask, other))
    # Where two classes are all but alike, sums in another order may decide otherwise.
    assert ours.shape == theirs.shape and (ours == theirs).mean() > 0.99


@pytest.mark.cuda
@pytest.mark.parametrize(
    ("method", "stage"), [("autoencoder", "autoencoder"), ("simclr", "pretrain"), ("scratch", "finetune")]
)
def test_the_first_step_is_that_of_the_cpu(tmp_path, skin, tiny, without_tf32, monkeypatch, method, stage):
    """Same weights, batches and random numbers but those of noise, whose generator is each device's own."""
    monkeypatch.setattr(intensity, "add_noise", lambda images, draw, recipe: images)
    config = tiny(*EVERY_STEP, precision="32", method=method)
    trained(config, tmp_path / "gpu", skin)
    trained(config, tmp_path / "cpu", skin, CPU)
    ours, theirs = (read_rows(tmp_path / name / stage / "metrics.jsonl")[0] for name in ("gpu", "cpu"))
    # float32 on both, some ten layers, and similarities divided by a temperature of 0.1.
    assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-3)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.distributed.is_nccl_available(), reason="torch has no NCCL")
def test_two_processes_train_as_one(tmp_path, skin, tiny):
    """By NCCL, on one GPU as if it were of two machines: NCCL_HOSTID is what it tells machines apart by. NVIDIA does
    not promise this: where NCCL refuses it, the test is skipped with its words."""
    (tmp_path / "config.toml").write_text(to_toml(tiny(*EVERY_STEP, "pretrain.lr=1e-5", precision="32")))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])

    def start(out, node=None):
        command = [sys.executable, "-m", "clustercl", "train", "--task", "skin", "--preset", "tiny", "--gpus", "1"]
        command += ["--config", tmp_path / "config.toml", "--data", skin, "--out", tmp_path / out]
        command += [] if node is None else ["--nodes", "2"]
        plain = os.environ | {"NVIDIA_TF32_OVERRIDE": "0"}
        alone = {"NCCL_HOSTID": f"machine{node}", "NCCL_SOCKET_IFNAME": "lo", "NCCL_IB_DISABLE": "1",
                 "NCCL_CUMEM_ENABLE": "0", "NCCL_DEBUG": "WARN"}  # fmt: skip
        meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "NODE_RANK": str(node)}
        environment = plain | ({} if node is None else alone | meeting)
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}  # NCCL warns by the first
        return subprocess.Popen(list(map(str, command)), env=environment, **streams)

    processes = [start("one"), start("two", 0), start("two", 1)]
    try:
        for process in processes:
            said, _ = process.communicate(timeout=120)
            if process.returncode and (refused := re.search(r".*(Duplicate GPU|invalid usage).*", said)):
                pytest.skip(f"NCCL does not take two processes of one GPU: {refused[0]}")
            assert process.returncode == 0, said
    finally:
        for process in processes:
            process.kill()
    for stage in TRAINING:
        one, two = ([row["loss"] for row in read_rows(tmp_path / name / stage / "metrics.jsonl")]
                    for name in ("one", "two"))  # fmt: skip
        # Other sums, and cuDNN's other algorithms for half a batch. With noise of 1e-5 on all convolutions, both ways,
        # six runs on a CPU were off by 5.3e-4 at most; at the usual rate the small pre-training is chaotic.
        assert two == pytest.approx(one, rel=3e-3)


@pytest.mark.cuda
@pytest.mark.parametrize("stage", TRAINING)
def test_stopped_within_a_row_and_gone_on(tmp_path, skin, tiny, stage, monkeypatch):
    """With --deterministic to the bits of a run that was never stopped."""
    config = tiny(*(f"{name}.log_every=4" for name in TRAINING), deterministic=True)
    trained(config, tmp_path / "whole", skin)
    asked = []

    def ask(self):
        asked.append(1)
        return "SIGTERM" if len(asked) == 2 + sum(getattr(config, name).steps for name in before) else None

    before = TRAINING[: TRAINING.index(stage)]
    with monkeypatch.context() as patch, pytest.raises(Stopped, match=f"in {stage} after step 2"):
        patch.setattr(Interrupt, "step", ask)
        trained(config, tmp_path / "stopped", skin)
    trained(config, tmp_path / "stopped", skin)
    whole, stopped = (checkpoints(tmp_path / name) for name in ("whole", "stopped"))
    for name in TRAINING:
        for key, value in whole[name]["model"].items():
            assert value.equal(stopped[name]["model"][key]), f"{name}: {key}"
