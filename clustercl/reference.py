"""The truth that tests and benchmarks compare the loss with: float64, one pair after the other, nothing clever.

Differentiable by torch's own autograd. Source: section 3 of the method's description, in `clustercl.losses`.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def pseudo_class_nt_xent(
    embeddings: Tensor,
    pseudo_class: Tensor | None = None,
    views: int = 2,
    temperature: float | Tensor = 0.1,
    same_class: str = "exclude",
    ignore_label: int = -1,
    normalize: bool = True,
    level_weight: Sequence[float] | None = None,
) -> Tensor:
    """The loss of each row, (n,) float64; arguments as in `clustercl.losses.pseudo_class_nt_xent`."""
    rows = [row.double() for row in embeddings]
    if normalize:
        rows = [row / row.norm() if row.norm() > 0 else row * 0 for row in rows]
    n, b = len(rows), len(rows) // views
    losses = []
    for i in range(n):
        candidates, positives = [], []
        for j in range(n):
            if i == j:
                continue
            s = rows[i] @ rows[j] / temperature
            if i % b == j % b:
                positives.append(s)
                candidates.append(s)
            elif level_weight is not None:
                classes = zip(pseudo_class.T, level_weight)
                weight = math.prod(w for c, w in classes if _same(c, i % b, j % b, ignore_label))
                if weight > 0:
                    candidates.append(s + math.log(weight))
            elif same_class == "ignore" or pseudo_class is None or not _same(pseudo_class, i % b, j % b, ignore_label):
                candidates.append(s)
            elif same_class == "attract":
                positives.append(s)
                candidates.append(s)
        losses.append(torch.stack(candidates).logsumexp(0) - torch.stack(positives).mean())
    return torch.stack(losses)


def _same(pseudo_class: Tensor, image: int, other: int, ignore_label: int) -> bool:
    return bool(pseudo_class[image] == pseudo_class[other]) and int(pseudo_class[image]) != ignore_label
