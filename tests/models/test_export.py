"""Weights that travel: to MONAI, TorchScript and ONNX, and encoders from elsewhere."""

import subprocess
import sys
import warnings

import pytest
import torch
from monai.networks.nets import BasicUNet

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
def test_to_onnx(checkpoint, tmp_path):
    from onnx.reference import ReferenceEvaluator

    export(checkpoint, "onnx", tmp_path / "unet.onnx")
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
