"""How long does an exact linkage take, against SciPy and fastcluster? Trees are compared before anything is timed."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from clustercl.benchmarks.record import machine, timed
from clustercl.errors import RunError
from clustercl.files import write_json
from clustercl.ops.linkage import METHODS
from clustercl.progress import say

SIZES = (500, 2000, 5000)
FEATURES = 128
LINE = "{data:9} {method:9} n {n:6} {program:12} {seconds:9.4f} s ({fastest:.4f} to {slowest:.4f})"
PEER_LIMIT = 20_000  # beyond it the peers' matrix of distances passes 1.6 GB


def blobs(n: int, d: int = FEATURES, seed: int = 0) -> np.ndarray:
    """Overlapping blobs (n, d) float32 with a tenth of noise: what the features of an auto-encoder look like."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(20, d))
    x = centres[rng.integers(20, size=n)] + rng.normal(size=(n, d))
    x[: n // 10] = 2 * rng.normal(size=(n // 10, d))
    return x.astype(np.float32)


def gaussian(n: int, d: int = FEATURES, seed: int = 0) -> np.ndarray:
    """One Gaussian (n, d) float32: no structure, the hard case."""
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def run(
    sizes: Sequence[int] = SIZES, out: Path | str | None = None, methods: Sequence[str] = METHODS, repeats: int = 3
) -> list[dict]:
    """Time every method, kind of data and size; returns the rows and writes linkage.json into `out`.

    A row: data, method, n, d, program, seconds (median), fastest, slowest, equal (compared with SciPy; None where SciPy
    was left out for n > 20,000). RunError when a tree differs.
    """
    from scipy.cluster import hierarchy

    import clustercl

    peers = {"scipy": hierarchy.linkage}
    if find_spec("fastcluster"):
        import fastcluster

        peers["fastcluster"] = fastcluster.linkage
    rows = []
    for n in sizes:
        for name, data in (("blobs", blobs), ("gaussian", gaussian)):
            x = data(n)
            wide = x.astype(np.float64)  # what the peers work on, made outside of the timing
            for method in methods:
                compared = n <= PEER_LIMIT
                if compared:
                    _compare(
                        clustercl.linkage(x, method), hierarchy.linkage(wide, method), f"{name}, {method}, n = {n}"
                    )
                programs = {"clustercl": lambda method=method, x=x: clustercl.linkage(x, method)}
                if compared:
                    programs |= {
                        peer: lambda call=call, method=method, x=wide: call(x, method) for peer, call in peers.items()
                    }
                for program, call in programs.items():
                    row = {"data": name, "method": method, "n": n, "d": x.shape[1], "program": program}
                    rows.append(row | timed(call, repeats) | {"equal": True if compared else None})
                    say(LINE.format(**rows[-1]))
    if out is not None:
        about = machine(("torch", "numpy", "scipy", "fastcluster"))
        write_json(Path(out) / "linkage.json", {"machine": about, "rows": rows})
    return rows


def _compare(z: np.ndarray, wanted: np.ndarray, what: str) -> None:
    ids = [0, 1, 3]
    if not np.array_equal(z[:, ids], wanted[:, ids]) or not np.allclose(z[:, 2], wanted[:, 2], rtol=1e-6, atol=0):
        raise RunError(
            f"bench linkage: the tree differs from SciPy's on {what}, so nothing was timed; report this data"
        )
