"""The op: values and gradients against the reference on every path, opcheck, gradcheck, exactness and determinism."""

import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from clustercl.losses import pseudo_class_nt_xent
from clustercl.ops import _blocked, contrastive
from clustercl.ops._extension import available
from clustercl.reference import pseudo_class_nt_xent as reference

MODES = ["exclude", "attract", "ignore"]


def example(b=11, views=2, d=7, dtype=torch.float64, seed=0):
    """rows, image, pseudo_class per row; some pseudo-classes unknown."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(views * b, d, generator=generator, dtype=torch.float64).to(dtype)
    pseudo_class = torch.randint(-1, 3, (b,), generator=generator)
    return rows, torch.arange(b).repeat(views), pseudo_class.repeat(views)


def temperature(value=0.1):
    return torch.tensor(value, dtype=torch.float64)


def kernel(rows, image, pseudo_class, t, same_class, first=0, count=-1, normalize=True, weight=None, levels=None):
    """loss, grad_rows, grad_temperature through autograd, for the sum of weight * loss."""
    rows, t = rows.detach().requires_grad_(), t.detach().requires_grad_()
    options = (same_class, -1, normalize, first, count, levels)
    loss = contrastive.contrastive_loss(rows, image, pseudo_class, t, *options)
    (loss if weight is None else loss * weight).sum().backward()
    return loss.detach(), rows.grad, t.grad


def blocked(rows, image, pseudo_class, t, same_class, first=0, count=-1, normalize=True, weight=None, levels=None):
    loss, lse = _blocked.forward(rows, image, pseudo_class, t, same_class, -1, normalize, first, count, levels)
    grad = torch.ones_like(loss) if weight is None else weight
    options = (same_class, -1, normalize, first, levels)
    return loss, *_blocked.backward(grad, lse, rows, image, pseudo_class, t, *options)


PATHS = [kernel, blocked]


def test_the_extension_is_what_runs_here():
    assert available()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        kernel(*example(), temperature(), "exclude")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("same_class", MODES)
@pytest.mark.parametrize(
    "b, views, d, normalize", [(2, 2, 1, True), (11, 2, 7, True), (5, 4, 33, True), (9, 3, 16, False)]
)
def test_values_and_gradients(path, same_class, b, views, d, normalize):
    rows, image, pseudo_class = example(b, views, d)
    weight = torch.linspace(-1, 2, len(rows), dtype=torch.float64)
    loss, grad, grad_t = path(
        rows, image, pseudo_class, temperature(0.2), same_class, normalize=normalize, weight=weight
    )
    x, t = rows.clone().requires_grad_(), temperature(0.2).requires_grad_()
    wanted = reference(x, pseudo_class[:b], views, t, same_class, normalize=normalize)
    (wanted * weight).sum().backward()
    # Both sides are float64; s reaches 5 (50 without normalisation), so rounding stays far below 1e-12 of it.
    torch.testing.assert_close(loss, wanted.detach(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(grad, x.grad, rtol=1e-10, atol=1e-11)
    torch.testing.assert_close(grad_t, t.grad, rtol=1e-10, atol=1e-10)


LEVELS = [(0.4,), (0.7, 0.5), (0.9, 0.6, 0.3, 0.0), (0.0, 1.0, 0.5)]


def nested(pseudo_class, levels):
    """(levels, n): every class of a level is cut into two on the next; unknown stays unknown."""
    place = torch.arange(len(pseudo_class) // 2).repeat(2)
    return torch.stack([torch.where(pseudo_class < 0, -1, pseudo_class * 2**k + place % 2**k) for k in range(levels)])


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("level_weight", LEVELS)
@pytest.mark.parametrize("t", [0.2, 0.01])
def test_levels_weigh_negatives(path, level_weight, t):
    rows, image, pseudo_class = example(24, 2, 6)
    levels, weights = nested(pseudo_class, len(level_weight)), torch.tensor(level_weight, dtype=torch.float64)
    weight = torch.linspace(-1, 2, len(rows), dtype=torch.float64)
    found = path(rows, image, levels, temperature(t), "exclude", weight=weight, levels=weights)
    x, s = rows.clone().requires_grad_(), temperature(t).requires_grad_()
    wanted = reference(x, levels.T[:24], 2, s, level_weight=level_weight)
    (wanted * weight).sum().backward()
    # Both sides are float64; s reaches 1 / t.
    torch.testing.assert_close(found[0], wanted.detach(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found[1], x.grad, rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(found[2], s.grad, rtol=1e-9, atol=1e-8)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("b, dtype", [(24, torch.float64), (300, torch.float32)])
def test_one_level_is_exclude_at_weight_0_and_ignore_at_1(path, b, dtype):
    rows, image, pseudo_class = example(b, 2, 6, dtype)
    for value, same_class in ((0.0, "exclude"), (1.0, "ignore")):
        wanted = path(rows, image, pseudo_class, temperature(), same_class)
        levels = torch.tensor([value], dtype=torch.float64)
        found = path(rows, image, pseudo_class[None], temperature(), "exclude", levels=levels)
        scale = 1e-13 if dtype == torch.float64 else 2e-5  # sums in another order
        for one, other in zip(found, wanted):
            torch.testing.assert_close(one, other, rtol=scale, atol=10 * scale)


def test_what_the_blocked_path_gives_for_some_rows_is_as_the_fake_kernel_says():
    """No view of all rows: torch 2.14's opcheck compares where in its memory a result begins."""
    rows, image, pseudo_class = example(8, 2, 5, torch.float64)
    options = (temperature(), "exclude", -1, True, 3, 7)
    for result in _blocked.forward(rows, image, pseudo_class, *options):
        assert result.shape == (7,) and result.storage_offset() == 0 and len(result.untyped_storage()) == 7 * 8


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 2e-5), (torch.bfloat16, 2e-5)])
def test_levels_over_many_tiles_in_smaller_types(monkeypatch, dtype, tolerance):
    monkeypatch.setattr(_blocked, "BLOCK", 150)
    rows, image, pseudo_class = example(350, 2, 40, dtype)
    levels, weights = nested(pseudo_class, 4), torch.tensor(LEVELS[2], dtype=torch.float64)
    wanted = kernel(rows.double(), image, levels, temperature(), "exclude", first=30, count=600, levels=weights)
    for path in PATHS:
        found = path(rows, image, levels, temperature(), "exclude", first=30, count=600, levels=weights)
        # As of the loss without levels: s up to 10 in float32, then the gradient rounded to the type of the rows.
        torch.testing.assert_close(found[0].double(), wanted[0], rtol=0, atol=tolerance)
        spacing = torch.finfo(dtype).eps
        torch.testing.assert_close(found[1].double(), wanted[1], rtol=spacing, atol=tolerance)


