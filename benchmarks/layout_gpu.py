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

from clustercl.data.task import Task, get_task
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


class _HalfNorm(nn.GroupNorm):
    """In the type of its input, whatever autocast says. torch's kernel sums in float32 either way."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return group_norm(x, self.num_groups, self.weight.to(x.dtype), self.bias.to(x.dtype), self.eps)


def build(network: str, task: Task, layout: str, norm: str, device: str, features: Sequence[int] | None = None):
    """The network on the device, and the memory format of its images."""
    last = torch.channels_last if task.spatial_dims == 2 else torch.channels_last_3d
    memory_format = last if layout == "channels last" else torch.contiguous_format
    features = features or PRESETS[task.name, "default"]["model"]["features"]
    model = Encoder(task.spatial_dims, task.in_channels, features)
    model = model if network == "encoder" else UNet(model, task.num_classes)
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
    for network, name, batch, side in cases:
        task = get_task(name)
        torch.manual_seed(0)
        shape = [side] * task.spatial_dims
        plain = torch.rand(batch, task.in_channels, *shape, device=device)
        labels = torch.randint(task.num_classes, (batch, *shape), device=device)
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
            row = {"network": network, "task": name, "layout": layout, "norm": norm, "gigabytes": peak, "loss": loss}
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
