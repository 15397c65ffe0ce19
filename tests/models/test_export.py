"""Weights that travel: to MONAI, TorchScript and ONNX, and encoders from elsewhere."""

import errno
import os
import subprocess
import sys
import warnings
from io import BytesIO
from pathlib import Path

import pytest
import torch
from monai.networks.nets import BasicUNet

from clustercl.cli.main import run
from clustercl.data.task import get_task
from clustercl.errors import DataError, RunError, UsageError
from clustercl.files import save_torch
from clustercl.models.checkpoint import FORMAT, load_segmentation
from clustercl.models.encoder import Encoder
from clustercl.models.export import export
from clustercl.models.foreign import match_encoder
from clustercl.models.unet import UNet
from clustercl.training.config import resolve

FEATURES = [4, 8, 8, 8, 16]


def write_checkpoint(path, task="skin", features=FEATURES):
    config = resolve(task, "tiny", sets=[f"model.features={features}"])
    kind = get_task(task)
    torch.manual_seed(0)
    network = UNet(Encoder(kind.spatial_dims, kind.in_channels, tuple(features)), kind.num_classes)
    header = {"format": FORMAT, "stage": "finetune", "step": 1, "best": 0.5, "config": config.to_dict()}
    save_torch(path, header | {"task": kind.to_dict(), "model": network.state_dict()})
    return path


@pytest.fixture(params=["skin", "heart"])
def checkpoint(request, tmp_path):
    return write_checkpoint(tmp_path / "best.pt", request.param)


def image_for(path, sides=(48, 32)):
    task = load_segmentation(path).task
    return torch.rand(2, task["in_channels"], *(*sides, 16)[: task["spatial_dims"]])


def test_to_monai(checkpoint, tmp_path, capsys):
    """The line that export gives is all that is needed, for any sides."""
    use = export(checkpoint, "monai", tmp_path / "unet.pt").split(": ", 1)[1]
    given = {"torch": torch, "BasicUNet": BasicUNet}
    exec(use.replace("; ", "\n"), given)
    x = image_for(checkpoint, (37, 50))
    with torch.no_grad():
        assert torch.equal(given["net"].eval()(x), load_segmentation(checkpoint).network(x))
    assert given["file"]["data"] == load_segmentation(checkpoint).data and given["file"]["task"]["classes"]


def test_to_torchscript(checkpoint, tmp_path):
    """In a process that knows nothing of clustercl."""
    export(checkpoint, "torchscript", tmp_path / "unet.ts")
    x = image_for(checkpoint)
    torch.save(x, tmp_path / "x.pt")
    program = (
        "import sys, torch\nsys.modules['clustercl'] = sys.modules['monai'] = None\n"
        "net = torch.jit.load('unet.ts')\ntorch.save(net(torch.load('x.pt')).detach(), 'y.pt')"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], cwd=tmp_path, check=True)
    with torch.no_grad():
        # The same kernels, which torch may fuse in another order.
        torch.testing.assert_close(torch.load(tmp_path / "y.pt"), load_segmentation(checkpoint).network(x))


@pytest.mark.slow
def test_to_onnx(checkpoint, tmp_path, clustercl):
    from onnx.reference import ReferenceEvaluator

    done = clustercl("export", checkpoint, "--to", "onnx", "--out", tmp_path / "unet.onnx")
    assert done.returncode == 0, done.stderr
    said = ["onnx: translating the network, which takes a while", "onnx: comparing it with the original"]
    assert done.stderr.splitlines() == said, "nothing of packages that nobody needs here"
    x = image_for(checkpoint)
    got = torch.from_numpy(ReferenceEvaluator(str(tmp_path / "unet.onnx")).run(None, {"image": x.numpy()})[0])
    with torch.no_grad():
        # NumPy's sums in float32 against oneDNN's.
        torch.testing.assert_close(got, load_segmentation(checkpoint).network(x), rtol=1e-4, atol=1e-4)
    assert [path.name for path in tmp_path.iterdir() if "onnx" in path.name] == ["unet.onnx"]


def test_the_encoder_goes_into_a_plain_unet(checkpoint, tmp_path):
    use = export(checkpoint, "encoder", tmp_path / "encoder.pt").split(": ", 1)[1]
    given = {"torch": torch, "BasicUNet": BasicUNet}
    exec(use.replace("; ", "\n"), given)
    net, ours = given["net"].eval(), load_segmentation(checkpoint).network.encoder
    x = image_for(checkpoint)
    with torch.no_grad():
        maps = ours(x)
        y = net.conv_0(x)
        assert torch.equal(y, maps[0])
        for level in range(1, 5):
            y = getattr(net, f"down_{level}")(y)
            assert torch.equal(y, maps[level])
    again = match_encoder(tmp_path / "encoder.pt", Encoder(ours.spatial_dims, ours.in_channels, tuple(FEATURES)))
    assert not again.missing and not again.mismatched


