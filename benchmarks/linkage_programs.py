"""What the benchmark of the linkage compares: ours and the exact clusterings of others, on two kinds of data."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np


@dataclass(frozen=True)
class Program:
    """call(x, method) is the linkage matrix. wide: x comes in float64, converted outside of the timing. methods: those
    it has. most: rows beyond which it is left out, and why."""

    call: Callable[[np.ndarray, str], np.ndarray]
    wide: bool = True
    methods: tuple[str, ...] = ("ward", "average", "complete", "single")
    most: int = 1 << 40
    why: str = ""


def blobs(n: int, d: int, seed: int = 0) -> np.ndarray:
    """Overlapping blobs (n, d) float32 with a tenth of noise: what the features of an auto-encoder look like."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(20, d))
    x = centres[rng.integers(20, size=n)] + rng.normal(size=(n, d))
    x[: n // 10] = 2 * rng.normal(size=(n // 10, d))
    return x.astype(np.float32)


def gaussian(n: int, d: int, seed: int = 0) -> np.ndarray:
    """One Gaussian (n, d) float32: no structure, the hard case."""
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


DATA = {"blobs": blobs, "gaussian": gaussian}


def ours(x: np.ndarray, method: str) -> np.ndarray:
    import clustercl

    return clustercl.linkage(x, method)


def scipys(x: np.ndarray, method: str) -> np.ndarray:
    from scipy.cluster import hierarchy

    return hierarchy.linkage(x, method)


def fastclusters(x: np.ndarray, method: str) -> np.ndarray:
    import fastcluster

    return fastcluster.linkage(x, method)


def fastclusters_vector(x: np.ndarray, method: str) -> np.ndarray:
    import fastcluster

    return fastcluster.linkage_vector(x, method)


MATRIX = "its matrices of distances take 3.1 GB at 20,000 rows"
# Ours first: the others' ratios are to it.
PROGRAMS: dict[str, Program] = {
    "clustercl": Program(ours, wide=False),
    "scipy": Program(scipys, most=20_000, why=MATRIX),
    "fastcluster": Program(fastclusters, most=20_000, why=MATRIX),
    "fastcluster vector": Program(
        fastclusters_vector, methods=("ward", "single"), most=20_000, why="it is O(n^2 d) slow"
    ),
}
if find_spec("fastcluster") is None:
    del PROGRAMS["fastcluster"], PROGRAMS["fastcluster vector"]
# The ones that take a matrix of n x n / 2 distances need memory for it; ours for these two methods as well.
DENSE = ("average", "complete")
DENSE_MOST = 40_000
