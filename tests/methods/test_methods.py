"""Pre-training methods: their losses fall, reach the encoder, and use pseudo-classes as they say."""

import pytest
import torch

from clustercl.methods import METHODS
from clustercl.models.encoder import Encoder
from clustercl.training.config import PretrainSettings

SETTINGS = PretrainSettings(batch_size=6, temperature=0.2)
TRAINED = [name for name, kind in METHODS.items() if kind.pretrains]


def build(name):
    torch.manual_seed(0)
    return METHODS[name](Encoder(2, 1, (4, 8)), SETTINGS, projection_dim=8)


def views():
    """Two views of six units that are told apart by their texture."""
    generator = torch.Generator().manual_seed(1)
    units = torch.rand(6, 1, 16, 16, generator=generator)
    return torch.stack([units, units + 0.05 * torch.rand(units.shape, generator=generator)])


PSEUDO = torch.tensor([0, 0, 0, 1, 1, -1])


@pytest.mark.parametrize("name", TRAINED)
def test_loss_falls_and_reaches_every_parameter(name):
    method = build(name)
    optimizer = torch.optim.AdamW(method.parameters(), lr=3e-3)
    losses = []
    for _ in range(25):
        optimizer.zero_grad()
        loss = method(views(), PSEUDO)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.05
    # Convolutions before a group norm have biases that move nothing within a group of one value; weights all do.
    silent = [key for key, value in method.named_parameters() if value.grad is None or not value.grad.abs().sum()]
    assert not [key for key in silent if key.endswith("weight")]


@pytest.mark.parametrize("name", TRAINED)
def test_value_is_the_definition(name):
    method, same_class = build(name), METHODS[name].same_class
    both = views()
    with torch.no_grad():
        z = torch.nn.functional.normalize(method.head(method.encoder(both.flatten(0, 1))[-1]).double(), dim=1)
        image, label = torch.arange(6).repeat(2), PSEUDO.repeat(2)
        expected = []
        for i in range(12):
            positives, candidates = [], []
            for j in range(12):
                if j == i:
                    continue
                own = bool(image[i] == image[j])
                mates = not own and bool(label[i] == label[j]) and int(label[i]) >= 0
                similarity = float(z[i] @ z[j]) / SETTINGS.temperature
                if own or (mates and same_class == "attract"):
                    positives.append(similarity)
                if own or not (mates and same_class == "exclude"):
                    candidates.append(similarity)
            expected.append(torch.tensor(candidates).logsumexp(0) - torch.tensor(positives).mean())
        # float32 embeddings of norm 1, divided by the temperature: errors of a few 1e-7 / 0.2.
        torch.testing.assert_close(float(method(both, PSEUDO)), float(torch.stack(expected).mean()), atol=1e-5, rtol=0)


def test_pseudo_classes_matter_where_they_should():
    both, other = views(), torch.tensor([0, 1, 2, 0, 1, 2])
    for name in TRAINED:
        method = build(name)
        changed = float(method(both, PSEUDO).detach()) != float(method(both, other).detach())
        assert changed == METHODS[name].needs_clusters, name


def test_baselines_do_not_pretrain():
    assert {name: kind.start for name, kind in METHODS.items() if not kind.pretrains} == {
        "scratch": "random",
        "autoencoder": "autoencoder",
    }