def test_wrong_requests(tmp_path):
    path = write_checkpoint(tmp_path / "best.pt", features=[4, 8, 8])
    with pytest.raises(UsageError, match="--to: wanted monai, torchscript, onnx, encoder, got 'caffe'"):
        export(path, "caffe", tmp_path / "x")
    with pytest.raises(DataError, match=r"is a folder, wanted a checkpoint such as .*/best.pt$"):
        export(tmp_path, "monai", tmp_path / "x")
    with pytest.raises(UsageError, match=r"--out: .* is a folder, wanted the name of a file"):
        export(path, "monai", tmp_path)
    with pytest.raises(RunError, match="its network has 3 levels, MONAI's BasicUNet has 5: use torchscript or onnx"):
        export(path, "monai", tmp_path / "x")
    assert "MONAI's BasicUNet has 5" in export(path, "encoder", tmp_path / "encoder.pt")
    assert not (tmp_path / "x").exists()


def test_what_is_there_is_replaced_when_told_to(tmp_path, capsys):
    path, out = write_checkpoint(tmp_path / "best.pt"), tmp_path / "unet.pt"
    words = ["export", str(path), "--to", "encoder", "--out", str(out)]
    out.write_text("years of work")
    assert run(words) == 1
    assert "unet.pt: exists already: choose another --out, or replace it with --overwrite" in capsys.readouterr().err
    assert out.read_text() == "years of work"
    assert run([*words, "--overwrite"]) == 0
    assert torch.load(out, weights_only=True)["state_dict"]


def test_a_run_never_loses_a_file(tmp_path):
    """Not the checkpoint itself, by whatever name, nor another file of its run or of a comparison."""
    for folder in ("run/finetune", "comparison/stages/pretrain-1", "elsewhere"):
        (tmp_path / folder).mkdir(parents=True)
    path, other = write_checkpoint(tmp_path / "run/finetune/best.pt"), write_checkpoint(tmp_path / "elsewhere/best.pt")
    kept = [
        "run/config.json",
        "run/finetune/last.pt",
        "comparison/comparison.json",
        "comparison/stages/pretrain-1/last.pt",
    ]
    for name in kept:
        (tmp_path / name).write_text("kept")
    (tmp_path / "link").symlink_to(tmp_path / "run/finetune")
    for out in (path, tmp_path / "link/best.pt"):
        with pytest.raises(UsageError, match=r"--out: .*best.pt is the checkpoint itself, which is never replaced"):
            export(path, "encoder", out, overwrite=True)
    with pytest.raises(UsageError, match="is the checkpoint itself"):
        export(other, "encoder", other, overwrite=True)
    for name in [*kept, "run/finetune/best.pt", "link/last.pt"]:
        with pytest.raises(
            UsageError, match=rf"{name} is a file of the run .*/(run|comparison), which is never replaced"
        ):
            export(other, "encoder", tmp_path / name, overwrite=True)
    assert all((tmp_path / name).read_text() == "kept" for name in kept) and load_segmentation(path)
    export(path, "encoder", tmp_path / "run/encoder.pt")  # a new name costs nothing


def test_a_folder_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    path = write_checkpoint(tmp_path / "best.pt")
    (tmp_path / "o").touch()
    with pytest.raises(RunError, match=r"o: is a file, wanted a folder to write into"):
        export(path, "encoder", tmp_path / "o/x.pt")

    def refuse(*ignored, **options):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("tempfile.mkdtemp", refuse)  # tests may be run by root, who may write everywhere
    with pytest.raises(RunError, match=r"cannot be written to \(Permission denied in .*\): choose another folder"):
        export(path, "encoder", tmp_path / "x.pt")


def test_torchscript_on_a_full_disk(tmp_path, monkeypatch):
    """Nothing of it is left; torch's own writer of files would end the process with SIGABRT, so it gets none."""
    path, save = write_checkpoint(tmp_path / "best.pt"), torch.jit.save

    def in_memory(module, file):
        assert isinstance(file, BytesIO)
        save(module, file)

    def full(self, content):
        with open(self, "wb") as file:
            file.write(content[:1000])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch.jit, "save", in_memory)
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(RunError, match=r"unet.ts: cannot be written, the disk is full"):
        export(path, "torchscript", tmp_path / "unet.ts")
    assert os.listdir(tmp_path) == ["best.pt"]


