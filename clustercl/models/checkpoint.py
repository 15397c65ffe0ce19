"""Checkpoints of the training stages: what they hold, and reading them without trusting them."""

from dataclasses import dataclass
from pathlib import Path
from zipfile import is_zipfile

import torch

from clustercl.errors import DataError, RunError, one_line
from clustercl.models.encoder import Encoder
from clustercl.models.unet import UNet
from clustercl.progress import say_once

FORMAT = 2
STAGES = ("autoencoder", "pretrain", "finetune")


@dataclass
class SegmentationCheckpoint:
    """network: in eval mode on the CPU; task, data, config: the plain dicts of `Task.to_dict`, `DataSettings` and the
    whole configuration that trained it."""

    network: UNet
    task: dict
    data: dict
    config: dict


def read_checkpoint(path: Path | str, stage: str | None = None) -> dict:
    """The content of a checkpoint, tensors on the CPU and mapped from the file, so that reading `step` alone is cheap.

    Keys: format, stage, step, model, config, task, best and, in `last.pt`, optimizer and scheduler. Only tensors and
    plain values are loaded (`weights_only=True`), so a file from a stranger cannot run code. DataError where the
    file is missing, is no checkpoint of this program, or is of another stage than wanted; RunError where it may be in
    order and this machine cannot read it.
    """
    path = Path(path)
    require_file(path, "checkpoint")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # torch raises many kinds: RuntimeError, UnpicklingError, EOFError, KeyError, ...
        raise DataError(f"{path}: is damaged, or no checkpoint at all ({why_unreadable(path, error)})") from error
    if not isinstance(content, dict) or not {"format", "stage", "model", "config", "task"} <= set(content):
        raise DataError(f"{path}: is not a checkpoint of clustercl: it lacks format, stage, model, config or task")
    if content["format"] != FORMAT:
        raise DataError(f"{path}: has checkpoint format {content['format']}, this version of clustercl reads {FORMAT}")
    if stage is not None and content["stage"] != stage:
        raise DataError(f"{path}: is a checkpoint of stage {content['stage']}, wanted one of stage {stage}")
    return content


def require_file(path: Path, what: str) -> None:
    """DataError where there is no such file; of a folder it names the checkpoint in it that may have been meant."""
    if path.is_dir():
        bests = [path / "best.pt", *(path / stage / "best.pt" for stage in reversed(STAGES))]
        best = next((one for one in bests if one.is_file()), path / "finetune/best.pt")
        raise DataError(f"{path}: is a folder, wanted a {what} such as {best}")
    if not path.is_file():
        raise DataError(f"{path}: there is no such {what}")


def why_unreadable(path: Path, error: Exception) -> str:
    """Why torch.load refused a file, in the words of a user; torch's own fill a page and advise what is not safe.

    RunError where the file is not to blame: nobody should throw it away.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(2)
    except OSError as unread:
        raise RunError(f"{path}: cannot be read ({unread.strerror}): look at its permissions and its disk") from error
    if isinstance(error, MemoryError) or "allocate memory" in str(error):
        raise RunError(f"{path}: cannot be read, as memory is used up: end other programs, or take a larger "
                       "machine") from error  # fmt: skip
    if not head:
        return "it is empty"
    if head == b"PK" and not is_zipfile(path):
        return "it is cut short"
    if "was not an allowed global" in str(error):
        return "it holds more than tensors and plain values"
    if head == b"PK":
        return f"its content cannot be read: {one_line(error)[:120] or type(error).__name__}"
    return "it is no file of torch.save"


def read_last(folder: Path, stage: str) -> dict | None:
    """The newest checkpoint of a stage's folder that can be read: last.pt or, said as a warning, the one before it.

    None without any; DataError of last.pt where neither can be read.
    """
    last, previous = folder / "last.pt", folder / "previous.pt"
    if not last.is_file() and not previous.is_file():
        return None
    try:
        return read_checkpoint(last, stage)
    except DataError as error:
        try:
            content = read_checkpoint(previous, stage)
        except DataError:
            raise error from None
        say_once(f"warning: {error}; going on from the one before, {previous}, after step {content['step']}")
        return content


def encoder_weights(content: dict) -> dict[str, torch.Tensor]:
    """The encoder's part of a stage's weights, under the encoder's own names."""
    prefix = "encoder."
    return {key.removeprefix(prefix): value for key, value in content["model"].items() if key.startswith(prefix)}


def load_segmentation(path: Path | str) -> SegmentationCheckpoint:
    """The fine-tuned network of `finetune/best.pt` (or last.pt), ready to predict. Errors as `read_checkpoint`."""
    content = read_checkpoint(path, "finetune")
    task, model = content["task"], content["config"]["model"]
    encoder = Encoder(task["spatial_dims"], task["in_channels"], tuple(model["features"]), model["dropout"])
    network = UNet(encoder, len(task["classes"]) + 1)
    try:
        network.load_state_dict(content["model"])
    except RuntimeError as error:
        raise DataError(f"{path}: its weights do not fit the network that its own configuration describes") from error
    return SegmentationCheckpoint(network.eval(), task, content["config"]["data"], content["config"])
