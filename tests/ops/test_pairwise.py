"""Distances: values by hand and against SciPy, dtypes, strides, edges, errors, and the op's own promises."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from clustercl import pairwise_distances

METRICS = ["euclidean", "sqeuclidean", "cosine"]


def random(n, d, seed=0, dtype=np.float64):
    return np.random.default_rng(seed).normal(size=(n, d)).astype(dtype)


def test_by_hand():
    x = np.array([[0.0, 3.0], [4.0, 0.0]])
    assert np.array_equal(pairwise_distances(x), [[0, 5], [5, 0]])
    assert np.array_equal(pairwise_distances(x, metric="sqeuclidean"), [[0, 25], [25, 0]])
    assert np.array_equal(pairwise_distances(x, [[0, 7], [0, -2], [1, 0]], metric="cosine"), [[0, 2, 1], [1, 1, 0]])


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("n, m, d", [(1, 1, 1), (5, 3, 7), (70, 41, 8), (33, 65, 129), (3, 2, 1000)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equals_scipy(metric, n, m, d, dtype):
    x, y = random(n, d, 0, dtype), random(m, d, 1, dtype)
    # Both sum d terms in float64; a cosine of about 1 cancels in SciPy, so its error is absolute.
    np.testing.assert_allclose(
        pairwise_distances(x, y, metric=metric),
        cdist(x.astype(np.float64), y.astype(np.float64), metric),
        rtol=0 if metric == "cosine" else 1e-13,
        atol=1e-13 if metric == "cosine" else 0,
    )


@pytest.mark.parametrize("metric", METRICS)
def test_symmetric_with_zero_diagonal_and_near_duplicates(metric):
    x = random(20, 30) + 1e4
    x[7] = x[3]
    x[9] = x[3] + 1e-9  # |x|^2 + |y|^2 - 2xy would lose this one
    out = pairwise_distances(x, metric=metric)
    assert np.array_equal(out, out.T) and (np.diag(out) == 0).all() and out[3, 7] == 0
    if metric == "euclidean":
        np.testing.assert_allclose(out[3, 9], np.linalg.norm(x[9] - x[3]), rtol=1e-14)  # the rounding of the sum


def test_cosine_ignores_length_up_to_the_ends_of_the_range():
    x = np.array([[1.0, 2.0], [1e200, 2e200], [1e-200, 2e-200], [-3.0, -6.0]])
    np.testing.assert_allclose(
        pairwise_distances(x, metric="cosine"),
        [[0, 0, 0, 2], [0, 0, 0, 2], [0, 0, 0, 2], [2, 2, 2, 0]],
        atol=1e-15,  # the rounding of a direction
    )


def test_overflow_is_infinite_as_in_scipy():
    assert np.isinf(pairwise_distances(np.array([[1e200], [-1e200]]))[0, 1])


def test_strided_read_only_and_empty_input():
    base = random(20, 12)
    base.flags.writeable = False
    view = base[::-2, 1::3]
    assert np.array_equal(pairwise_distances(view), pairwise_distances(view.copy()))
    tensor = torch.from_numpy(base.copy())[::3].T
    assert torch.equal(pairwise_distances(tensor), pairwise_distances(tensor.contiguous()))
    assert pairwise_distances(np.empty((0, 3)), base[:, :3]).shape == (0, 20)
    assert pairwise_distances(base[:1]).tolist() == [[0.0]]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int32, torch.uint8])
def test_other_dtypes_are_converted_exactly(dtype):
    x = (torch.from_numpy(random(9, 5)) * 3).abs().to(dtype)
    out = pairwise_distances(x)
    assert out.dtype == torch.float64
    assert torch.equal(out, pairwise_distances(x.double()))


def test_tensor_in_tensor_out_array_in_array_out():
    x = random(4, 3)
    assert isinstance(pairwise_distances(x), np.ndarray)
    assert isinstance(pairwise_distances(torch.from_numpy(x), x), torch.Tensor)
    assert not pairwise_distances(torch.from_numpy(x).requires_grad_()).requires_grad


@pytest.mark.parametrize("metric", METRICS)
def test_opcheck(metric):
    x, y = torch.from_numpy(random(6, 5)), torch.from_numpy(random(4, 5, 1, np.float32))
    torch.library.opcheck(torch.ops.clustercl.pairwise_distances, (x, y, metric))


def test_compiles_without_a_graph_break():
    op = torch.ops.clustercl.pairwise_distances
    compiled = torch.compile(lambda a: op(a, a, "euclidean") + 1, fullgraph=True, backend="aot_eager")
    x = torch.from_numpy(random(6, 5))
    assert torch.equal(compiled(x), op(x, x, "euclidean") + 1)


def test_same_bits_on_every_instruction_set_and_thread_count():
    code = (
        "import hashlib, torch, numpy as np\n"
        "from clustercl import pairwise_distances\n"
        "x = np.random.default_rng(5).normal(size=(150, 37))\n"
        "out = [pairwise_distances(x, metric=m).tobytes() for m in ('euclidean', 'cosine')]\n"
        "print(hashlib.sha256(b''.join(out)).hexdigest())\n"
    )
    digests = set()
    for settings in (
        {"CLUSTERCL_CPU": "portable", "OMP_NUM_THREADS": "1"},
        {"OMP_NUM_THREADS": "2"},
    ):  # ctest tries all
        run = subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, **settings}, capture_output=True, text=True, check=True
        )
        digests.add(run.stdout)
    assert len(digests) == 1


@pytest.mark.parametrize(
    "x, y, metric, text",
    [
        (np.zeros(3), None, "euclidean", r"X must be \(n, d\), got shape \(3,\)"),
        (np.zeros((3, 4, 5)), None, "euclidean", r"X must be \(n, d\), got shape \(3, 4, 5\)"),
        (np.zeros((3, 0)), None, "euclidean", "X must have at least one feature"),
        (np.zeros((3, 2)), np.zeros((3, 4)), "euclidean", r"Y must have the 2 features of X, got shape \(3, 4\)"),
        ([["a", "b"]], None, "euclidean", "X must hold real numbers, got dtype <U1"),
        (np.zeros((2, 2), dtype=complex), None, "euclidean", "X must hold real numbers, got dtype complex128"),
        ([[1.0], [np.nan]], None, "euclidean", r"X must be finite, got nan at \(1, 0\)"),
        (torch.tensor([[1.0, -torch.inf]]), None, "euclidean", r"X must be finite, got -inf at \(0, 1\)"),
        (np.zeros((2, 2)), None, "manhattan", "metric must be one of euclidean, sqeuclidean, cosine, got 'manhattan'"),
        (np.zeros((2, 2)), None, 3, "metric must be one of .* got 3"),
        ([[1.0], [0.0]], None, "cosine", "X row 1 is all zeros"),
        ([[1.0], [2.0, 3.0]], None, "euclidean", r"X must be a matrix \(n, d\)"),
    ],
)
def test_bad_input_is_named(x, y, metric, text):
    with pytest.raises(ValueError, match=f"pairwise_distances: {text}"):
        pairwise_distances(x, y, metric=metric)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("metric", METRICS)
def test_cuda_gives_the_bits_of_the_cpu(metric):
    x = torch.from_numpy(random(40, 20))
    out = pairwise_distances(x.cuda(), metric=metric)
    assert out.is_cuda and torch.equal(out.cpu(), pairwise_distances(x, metric=metric))
