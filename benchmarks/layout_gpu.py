"""How the networks of the preset `default` run best on a GPU: milliseconds and memory of a step by the layout of their
tensors, the type their group norm computes in, and whether cuDNN searches for its fastest kernels.

python -m clustercl.benchmarks.layout_gpu

Autocast leaves group norm in float32 on CUDA, and torch copies what is channels last before it: whether another way is
faster, or takes less memory, differs from GPU to GPU and from torch to torch.
"""

import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
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
WAYS = (*product(("channels last", "contiguous"), ("float32", "bfloat16"), (False, True)),)
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


def step(model: nn.Module, images: Tensor, labels: Tensor, half: bool = True) -> Tensor:
    """Forward and backward; the loss."""
    with torch.autocast(images.device.type, torch.bfloat16) if half else nullcontext():
        found = model(images)
    loss = found[-1].float().square().mean() if isinstance(found, list) else cross_entropy(found.float(), labels)
    loss.backward()
    model.zero_grad()
    return loss.detach()


def run(cases: Sequence = CASES, device: str = "cuda", ways: Sequence = WAYS, **options) -> Iterator[dict]:
    """A row for each case and way: network, task, layout, norm, search, milliseconds (median), gigabytes, loss."""
    for network, task, batch, side in cases:
        channels, classes = CLASSES[task]
        torch.manual_seed(0)
        shape = [side] * (2 if task == "skin" else 3)
        plain = torch.rand(batch, channels, *shape, device=device)
        labels = torch.randint(classes, (batch, *shape), device=device)
        for layout, norm, search in ways:
            torch.manual_seed(0)  # the same weights
            torch.backends.cudnn.benchmark = search
            model, memory_format = build(network, task, layout, norm, device, **options)
            images = plain.to(memory_format=memory_format)
            if device == "cuda":
                torch.cuda.reset_peak_memory_stats()
            times = []
            for _ in range(WARM_UP + STEPS):
                began = time.perf_counter()
                loss = float(step(model, images, labels))
                times.append(1e3 * (time.perf_counter() - began))
            row = {"network": network, "task": task, "layout": layout, "norm": norm, "search": search}
            peak = 2**-30 * torch.cuda.max_memory_allocated() if device == "cuda" else float("nan")
            yield row | {"milliseconds": statistics.median(times[WARM_UP:]), "gigabytes": peak, "loss": loss}
        torch.backends.cudnn.benchmark = False


def main() -> None:
    if not torch.cuda.is_available():
        raise SystemExit("layout_gpu: torch sees no CUDA device")
    for row in run():
        print("{network:8s}{task:6s}{layout:14s}norm in {norm:9s} search {search!s:6s}{milliseconds:9.2f} ms "
              "{gigabytes:6.2f} GiB  loss {loss:.4f}".format(**row), flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
