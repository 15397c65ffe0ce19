"""How long do the loss and its gradient take, against plain torch? Answers are compared before anything is timed."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from clustercl import pseudo_class_nt_xent
from clustercl.benchmarks.record import machine, timed
from clustercl.errors import RunError
from clustercl.files import write_json
from clustercl.ops import _blocked
from clustercl.progress import say

SIZES = (1024, 4096, 8192)
FEATURES = (128, 512)
TEMPERATURE = 0.1
CLASSES = 20
LINE = "n {n:6} d {d:4} {program:10} forward {forward:8.4f} s, forward + backward {both:8.4f} s, {gflops:7.1f} GFLOP/s"
NAIVE_LIMIT = 16_384  # its n x n arrays take 5.4 GB there


def naive(x: Tensor, pseudo_class: Tensor) -> Tensor:
    """The same loss in ten lines of plain torch with n x n arrays, two views."""
    b = len(pseudo_class)
    z = torch.nn.functional.normalize(x)
    s = z @ z.T / TEMPERATURE
    image, group = torch.arange(b).repeat(2), pseudo_class.repeat(2)
    mate = image[:, None] == image[None, :]
    s = s.masked_fill((group[:, None] == group[None, :]) & ~mate, -torch.inf)
    s = s.masked_fill(torch.eye(2 * b, dtype=torch.bool), -torch.inf)
    positive = s[torch.arange(2 * b), torch.arange(2 * b).roll(b)]
    return (s.logsumexp(dim=1) - positive).mean()


class _Blocked(torch.autograd.Function):
    """The linear-memory torch path that runs where no kernel fits, as an autograd.Function of its own."""

    @staticmethod
    def forward(ctx, x, pseudo_class):
        b = len(pseudo_class)
        rest = (torch.arange(b).repeat(2), pseudo_class.repeat(2), torch.tensor(TEMPERATURE), "exclude", -1, True, 0)
        loss, lse = _blocked.forward(x, *rest, -1)
        ctx.rest = rest
        ctx.save_for_backward(x, lse)
        return loss.mean()

    @staticmethod
    def backward(ctx, grad):
        x, lse = ctx.saved_tensors
        return _blocked.backward((grad / len(x)).expand(len(x)), lse, x, *ctx.rest)[0], None


PROGRAMS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "kernel": lambda x, pseudo_class: pseudo_class_nt_xent(x, pseudo_class, temperature=TEMPERATURE),
    "blocked": _Blocked.apply,
    "naive": naive,
}


def run(
    sizes: Sequence[int] = SIZES,
    out: Path | str | None = None,
    features: Sequence[int] = FEATURES,
    repeats: int = 5,
) -> list[dict]:
    """Time the kernel, the blocked torch path and plain torch in float32; writes loss.json into `out`.

    Returns the rows: n, d, program, forward and both (median seconds of the forward pass, of forward and backward),
    fastest and slowest of both, gflops (4 n^2 d floating-point operations, what the symmetry leaves, per second of
    both), ratio (of both, to the kernel's), error (largest difference of the gradient from float64, relative to its
    largest element). RunError when loss or gradient differ. n is rounded down to an even number, at least 4.
    """
    rows = []
    for n in sizes:
        for d in features:
            rows += _case(max(4, n // 2 * 2), d, repeats)
    if out is not None:
        write_json(Path(out) / "loss.json", {"machine": machine(("torch", "numpy")), "rows": rows})
    return rows


def _case(n: int, d: int, repeats: int) -> list[dict]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, d, generator=generator)
    pseudo_class = torch.randint(CLASSES, (n // 2,), generator=generator)
    truth = _answer(_Blocked.apply, x.double(), pseudo_class)
    rows = []
    for program, call in PROGRAMS.items():
        if program == "naive" and n > NAIVE_LIMIT:
            continue
        error = _compare(_answer(call, x, pseudo_class), truth, f"{program}, n = {n}, d = {d}")
        forward = timed(lambda call=call: call(x, pseudo_class), repeats)
        both = timed(lambda call=call: _answer(call, x, pseudo_class), repeats)
        seconds = both.pop("seconds")
        row = {"n": n, "d": d, "program": program, "forward": forward["seconds"], "both": seconds, **both}
        row |= {"gflops": 4e-9 * n * n * d / seconds, "error": error}
        rows.append(row | {"ratio": seconds / (rows[0]["both"] if rows else seconds)})
        say(LINE.format(**row))
    return rows


def _answer(call: Callable, x: Tensor, pseudo_class: Tensor) -> tuple[Tensor, Tensor]:
    x = x.detach().requires_grad_()
    loss = call(x, pseudo_class)
    loss.backward()
    return loss.detach(), x.grad


def _compare(answer: tuple[Tensor, Tensor], truth: tuple[Tensor, Tensor], what: str) -> float:
    """The relative error of the gradient; RunError beyond float32's rounding of s = 10 carried through n terms."""
    error = float((answer[1].double() - truth[1]).abs().max() / truth[1].abs().max())
    if abs(float(answer[0]) - float(truth[0])) > 1e-5 * abs(float(truth[0])) or not error < 1e-4:
        raise RunError(f"bench loss: the answer of {what} is off by {error:.1e}, so nothing more was timed")
    return error
