"""Encoders that somebody else trained: reading their weights, and telling what of them fits."""

from dataclasses import dataclass
from pathlib import Path

import torch

from clustercl.errors import DataError
from clustercl.models.checkpoint import require_file, why_unreadable
from clustercl.models.encoder import Encoder

# Under these keys others keep the weights: Lightning and MONAI bundles, clustercl and DINO, timm's trainer, nnU-Net.
NESTED = ("state_dict", "model", "model_state_dict", "network_weights")


@dataclass(frozen=True)
class Match:
    """weights: of the encoder, by its own names. missing: names that the file lacks, with the shape wanted.
    mismatched: names with the shape found and the shape wanted."""

    weights: dict[str, torch.Tensor]
    missing: dict[str, tuple[int, ...]]
    mismatched: dict[str, tuple[tuple[int, ...], tuple[int, ...]]]

    def lines(self) -> list[str]:
        """One line for each weight of the encoder."""
        lines = [f"  matched     {name} {tuple(weight.shape)}" for name, weight in self.weights.items()]
        lines += [f"  missing     {name} {shape}: stays random" for name, shape in self.missing.items()]
        lines += [f"  mismatched  {name} is {found}, wanted {wanted}: stays random"
                  for name, (found, wanted) in self.mismatched.items()]  # fmt: skip
        return lines


def match_encoder(path: Path | str, encoder: Encoder) -> Match:
    """What of a file fits the encoder, whatever stands before the encoder's names in it ("encoder.", "module.", ...).

    Only tensors and plain values are loaded. DataError where the file cannot be read or no convolution in it fits.
    """
    found = read_weights(Path(path))
    wanted = encoder.state_dict()
    prefix = _prefix(found, wanted)
    weights, missing, mismatched = {}, {}, {}
    for name, weight in wanted.items():
        other = found.get(prefix + name)
        if other is None:
            missing[name] = tuple(weight.shape)
        elif other.shape != weight.shape:
            mismatched[name] = tuple(other.shape), tuple(weight.shape)
        else:
            weights[name] = other.to(weight.dtype).clone()
    # Biases and norms are as long in encoders of any dimension: they alone tell that this is another network.
    if all(weight.ndim <= 2 for weight in weights.values()):
        name, shape = next((pair for pair in mismatched.items() if len(pair[1][1]) > 2), (None, None))
        if name is None:
            raise DataError(f"{path}: nothing in it fits the encoder: it holds {_example(found)}, wanted such as "
                            f"{_example(wanted)}")  # fmt: skip
        raise DataError(f"{path}: none of its convolutions fits the encoder: {name} is {shape[0]}, wanted {shape[1]}")
    return Match(weights, missing, mismatched)


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """The state dict in a file of torch or safetensors, also where it is nested in a checkpoint."""
    require_file(path, "file of weights")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds: RuntimeError, UnpicklingError, EOFError, KeyError, ...
        raise DataError(f"{path}: holds no weights that can be read safely ({why_unreadable(path, error)})") from error
    for key in NESTED:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
            break
    tensors = content if isinstance(content, dict) else {}
    tensors = {name: value for name, value in tensors.items() if isinstance(value, torch.Tensor)}
    if not tensors:
        raise DataError(f"{path}: holds no weights: wanted a state dict, or one under {', '.join(NESTED)}")
    return tensors


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        from safetensors.torch import load_file
    except ImportError:
        raise DataError(f"{path}: reading it needs the package safetensors: pip install safetensors") from None
    try:
        return load_file(path)
    except Exception as error:
        raise DataError(f"{path}: is damaged, or no file of safetensors at all ({error})") from error


def _prefix(found: dict, wanted: dict) -> str:
    """What stands before most of the encoder's names in the file."""
    count: dict[str, int] = {}
    for key in found:
        for name in wanted:
            if key == name or key.endswith("." + name):
                prefix = key[: len(key) - len(name)]
                count[prefix] = count.get(prefix, 0) + 1
    return max(count, key=count.get, default="")


def _example(weights: dict) -> str:
    name = next(iter(weights))
    return f"{name} {tuple(weights[name].shape)}"
