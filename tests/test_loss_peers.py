"""Equal to the losses of others where the mathematics is the same: values and gradients in float64."""

import pytest
import torch
from pytorch_metric_learning.losses import NTXentLoss, SupConLoss
from torch.nn.functional import cross_entropy, normalize

from clustercl import PseudoClassNTXentLoss, pseudo_class_nt_xent

# float64 sums of some hundred terms of size 10, in another order.
CLOSE = {"rtol": 1e-10, "atol": 1e-12}


def example(b=24, views=2, d=10, classes=5):
    generator = torch.Generator().manual_seed(b)
    x = torch.randn(views * b, d, generator=generator, dtype=torch.float64)
    return x, torch.randint(classes, (b,), generator=generator)


def value_and_gradient(call, x):
    x = x.detach().requires_grad_()
    value = call(x)
    value.backward()
    return value.detach(), x.grad


def assert_same(ours, theirs, x):
    for one, other in zip(value_and_gradient(ours, x), value_and_gradient(theirs, x), strict=True):
        torch.testing.assert_close(one, other, **CLOSE)


@pytest.mark.parametrize("views", [2, 3])
@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_attract_is_the_supconloss_of_pytorch_metric_learning(views, temperature):
    x, c = example(views=views)
    c[-1] = 99  # a class of one image: its other views are its only positives
    theirs = SupConLoss(temperature=temperature)
    assert_same(
        lambda x: pseudo_class_nt_xent(x, c, views, temperature, "attract"), lambda x: theirs(x, c.repeat(views)), x
    )


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_ignore_is_the_ntxentloss_of_pytorch_metric_learning(temperature):
    x, c = example()
    theirs = NTXentLoss(temperature=temperature)
    image = torch.arange(len(c)).repeat(2)
    assert_same(lambda x: pseudo_class_nt_xent(x, c, 2, temperature, "ignore"), lambda x: theirs(x, image), x)
    assert_same(lambda x: pseudo_class_nt_xent(x, temperature=temperature), lambda x: theirs(x, image), x)


def nt_xent_by_cross_entropy(x, temperature):
    """As lightly and the SimCLR code bases write it: each row's class is the other view of its image."""
    z = normalize(x, dim=1)
    logits = (z @ z.T / temperature).fill_diagonal_(-torch.inf)
    n = len(x)
    return cross_entropy(logits, (torch.arange(n) + n // 2) % n)


def test_ignore_is_nt_xent_by_cross_entropy():
    x, _ = example(40)
    loss = PseudoClassNTXentLoss(temperature=0.5)
    assert_same(lambda x: loss(*x.chunk(2)), lambda x: nt_xent_by_cross_entropy(x, 0.5), x)


def supcontrast(features, labels, temperature, base_temperature):
    """SupContrast's SupConLoss from its paper: features (b, views, d), the mean over positives of the log-probability,
    times temperature / base_temperature."""
    b, views, _ = features.shape
    z = normalize(torch.cat(features.unbind(1)), dim=1)
    logits = z @ z.T / temperature
    others = ~torch.eye(views * b, dtype=torch.bool)
    positive = (labels[:, None] == labels[None, :]).repeat(views, views) & others
    log_probability = logits - logits.masked_fill(~others, -torch.inf).logsumexp(1, keepdim=True)
    mean = (log_probability * positive).sum(1) / positive.sum(1)
    return -(temperature / base_temperature) * mean.mean()


def test_attract_with_a_base_temperature_is_supcontrasts_loss():
    x, c = example(views=3)
    features = x.view(len(c), 3, -1)
    loss = PseudoClassNTXentLoss(temperature=0.1, same_class="attract", base_temperature=0.07)
    assert_same(lambda f: loss(f, c), lambda f: supcontrast(f, c, 0.1, 0.07), features)


def exclusion_by_hand(x, c, views, temperature):
    z = normalize(x, dim=1)
    b = len(c)
    total = 0.0
    for i in range(views * b):
        candidates, positives = [], []
        for j in range(views * b):
            if i == j:
                continue
            s = z[i] @ z[j] / temperature
            if i % b == j % b:
                positives.append(s)
            if i % b == j % b or c[i % b] != c[j % b]:
                candidates.append(s)
        total = total + torch.stack(candidates).logsumexp(0) - torch.stack(positives).mean()
    return total / (views * b)


@pytest.mark.parametrize("views", [2, 3])
def test_exclude_is_the_double_loop(views):
    x, c = example(12, views)
    assert_same(lambda x: pseudo_class_nt_xent(x, c, views), lambda x: exclusion_by_hand(x, c, views, 0.1), x)
