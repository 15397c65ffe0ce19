"""The compiled linkage. Not a torch op: it reports progress to Python and listens to Ctrl-C while it runs."""

from collections.abc import Callable

import numpy as np

from clustercl.ops import _extension
from clustercl.ops.memory import available_bytes

METHODS = ("ward", "average", "complete", "single")
METRICS = ("euclidean", "cosine")


def linkage_matrix(
    x: np.ndarray, method: str, metric: str, progress: Callable[[int], object] | None = None
) -> np.ndarray:
    """The (n - 1, 4) float64 linkage matrix of x (n, d), float32 or float64, n >= 2, finite; x is left as it is.

    progress is called with the number of merges done, at most ten times a second and once at the end; what it raises,
    KeyboardInterrupt among it, stops the computation. MemoryError, before anything is done, names the bytes wanted.
    """
    if not _extension.available():
        raise RuntimeError(f"linkage: {_extension.MISSING}; build it with: make build")
    n, d = x.shape
    wanted, there = 8 * (n * d + n * (n - 1) // 2), available_bytes()
    if method in ("average", "complete") and there is not None and wanted > there:
        raise MemoryError(
            f"linkage: {method} of n = {n} wants {wanted} bytes ({wanted / 1e9:.1f} GB) for its matrix of distances, "
            f"and {there} are available: take method 'ward' or 'single', which need no matrix"
        )
    return _extension._C.linkage(x, method, metric, progress)
