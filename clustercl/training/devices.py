"""Devices and processes, through Lightning Fabric."""

import os
from dataclasses import dataclass

import torch

from clustercl.errors import UsageError
from clustercl.training.config import Config


@dataclass(frozen=True)
class DeviceRequest:
    """What the command line asked for. device: "auto" (a GPU where one is visible), "cpu" or "cuda"; gpus: how many;
    processes: on the CPU, where only one is supported so far; workers: threads that read images, None for one per core,
    0 for none beside the main one."""

    device: str = "auto"
    gpus: int | None = None
    processes: int = 1
    workers: int | None = None

    def resolved(self) -> tuple[str, int]:
        """(accelerator, number of processes). UsageError where the request cannot be met here."""
        visible = torch.cuda.device_count()
        if self.device not in ("auto", "cpu", "cuda"):
            raise UsageError(f"--device: wanted auto, cpu or cuda, got {self.device!r}")
        if self.processes < 1:
            raise UsageError(f"--processes: wanted at least 1, got {self.processes}")
        if self.workers is not None and self.workers < 0:
            raise UsageError(f"--workers: wanted a number from 0 on, got {self.workers}")
        if self.gpus is not None:
            if self.device == "cpu":
                raise UsageError("--gpus and --device cpu exclude each other")
            if self.gpus < 1:
                raise UsageError(f"--gpus: wanted at least 1, got {self.gpus}; --device cpu uses none")
            if self.gpus > visible:
                raise UsageError(f"--gpus {self.gpus}: {_count(visible)} visible on this machine")
        if self.device == "cuda" and not visible:
            raise UsageError("--device cuda: no GPU is visible on this machine")
        on_cpu = self.device == "cpu" or (self.device == "auto" and self.gpus is None and not visible)
        if self.processes > 1 and on_cpu:
            raise UsageError(f"--processes {self.processes}: several processes on the CPU are not supported yet; one "
                             "process uses every core")  # fmt: skip
        if on_cpu:
            return "cpu", self.processes
        if self.processes > 1:
            raise UsageError("--processes counts processes on the CPU: pass --device cpu, or --gpus N for GPUs")
        return "cuda", self.gpus or 1


def _count(gpus: int) -> str:
    return {0: "no GPU is", 1: "1 GPU is"}.get(gpus, f"{gpus} GPUs are")


def start_fabric(request: DeviceRequest, config: Config):
    """A launched Fabric. With several processes the command line is started again once for each of the others."""
    from lightning_fabric import Fabric

    accelerator, processes = request.resolved()
    for stage in ("autoencoder", "pretrain", "finetune"):
        batch = getattr(config, stage).batch_size
        if batch % processes:
            raise UsageError(f"{stage}.batch_size: {batch} cannot be shared evenly by {processes} processes")
    if config.deterministic:
        # cuBLAS reads it when it is first used.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # CUDA has no deterministic backward of 3D max pooling and trilinear upsampling: there torch warns, naming it.
    torch.use_deterministic_algorithms(config.deterministic, warn_only=accelerator == "cuda")
    fabric = Fabric(
        accelerator=accelerator,
        devices=processes,
        strategy="ddp" if processes > 1 else "auto",
        precision=precision(config, accelerator),
    )
    fabric.launch()
    return fabric


def precision(config: Config, accelerator: str) -> str:
    """Fabric's name of the precision: bfloat16 where the configuration leaves it open and the GPU has it."""
    if config.precision != "auto":
        return config.precision
    return "bf16-mixed" if accelerator == "cuda" and torch.cuda.is_bf16_supported() else "32-true"


def describe(fabric, config: Config) -> list[str]:
    """Lines for the head of a log: device, processes, precision, and which kernel computes the loss."""
    from clustercl.ops._extension import MISSING, build_info, has_kernel

    device = fabric.device
    gpu = device.type == "cuda"
    name = torch.cuda.get_device_name(device) if gpu else f"CPU, {torch.get_num_threads()} threads"
    if has_kernel("contrastive_loss", device.type):
        kernel = "compiled for CUDA" if gpu else f"compiled, {build_info()['cpu']}"
    else:
        kernel = f"blocked torch operations, slow ({MISSING or f'there is no compiled kernel for {device.type}'})"
    processes = f"{fabric.world_size} process{'es' if fabric.world_size > 1 else ''}"
    number = precision(config, device.type)
    return [f"device: {name}; {processes}; precision {number}", f"loss kernel: {kernel}"]
