"""Networks for other programs: a plain MONAI U-Net, TorchScript, ONNX, or the encoder's weights."""

import logging
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path

import torch

from clustercl.errors import DataError, RunError, UsageError
from clustercl.files import atomic, require_writable, save_torch
from clustercl.models.checkpoint import STAGES, encoder_weights, load_segmentation, read_checkpoint, require_file
from clustercl.models.encoder import ACTIVATION, group_norm
from clustercl.models.unet import UNet
from clustercl.progress import say

LEVELS = 5  # of MONAI's BasicUNet


def export(checkpoint: Path | str, to: str, out: Path | str, overwrite: bool = False) -> str:
    """Write the network of a checkpoint for another program; returns a sentence that says how to use it.

    to: "monai" (arguments and state dict of a BasicUNet), "torchscript", "onnx" (the fine-tuned network: images
    (b, c, *s) as clustercl prepares them to logits (b, k, *s), each side a multiple of 2 ** (levels - 1)), or
    "encoder" (of any stage). A whole network is compared with the original before it gets its name. UsageError on
    an unknown format, DataError on a file that is no such checkpoint, RunError where a package is missing. An `out`
    that exists is replaced with `overwrite` alone, and never where it is the checkpoint or another file of a run.
    """
    checkpoint, out = Path(checkpoint), Path(out)
    if to not in FORMATS:
        raise UsageError(f"--to: wanted {', '.join(FORMATS)}, got {to!r}")
    require_file(checkpoint, "checkpoint")
    _require_free(checkpoint, out, overwrite)
    return FORMATS[to](checkpoint, out)


def _require_free(checkpoint: Path, out: Path, overwrite: bool) -> None:
    if out.exists() and not out.is_file():
        raise UsageError(f"--out: {out} is {'a folder' if out.is_dir() else 'a device'}, wanted the name of a file")
    require_writable(out.parent)
    if not out.exists():
        return
    if out.samefile(checkpoint):
        raise UsageError(f"--out: {out} is the checkpoint itself, which is never replaced: choose another --out")
    if run := _run_around(out):
        raise UsageError(f"--out: {out} is a file of the run {run}, which is never replaced: choose another --out")
    if not overwrite:
        raise DataError(f"{out}: exists already: choose another --out, or replace it with --overwrite")


def _run_around(path: Path) -> Path | None:
    """The folder of a run or a comparison that a file lies in, at any depth."""
    inner = Path(os.path.realpath(path.parent))
    for folder in (inner, *inner.parents):
        begun = any((folder / name).exists() for name in ("split.json", *STAGES))
        if (folder / "comparison.json").is_file() or (begun and (folder / "config.json").is_file()):
            return folder
    return None


def _encoder(checkpoint: Path, out: Path) -> str:
    content = read_checkpoint(checkpoint)
    task, model = content["task"], content["config"]["model"]
    weights = {name: weight.clone() for name, weight in encoder_weights(content).items()}
    save_torch(out, {"network": _basic_unet(task, model), "state_dict": weights, "data": content["config"]["data"]})
    if len(model["features"]) != LEVELS:
        return (f"{out}: the encoder of {len(model['features'])} levels, for clustercl train --encoder {out}; MONAI's "
                f"BasicUNet has {LEVELS}")  # fmt: skip
    return (f'{out}: file = torch.load("{out}", weights_only=True); '
            'net = BasicUNet(**file["network"], out_channels=2); '
            'net.load_state_dict(file["state_dict"], strict=False)')  # fmt: skip


