"""The compiled linkage. Not a torch op: it reports progress to Python and listens to Ctrl-C while it runs."""

from collections.abc import Callable

import numpy as np
import torch

from clustercl.ops import _extension
from clustercl.ops.memory import available_bytes

# Told how many merges, rounds of merging (single: 0) and distances of rows or centroids are done.
Progress = Callable[[int, int, int], object]
METHODS = ("ward", "average", "complete", "single")
METRICS = ("euclidean", "cosine")
DTYPES = ("float64", "float32")


def linkage_matrix(x: np.ndarray, method: str, metric: str, dtype: str, progress: Progress | None = None) -> np.ndarray:
    """The (n - 1, 4) float64 linkage matrix of x (n, d), float32 or float64, n >= 2, finite; x is left as it is.

    dtype: of the entries of the matrix of distances, where the method has one.
    progress is called at most ten times a second and once at the end; what it raises, KeyboardInterrupt among it, stops
    the computation. MemoryError, before anything is done, names the bytes wanted.
    """
    if not _extension.available():
        raise RuntimeError(f"linkage: {_extension.MISSING}; build it with: make build")
    n, d = x.shape
    if method in ("average", "complete"):
        _require_memory(method, n, _bytes_with_matrix(n, d, dtype))
    return _extension._C.linkage(x, method, metric, dtype, progress)


def on_gpu(x) -> bool:
    """Whether linkage_matrix_cuda takes x: a CUDA tensor, and kernels that its card can run in this build."""
    return isinstance(x, torch.Tensor) and x.is_cuda and _extension.why_no_kernels(x.device) is None


def linkage_matrix_cuda(
    x: torch.Tensor, method: str, metric: str, dtype: str, progress: Progress | None = None
) -> np.ndarray:
    """The same of rows x (n, d) on a GPU, by its kernels and in its memory; finite, no zero row under cosine."""
    n, d = x.shape
    padded = -(-d // 8) * 8
    wanted = _workspace_bytes(n, padded, method, metric, dtype, x.device)
    try:
        rows = x.new_zeros((n, padded), dtype=torch.float64)
        workspace = x.new_empty(wanted, dtype=torch.uint8)
    except torch.OutOfMemoryError:
        free, _ = torch.cuda.mem_get_info(x.device)
        raise MemoryError(
            f"linkage: {method} of n = {n} wants {wanted + 8 * n * padded} bytes on {x.device}, and {free} are free"
            + ("" if method in ("ward", "single") else ": take method 'ward' or 'single', which need no matrix")
        ) from None
    rows[:, :d] = x.detach()
    with torch.cuda.device(x.device):
        return _extension._C.linkage_cuda(
            rows.data_ptr(), n, padded, method, metric, dtype, workspace.data_ptr(),
            torch.cuda.current_stream().cuda_stream, progress,
        )  # fmt: skip


def linkage_of_distances(
    condensed: np.ndarray, n: int, method: str, dtype: str, progress: Progress | None = None
) -> np.ndarray:
    """The same from distances (n (n - 1) / 2,) float64 in the order of SciPy's pdist, finite, >= 0; not for ward."""
    if not _extension.available():
        raise RuntimeError(f"linkage: {_extension.MISSING}; build it with: make build")
    _require_memory(method, n, _matrix_bytes(n, dtype))
    return _extension._C.linkage_of_condensed(condensed, n, method, dtype, progress)


def _workspace_bytes(n: int, padded: int, method: str, metric: str, dtype: str, device: torch.device) -> int:
    with torch.cuda.device(device):  # what is laid out depends on the card
        return _extension._C.linkage_cuda_workspace(n, padded, method, metric, dtype)


def lacking_memory(method: str, n: int, d: int, device: torch.device) -> tuple[int, int] | None:
    """(bytes wanted, bytes there) where rows (n, d) on `device` are too many for the method's float64 matrix of
    distances; None where it fits, has none, or nothing tells how much is there."""
    if method in ("ward", "single"):
        return None
    if device.type == "cuda" and _extension.why_no_kernels(device) is None:
        wanted = _workspace_bytes(n, -(-d // 8) * 8, method, "euclidean", "float64", device)
        there = torch.cuda.mem_get_info(device)[1]
    else:
        wanted, there = _bytes_with_matrix(n, d, "float64"), available_bytes()
    return None if there is None or wanted <= there else (wanted, there)


def _bytes_with_matrix(n: int, d: int, dtype: str) -> int:
    """Of average and complete on the CPU: the rows three times beside the distances."""
    return 3 * 8 * n * d + _matrix_bytes(n, dtype)


def _matrix_bytes(n: int, dtype: str) -> int:
    return np.dtype(dtype).itemsize * (n * (n - 1) // 2)


def _require_memory(method: str, n: int, wanted: int) -> None:
    there = available_bytes()
    if there is not None and wanted > there:
        raise MemoryError(
            f"linkage: {method} of n = {n} wants {wanted} bytes ({wanted / 1e9:.1f} GB) for its matrix of distances, "
            f"and {there} are available: take method 'ward' or 'single', which need no matrix"
        )
