"""Where the time of a call goes on a GPU: milliseconds by kernel, told by torch's profiler.

python -m clustercl.benchmarks.gpu_profile   the cases of loss_gpu.py and linkage_gpu.py that end within a second
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable

import numpy as np
import torch

from clustercl.benchmarks import linkage_gpu, loss_gpu
from clustercl.benchmarks.linkage_programs import DATA
from clustercl.benchmarks.loss_programs import ours, problem
from clustercl.cluster import linkage

MOST = {"loss": 65_536, "linkage": 100_000}  # rows
TOLD = 12  # kernels


def by_kernel(events: Iterable[tuple[str, float]]) -> list[dict]:
    """Rows (kernel, launches, milliseconds, longest) from (name, milliseconds) of each launch, longest in all first."""
    found = defaultdict(list)
    for name, milliseconds in events:
        found[short(name)].append(milliseconds)
    rows = [{"kernel": k, "launches": len(t), "milliseconds": sum(t), "longest": max(t)} for k, t in found.items()]
    return sorted(rows, key=lambda row: -row["milliseconds"])


def short(name: str) -> str:
    """A kernel's name without its namespaces and arguments."""
    for words in ("void ", "clustercl::", "(anonymous namespace)::", "at::native::"):
        name = name.replace(words, "")
    return name.partition("(")[0].strip()


def profiled(call: Callable[[], object]) -> tuple[float, list[dict]]:
    """Milliseconds of one call after a first by the clock of the host, unprofiled, and of its kernels in a third."""
    call()
    torch.cuda.synchronize()
    began = time.perf_counter()
    call()
    torch.cuda.synchronize()
    wall = 1e3 * (time.perf_counter() - began)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        call()
        torch.cuda.synchronize()
    on_gpu = (event for event in profile.events() if event.device_type == torch.autograd.DeviceType.CUDA)
    return wall, by_kernel((event.name, 1e-3 * (event.time_range.end - event.time_range.start)) for event in on_gpu)


def tell(what: str, call: Callable[[], object]) -> None:
    wall, rows = profiled(call)
    print(f"{what}: {wall:.2f} ms, on the GPU {sum(row['milliseconds'] for row in rows):.2f} ms")
    for row in rows[:TOLD]:
        print("  {milliseconds:9.3f} ms in {launches:5d}, longest {longest:8.3f}  {kernel}".format(**row))


def main() -> None:
    if not torch.cuda.is_available():
        raise SystemExit("gpu_profile: torch sees no CUDA device")
    for n, d, precision in loss_gpu.CASES:
        if n <= MOST["loss"]:
            x, pseudo_class = (tensor.cuda() for tensor in problem(n, d))
            x = (x.bfloat16() if precision == "bfloat16" else x).requires_grad_()
            with loss_gpu.products(precision):
                tell(f"loss, n {n}, d {d}, {precision}", lambda x=x, c=pseudo_class: ours("exclude")(x, c).backward())
    for method, n in linkage_gpu.CASES:
        for name, make in DATA.items():
            if n <= MOST["linkage"]:
                x = torch.from_numpy(np.asarray(make(n, linkage_gpu.D), np.float32)).cuda()
                tell(f"{method}, {name}, n {n}", lambda x=x, method=method: linkage(x, method))


if __name__ == "__main__":
    main()