def test_levels_of_weight_0_leave_nothing_at_all():
    rows, image, _ = example(150, 2, 20, torch.float32)
    levels = torch.zeros(2, 300, dtype=torch.long)
    for path in PATHS:
        found = path(rows, image, levels, temperature(0.01), "exclude", levels=torch.tensor([0.5, 0.0]).double())
        assert all((part == 0).all() for part in found)


def test_levels_gradcheck_and_opcheck():
    rows, image, pseudo_class = example(6, 2, 4)
    levels, weights = nested(pseudo_class, 3), torch.tensor(LEVELS[3], dtype=torch.float64)

    def loss(x, t):
        return contrastive.contrastive_loss(x, image, levels, t, "exclude", level_weight=weights)

    torch.autograd.gradcheck(loss, (rows.requires_grad_(), temperature(0.3).requires_grad_()))
    arguments = (image, levels, temperature(), "exclude", -1, True, 0, -1, False, weights)
    torch.library.opcheck(torch.ops.clustercl.contrastive_loss, (rows, *arguments))


def test_levels_refuse_what_does_not_fit():
    rows, image, pseudo_class = example(4, 2, 3)
    two = pseudo_class.repeat(2, 1)
    for arguments, message in (
        ((two, "exclude", torch.tensor([0.5])), "level_weight must be a float64 tensor on the CPU"),
        ((two, "exclude", torch.tensor([0.5, 1.5]).double()), "must lie in 0..1, got 1.5"),
        ((two, "attract", torch.tensor([0.5, 0.5]).double()), "goes with same_class exclude"),
        ((pseudo_class, "exclude", torch.tensor([0.5, 0.5]).double()), "pseudo_class .levels, n."),
        ((two, "exclude", torch.tensor([0.5, 0.5, 0]).double()), "one number a row and level"),
    ):
        with pytest.raises(RuntimeError, match=message):
            kernel(rows, image, arguments[0], temperature(), arguments[1], levels=arguments[2])


