"""The loss on a GPU: milliseconds of both passes by CUDA events, after the answer was checked against float64.

Called on an idle GPU, where small batches wait for the host, and replayed from a CUDA graph, where they do not.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from clustercl.benchmarks.loss_programs import Blocked, answer, compiled, naive, ours, problem
from clustercl.errors import RunError
from clustercl.progress import say

# n, d, what is multiplied: the cases of which numbers are wanted, and a million rows.
CASES = (
    (16_384, 128, "bfloat16"), (65_536, 128, "bfloat16"), (65_536, 512, "bfloat16"), (65_536, 128, "tf32"),
    (16_384, 128, "float32"), (65_536, 128, "float32"), (1_048_576, 128, "bfloat16"),
)  # fmt: skip
DENSE_MOST = 16_384  # rows beyond which n x n numbers are not tried
CHECKED_MOST = 65_536  # rows beyond which the truth in float64 takes minutes
SECONDS = 1.0  # of repetitions
# Of the mean loss, absolutely, and of the gradient, relative to its length: what each precision is held to by the tests
# (csrc/tests/test_contrastive_cuda.cpp).
ERRORS = {"bfloat16": (1e-4, 1e-2), "tf32": (2e-2, 3e-3), "float32": (2e-5, 1e-5)}


def run(cases: Sequence[tuple[int, int, str]] = CASES, device: str = "cuda") -> list[dict]:
    """A row for each case and program: n, d, precision, program, milliseconds (median), fastest, slowest, repeats,
    peak_megabytes beyond the input, graph_milliseconds (median of a CUDA graph's replays, None without one), tflops
    (of the 4 n^2 d operations that both passes need by symmetry) and errors.

    RunError when an answer is wrong.
    """
    rows = []
    for n, d, precision in cases:
        x, pseudo_class = (tensor.to(device) for tensor in problem(n, d))
        x = x.to(torch.bfloat16 if precision == "bfloat16" else torch.float32)
        wanted = None
        if n <= CHECKED_MOST:
            wanted = answer(lambda rows, labels: Blocked.apply(rows, labels, "exclude"), x.double(), pseudo_class)
        programs = {"clustercl": ours("exclude")}
        if n <= DENSE_MOST:
            programs |= {"naive torch": naive, "torch.compile": compiled}
        for name, call in programs.items():
            with products(precision):
                errors = _checked(
                    call, x, pseudo_class, wanted, ERRORS[precision], f"{name}, n {n}, d {d}, {precision}"
                )
                row = {"n": n, "d": d, "precision": precision, "program": name} | _timed(call, x, pseudo_class)
                in_graph = x.is_cuda and n <= CHECKED_MOST and name != "naive torch"
                row["graph_milliseconds"] = _replayed(name, call, x, pseudo_class) if in_graph else None
            row |= {"tflops": 1e-9 * 4 * n * n * d / row["milliseconds"], **errors}
            rows.append(row)
            say(f"{name}, n {n}, d {d}, {precision}: {row['milliseconds']:.3f} ms, {row['peak_megabytes']:.0f} MB")
    return rows


@contextmanager
def products(precision: str):
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _checked(call: Callable, x: Tensor, pseudo_class: Tensor, wanted, most: tuple[float, float], what: str) -> dict:
    loss, grad = answer(call, x, pseudo_class)
    if wanted is None:
        return {"loss_error": None, "grad_error": None}
    of_loss = abs(float(loss) - float(wanted[0]))
    of_grad = float((grad.double() - wanted[1]).norm() / wanted[1].norm())
    # Others round their products to the type of the rows: their errors are told, ours are held to the bound.
    if what.startswith("clustercl") and not (of_loss <= most[0] and of_grad <= most[1]):
        raise RunError(
            f"bench loss: {what}: the loss is off by {of_loss:.1e}, its gradient by {of_grad:.1e} of its length"
        )
    return {"loss_error": of_loss, "grad_error": of_grad}


def _timed(call: Callable, x: Tensor, pseudo_class: Tensor) -> dict:
    x = x.detach().requires_grad_()
    cuda = x.is_cuda
    times: list[float] = []
    began = time.monotonic()
    for repeat in range(200):
        x.grad = None
        if cuda:
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            start, stop = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            start.record()
        else:
            before, start = 0, time.perf_counter()
        call(x, pseudo_class).backward()
        if cuda:
            stop.record()
            torch.cuda.synchronize()
            times.append(start.elapsed_time(stop))
        else:
            times.append(1e3 * (time.perf_counter() - start))
        if repeat >= (5 if times[-1] < 3e3 else 2) and time.monotonic() - began > SECONDS:
            break
    peak = 1e-6 * (torch.cuda.max_memory_allocated() - before) if cuda else 0.0
    times = times[2:]  # the first two warm up
    row = {"milliseconds": statistics.median(times), "fastest": min(times), "slowest": max(times)}
    return row | {"repeats": len(times), "peak_megabytes": peak}


def _replayed(name: str, call: Callable, x: Tensor, pseudo_class: Tensor) -> float | None:
    x = x.detach().requires_grad_()
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):  # warm up beside the graph, as torch's manual wants it
        for _ in range(3):
            x.grad = None
            call(x, pseudo_class).backward()
    torch.cuda.current_stream().wait_stream(stream)
    x.grad = None
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            call(x, pseudo_class).backward()
    except RuntimeError as error:
        if name == "clustercl":
            raise
        say(f"{name}: no CUDA graph: {error}")  # others need not be able to
        return None
    times = []
    for _ in range(20):
        start, stop = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        graph.replay()
        stop.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(stop))
    return statistics.median(times[2:])
