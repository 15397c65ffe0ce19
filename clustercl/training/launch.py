"""Starting the processes of a training, through Lightning Fabric, and telling what was started."""

import logging
import os
import warnings

import torch

from clustercl.errors import UsageError
from clustercl.training.config import Config
from clustercl.training.devices import DeviceRequest, Placement
from clustercl.training.peers import PATIENCE
from clustercl.training.rendezvous import rendezvous
from clustercl.training.run import TRAINING

FABRIC_NAMES = {"32": "32-true", "16": "16-mixed", "bf16": "bf16-mixed"}
SHARED_BY = 8  # processes at most, for which batches that are as large as the data allow are made to fit


def start_fabric(request: DeviceRequest, config: Config, quiet: bool = False):
    """A launched Fabric. Where neither torchrun nor srun started the processes, the command line is started again once
    for each other process. UsageError where the request does not fit this machine or the configuration."""
    place = request.resolved()
    require_shareable(config, place.world)
    number = precision(config, place.accelerator)
    if config.deterministic:
        # cuBLAS reads it when it is first used.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # CUDA has no deterministic backward pass of some layers, as of 3D max pooling: there torch warns, naming it.
    torch.use_deterministic_algorithms(config.deterministic, warn_only=place.accelerator == "cuda")
    fabric = _fabric(place, number)
    if place.world > 1:
        node, local = fabric.strategy.node_rank, fabric.strategy.local_rank
        with rendezvous(place.world, not node and not local and not quiet, bool(local) and not place.launcher):
            fabric.launch()
    else:
        fabric.launch()
    if not fabric.is_global_zero:
        warnings.simplefilter("ignore")  # the first process tells them
    return fabric


def require_shareable(config: Config, world: int) -> None:
    """UsageError where a batch cannot be shared evenly; names the option and the nearest size that can."""
    for stage in TRAINING:
        batch = getattr(config, stage).batch_size
        if batch % world:
            fits = -(-batch // world) * world
            error = UsageError(f"{stage}.batch_size: {batch} cannot be shared evenly by {world} processes: pass --set "
                               f"{stage}.batch_size={fits}")  # fmt: skip
            error.joint = True
            raise error


def contrastive_batch(config: Config, units: int, world: int) -> int:
    """Units in a batch of pre-training: pretrain.batch_size, or what fewer units allow, as one that is twice in a batch
    would be its own negative.

    That is a multiple of 8, of 4 or 2 where there are not so many, whatever `world` is: 1, 2, 4 or 8 processes have the
    same batches, so that a run goes on with another number of them. UsageError where `world` cannot share them evenly.
    """
    wanted = config.pretrain.batch_size
    if units >= wanted:
        return wanted
    part = min(SHARED_BY, 1 << max(1, units).bit_length() - 1)
    batch = units // part * part
    if batch % world:
        fits = units // world * world
        other = f", or a new run with --set pretrain.batch_size={fits}" if fits else ""
        raise UsageError(f"pretrain.batch_size: batches of {batch}, as there are only {units} units, cannot be shared "
                         f"evenly by {world} processes: start as many as divide {batch}{other}")  # fmt: skip
    return batch


def precision(config: Config, accelerator: str) -> str:
    """ "32", "16" or "bf16": bfloat16 where the configuration leaves it open and the GPU itself computes it."""
    if config.precision == "16" and accelerator == "cpu":
        raise UsageError("--precision 16: float16 training needs a GPU; on the CPU use 32 or bf16")
    if config.precision != "auto":
        return config.precision
    return "bf16" if accelerator == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False) else "32"


def _fabric(place: Placement, number: str):
    from lightning_fabric import Fabric
    from lightning_fabric.plugins.environments import LightningEnvironment, SLURMEnvironment, TorchElasticEnvironment
    from lightning_fabric.strategies import DDPStrategy

    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it tells how it registers processes
    environment = {"": LightningEnvironment, "torchrun": TorchElasticEnvironment, "srun": SLURMEnvironment}
    several = place.world > 1
    return Fabric(
        accelerator=place.accelerator,
        devices=place.processes,
        num_nodes=place.nodes,
        strategy=DDPStrategy(timeout=PATIENCE) if several else "auto",
        plugins=[environment[place.launcher]()] if several else None,
        precision=FABRIC_NAMES[number],
    )


def describe(fabric, config: Config) -> list[str]:
    """Lines for the head of a log: device, processes, precision, and which kernel computes the loss."""
    from clustercl.ops._extension import build_info, cuda_loss_kernel, why_no_kernels

    device = fabric.device
    gpu = device.type == "cuda"
    name = torch.cuda.get_device_name(device) if gpu else f"CPU, {torch.get_num_threads()} threads"
    if reason := why_no_kernels(device):
        kernel = f"blocked torch operations, slow ({reason})"
    else:
        kernel = cuda_loss_kernel() if gpu else f"compiled, {build_info()['cpu']}"
    world = fabric.world_size
    lines = [f"device: {name}; {world} process{'es' if world > 1 else ''}; precision {precision(config, device.type)}",
             f"loss kernel: {kernel}"]  # fmt: skip
    if world > 1:
        lines.append(f"{world} processes share each batch; batch norm, Dice and negatives are over all of it")
    return lines