def _monai(checkpoint: Path, out: Path) -> str:
    from monai.networks.nets import BasicUNet

    network, example, content = _network(checkpoint)
    model = content.config["model"]
    if len(model["features"]) != LEVELS:
        raise RunError(f"{checkpoint}: its network has {len(model['features'])} levels, MONAI's BasicUNet has {LEVELS}"
                       ": use torchscript or onnx")  # fmt: skip
    arguments = _basic_unet(content.task, model) | {"out_channels": network.num_classes}
    weights = {name.removeprefix("encoder."): weight for name, weight in network.state_dict().items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # BasicUNet prints its features
        plain = BasicUNet(**arguments).eval()
    plain.load_state_dict(weights)
    _require_equal(plain, network, example)
    save_torch(out, {"network": arguments, "state_dict": weights} | _about(content))
    return (f'{out}: file = torch.load("{out}", weights_only=True); net = BasicUNet(**file["network"]); '
            'net.load_state_dict(file["state_dict"])')  # fmt: skip


def _torchscript(checkpoint: Path, out: Path) -> str:
    network, example, _ = _network(checkpoint)
    with warnings.catch_warnings(), atomic(out) as aside:
        warnings.simplefilter("ignore")  # sides that are no multiples are padded in Python, which a trace leaves out
        buffer = BytesIO()  # torch's own writer of files ends the process where the disk is full
        torch.jit.save(torch.jit.trace(network, example), buffer)
        aside.write_bytes(buffer.getbuffer())
        _require_equal(torch.jit.load(aside), network, _larger(example))
    return f'{out}: net = torch.jit.load("{out}"), in Python or C++; sides must be multiples of {_multiple(network)}'


def _onnx(checkpoint: Path, out: Path) -> str:
    missing = [name for name in ("onnx", "onnxscript") if find_spec(name) is None]
    if missing:
        raise RunError(f"--to onnx needs {' and '.join(missing)}: pip install 'clustercl[onnx]'")
    from onnx.reference import ReferenceEvaluator

    network, example, _ = _network(checkpoint)
    say("onnx: translating the network, which takes a while")
    side = torch.export.Dim
    shape = {0: side("batch")} | {axis: _multiple(network) * side(f"side{axis - 1}", min=1, max=1024)
                                  for axis in range(2, example.ndim)}  # fmt: skip
    example = torch.cat([example, example])  # one alone would be taken for a constant
    with warnings.catch_warnings(), atomic(out) as aside:
        warnings.simplefilter("ignore")
        with _translating():
            torch.onnx.export(
                network, (example,), aside, dynamo=True, input_names=["image"], output_names=["logits"],
                dynamic_shapes=(shape,), external_data=False, verbose=False,
            )  # fmt: skip
        say("onnx: comparing it with the original")
        written = ReferenceEvaluator(str(aside))
        _require_equal(lambda x: torch.from_numpy(written.run(None, {"image": x.numpy()})[0]), network, example[:1])
    use = f'onnxruntime.InferenceSession("{out}").run(None, {{"image": x}})'
    return f"{out}: {use}; sides must be multiples of {_multiple(network)}"


FORMATS: dict[str, Callable[[Path, Path], str]] = {
    "monai": _monai,
    "torchscript": _torchscript,
    "onnx": _onnx,
    "encoder": _encoder,
}


@contextmanager
def _translating() -> Iterator[None]:
    """Without what torch.onnx says of packages that nobody needs here; Ctrl-C stays Ctrl-C."""
    logs = [
        logging.getLogger(f"torch.{name}") for name in ("onnx._internal.exporter._registration", "utils.flop_counter")
    ]
    levels = [log.level for log in logs]
    for log in logs:
        log.setLevel(logging.ERROR)
    try:
        yield
    except Exception as error:
        cause: BaseException | None = error  # torch may come upon an error of its own while it ends
        while cause is not None and not isinstance(cause, KeyboardInterrupt):
            cause = cause.__cause__ or cause.__context__
        if cause is not None:
            raise KeyboardInterrupt from error
        raise
    finally:
        for log, level in zip(logs, levels):
            log.setLevel(level)


def _network(checkpoint: Path):
    """The fine-tuned network, an image for it, and what the checkpoint says."""
    content = load_segmentation(checkpoint)
    network = content.network
    sides = (2 * _multiple(network),) * content.task["spatial_dims"]
    draw = torch.Generator().manual_seed(0)
    return network, torch.rand(1, content.task["in_channels"], *sides, generator=draw), content


def _multiple(network: UNet) -> int:
    return network.encoder.smallest_input


def _larger(example: torch.Tensor) -> torch.Tensor:
    return torch.cat([torch.cat([example, example.flip(2)], dim=-1)] * 2)


def _basic_unet(task: dict, model: dict) -> dict:
    """Arguments of MONAI's BasicUNet, but for out_channels, whose encoder is ours."""
    features = tuple(model["features"])
    return {"spatial_dims": task["spatial_dims"], "in_channels": task["in_channels"],
            "features": (*features, features[0]), "act": ACTIVATION, "norm": group_norm(features),
            "dropout": model["dropout"]}  # fmt: skip


def _about(content) -> dict:
    return {"task": content.task, "data": content.data}


@torch.no_grad()
def _require_equal(written: Callable[[torch.Tensor], torch.Tensor], network: UNet, image: torch.Tensor) -> None:
    """float32 sums in another order differ by some 1e-6 of the logits."""
    wanted, got = network(image), written(image)
    error = float((got - wanted).abs().max() / wanted.abs().max())
    if not error < 1e-4:
        raise RunError(f"the exported network differs from the trained one by {error:.1e} of its largest logit")
