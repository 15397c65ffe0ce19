"""`clustercl predict` as a user calls it: files, exit codes, sentences."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from clustercl.cli.main import run
from clustercl.data.task import get_task
from clustercl.files import save_torch
from clustercl.models.checkpoint import FORMAT
from clustercl.models.encoder import Encoder
from clustercl.models.unet import UNet


@pytest.fixture
def checkpoint(tmp_path):
    """A tiny network for photographs with random weights."""
    torch.manual_seed(0)
    config = {
        "model": {"features": [4, 8], "dropout": 0.0},
        "data": {"size": 32},
        "evaluation": {"overlap": 0.25, "tolerance_mm": 2.0},
    }
    content = {"format": FORMAT, "stage": "finetune", "step": 1, "best": 0.5, "config": config}
    weights = UNet(Encoder(2, 3, (4, 8)), 2).state_dict()
    save_torch(tmp_path / "best.pt", content | {"task": get_task("skin").to_dict(), "model": weights})
    return tmp_path / "best.pt"


@pytest.fixture
def photographs(tmp_path):
    folder = tmp_path / "photographs"
    folder.mkdir()
    for number in range(2):
        pixels = np.random.default_rng(number).integers(0, 255, (40, 50 + number, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"ISIC_{number}.jpg")
    return folder


def predict(*words) -> int:
    return run(["predict", *map(str, words)])


def test_a_folder(checkpoint, photographs, tmp_path, capsys):
    out = tmp_path / "masks"
    assert predict("--checkpoint", checkpoint, photographs, "--out", out, "--device", "cpu") == 0
    assert capsys.readouterr().out == f"wrote 2 masks to {out}\n"
    assert [Image.open(out / f"ISIC_{number}_segmentation.png").size for number in range(2)] == [(50, 40), (51, 40)]
    # A second time it does not touch them, unless it is told to.
    assert predict("--checkpoint", checkpoint, photographs, "--out", out, "--device", "cpu") == 1
    assert "ISIC_0_segmentation.png: exists already" in capsys.readouterr().err
    assert predict("--checkpoint", checkpoint, photographs, "--out", out, "--device", "cpu", "--overwrite") == 0


def test_out_of_memory_is_one_sentence(checkpoint, photographs, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("clustercl.evaluation.predict.predict_probabilities", lambda *ignored: torch.empty(1 << 52))
    assert predict("--checkpoint", checkpoint, photographs, "--out", tmp_path / "masks", "--device", "cpu") == 1
    said = capsys.readouterr().err
    assert "predict: out of memory on the CPU: start a new run with a smaller data.size" in said
    assert "Traceback" not in said


def test_bad_input_is_one_sentence(checkpoint, photographs, tmp_path, capsys):
    (photographs / "ISIC_1.jpg").write_bytes(b"\xff\xd8 and no more")
    assert predict("--checkpoint", checkpoint, photographs, "--out", tmp_path / "masks") == 1
    lines = capsys.readouterr().err.splitlines()
    error = [line for line in lines if not line.startswith("checking inputs: ")]  # shown where the machine is slow
    assert len(error) == 1 and error[0].startswith("clustercl: ") and "ISIC_1.jpg" in error[0]
    assert not (tmp_path / "masks").exists()


def test_bad_checkpoints(photographs, tmp_path, capsys):
    (tmp_path / "notes.pt").write_text("no checkpoint")
    for name, wanted in (("missing.pt", "no such checkpoint"), ("notes.pt", "no checkpoint at all")):
        assert predict("--checkpoint", tmp_path / name, photographs, "--out", tmp_path / "masks") == 1
        error = capsys.readouterr().err
        assert name in error and wanted in error and "Traceback" not in error


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_no_gpu_is_usage(checkpoint, photographs, tmp_path, capsys):
    assert predict("--checkpoint", checkpoint, photographs, "--out", tmp_path, "--device", "cuda") == 2
    assert "no GPU is visible" in capsys.readouterr().err


def test_nothing_to_segment_is_usage(checkpoint, tmp_path, capsys):
    assert predict("--checkpoint", checkpoint, "--out", tmp_path) == 2
    assert "INPUTS" in capsys.readouterr().err


def test_it_needs_nothing_that_only_training_needs(checkpoint, photographs, tmp_path):
    """A machine that only predicts: no Fabric, no TensorBoard, no scikit-learn, and nothing of clustercl.training."""
    code = (
        "import sys\n"
        "for name in ('clustercl.training', 'clustercl.methods', 'lightning_fabric', 'tensorboard', 'sklearn'):\n"
        "    sys.modules[name] = None\n"
        "from clustercl.cli.main import run\n"
        "sys.exit(run(sys.argv[1:]))\n"
    )
    words = ["predict", "--checkpoint", checkpoint, photographs / "ISIC_0.jpg", "--out", tmp_path / "masks"]
    done = subprocess.run([sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "masks/ISIC_0_segmentation.png").is_file()
