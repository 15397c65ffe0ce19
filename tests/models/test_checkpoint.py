"""Reading checkpoints: what was saved comes back; what is no checkpoint gets one sentence."""

import errno
import os
import pickle
import subprocess
import sys

import pytest
import torch

from clustercl.errors import DataError, RunError
from clustercl.files import save_torch
from clustercl.models import checkpoint
from clustercl.models.checkpoint import FORMAT, encoder_weights, load_segmentation, read_checkpoint
from clustercl.models.encoder import Encoder
from clustercl.models.unet import UNet
from clustercl.training.run import RunFolder

TASK = {"name": "heart", "spatial_dims": 2, "in_channels": 1, "classes": ["a", "b"]}


@pytest.fixture
def saved(tmp_path):
    """A function that saves a finetune checkpoint with some keys changed, and gives its path and network."""

    def save(**changes):
        network = UNet(Encoder(2, 1, (4, 8)), 3)
        config = {"model": {"features": [4, 8], "dropout": 0.0}, "data": {"size": 32}}
        content = {"format": FORMAT, "stage": "finetune", "step": 3, "best": 0.5, "config": config, "task": TASK}
        save_torch(tmp_path / "best.pt", content | {"model": network.state_dict()} | changes)
        return tmp_path / "best.pt", network

    return save


def test_a_file_tells_nothing_of_the_process_that_wrote_it(tmp_path):
    """Else no two runs would have the same files."""
    content = {"step": 3, "weight": torch.arange(6.0)}
    program = "import sys, torch; from clustercl.files import save_torch; save_torch(sys.argv[1], eval(sys.argv[2]))"
    save_torch(tmp_path / "best.pt", content)
    other = "{'step': 3, 'weight': torch.arange(6.0)}"
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "last.pt"), other], check=True)
    assert (tmp_path / "best.pt").read_bytes() == (tmp_path / "last.pt").read_bytes()
    assert torch.equal(torch.load(tmp_path / "last.pt", mmap=True, weights_only=True)["weight"], content["weight"])


def test_segmentation_comes_back(saved):
    path, network = saved()
    loaded = load_segmentation(path)
    x = torch.rand(1, 1, 16, 24)
    assert not loaded.network.training
    assert torch.equal(loaded.network(x), network.eval()(x))
    assert loaded.task == TASK and loaded.data == {"size": 32} and loaded.config["model"]["features"] == [4, 8]


def test_encoder_weights_load_into_an_encoder(saved):
    path, network = saved()
    encoder = Encoder(2, 1, (4, 8))
    encoder.load_state_dict(encoder_weights(read_checkpoint(path)))
    assert torch.equal(encoder.conv_0.conv_0.conv.weight, network.encoder.conv_0.conv_0.conv.weight)


@pytest.mark.parametrize(
    "changes, sentence",
    [
        ({"stage": "pretrain"}, "is a checkpoint of stage pretrain, wanted one of stage finetune"),
        ({"format": 99}, "has checkpoint format 99"),
        ({"model": {}}, "do not fit the network"),
    ],
)
def test_other_checkpoints_are_refused(saved, changes, sentence):
    path, _ = saved(**changes)
    with pytest.raises(DataError, match=sentence):
        load_segmentation(path)


def test_files_that_are_none_are_refused(tmp_path, saved):
    with pytest.raises(DataError, match=r"nothing\.pt: there is no such checkpoint"):
        load_segmentation(tmp_path / "nothing.pt")
    path, _ = saved()
    whole = path.read_bytes()
    for content, reason in (
        (b"", "it is empty"), (b"not a checkpoint", "it is no file of torch.save"),
        (pickle.dumps({"model": 1}), "it is no file of torch.save"), (whole[:1000], "it is cut short"),
        (whole[: len(whole) // 2], "it is cut short"), (whole[:-1], "it is cut short"),
    ):  # fmt: skip
        (tmp_path / "bad.pt").write_bytes(content)
        with pytest.raises(DataError) as caught:
            load_segmentation(tmp_path / "bad.pt")
        assert str(caught.value) == f"{tmp_path / 'bad.pt'}: is damaged, or no checkpoint at all ({reason})"
    save_torch(tmp_path / "tensor.pt", torch.zeros(3))
    with pytest.raises(DataError, match=r"tensor\.pt: is not a checkpoint of clustercl"):
        load_segmentation(tmp_path / "tensor.pt")


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (RuntimeError("unable to mmap 14 bytes from file <best.pt>: Cannot allocate memory (12)"),
         r"best\.pt: cannot be read, as memory is used up: end other programs, or take a larger machine$"),
        (PermissionError(errno.EACCES, "Permission denied"),
         r"best\.pt: cannot be read \(Permission denied\): look at its permissions and its disk$"),
    ],
)  # fmt: skip
def test_a_file_that_may_be_in_order_is_not_called_damaged(saved, monkeypatch, error, sentence):
    """Nobody is told to delete it, and going on does not put an older one over it."""
    path, _ = saved()

    def refused(*_, **__):
        raise error

    monkeypatch.setattr(torch, "load", refused)
    if isinstance(error, OSError):
        monkeypatch.setattr(checkpoint, "open", refused, raising=False)
    with pytest.raises(RunError, match=sentence), RunFolder(path.parent).reading("finetune"):
        read_checkpoint(path)


def test_a_damaged_archive_is_not_called_another_kind_of_file(saved):
    path, _ = saved()
    whole = bytearray(path.read_bytes())
    at = whole.index(b"PK", 2) - 200  # in the pickle of the archive, which comes first
    whole[at : at + 8] = b"\xff" * 8
    path.write_bytes(whole)
    with pytest.raises(DataError, match=r"damaged, or no checkpoint at all \(its content cannot be read: "):
        read_checkpoint(path)


def test_of_a_folder_the_checkpoint_is_named(tmp_path, saved):
    with pytest.raises(DataError, match=r": is a folder, wanted a checkpoint such as .*/finetune/best\.pt$"):
        read_checkpoint(tmp_path)
    (tmp_path / "pretrain").mkdir()
    os.rename(saved()[0], tmp_path / "pretrain/best.pt")
    for folder in (tmp_path, tmp_path / "pretrain"):
        with pytest.raises(DataError, match=rf"such as {tmp_path}/pretrain/best\.pt$"):
            read_checkpoint(folder)


class Malicious:
    def __reduce__(self):
        return os.mkdir, (self.folder,)


@pytest.mark.parametrize("as_pickle", [True, False])
def test_code_in_a_file_is_not_run(tmp_path, as_pickle):
    Malicious.folder = str(tmp_path / "owned")
    if as_pickle:
        (tmp_path / "bad.pt").write_bytes(pickle.dumps(Malicious()))
    else:
        torch.save({"model": Malicious()}, tmp_path / "bad.pt")
    with pytest.raises(DataError):
        load_segmentation(tmp_path / "bad.pt")
    assert not (tmp_path / "owned").exists()
