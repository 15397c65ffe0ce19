"""The linkage on a GPU: milliseconds of whole trees, after the tree was compared with the CPU's."""

import statistics
import time
from collections.abc import Sequence

import numpy as np
import torch

from clustercl.benchmarks.linkage_programs import DATA
from clustercl.cluster import linkage
from clustercl.errors import RunError
from clustercl.progress import say

D = 128
# Method and n: the cases of which numbers are wanted, and single; beyond HARD_ONLY rows of the hard data alone.
CASES = (
    ("ward", 20_000), ("average", 20_000), ("complete", 20_000), ("single", 20_000),
    ("ward", 100_000), ("ward", 1_000_000),
)  # fmt: skip
COMPARED_MOST = {"ward": 100_000}  # rows up to which the CPU's tree is grown; the others' up to 20,000
HEIGHT_ERROR = 1e-9  # relative; average and complete begin with differently rounded distances, sums of 20,000 add up
HARD_ONLY = 500_000
SECONDS = 1.0  # of repetitions


def run(cases: Sequence[tuple[str, int]] = CASES, device: str = "cuda", d: int = D) -> list[dict]:
    """A row for each method, n and data: milliseconds (median), fastest, slowest, repeats, peak_megabytes beyond the
    input, rounds, scans (distances of rows or centroids per n^2), and whether the whole tree was compared.

    RunError when a tree is wrong.
    """
    rows = []
    for method, n in cases:
        for name, make in DATA.items():
            if n > HARD_ONLY and name != "gaussian":
                continue
            host = np.asarray(make(n, d), np.float32)
            x = torch.from_numpy(host).to(device)
            what = f"clustercl, {method}, {name}, n {n}, d {d}"
            compared = n <= COMPARED_MOST.get(method, 20_000)
            _check(linkage(x, method), host, method, what, compared)
            row = {"method": method, "data": name, "n": n, "d": d} | _timed(x, method)
            rows.append(row | {"compared": compared})
            say(f"{what}: {row['milliseconds']:.1f} ms, {row['peak_megabytes']:.0f} MB, {row['rounds']} rounds")
    return rows


def _check(z: np.ndarray, host: np.ndarray, method: str, what: str, compared: bool) -> None:
    if compared:
        wanted = linkage(host, method)
        error = float(np.max(np.abs(z[:, 2] - wanted[:, 2]) / wanted[:, 2].max()))
        if not np.array_equal(z[:, [0, 1, 3]], wanted[:, [0, 1, 3]]) or not error <= HEIGHT_ERROR:
            raise RunError(f"bench linkage: {what}: the tree is not the CPU's, heights are off by {error:.1e}")
        return
    # Rows that merge with rows: their heights are their distances; every cluster is used once; heights ascend.
    n = len(host)
    pairs = z[(z[:, :2] < n).all(axis=1)]
    a, b = (host[pairs[:, side].astype(np.int64)].astype(np.float64) for side in (0, 1))
    right = np.allclose(np.linalg.norm(a - b, axis=1), pairs[:, 2], rtol=1e-12)
    used = np.sort(z[:, :2].ravel())
    if not (right and np.array_equal(used, np.arange(2 * n - 2)) and (np.diff(z[:, 2]) >= 0).all() and z[-1, 3] == n):
        raise RunError(f"bench linkage: {what}: this is no tree of these rows")


def _timed(x: torch.Tensor, method: str) -> dict:
    times: list[float] = []
    effort: tuple[int, int, int] = (0, 0, 0)

    def told(*done: int) -> None:
        nonlocal effort
        effort = done

    cuda = x.is_cuda
    began = time.monotonic()
    for repeat in range(50):
        if cuda:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated() if cuda else 0
        start = time.perf_counter()
        linkage(x, method, progress=told)  # ends with the tree on the host: nothing is left to wait for
        times.append(1e3 * (time.perf_counter() - start))
        if repeat >= 1 + (times[-1] < 3e3) and time.monotonic() - began > SECONDS:
            break
    peak = 1e-6 * (torch.cuda.max_memory_allocated() - before) if cuda else 0.0
    row = {"milliseconds": statistics.median(times), "fastest": min(times), "slowest": max(times)}
    row |= {"repeats": len(times), "peak_megabytes": peak}
    return row | {"rounds": effort[1], "scans": effort[2] / len(x) ** 2}
