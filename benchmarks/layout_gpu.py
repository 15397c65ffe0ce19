"""How the networks of the preset `default` run best on a GPU: milliseconds and memory of a step by the layout of their
tensors, the type their group norm computes in, and whether cuDNN searches for its fastest kernels.

python -m clustercl.benchmarks.layout_gpu            as cuDNN chooses its kernels by itself
python -m clustercl.benchmarks.layout_gpu --search   after it tried them all: what it once chose a process keeps

Autocast leaves group norm in float32 on CUDA, and torch copies what is channels last before it: whether another way is
faster, or takes less memory, differs from GPU to GPU and from torch to torch.
"""

import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import product

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, group_norm

from clustercl.models.encoder import Encoder
from clustercl.models.unet import UNet
from clustercl.training.presets import PRESETS

# network, task, batch, side: of fine-tuning, and of pre-training, a part that fits beside the others' memory.
CASES = (
    ("unet", "skin", 16, 256),
    ("encoder", "skin", 128, 256),
    ("unet", "heart", 4, 96),
    ("encoder", "heart", 16, 96),
)
WAYS = (*product(("channels last", "contiguous"), ("float32", "bfloat16")),)
STEPS, WARM_UP = 8, 3
CLASSES = {"skin": (3, 2), "heart": (1, 8)}  # channels, classes


class _HalfNorm(nn.GroupNorm):
    """In the type of its input, whatever autocast says. torch's kernel sums in float32 either way."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return group_norm(x, self.num_groups, self.weight.to(x.dtype), self.bias.to(x.dtype), self.eps)


def build(network: str, task: str, layout: str, norm: str, device: str, features: Sequence[int] | None = None):
    """The network on the device, and the memory format of its images."""
    channels, classes = CLASSES[task]
    dims = 2 if task == "skin" else 3
    last = torch.channels_last if dims == 2 else torch.channels_last_3d
    memory_format = last if layout == "channels last" else torch.contiguous_format
    model = Encoder(dims, channels, features or PRESETS[task, "default"]["model"]["features"])
    model = model if network == "encoder" else UNet(model, classes)
    if norm == "bfloat16":
        for module in model.modules():
            if type(module) is nn.GroupNorm:
                module.__class__ = _HalfNorm
    return model.to(device).to(memory_format=memory_format), memory_format


def step(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Forward and backward; the loss."""
    with torch.autocast(images.device.type, torch.bfloat16):
        found = model(images)
    loss = found[-1].float().square().mean() if isinstance(found, list) else cross_entropy(found.float(), labels)
    loss.backward()
    model.zero_grad()
    return loss.detach()


def run(cases: Sequence = CASES, device: str = "cuda", **options) -> Iterator[dict]:
    """A row for each case and way: network, task, layout, norm, milliseconds (median), gigabytes, loss."""
    for network, task, batch, side in cases:
        channels, classes = CLASSES[task]
        torch.manual_seed(0)
        shape = [side] * (2 if task == "skin" else 3)
        plain = torch.rand(batch, channels, *shape, device=device)
        labels = torch.randint(classes, (batch, *shape), device=device)
        for layout, norm in WAYS:
            torch.manual_seed(0)  # the same weights
            model, memory_format = build(network, task, layout, norm, device, **options)
            images = plain.to(memory_format=memory_format)
            times = []
            for number in range(WARM_UP + STEPS):
                if device == "cuda" and number == WARM_UP:
                    torch.cuda.reset_peak_memory_stats()
                began = time.perf_counter()
                loss = float(step(model, images, labels))
                times.append(1e3 * (time.perf_counter() - began))
            peak = 2**-30 * torch.cuda.max_memory_allocated() if device == "cuda" else float("nan")
            row = {"network": network, "task": task, "layout": layout, "norm": norm, "gigabytes": peak, "loss": loss}
            yield row | {"milliseconds": statistics.median(times[WARM_UP:])}


def main(*words: str) -> None:
    if not torch.cuda.is_available():
        raise SystemExit("layout_gpu: torch sees no CUDA device")
    torch.backends.cudnn.benchmark = words == ("--search",)
    for row in run():
        print("{network:8s}{task:6s}{layout:14s}norm in {norm:9s}{milliseconds:9.2f} ms {gigabytes:6.2f} GiB  "
              "loss {loss:.4f}".format(**row), flush=True)  # fmt: skip


if __name__ == "__main__":
    main(*sys.argv[1:])