@pytest.mark.parametrize("same_class", MODES)
@pytest.mark.parametrize("b, d", [(350, 40), (48, 3), (64, 130)])
def test_kernel_and_blocked_path_agree_over_many_tiles(monkeypatch, same_class, b, d):
    monkeypatch.setattr(_blocked, "BLOCK", 150)  # many tiles, a ragged last one
    rows, image, pseudo_class = example(b, 2, d)
    for one, other in zip(
        kernel(rows, image, pseudo_class, temperature(0.05), same_class),
        blocked(rows, image, pseudo_class, temperature(0.05), same_class),
    ):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)  # float64, s up to 20


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 2e-6), (torch.bfloat16, 2e-6), (torch.float16, 2e-6)])
def test_smaller_types_are_computed_in_float32(path, dtype, tolerance):
    rows, image, pseudo_class = example(40, 2, 64, dtype)
    loss, grad, _ = path(rows, image, pseudo_class, temperature(), "exclude")
    wanted, wanted_grad, _ = kernel(rows.double(), image, pseudo_class, temperature(), "exclude")
    assert loss.dtype == torch.float32 and grad.dtype == dtype
    # float32 rounding of s, at most 10; the gradient is then rounded to the type of the rows.
    torch.testing.assert_close(loss, wanted.float(), rtol=0, atol=10 * tolerance)
    spacing = torch.finfo(dtype).eps
    torch.testing.assert_close(grad.double(), wanted_grad, rtol=spacing, atol=2e-5 + torch.finfo(dtype).tiny)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("same_class", MODES)
