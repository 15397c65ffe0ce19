"""What is said where memory runs out and nothing is trained: one sentence with what helps."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from clustercl.errors import RunError

SMALLER = "a smaller data.size or data.patch, a coarser data.spacing, or fewer model.features"
NO_MEMORY = ("can't allocate memory", "not enough memory", "out of memory", "std::bad_alloc")


@contextmanager
def memory_advice_untrained(
    doing: str, device: torch.device, smaller: str, on_host: str | None = None
) -> Iterator[None]:
    """RunError with what helps, where memory runs out inside. `smaller`: what a new run would set to fit; `on_host`: a
    command that does it on the CPU, the better way where a GPU was too small."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_full(error):
            raise
        helps = f"start a new run with {smaller}"
        if on_host is not None and device.type == "cuda":
            helps = f"{on_host} --device cpu needs none of it"
        raise RunError(f"{doing}: out of memory on {place(device)}: {helps}") from error


def is_full(error: Exception) -> bool:
    full = isinstance(error, (torch.OutOfMemoryError, MemoryError))
    return full or any(words in str(error).lower() for words in NO_MEMORY)


def place(device: torch.device) -> str:
    if device.type != "cuda":
        return "the CPU"
    return f"{torch.cuda.get_device_name(device)} ({torch.cuda.mem_get_info(device)[1] / 2**30:.0f} GiB)"
