"""The loss of fine-tuning."""

import torch
from monai.networks.utils import one_hot
from torch import nn

from clustercl.ops.gather import gather_rows

SMOOTH = 1e-5


class DiceCrossEntropy(nn.Module):
    """Soft Dice without background plus cross-entropy: MONAI's DiceCELoss(to_onehot_y=True, softmax=True,
    include_background=False, batch=whole_batch, weight=weight), over the batch of all processes.

    Dice of the whole batch and the weights' total are ratios of sums, so the mean of what several processes find is not
    what one finds for all; hence the sums are gathered here. `weight`: of each class in the cross-entropy, (k,).
    """

    def __init__(self, whole_batch: bool, weight: torch.Tensor | None = None):
        super().__init__()
        self.whole_batch = whole_batch
        self.register_buffer("weight", weight)

    def forward(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """logits (b, k, *s), labels (b, *s) int64 in 0..k-1; a scalar."""
        logarithm = logits.log_softmax(1)
        truth = one_hot(labels[:, None], logits.shape[1], dtype=logits.dtype)
        per_class = (logarithm * truth).flatten(2).sum(2).sum(0), truth.flatten(2).sum(2).sum(0)
        weight = torch.ones_like(per_class[0]) if self.weight is None else self.weight.to(logits.dtype)
        entropy = torch.stack([-(weight * per_class[0]).sum(), (weight * per_class[1]).sum()])
        found, true = logarithm.exp()[:, 1:].flatten(2), truth[:, 1:].flatten(2)
        dice = torch.stack([(found * true).sum(2), (found + true).sum(2)])  # (2, b, k - 1)
        if self.whole_batch:
            dice = dice.sum(1, keepdim=True)
        entropy = gather_rows(entropy[None], "sums").sum(0)
        dice = gather_rows(dice[None], "sums")
        dice = dice.sum(0) if self.whole_batch else dice.transpose(0, 1).flatten(1, 2)
        return (1 - (2 * dice[0] + SMOOTH) / (dice[1] + SMOOTH)).mean() + entropy[0] / entropy[1]
