"""What the benchmark of the loss compares: ours, the same in plain torch, and the strongest library."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

import torch
from torch import Tensor

from clustercl import pseudo_class_nt_xent
from clustercl.benchmarks.record import memory
from clustercl.ops import _blocked

TEMPERATURE = 0.1
CLASSES = 20


@dataclass(frozen=True)
class Program:
    """call(x (n, d), pseudo_class (n/2,)) is the mean loss of two views. question: the `same_class` that it answers.
    pair_bytes: memory for each of n^2 pairs. most: rows beyond which it takes too long, of which why tells."""

    call: Callable[[Tensor, Tensor], Tensor]
    question: str = "exclude"
    pair_bytes: float = 0
    most: int = 1 << 30
    why: str = ""

    def left_out(self, n: int) -> str | None:
        """Why n rows are too many for it on this machine."""
        if n > self.most:
            return f"it stops at {self.most:,} rows: {self.why}"
        if self.pair_bytes * n * n > (memory() or math.inf) / 3:
            wanted, there = 1e-9 * self.pair_bytes * n * n, 1e-9 * memory()
            return f"it takes {wanted:.1f} GB, more than a third of this machine's {there:.1f} GB"
        return None


def naive(x: Tensor, pseudo_class: Tensor) -> Tensor:
    """The loss in ten lines of plain torch with n x n arrays."""
    b = len(pseudo_class)
    z = torch.nn.functional.normalize(x)
    s = z @ z.T / TEMPERATURE
    image, group = torch.arange(b, device=x.device).repeat(2), pseudo_class.repeat(2)
    mate = image[:, None] == image[None, :]
    s = s.masked_fill((group[:, None] == group[None, :]) & ~mate, -torch.inf)
    s = s.masked_fill(torch.eye(2 * b, dtype=torch.bool, device=x.device), -torch.inf)
    row = torch.arange(2 * b, device=x.device)
    positive = s[row, row.roll(b)]
    return (s.logsumexp(dim=1) - positive).mean()


def compiled(x: Tensor, pseudo_class: Tensor) -> Tensor:
    """The same after torch.compile, for this very shape."""
    global _compiled
    _compiled = _compiled or torch.compile(naive, dynamic=False)
    return _compiled(x, pseudo_class)


_compiled: Callable | None = None


class Blocked(torch.autograd.Function):
    """The hand-written torch path of linear memory, over the tiles on and above the diagonal."""

    @staticmethod
    def forward(ctx, x, pseudo_class, same_class):
        b = len(pseudo_class)
        temperature = torch.tensor(TEMPERATURE, dtype=torch.float64, device=x.device)
        rest = (
            torch.arange(b, device=x.device).repeat(2),
            pseudo_class.repeat(2),
            temperature,
            same_class,
            -1,
            True,
            0,
        )
        loss, lse = _blocked.forward(x, *rest, -1)
        ctx.rest = rest
        ctx.save_for_backward(x, lse)
        return loss.mean()

    @staticmethod
    def backward(ctx, grad):
        x, lse = ctx.saved_tensors
        return _blocked.backward((grad / len(x)).expand(len(x)), lse, x, *ctx.rest)[0], None, None


def metric_learning(x: Tensor, pseudo_class: Tensor) -> Tensor:
    """SupConLoss of pytorch-metric-learning on image numbers, which is NT-Xent on two views. (Its NTXentLoss holds
    n x n^2 numbers.)"""
    from pytorch_metric_learning.losses import SupConLoss

    return SupConLoss(temperature=TEMPERATURE)(x, torch.arange(len(pseudo_class)).repeat(2))


def ours(same_class: str) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda x, c: pseudo_class_nt_xent(x, c, temperature=TEMPERATURE, same_class=same_class)


# Ours first for each question: the others' ratios are to it. Bytes as measured with n = 4096 and 16,384.
PROGRAMS: dict[str, Program] = {
    "kernel": Program(ours("exclude")),
    "blocked torch": Program(lambda x, c: Blocked.apply(x, c, "exclude")),
    "naive torch": Program(naive, pair_bytes=20, most=16_384, why="9 s and 5 GB a call there on two cores"),
    "torch.compile": Program(compiled, pair_bytes=9, most=16_384, why="3 s and 2 GB a call there on two cores"),
    "kernel, ignore": Program(ours("ignore"), "ignore"),
    "metric-learning": Program(
        metric_learning, "ignore", pair_bytes=48, most=8192, why="4 s and 3 GB a call there on two cores"
    ),
}
if find_spec("pytorch_metric_learning") is None:
    del PROGRAMS["metric-learning"]


def chosen(n: int) -> tuple[list[str], dict[str, str]]:
    """The programs to run with n rows, and why others are left out. On another question than `exclude`, our kernel runs
    only beside a peer."""
    reasons = {name: what.left_out(n) for name, what in PROGRAMS.items()}
    running = [name for name in PROGRAMS if reasons[name] is None]
    questions = {PROGRAMS[name].question for name in running if not name.startswith("kernel")} | {"exclude"}
    return [name for name in running if PROGRAMS[name].question in questions], {k: v for k, v in reasons.items() if v}


def problem(n: int, d: int) -> tuple[Tensor, Tensor]:
    """x (n, d) float32 and pseudo_class (n/2,), the same in every process."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(n, d, generator=generator), torch.randint(CLASSES, (n // 2,), generator=generator)


def truth(n: int, d: int, question: str) -> tuple[Tensor, Tensor]:
    """Loss and gradient in float64, from the blocked torch path, which shares no code with the kernel."""
    x, pseudo_class = problem(n, d)
    return answer(lambda x, c: Blocked.apply(x, c, question), x.double(), pseudo_class)


def answer(call: Callable, x: Tensor, pseudo_class: Tensor) -> tuple[Tensor, Tensor]:
    """Loss and gradient of a program."""
    x = x.detach().requires_grad_()
    loss = call(x, pseudo_class)
    loss.backward()
    return loss.detach(), x.grad