def test_ctrl_c_stays_ctrl_c_while_torch_translates(tmp_path, monkeypatch, capsys):
    def translate(*ignored, **options):
        try:
            try:
                raise KeyboardInterrupt
            finally:
                raise AttributeError("module 'torch._dynamo' has no attribute 'exc'")  # as torch 2.13 does
        except AttributeError as error:
            raise RuntimeError("Failed to export the model with torch.export") from error

    pytest.importorskip("onnxscript")
    path = write_checkpoint(tmp_path / "best.pt")
    monkeypatch.setattr(torch.onnx, "export", translate)
    assert run(["export", str(path), "--to", "onnx", "--out", str(tmp_path / "unet.onnx")]) == 130
    assert capsys.readouterr().err.endswith("clustercl: stopped\n") and os.listdir(tmp_path) == ["best.pt"]
    monkeypatch.setattr(torch.onnx, "export", lambda *ignored, **options: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        export(path, "onnx", tmp_path / "unet.onnx")


def encoder(features=(4, 8, 8)):
    torch.manual_seed(1)
    return Encoder(2, 3, features)


@pytest.mark.parametrize("prefix", ["", "module.", "module.encoder.", "backbone."])
@pytest.mark.parametrize("nested", [None, "state_dict", "model", "network_weights"])
def test_an_encoder_of_any_trainer(tmp_path, prefix, nested):
    theirs = encoder()
    weights = {prefix + name: weight for name, weight in theirs.state_dict().items()} | {"head.bias": torch.ones(2)}
    torch.save(weights if nested is None else {nested: weights, "epoch": 3}, tmp_path / "theirs.pth")
    match = match_encoder(tmp_path / "theirs.pth", encoder())
    assert not match.missing and not match.mismatched
    assert all(torch.equal(match.weights[name], weight) for name, weight in theirs.state_dict().items())


def test_what_does_not_fit_is_listed(tmp_path):
    weights = encoder().state_dict()
    del weights["conv_0.conv_0.conv.bias"]
    weights["down_2.convs.conv_0.conv.weight"] = torch.zeros(8, 16, 3, 3)
    torch.save(weights, tmp_path / "theirs.pt")
    lines = match_encoder(tmp_path / "theirs.pt", encoder()).lines()
    assert "  missing     conv_0.conv_0.conv.bias (4,): stays random" in lines
    assert "  mismatched  down_2.convs.conv_0.conv.weight is (8, 16, 3, 3), wanted (8, 8, 3, 3): stays random" in lines
    assert "  matched     conv_0.conv_0.conv.weight (4, 3, 3, 3)" in lines and len(lines) == len(weights) + 1


def test_biases_and_norms_alone_are_no_encoder(tmp_path):
    volumes = Encoder(3, 1, (4, 8, 8)).state_dict()
    torch.save(volumes, tmp_path / "theirs.pt")
    wanted = r"none of its convolutions fits the encoder: conv_0.*weight is \(4, 1, 3, 3, 3\), wanted \(4, 3, 3, 3\)"
    with pytest.raises(DataError, match=wanted):
        match_encoder(tmp_path / "theirs.pt", encoder())
    torch.save({name: weight for name, weight in volumes.items() if weight.ndim < 3}, tmp_path / "theirs.pt")
    with pytest.raises(DataError, match="nothing in it fits the encoder"):
        match_encoder(tmp_path / "theirs.pt", encoder())


def test_safetensors(tmp_path):
    from safetensors.torch import save_file

    save_file(encoder().state_dict(), tmp_path / "theirs.safetensors")
    assert not match_encoder(tmp_path / "theirs.safetensors", encoder()).missing


class Harmful:
    def __reduce__(self):
        return print, ("code of a stranger was run",)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"layer1.0.conv1.weight": torch.ones(64, 3, 7, 7)},
         r"nothing in it fits the encoder: it holds layer1.0.conv1.weight \(64, 3, 7, 7\), wanted such as conv_0"),
        ({"epoch": 3}, r"holds no weights: wanted a state dict, or one under state_dict, model"),
        ([1, 2], r"holds no weights"),
        (Harmful(), r"holds no weights that can be read safely \(it holds more than tensors and plain values\)$"),
        (b"no file of torch", r"holds no weights that can be read safely \(it is no file of torch.save\)$"),
        (b"", r"holds no weights that can be read safely \(it is empty\)$"),
        (None, r"there is no such file of weights"),
    ],
)  # fmt: skip
def test_what_holds_no_encoder(tmp_path, content, sentence, capsys):
    path = tmp_path / "theirs.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.save(content, path)
    with pytest.raises(DataError, match=sentence):
        match_encoder(path, encoder())
    assert "stranger" not in capsys.readouterr().out
