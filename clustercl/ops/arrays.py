"""What the clustering takes for a matrix: checks it, names what is wrong, and brings it to the host."""

from math import isqrt

import numpy as np
import torch

from clustercl.ops._extension import why_no_kernels
from clustercl.progress import say_once


def require_dense(x: torch.Tensor, argument: str) -> None:
    """TypeError, as torch and scikit-learn raise it, where a tensor is sparse or nested."""
    if x.layout != torch.strided or x.is_nested:
        raise TypeError(f"{argument} must be dense, got a {'nested' if x.is_nested else x.layout} tensor")


def host_matrix(x, name: str, op: str, least_rows: int = 0) -> np.ndarray:
    """The matrix as (n, d) float32 or float64 on the host, without a copy where possible; never to be written to.

    x: NumPy array, tensor on any device, or anything that NumPy makes an array of; real numbers, all finite, at least
    one column and `least_rows` rows, else ValueError naming `op` and `name`; TypeError for a tensor that is not dense.
    """
    if isinstance(x, torch.Tensor) and x.is_cuda:
        reason = why_no_kernels(x.device)
        because = f" ({reason})" if reason else ""
        say_once(f"{op}: {name} lies on {x.device} and is copied to the host, where the clustering runs{because}")
    array = _array(x, name, op, "a matrix (n, d)")
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{op}: {name} must hold real numbers, got dtype {array.dtype}")
    if array.ndim != 2:
        raise ValueError(f"{op}: {name} must be (n, d), got shape {array.shape}")
    if array.shape[0] < least_rows:
        raise ValueError(f"{op}: {name} must have at least {least_rows} rows, got shape {array.shape}")
    if array.shape[1] < 1:
        raise ValueError(f"{op}: {name} must have at least one feature, got shape {array.shape}")
    if array.dtype == np.float16:
        array = array.astype(np.float32)
    elif array.dtype not in (np.float32, np.float64):
        array = array.astype(np.float64)
    if any(stride % array.itemsize for stride in array.strides) or not array.flags.aligned:
        array = array.copy()  # a field of packed records: kernels count strides in whole elements
    check_finite(array, name, op)
    return array


def _array(x, name: str, op: str, wanted: str) -> np.ndarray:
    """As NumPy's; what it lacks, and half of float32, as float32."""
    if isinstance(x, torch.Tensor):
        require_dense(x, f"{op}: {name}")
        x = x.detach().resolve_neg()  # as z.conj().imag is, which NumPy cannot hold
        x = x.to(torch.float32) if x.dtype in (torch.bfloat16, torch.float16) else x
        return x.cpu().numpy()
    try:
        array = np.asarray(x)
    except ValueError as error:  # rows of different lengths
        raise ValueError(f"{op}: {name} must be {wanted}, {error}") from None
    if array.dtype.kind == "O" and array.ndim == 0:  # nothing that NumPy knows, as SciPy's sparse matrices
        raise ValueError(f"{op}: {name} must be {wanted}, got {type(x).__name__}")
    return array


def gpu_matrix(x: torch.Tensor, name: str, op: str, least_rows: int = 0) -> torch.Tensor:
    """A tensor as (n, d) rows that stay on its device, with the checks and errors of host_matrix."""
    require_dense(x, f"{op}: {name}")
    if x.is_complex():
        raise ValueError(f"{op}: {name} must hold real numbers, got dtype {str(x.dtype).removeprefix('torch.')}")
    if x.dim() != 2:
        raise ValueError(f"{op}: {name} must be (n, d), got shape {tuple(x.shape)}")
    if x.shape[0] < least_rows:
        raise ValueError(f"{op}: {name} must have at least {least_rows} rows, got shape {tuple(x.shape)}")
    if x.shape[1] < 1:
        raise ValueError(f"{op}: {name} must have at least one feature, got shape {tuple(x.shape)}")
    if not (finite := x.isfinite()).all():
        place = tuple((~finite).nonzero()[0].tolist())
        raise ValueError(f"{op}: {name} must be finite, got {x[place].item()} at {place}")
    return x.detach()


def condensed_distances(x, name: str, op: str) -> tuple[np.ndarray, int]:
    """Given distances as SciPy's pdist orders them, (n (n - 1) / 2,) float64, and n >= 2, from those or from (n, n).

    ValueError naming `op`, `name` and what is wrong: another shape, not finite, negative, not symmetric, a diagonal
    that is not 0.
    """
    array = _array(x, name, op, "distances, (n, n) or (n (n - 1) / 2,)")
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{op}: {name} must hold real numbers, got dtype {array.dtype}")
    array = np.ascontiguousarray(array, np.float64)
    n = (1 + isqrt(1 + 8 * array.size)) // 2 if array.ndim == 1 else len(array) if array.ndim == 2 else 0
    if n < 2 or array.shape not in ((n * (n - 1) // 2,), (n, n)):
        raise ValueError(
            f"{op}: {name} must hold distances, (n, n) or (n (n - 1) / 2,) with n >= 2, got shape {array.shape}"
        )
    check_finite(array, name, op)
    if (array < 0).any():
        place = tuple(int(at) for at in np.argwhere(array < 0)[0])
        raise ValueError(f"{op}: {name} must hold distances of at least 0, got {array[place]} at {place}")
    if array.ndim == 1:
        return array, n
    if array.diagonal().any():
        at = int(np.flatnonzero(array.diagonal())[0])
        raise ValueError(f"{op}: {name} must have zeros on its diagonal, got {array[at, at]} at {(at, at)}")
    # Distances that were computed twice may differ by their rounding.
    if (far := np.abs(array - array.T) > 1e-8 * array.max()).any():
        i, j = (int(at) for at in np.argwhere(far)[0])
        raise ValueError(f"{op}: {name} must be symmetric, got {array[i, j]} at {(i, j)} and {array[j, i]} at {(j, i)}")
    return np.concatenate([array[i, i + 1 :] for i in range(n)]), n


def check_finite(array: np.ndarray, name: str, op: str) -> None:
    """ValueError with the place and value of the first entry that is NaN or infinite."""
    finite = np.isfinite(array)
    if not finite.all():
        place = tuple(int(at) for at in np.argwhere(~finite)[0])
        raise ValueError(f"{op}: {name} must be finite, got {array[place]} at {place}")
