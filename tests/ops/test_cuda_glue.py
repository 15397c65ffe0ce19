"""What the glue promises on a GPU beside right answers: torch's current stream, and offsets beyond 32 bits."""

import numpy as np
import pytest
import torch

from clustercl import linkage, pairwise_distances, pseudo_class_nt_xent
from clustercl.ops.contrastive import contrastive_loss

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
BEYOND = 2**31  # elements
SLEEP = 200_000_000  # cycles, a tenth of a second


def with_memory(gigabytes):
    there = torch.cuda.get_device_properties(0).total_memory if torch.cuda.is_available() else 0
    return pytest.mark.skipif(there < 1e9 * gigabytes, reason=f"needs {gigabytes} GB on the GPU")


@pytest.fixture(autouse=True)
def memory_given_back():
    """Other programs run beside these tests."""
    yield
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


@pytest.mark.cuda
@pytest.mark.parametrize(
    "op",
    [pseudo_class_nt_xent, pairwise_distances, *(lambda x, m=m: linkage(x, m) for m in ("ward", "average", "single"))],
    ids=["loss", "distances", "ward", "average", "single"],
)
def test_the_current_stream_is_taken(op):
    """Rows come late on a stream of their own; on any other there are zeros."""
    rows = torch.randn(600, 24, generator=torch.Generator().manual_seed(0)).cuda()
    wanted = op(rows)
    late, side = torch.zeros_like(rows), torch.cuda.Stream()
    torch.cuda.synchronize()
    with torch.cuda.stream(side):
        torch.cuda._sleep(SLEEP)
        late.copy_(rows)
        found = op(late)
    side.synchronize()
    assert np.array_equal(np.asarray(found if isinstance(found, np.ndarray) else found.cpu()),
                          np.asarray(wanted if isinstance(wanted, np.ndarray) else wanted.cpu()))  # fmt: skip


def of_the_last_rows(rows, image, label, anchors, t, chunk=2**18):
    """Losses of the last rows under "exclude", and the gradient of their sum by all rows, a chunk of them at a time: an
    iterator over (slice, gradient). In float32."""
    first, index = len(rows) - anchors, torch.arange(len(rows), device=rows.device)
    z = torch.nn.functional.normalize(rows[first:].float(), dim=1)

    def chunks():
        for part in torch.split(index, chunk):
            part = slice(int(part[0]), int(part[-1]) + 1)
            x = rows[part].float()
            positive = (image[-anchors:, None] == image[part]) & (index[-anchors:, None] != index[part])
            keep = positive | (label[-anchors:, None] != label[part])
            columns = torch.nn.functional.normalize(x, dim=1)
            yield part, x, columns, (z @ columns.T / t).masked_fill(~keep, -torch.inf), positive

    lse, paired, by_anchor = torch.full_like(z[:, 0], -torch.inf), torch.zeros_like(z[:, 0]), torch.zeros_like(z)
    for _, _, _, s, positive in chunks():
        lse = torch.logaddexp(lse, s.logsumexp(1))
        paired += torch.where(positive, s, 0).sum(1)
    for _, _, columns, s, positive in chunks():
        by_anchor += ((s - lse[:, None]).exp() - positive.float()) @ columns / t

    def gradients():
        for part, x, columns, s, positive in chunks():
            g = ((s - lse[:, None]).exp() - positive.float()).T @ z / t
            if part.stop > first:  # anchors are columns of each other as well
                g[max(first - part.start, 0) :] += by_anchor[max(part.start - first, 0) : part.stop - first]
            yield part, (g - columns * (g * columns).sum(1, keepdim=True)) / x.norm(dim=1, keepdim=True)

    return lse - paired, gradients()


@pytest.mark.cuda
@with_memory(40)
@pytest.mark.skipif(
    torch.cuda.is_available() and torch.cuda.get_device_capability() != (9, 0),
    reason="mma.sync's backward pass goes over all pairs of rows, also where few are anchors",
)
def test_the_loss_of_the_last_rows_of_more_than_two_billion_numbers(d=512, beyond=BEYOND, device="cuda"):
    n, anchors, t = 2 * (beyond // d // 2 + 512), 64, 0.1
    rows = torch.randn(n, d, device=device, dtype=torch.bfloat16).requires_grad_()
    image = torch.arange(n // 2, device=device).repeat(2)
    label = image % 5
    settings = {"first": n - anchors, "count": anchors}
    temperature = torch.tensor(t, dtype=torch.float64, device=device)
    found = contrastive_loss(rows, image, label, temperature, "exclude", **settings)
    found.sum().backward()
    wanted, gradients = of_the_last_rows(rows.detach(), image, label, anchors, t)
    # A lane adds some million terms in float32, one after the other: by chance they walk off by some 1e-4 of their sum.
    assert (found - wanted).abs().max() < 1e-3
    # 1e-2 is what test_cuda_gives_the_answer_of_the_cpu holds bfloat16 to.
    for part, gradient in gradients:
        assert (rows.grad[part].float() - gradient).norm() < 1e-2 * gradient.norm(), part


@pytest.mark.cuda
@with_memory(40)
def test_the_last_of_more_than_two_billion_distances(beyond=BEYOND, device="cuda"):
    n = int(beyond**0.5) + 100
    x = torch.randn(n, 1, device=device, dtype=torch.float64)
    last = pairwise_distances(x)[-3:]
    # The root of a square is rounded twice, and these are below 20.
    torch.testing.assert_close(last, (x[-3:] - x.T).abs(), rtol=0, atol=1e-14)


@pytest.mark.cuda
@with_memory(40)
def test_the_tree_of_a_matrix_of_more_than_two_billion(beyond=BEYOND, device="cuda"):
    n = int(beyond**0.5) + 100
    x = torch.randn(n, 2, generator=torch.Generator().manual_seed(0))
    found = linkage(x.to(device), "complete", dtype="float32")
    wanted = linkage(x, "complete", dtype="float32")
    np.testing.assert_allclose(found[:, 2], wanted[:, 2], rtol=1e-6)  # what dtype="float32" promises
