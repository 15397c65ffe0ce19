"""The contrastive loss and its gradient in plain torch operations, tile by tile: linear memory on any device.

Runs where no compiled kernel fits. Same arguments, results and formulas as csrc/kernels/contrastive.h; only the tiles
on and above the diagonal are computed, since s_ij = s_ji. Every sum has one order, so results are reproducible wherever
torch's matrix product is.
"""

import torch
from torch import Tensor

BLOCK = 1024  # rows of a tile; a few tiles of 4 MB in float32 are alive at once


class _Rows:
    """What both passes need: unit rows, norms, the group of each row and its number of positives."""

    def __init__(self, rows, image, pseudo_class, temperature, same_class, ignore_label, normalize, level_weight):
        self.wide = rows.to(torch.promote_types(rows.dtype, torch.float32))
        self.same_class = same_class
        self.normalize = normalize
        self.temperature = temperature.to(self.wide.dtype)
        if normalize:
            # Divided by the largest element first, so that no square overflows; a row of zeros stays one.
            scale = self.wide.abs().amax(dim=1, keepdim=True) if rows.shape[1] else self.wide.new_ones(len(rows), 1)
            scaled = self.wide / torch.where(scale == 0, 1, scale)
            length = scaled.norm(dim=1, keepdim=True)
            self.unit = scaled / torch.where(scale == 0, 1, length)
            self.norm = scale * length
        else:
            self.unit = self.wide
        _, image, views = image.unique(return_inverse=True, return_counts=True)
        self.image = self.group = image
        self.positives = views[image] - 1
        self.levels = []
        if level_weight is not None:
            shifts = level_weight.log().tolist()
            self.levels = [(self._groups(c, ignore_label), shift) for c, shift in zip(pseudo_class, shifts)]
        elif pseudo_class is not None and same_class != "ignore":
            self.group = self._groups(pseudo_class, ignore_label)
            if same_class == "attract":
                self.positives = torch.bincount(self.group)[self.group] - 1

    def _groups(self, pseudo_class, ignore_label):
        kinds, group = pseudo_class.unique(return_inverse=True)
        return torch.where(pseudo_class == ignore_label, len(kinds) + self.image, group)

    def tiles(self):
        """(rows, columns, s with -inf where no candidate, s on the positives, mask of the positives), j >= i."""
        n = len(self.unit)
        for i in range(0, n, BLOCK):
            for j in range(i, n, BLOCK):
                here, there = slice(i, min(i + BLOCK, n)), slice(j, min(j + BLOCK, n))
                s = self.unit[here] @ self.unit[there].T / self.temperature
                positive = self.image[here, None] == self.image[None, there]
                same = self.group[here, None] == self.group[None, there]
                dropped = same & ~positive if self.same_class == "exclude" else torch.zeros_like(positive)
                if self.same_class == "attract":
                    positive = same
                if i == j:
                    positive.fill_diagonal_(False)
                    dropped.fill_diagonal_(True)
                kept = s
                for group, shift in self.levels:  # the logarithm of a pair's weight
                    shared = (group[here, None] == group[None, there]) & ~positive
                    kept = torch.where(shared, kept + shift, kept)
                yield here, there, kept.masked_fill(dropped, -torch.inf), s.masked_fill(~positive, 0), positive


def _absorb(largest: Tensor, total: Tensor, rows: slice, s: Tensor, dim: int) -> None:
    """Take a tile into the running maximum and sum of exponentials of its rows (dim 1) or columns (dim 0)."""
    most = torch.maximum(largest[rows], s.amax(dim))
    shift = most.masked_fill(most == -torch.inf, 0)  # nothing kept so far
    total[rows] = total[rows] * (largest[rows] - shift).exp() + (s - shift.unsqueeze(dim)).exp().sum(dim)
    largest[rows] = most


def forward(
    rows, image, pseudo_class, temperature, same_class, ignore_label, normalize, first, count, level_weight=None
):
    """(loss, lse) of the rows first <= i < first + count; count < 0 means all."""
    with torch.autocast(rows.device.type, enabled=False):
        x = _Rows(rows, image, pseudo_class, temperature, same_class, ignore_label, normalize, level_weight)
        largest = x.unit.new_full((len(x.unit),), -torch.inf)
        total, positive = torch.zeros_like(largest), torch.zeros_like(largest)
        for here, there, s, pulled, _ in x.tiles():
            _absorb(largest, total, here, s, 1)
            positive[here] += pulled.sum(1)
            if here != there:
                _absorb(largest, total, there, s, 0)
                positive[there] += pulled.sum(0)
        anchors = slice(first, len(rows) if count < 0 else first + count)
        lse = largest[anchors] + total[anchors].log()  # not a view: the fake kernel has none
        return lse - positive[anchors] / x.positives[anchors], lse


def backward(
    grad_loss,
    lse,
    rows,
    image,
    pseudo_class,
    temperature,
    same_class,
    ignore_label,
    normalize,
    first,
    level_weight=None,
):
    """(grad_rows, grad_temperature) from the gradient of the anchors' losses and what `forward` gave."""
    with torch.autocast(rows.device.type, enabled=False):
        x = _Rows(rows, image, pseudo_class, temperature, same_class, ignore_label, normalize, level_weight)
        anchors = slice(first, first + len(lse))
        weight = x.unit.new_zeros(len(x.unit))
        weight[anchors] = grad_loss.to(weight.dtype)
        share = weight / x.positives
        full = torch.full_like(weight, torch.inf)  # rows that are no anchors: e^-inf = 0
        full[anchors] = lse
        pull = torch.zeros_like(x.unit)
        for here, there, s, _, positive in x.tiles():
            a = (s - full[here, None]).exp() * weight[here, None] - positive * share[here, None]
            if here == there:
                pull[here] += (a + a.T) @ x.unit[there]
            else:
                a += (s - full[None, there]).exp() * weight[None, there] - positive * share[None, there]
                pull[here] += a @ x.unit[there]
                pull[there] += a.T @ x.unit[here]
        pull /= x.temperature
        along = (x.unit * pull).sum(1, keepdim=True)
        grad_temperature = -along.sum() / (2 * x.temperature)
        if normalize:
            pull = (pull - x.unit * along) / torch.where(x.norm == 0, torch.inf, x.norm)
        return pull.to(rows.dtype), grad_temperature.to(temperature.device, temperature.dtype)
