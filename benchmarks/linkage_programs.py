"""What the benchmark of the linkage compares: ours and the exact clusterings of others, on two kinds of data."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np

from clustercl.ops.linkage import METHODS

# These need a matrix of n (n - 1) / 2 distances; ours for them as well.
DENSE = ("average", "complete")
DENSE_MOST = 40_000
MATRIX = "its matrix of distances takes 4 n^2 bytes and more"
# Seconds for one call beyond which a program is left out, by the time it took for fewer rows.
PATIENCE = 150.0


@dataclass(frozen=True)
class Program:
    """call(x, method, progress) is the linkage matrix, or its first three columns; progress is of `clustercl.linkage`,
    and others leave it alone. wide: x comes in float64, converted outside of the timing. methods: those it has. most:
    rows beyond which it is left out, and why. heights_only: its heights are exact to 1e-6, its ties are not."""

    call: Callable[..., np.ndarray]
    wide: bool = True
    methods: tuple[str, ...] = METHODS
    most: int = 1 << 40
    why: str = ""
    heights_only: bool = False


def why_not(what: Program, method: str, n: int, earlier: Sequence[dict]) -> str | None:
    """Why a program is not run on n rows, None where it is; earlier: its rows for other n."""
    if method in DENSE and n > DENSE_MOST:
        return MATRIX
    if n > what.most:
        return what.why
    predicted = max((row["seconds"] * (n / row["n"]) ** 2 for row in earlier if row["n"] < n), default=0.0)
    return f"it would take about {predicted:.0f} s" if predicted > PATIENCE else None


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


def ours(x: np.ndarray, method: str, progress=None) -> np.ndarray:
    import clustercl

    return clustercl.linkage(x, method, progress=progress)


def ours_float32(x: np.ndarray, method: str, progress=None) -> np.ndarray:
    import clustercl

    return clustercl.linkage(x, method, progress=progress, dtype="float32")


def scipys(x: np.ndarray, method: str, progress=None) -> np.ndarray:
    from scipy.cluster import hierarchy

    return hierarchy.linkage(x, method)


def scikit_learns(x: np.ndarray, method: str, progress=None) -> np.ndarray:
    from sklearn.cluster import AgglomerativeClustering

    found = AgglomerativeClustering(linkage=method, compute_full_tree=True, compute_distances=True).fit(x)
    return np.column_stack([np.sort(found.children_, axis=1), found.distances_])


def fastclusters(x: np.ndarray, method: str, progress=None) -> np.ndarray:
    import fastcluster

    return fastcluster.linkage(x, method)


def fastclusters_vector(x: np.ndarray, method: str, progress=None) -> np.ndarray:
    import fastcluster

    return fastcluster.linkage_vector(x, method)


# Ours first: the others' ratios are to it.
PROGRAMS: dict[str, Program] = {
    "clustercl": Program(ours, wide=False),
    "clustercl float32": Program(ours_float32, wide=False, methods=DENSE, heights_only=True),
    "scipy": Program(scipys, most=DENSE_MOST, why=MATRIX),
    "scikit-learn": Program(scikit_learns, most=DENSE_MOST, why=MATRIX),
    "fastcluster": Program(fastclusters, most=DENSE_MOST, why=MATRIX),
    "fastcluster vector": Program(fastclusters_vector, methods=("ward", "single")),
}
if find_spec("fastcluster") is None:
    del PROGRAMS["fastcluster"], PROGRAMS["fastcluster vector"]