def test_part_of_the_rows_as_anchors(path, same_class):
    rows, image, pseudo_class = example(120, 2, 9)
    full = kernel(
        rows,
        image,
        pseudo_class,
        temperature(),
        same_class,
        weight=torch.ones(240).where((torch.arange(240) >= 50) & (torch.arange(240) < 110), torch.tensor(0.0)).double(),
    )
    part = path(rows, image, pseudo_class, temperature(), same_class, first=50, count=60)
    torch.testing.assert_close(part[0], full[0][50:110], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(part[1], full[1], rtol=1e-10, atol=1e-11)
    torch.testing.assert_close(part[2], full[2], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("same_class", MODES)
@pytest.mark.parametrize("normalize", [True, False])
def test_gradcheck(same_class, normalize):
    rows, image, pseudo_class = example(5, 2, 4)
    torch.autograd.gradcheck(
        lambda x, t: contrastive.contrastive_loss(x, image, pseudo_class, t, same_class, -1, normalize),
        (rows.requires_grad_(), temperature(0.3).requires_grad_()),
    )


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_opcheck(dtype):
    rows, image, pseudo_class = example(6, 2, 5, dtype)
    arguments = (image, pseudo_class, temperature(), "exclude", -1, True, 0, -1)
    torch.library.opcheck(torch.ops.clustercl.contrastive_loss, (rows.requires_grad_(), *arguments))
    torch.library.opcheck(torch.ops.clustercl.contrastive_loss, (rows.detach(), image, None, *arguments[2:-2], 3, 4))
    output = torch.ops.clustercl.contrastive_loss(rows.detach(), *arguments)
    torch.library.opcheck(torch.ops.clustercl.contrastive_loss_backward, (*output, rows.detach(), *arguments[:-1]))


def test_second_derivative_is_refused():
    rows, image, pseudo_class = example(4, 2, 3)
    loss = contrastive.contrastive_loss(rows.requires_grad_(), image, pseudo_class, temperature(), "exclude").sum()
    (grad,) = torch.autograd.grad(loss, rows, create_graph=True)
    with pytest.raises(NotImplementedError, match="differentiated again"):
        grad.sum().backward()


def test_transforms_of_torch_func():
    rows, _, pseudo_class = example(6, 2, 3)
    labels, t = pseudo_class[:6], temperature(0.2)

    def value(x, t, reduction="mean"):
        return pseudo_class_nt_xent(x, labels, temperature=t, reduction=reduction)

    x, s = rows.clone().requires_grad_(), t.clone().requires_grad_()
    value(x, s).backward()
    func = torch.func
    torch.testing.assert_close(func.grad(value)(rows, t), x.grad)
    torch.testing.assert_close(func.grad(value, argnums=1)(rows, t), s.grad)
    torch.testing.assert_close(func.jacrev(value)(rows, t, "none").mean(0), x.grad)
    both = torch.stack([rows, rows.flip(1)])
    torch.testing.assert_close(func.vmap(value, (0, None))(both, t), torch.stack([value(one, t) for one in both]))
    each = func.vmap(func.grad(value), (0, None))(both, t)
    torch.testing.assert_close(each, torch.stack([x.grad, x.grad.flip(1)]))
    for nothing in (lambda: func.jvp(lambda x: value(x, t), (rows,), (rows,)), lambda: func.jacfwd(value)(rows, t)):
        with pytest.raises(NotImplementedError, match="no forward-mode derivative; use reverse mode"):
            nothing()
    with pytest.raises(NotImplementedError, match="cannot be differentiated again"):
        func.grad(lambda x: func.grad(value)(x, t).sum())(rows)


@pytest.mark.parametrize("of_temperature", [False, True])
def test_forward_mode_is_refused(of_temperature):
    rows, image, pseudo_class = example(4, 2, 3)
    with torch.autograd.forward_ad.dual_level():
        arguments = [rows, image, pseudo_class, temperature()]
        place = 3 if of_temperature else 0
        arguments[place] = torch.autograd.forward_ad.make_dual(arguments[place], torch.ones_like(arguments[place]))
        with pytest.raises(NotImplementedError, match="no forward-mode derivative"):
            contrastive.contrastive_loss(*arguments, "exclude")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_one_candidate_is_exactly_zero(path, dtype):
    rows, image, _ = example(150, 2, 20, dtype)
    loss, grad, grad_t = path(rows, image, torch.zeros(300, dtype=torch.long), temperature(0.01), "exclude")
    assert (loss == 0).all() and (grad == 0).all() and grad_t == 0


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_antipodal_positives_at_low_temperature(path, dtype):
    x = torch.randn(4, 1100, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rows, image = torch.cat([x, -x]), torch.arange(4).repeat(2)
    loss, grad, _ = path(rows.to(dtype), image, None, temperature(0.01), "ignore")
    rows.requires_grad_()
    wanted = reference(rows, temperature=0.01)
    wanted.sum().backward()
    assert wanted.min() > 100  # the positive is at s = -100, and a bound of +100 for the maximum would flush all to 0
    # s = 100 with a rounding of 1e-6 relative in float32; gradients likewise, relative to the largest.
    scale = 1e-12 if dtype == torch.float64 else 3e-6
    torch.testing.assert_close(loss.double(), wanted.detach(), rtol=scale, atol=0)
    torch.testing.assert_close(grad.double(), rows.grad, rtol=0, atol=100 * scale * rows.grad.abs().max().item())


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("dtype, t", [(torch.float32, 0.01), (torch.float64, 0.001)])
@pytest.mark.parametrize("same_class", MODES)
@pytest.mark.parametrize("b", [4, 48])  # half of a tile's rows, and all
def test_antipodal_positives_under_a_loss_scale(path, dtype, t, same_class, b):
    """As GradScaler multiplies the loss: whatever exponentials of what is left out come to, it counts for nothing."""
    half = torch.randn(b, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rows, image = torch.cat([half, -half]), torch.arange(b).repeat(2)
    scale = torch.full((2 * b,), 2.0**40, dtype=dtype)
    one_class = torch.zeros(2 * b, dtype=torch.long)
    options = (image, one_class, temperature(t), same_class)
    loss, grad, grad_t = path(rows.to(dtype), *options, weight=scale)
    if same_class == "exclude":
        assert (loss == 0).all() and (grad == 0).all() and grad_t == 0
    else:
        _, wanted, wanted_t = path(rows.to(dtype), *options)
        # A power of two, which no rounding sees but where the smallest numbers are: below 1e-30 of the largest.
        torch.testing.assert_close(grad / 2**40, wanted, rtol=1e-6, atol=0)
        assert grad_t / 2**40 == pytest.approx(wanted_t.item(), rel=1e-6)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("t, level_weight", [(0.01, (1e-4, 1e-4)), (0.002, (1e-8,))])
def test_weights_so_small_that_a_sum_in_float32_is_nothing(path, t, level_weight):
    """All rows at cosine -0.7 of the first but its positive, which lies opposite: weighed, its terms come to 0."""
    b = 10
    rows = torch.randn(2 * b, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rows[:, 0] = 0
    rows = (1 - 0.49) ** 0.5 * torch.nn.functional.normalize(rows, dim=1)
    rows[:, 0] = -0.7
    rows[0], rows[b] = torch.eye(8)[0], -torch.eye(8)[0]
    image, classes = torch.arange(b).repeat(2), torch.zeros(len(level_weight), 2 * b, dtype=torch.long)
    levels = torch.tensor(level_weight, dtype=torch.float64)
    loss, grad, _ = path(rows.float(), image, classes, temperature(t), "exclude", levels=levels)
    x = rows.float().double().requires_grad_()
    wanted = reference(x, classes.T[:b], 2, t, level_weight=level_weight)
    wanted.sum().backward()
    assert wanted[0] > 10
    # s reaches 1 / t, rounded to 24 binary digits, and is exponentiated.
    torch.testing.assert_close(loss.double(), wanted.detach(), rtol=0, atol=2e-7 / t)
    torch.testing.assert_close(grad.double(), x.grad, rtol=0, atol=1e-6 / t * x.grad.abs().max().item())


@pytest.mark.parametrize("path", PATHS)
def test_zero_rows_and_huge_and_tiny_ones(path):
    rows, image, pseudo_class = example(6, 2, 5)
    rows[2] = 0
    loss, grad, _ = path(rows, image, pseudo_class, temperature(), "exclude")
    torch.testing.assert_close(loss, reference(rows, pseudo_class[:6]))
    assert (grad[2] == 0).all()
    for factor in (1e200, 1e-200):
        scaled = path(rows * factor, image, pseudo_class, temperature(), "exclude")
        torch.testing.assert_close(scaled[0], loss, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(scaled[1] * factor, grad, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_non_finite_rows_reach_the_loss(path, value):
    rows, image, pseudo_class = example(200, 2, 8)
    rows[17] = 0  # and nothing behind the value may hide it again
    rows[17, 3] = value
    loss, grad, _ = path(rows, image, pseudo_class, temperature(), "ignore")
    assert not loss.isfinite().any()  # the row is a candidate of every other row
    assert not grad.isfinite().all(dim=1).any()  # so that GradScaler skips the step


def test_strides_do_not_matter():
    rows, image, pseudo_class = example(30, 2, 12)
    wanted = kernel(rows, image, pseudo_class, temperature(), "exclude")
    wide = torch.empty(60, 36, dtype=torch.float64)
    wide[:, 5:29:2] = rows
    for view in (rows.T.contiguous().T, wide[:, 5:29:2], rows.flip(0).contiguous().flip(0)):
        for one, other in zip(kernel(view, image, pseudo_class, temperature(), "exclude"), wanted):
            assert torch.equal(one, other)


def test_no_features_at_all():
    loss, grad, _ = kernel(torch.empty(8, 0), torch.arange(4).repeat(2), None, temperature(), "ignore")
    torch.testing.assert_close(loss, torch.full((8,), 7.0).log())
    assert grad.shape == (8, 0)


def test_same_bits_every_time():
    rows, image, pseudo_class = example(500, 2, 60, torch.float32)
    threads = torch.get_num_threads()
    try:
        results = []
        for count in (1, 1, 2, 2):
            torch.set_num_threads(count)
            results.append(kernel(rows, image, pseudo_class, temperature(), "exclude"))
    finally:
        torch.set_num_threads(threads)
    for result in results[1:]:
        assert all(torch.equal(one, other) for one, other in zip(result, results[0]))


def test_instruction_sets_agree(monkeypatch):
    rows, image, pseudo_class = example(300, 2, 100, torch.float32)
    results = {}
    for isa in ("portable", "avx2", "avx512"):
        monkeypatch.setenv("CLUSTERCL_CPU", isa)
        try:
            results[isa] = kernel(rows, image, pseudo_class, temperature(), "exclude")
        except RuntimeError as error:
            assert "does not have that instruction set" in str(error)
    assert "portable" in results
    for isa, (loss, grad, _) in results.items():
        # s is at most 10 and carries some ten roundings of 6e-8; gradients are sums of such terms, each below 20.
        torch.testing.assert_close(loss, results["portable"][0], rtol=0, atol=1e-5, msg=isa)
        torch.testing.assert_close(grad, results["portable"][1], rtol=0, atol=1e-5, msg=isa)


def peak_megabytes() -> float:
    """The largest resident size since the last write of 5 to /proc/self/clear_refs."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peak memory is read from Linux' /proc")
@pytest.mark.parametrize("path", PATHS)
def test_memory_is_linear(path):
    rows, image, pseudo_class = example(4000, 2, 8, torch.float32)
    Path("/proc/self/clear_refs").write_text("5")
    before = peak_megabytes()
    path(rows, image, pseudo_class, temperature(), "exclude")
    # A matrix of 8,000 x 8,000 floats takes 256 MB, the tiles of the blocked path some 90 MB.
    assert peak_megabytes() - before < (16 if path is kernel else 130)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peak memory is read from Linux' /proc")
@pytest.mark.parametrize("threads", [1, 64])
def test_extra_memory_is_three_times_the_input_and_16_megabytes(threads):
    rows, image, pseudo_class = example(6144, 2, 128, torch.float32)
    size = rows.numel() * 4 / 2**20
    before_threads = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        kernel(rows[:500], image[:250].repeat(2), None, temperature(), "ignore")  # the pool's own memory
        Path("/proc/self/clear_refs").write_text("5")
        before = peak_megabytes()
        kernel(rows, image, pseudo_class, temperature(), "exclude")
        extra = peak_megabytes() - before - size  # its result, the gradient
    finally:
        torch.set_num_threads(before_threads)
    assert extra < 3 * size + 16, f"{extra:.1f} MB beside rows of {size:.1f} MB"


def test_kernel_errors_name_the_argument():
    rows, image, pseudo_class = example(4, 2, 3)
    with pytest.raises(RuntimeError, match="temperature must be a positive number, got -1"):
        kernel(rows, image, pseudo_class, temperature(-1.0), "exclude")
    refused = RuntimeError if torch.__version__ >= (2, 15) else ValueError  # of a C++ exception
    with pytest.raises(refused, match="image must name each image at least twice"):
        kernel(rows, torch.arange(8), pseudo_class, temperature(), "exclude")
    with pytest.raises(RuntimeError, match="pseudo_class must be a contiguous int64"):
        kernel(rows, image, pseudo_class[:5], temperature(), "exclude")


def test_without_the_extension_the_blocked_path_runs_and_says_so_once():
    code = (
        "import sys, warnings; sys.modules['clustercl._C'] = None\n"
        "import torch\n"
        "from clustercl.losses import pseudo_class_nt_xent as loss\n"
        "from clustercl.reference import pseudo_class_nt_xent as reference\n"
        "x, c = torch.randn(24, 5, dtype=torch.float64, requires_grad=True), torch.arange(12) % 3\n"
        "with warnings.catch_warnings(record=True) as seen:\n"
        "    warnings.simplefilter('always')\n"
        "    value = loss(x, c)\n"
        "    loss(x, c).backward()\n"
        "torch.testing.assert_close(value.detach(), reference(x, c).mean().detach())\n"
        "assert x.grad.abs().sum() > 0\n"
        "seen = [str(w.message) for w in seen if 'clustercl' in str(w.message)]\n"
        "assert len(seen) == 1 and 'blocked torch operations' in seen[0] and '_C' in seen[0], seen\n"
        "with torch.autocast('cpu'):\n"
        "    torch.testing.assert_close(loss(x.float(), c), value.float(), rtol=1e-5, atol=1e-6)\n"
        "torch.library.opcheck(torch.ops.clustercl.contrastive_loss,\n"
        "    (x, torch.arange(12).repeat(2), c.repeat(2), torch.tensor(0.1), 'exclude', -1, True, 0, -1))\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120, env={**os.environ, "OMP_NUM_THREADS": "1"})


def test_where_a_card_cannot_run_the_kernels_the_blocked_path_takes_their_place_and_says_why_once():
    # The CPU stands for the card: its kernel is there, and refused.
    code = (
        "import warnings, torch\n"
        "from clustercl.losses import pseudo_class_nt_xent as loss\n"
        "from clustercl.ops import _blocked, contrastive\n"
        "from clustercl.reference import pseudo_class_nt_xent as reference\n"
        "contrastive.why_no_kernels = lambda device: f'{device} refuses'\n"
        "calls, forward = [], _blocked.forward\n"
        "_blocked.forward = lambda *a: calls.append(1) or forward(*a)\n"
        "x, c = torch.randn(24, 5, dtype=torch.float64, requires_grad=True), torch.arange(12) % 3\n"
        "loss(x, c)\n"
        "assert not calls\n"
        "def on_a_card(x):\n"
        "    contrastive._make_way(x.device)\n"
        "    return loss(x, c)\n"
        "with warnings.catch_warnings(record=True) as seen:\n"
        "    warnings.simplefilter('always')\n"
        "    value = on_a_card(x)\n"
        "    on_a_card(x).backward()\n"
        "assert len(calls) == 2\n"
        "torch.testing.assert_close(value.detach(), reference(x, c).mean().detach())\n"
        "wanted, = torch.autograd.grad(reference(x, c).mean(), x)\n"
        "torch.testing.assert_close(x.grad, wanted)\n"
        "seen = [str(w.message) for w in seen]\n"
        "assert len(seen) == 1 and 'slower: cpu refuses' in seen[0], seen\n"
        "compiled = torch.compile(on_a_card, fullgraph=True, backend='aot_eager')\n"
        "torch.testing.assert_close(torch.autograd.grad(compiled(x), x)[0], wanted)\n"
        "assert len(calls) == 3\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120, env={**os.environ, "OMP_NUM_THREADS": "1"})


# Of the losses absolutely, of the gradient relative to its length: as csrc/tests/test_contrastive_cuda.cpp explains.
CUDA_ERRORS = {
    torch.float64: (1e-11, 1e-11),
    torch.float32: (2e-5, 1e-5),
    torch.float16: (2e-2, 3e-3),
    torch.bfloat16: (2e-5, 1e-2),
}
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def on_cuda(rows, image, pseudo_class, same_class, device="cuda", levels=None, t=0.1):
    rows = rows.detach().to(device).requires_grad_()
    t = torch.tensor(t, dtype=torch.float64, device=device, requires_grad=True)
    ids = image.to(device), pseudo_class.to(device)
    loss = contrastive.contrastive_loss(rows, *ids, t, same_class, level_weight=levels)
    loss.sum().backward()
    return loss.detach(), rows.grad, t.grad


@pytest.mark.cuda
@needs_cuda
@pytest.mark.parametrize("dtype", CUDA_ERRORS)
@pytest.mark.parametrize("same_class", MODES)
@pytest.mark.parametrize("b, d", [(300, 40), (2100, 40), (2100, 300)])  # from 4,096 rows on an H100 takes wgmma
def test_cuda_gives_the_answer_of_the_cpu(b, d, same_class, dtype):
    rows, image, pseudo_class = example(b, 2, d)
    rows = rows.detach().to(dtype)
    wanted = kernel(rows.double().requires_grad_(), image, pseudo_class, temperature(), same_class)
    loss, grad, grad_temperature = (x.cpu().double() for x in on_cuda(rows, image, pseudo_class, same_class))
    of_loss, of_grad = CUDA_ERRORS[dtype]
    assert (loss - wanted[0]).abs().max() <= of_loss
    assert (grad - wanted[1]).norm() <= of_grad * wanted[1].norm()
    assert abs(grad_temperature - wanted[2]) <= 10 * of_grad * (abs(wanted[2]) + wanted[1].norm() / 0.1)


@pytest.mark.cuda
@needs_cuda
@pytest.mark.parametrize("dtype", CUDA_ERRORS)
@pytest.mark.parametrize("b", [150, 2051])
def test_cuda_makes_one_candidate_exactly_zero(b, dtype):
    rows, image, _ = example(b, 2, 20)
    rows = torch.cat([rows[:b], -rows[:b]]).detach().to(dtype)
    one_class = torch.zeros(2 * b, dtype=torch.long)
    for found in on_cuda(rows, image, one_class, "exclude", t=0.01):
        assert (found == 0).all()


@pytest.mark.cuda
@needs_cuda
@pytest.mark.parametrize("dtype", CUDA_ERRORS)
def test_cuda_weighs_levels_as_the_cpu(dtype):
    rows, image, pseudo_class = example(300, 2, 40)
    rows, levels = rows.detach().to(dtype), nested(pseudo_class, 4)
    weights = torch.tensor(LEVELS[2], dtype=torch.float64)
    wanted = kernel(rows.double(), image, levels, temperature(), "exclude", levels=weights)
    loss, grad, _ = (x.cpu().double() for x in on_cuda(rows, image, levels, "exclude", levels=weights))
    of_loss, of_grad = CUDA_ERRORS[dtype]
    assert (loss - wanted[0]).abs().max() <= of_loss
    assert (grad - wanted[1]).norm() <= of_grad * wanted[1].norm()


@pytest.mark.cuda
@needs_cuda
def test_cuda_takes_strides_and_every_device_and_repeats_its_bits():
    rows, image, pseudo_class = example(200, 2, 33)
    rows = rows.detach().float()
    for index in range(torch.cuda.device_count()):
        device = f"cuda:{index}"
        wanted = on_cuda(rows, image, pseudo_class, "exclude", device)
        wide = rows.to(device).repeat_interleave(2, dim=1)[:, ::2]
        for found in (
            on_cuda(rows, image, pseudo_class, "exclude", device),
            on_cuda(wide, image, pseudo_class, "exclude", device),
        ):
            assert all(torch.equal(one, other) for one, other in zip(found, wanted))


@pytest.mark.cuda
@needs_cuda
@pytest.mark.parametrize("b, dtype", [(256, torch.float32), (2100, torch.bfloat16)])
def test_cuda_in_a_graph_and_compiled(b, dtype):
    rows, image, pseudo_class = (x.cuda() for x in example(b, 2, 64))
    rows = rows.detach().to(dtype)

    def loss_of(x):
        return pseudo_class_nt_xent(x, pseudo_class[:b])

    assert image.shape == (2 * b,)
    wanted = loss_of(rows)
    # The compiler sums the mean of some thousand float32 numbers in an order of its own.
    torch.testing.assert_close(torch.compile(loss_of, fullgraph=True)(rows), wanted, rtol=1e-6, atol=0)
    compiled_leaf, plain_leaf = rows.clone().requires_grad_(), rows.clone().requires_grad_()
    torch.compile(loss_of, fullgraph=True)(compiled_leaf).backward()
    loss_of(plain_leaf).backward()
    # The compiler may round the 1 / n of the mean in another way: one digit of the type in which gradients are told.
    off = (compiled_leaf.grad.double() - plain_leaf.grad.double()).norm() / plain_leaf.grad.double().norm()
    assert off < (1e-2 if dtype == torch.bfloat16 else 1e-6)
    leaf = rows.clone().requires_grad_()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):  # warm up beside the graph, as torch's manual wants it
        loss_of(leaf).backward()
    torch.cuda.synchronize()
    leaf.grad = None
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = loss_of(leaf)
        captured.backward()
    with torch.no_grad():
        leaf.copy_(rows.flip(1))  # the same products in another order
    graph.replay()
    again = rows.flip(1).requires_grad_()
    wanted = loss_of(again)
    wanted.backward()
    torch.testing.assert_close(captured, wanted, rtol=0, atol=0)
    torch.testing.assert_close(leaf.grad, again.grad, rtol=0, atol=0)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_size_that_is_a_symbol_stays_one(device):
    """Or torch.compile compiles again for every batch size."""
    sizes = []

    def trace(like):
        rows = torch.empty(like.shape, device=device)
        image, temperature = rows.new_empty(rows.shape[0], dtype=torch.int64), rows.new_empty((), dtype=torch.float64)
        found = torch.ops.clustercl.contrastive_loss(rows, image, None, temperature, "ignore", -1, True, 0, -1)
        sizes.extend([rows.shape[0], *[x.shape[-1] for x in found]])
        return found

    make_fx(trace, tracing_mode="symbolic")(torch.empty(24, 8))
    assert all(isinstance(size, torch.SymInt) for size in (sizes if device == "cuda" else sizes[:3]))


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("precision, allowed", [("highest", False), ("high", True)])
def test_tf32_follows_torch_and_is_asked_for_on_cuda_alone(device, precision, allowed):
    def trace(rows):
        rows = torch.empty(rows.shape, device=device)
        image, temperature = rows.new_empty(rows.shape[0], dtype=torch.int64), rows.new_empty((), dtype=torch.float64)
        return contrastive.contrastive_loss(rows, image, None, temperature, "ignore")

    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        assert contrastive._tf32() == allowed
        graph = make_fx(trace, tracing_mode="fake")(torch.empty(24, 8)).graph
    finally:
        torch.set_float32_matmul_precision(before)
    (call,) = graph.find_nodes(op="call_function", target=torch.ops.clustercl.contrastive_loss.default)
    tf32 = call.args[9] if len(call.args) > 9 else False  # the dispatcher leaves trailing defaults out
    assert tf32 == (allowed and device == "cuda")


@pytest.mark.skipif(not hasattr(torch.backends.cuda.matmul, "fp32_precision"), reason="torch has no such setting yet")
def test_tf32_follows_the_newer_setting():
    before = torch.backends.cuda.matmul.fp32_precision
    try:
        for precision, allowed in (("tf32", True), ("ieee", False)):
            torch.backends.cuda.matmul.fp32_precision = precision
            assert contrastive._tf32() == allowed
    finally:
        torch.backends.cuda.matmul.fp32_precision = before


def test_the_schemas_of_the_fallback_are_those_of_the_extension():
    for name, schema in contrastive.SCHEMAS.items():
        compiled = getattr(torch.ops.clustercl, name).default._schema
        assert str(compiled) == str(torch._C.parse_schema(f"clustercl::{name}{schema}"))
