"""Loads the compiled kernels once; says why when they cannot be had."""

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


def has_kernel(op: str, device: str) -> bool:
    """Whether this build holds a compiled kernel of the op for the device type ("cpu", "cuda")."""
    if op == "linkage":  # no torch op: it reports progress to a Python function
        return available() and hasattr(_C, {"cpu": "linkage", "cuda": "linkage_cuda"}.get(device, ""))
    return available() and torch._C._dispatch_has_kernel_for_dispatch_key(f"clustercl::{op}", device.upper())


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
