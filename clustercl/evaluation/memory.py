"""What is said where memory runs out: one sentence with what helps."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch

from clustercl.errors import RunError

SMALLER = "a smaller data.size or data.patch, a coarser data.spacing, or fewer model.features"
NO_MEMORY = ("can't allocate memory", "not enough memory", "out of memory", "std::bad_alloc")


@contextmanager
def full_memory_is_told(doing: str, device: torch.device, rest: str) -> Iterator[None]:
    """RunError where memory runs out inside: who wanted it, and the `rest` of the sentence, which says what helps."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        full = isinstance(error, (torch.OutOfMemoryError, MemoryError))
        if not full and not any(words in str(error).lower() for words in NO_MEMORY):
            raise
        raise RunError(f"{doing}: out of memory on {_place(device)}{rest}") from error


def memory_advice_untrained(
    doing: str, device: torch.device, smaller: str, on_host: str | None = None
) -> AbstractContextManager[None]:
    """The same where nothing is trained. `smaller`: what a new run would set to fit; `on_host`: a command that does it
    on the CPU, the better way where a GPU was too small."""
    helps = f"start a new run with {smaller}"
    if on_host is not None and device.type == "cuda":
        helps = f"{on_host} --device cpu needs none of it"
    return full_memory_is_told(doing, device, f": {helps}")


def _place(device: torch.device) -> str:
    if device.type != "cuda":
        return "the CPU"
    return f"{torch.cuda.get_device_name(device)} ({torch.cuda.mem_get_info(device)[1] / 2**30:.0f} GiB)"
