"""A small ISIC-like folder, a configuration that trains on it in seconds, and what srun tells its processes."""

import os
import socket
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clustercl.training.config import resolve

TINY = [
    "data.size=32", "model.features=[4,8,8]", "model.code_dim=4", "model.projection_dim=4", "cluster.n_clusters=3",
    "autoencoder.steps=6", "autoencoder.batch_size=4", "autoencoder.validate_every=3", "autoencoder.log_every=2",
    "pretrain.steps=6", "pretrain.batch_size=4", "pretrain.validate_every=3", "pretrain.log_every=2",
    "finetune.steps=8", "finetune.batch_size=4", "finetune.validate_every=4", "finetune.log_every=2",
]  # fmt: skip


def write_skin(folder: Path, labelled: int = 8, unlabelled: int = 4, first: int = 0) -> Path:
    """Brown discs on skin of the ISIC 2017 layout, and photographs without masks under `unlabelled`."""
    rows, columns = np.mgrid[:40, :48]
    for number in range(labelled + unlabelled):
        draw = np.random.default_rng(first + number)
        row, column, radius = draw.uniform((12, 14, 6), (28, 34, 12))
        disc = (rows - row) ** 2 + (columns - column) ** 2 < radius**2
        image = np.where(disc[..., None], (90, 50, 40), (220, 170, 150)) + draw.integers(-9, 10, (40, 48, 3))
        name = f"ISIC_{number:07d}"
        has_label = number < labelled
        place = folder / ("ISIC-2017_Training_Data" if has_label else "unlabelled") / f"{name}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.astype(np.uint8)).save(place)
        if has_label:
            mask = folder / "ISIC-2017_Training_Part1_GroundTruth" / f"{name}_segmentation.png"
            mask.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray((disc * 255).astype(np.uint8)).save(mask)
    return folder


@pytest.fixture(scope="session")
def skin(tmp_path_factory) -> Path:
    return write_skin(tmp_path_factory.mktemp("skin"))


@pytest.fixture(scope="session")
def make_skin():
    """make_skin(folder, labelled=8, unlabelled=4, first=0) writes such a folder and gives it back. Another `first`
    makes other photographs of the same names."""
    return write_skin


@pytest.fixture(scope="session")
def tiny():
    """tiny("finetune.steps=4", seed=1): the configuration with changes."""

    def build(*sets, **overrides):
        return resolve("skin", "tiny", sets=[*TINY, *sets], **overrides)

    return build


@pytest.fixture
def srun():
    """srun(rank): the environment that srun gives a process of two on one machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])

    def environment(rank: int) -> dict:
        names = {"STEP_NUM_TASKS": 2, "NTASKS": 2, "NTASKS_PER_NODE": 2, "STEP_NUM_NODES": 1, "PROCID": rank,
                 "LOCALID": rank, "NODEID": 0, "JOB_ID": 77}  # fmt: skip
        slurm = {f"SLURM_{name}": str(value) for name, value in names.items()}
        return os.environ | slurm | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}

    return environment
