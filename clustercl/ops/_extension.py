"""Loads the compiled kernels once; says why when they cannot be had."""

from functools import cache
from importlib import import_module
from types import ModuleType

import torch  # its libraries must be loaded before the extension that links to them

MISSING: str | None = None
_C: ModuleType | None = None
try:
    _C = import_module("clustercl._C")
except ImportError as error:
    MISSING = f"the compiled extension clustercl._C could not be loaded ({error})"


def available() -> bool:
    """Whether the compiled kernels are there; `MISSING` says why not."""
    return _C is not None


def why_no_kernels(device: str | torch.device) -> str | None:
    """Why no compiled kernels serve the device; None where they do. "cuda": the present GPU, if there is one."""
    device = torch.device(device)
    if not available():
        return MISSING
    if device.type == "cpu":
        return None
    if device.type != "cuda":
        return f"this version has no compiled kernels for device type '{device.type}'"
    if not build_info()["cuda"]:
        return f"built without CUDA: {build_info()['cuda_reason']}"
    if not torch.cuda.is_available():
        return None
    return _card_refuses(torch.cuda.current_device() if device.index is None else device.index)


@cache
def _card_refuses(index: int) -> str | None:
    with torch.cuda.device(index):
        said = _C.card_refuses()
    if not said:
        return None
    major, minor = torch.cuda.get_device_capability(index)
    least = ", they want 8.0 or newer" if major < 8 else ""
    return (
        f"{torch.cuda.get_device_name(index)} (compute capability {major}.{minor}) cannot run the compiled kernels"
        f"{least}: {said}"
    )


def build_info() -> dict:
    """Version, torch and compiler of the build, whether CUDA kernels are in it, and the CPU instruction set in use."""
    return {"missing": MISSING} if _C is None else _C.build_info()


def cuda_loss_kernel() -> str:
    """Which matrix instructions the compiled loss takes on the first visible GPU, and why."""
    if not torch.cuda.is_available():
        return "compiled"
    card = ".".join(map(str, torch.cuda.get_device_capability()))
    if card != "9.0":
        return f"compiled, by mma.sync (compute capability {card})"
    if not build_info()["wgmma"]:
        return "compiled, by mma.sync (built without compute capability 9.0a)"
    return "compiled, by wgmma from 4,096 rows on where that serves (docs/loss.md), else by mma.sync"


def fma_ceiling() -> float:
    """Float32 operations per second of all threads in registers alone, measured now; what benchmarks divide by."""
    if _C is None:
        raise RuntimeError(f"fma_ceiling: {MISSING}; build it with: make build")
    return _C.fma_ceiling()
