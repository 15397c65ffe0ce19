"""Pre-training methods: their losses fall, their gradients are those of their definitions, and they use labels as they
say."""

import math

import numpy as np
import pytest
import torch

from clustercl.cluster import linkage
from clustercl.cut import cut_tree
from clustercl.methods import METHODS, Known
from clustercl.methods.base import Contrastive
from clustercl.models.encoder import Encoder
from clustercl.reference import pseudo_class_nt_xent as reference
from clustercl.training.settings import PretrainSettings

SETTINGS = PretrainSettings(batch_size=6, temperature=0.2, mask_cell=4, tree_cuts=(1.0, 2.0), tree_weights=(0.5, 0.0))
TRAINED = [name for name, kind in METHODS.items() if kind.pretrains]
CONTRASTIVE = [name for name in TRAINED if issubclass(METHODS[name], Contrastive)]
SEEDS = torch.arange(6) * 1000 + 7
# What becomes of the anchor's class mates, as docs/compare.md says; not read from the classes that are tested.
SAME_CLASS = {"simclr": "ignore", "g-simclr": "ignore", "pseudo-class": "exclude", "pseudo-class-attract": "attract",
              "pseudo-class-tree": "exclude", "random-class": "exclude", "oracle-class": "exclude"}  # fmt: skip


def build(name):
    torch.manual_seed(0)
    return METHODS[name](Encoder(2, 1, (4, 8)), SETTINGS, projection_dim=8)


def views():
    """Two views of six units that are told apart by their texture."""
    generator = torch.Generator().manual_seed(1)
    units = torch.rand(6, 1, 16, 16, generator=generator)
    return torch.stack([units, units + 0.05 * torch.rand(units.shape, generator=generator)])


PSEUDO = torch.tensor([0, 0, 0, 1, 1, -1])


def labels(name):
    """Of the six units, as the method would have them."""
    if name == "pseudo-class-tree":
        return torch.stack([PSEUDO, torch.tensor([0, 0, 1, 2, 2, -1])], dim=1)
    return PSEUDO if METHODS[name].label.__func__ is not METHODS["simclr"].label.__func__ else torch.full((6,), -1)


@pytest.mark.parametrize("name", TRAINED)
def test_loss_falls_and_reaches_every_parameter(name):
    method = build(name)
    optimizer = torch.optim.AdamW(method.parameters(), lr=3e-3)
    losses = []
    for step in range(40):
        optimizer.zero_grad()
        loss = method(views(), labels(name), SEEDS)
        loss.backward()
        optimizer.step()
        method.after_step(step + 1, 40)
        losses.append(loss.item())
    # Of one cell in four of noise, which mae rebuilds, there is little to learn but its mean.
    assert losses[-1] < (0.95 * losses[0] if name == "mae" else losses[0] - 0.05)
    # Convolutions before a group norm have biases that move nothing within a group of one value; weights all do.
    trained = [(key, value) for key, value in method.named_parameters() if value.requires_grad]
    silent = [key for key, value in trained if value.grad is None or not value.grad.abs().sum()]
    assert not [key for key in silent if key.endswith("weight")]


def gradients(method, loss):
    method.zero_grad()
    loss.backward()
    return {key: value.grad.clone() for key, value in method.named_parameters() if value.grad is not None}


def assert_same_step(method, found, wanted):
    # float64 throughout; only the order of sums differs.
    torch.testing.assert_close(found.detach(), wanted.detach(), rtol=1e-10, atol=1e-12)
    one, other = gradients(method, found), gradients(method, wanted)
    assert one.keys() == other.keys() and any(key.startswith("encoder.") for key in one)
    for key, grad in one.items():
        torch.testing.assert_close(grad, other[key], rtol=1e-8, atol=1e-10, msg=key)


@pytest.mark.parametrize("name", CONTRASTIVE)
def test_contrastive_gradients_are_those_of_the_reference(name):
    method, both = build(name).double(), views().double()
    embeddings = method.head(method.encoder(both.flatten(0, 1))[-1])
    weights = SETTINGS.tree_weights if name == "pseudo-class-tree" else None
    options = {"same_class": SAME_CLASS[name], "level_weight": weights}
    wanted = reference(embeddings, labels(name), 2, SETTINGS.temperature, **options).mean()
    assert_same_step(method, method(both, labels(name), SEEDS), wanted)


def test_byol_gradients_are_those_of_the_definition():
    method, both = build("byol").double(), views().double()
    for value in method.target.parameters():
        value.add_(0.01)  # as after some steps
    z = [method.predictor(method.head(method.encoder(both.flatten(0, 1))[-1]))]
    with torch.no_grad():
        t = method.target["head"](method.target["encoder"](both.flatten(0, 1))[-1])
    terms = []
    for i in range(12):
        cosine = z[0][i] @ t[(i + 6) % 12] / (z[0][i].norm() * t[(i + 6) % 12].norm())
        terms.append(2 - 2 * cosine)
    assert_same_step(method, method(both, labels("byol"), SEEDS), torch.stack(terms).mean())


def test_byols_copy_follows_slower_and_slower():
    method = build("byol")
    assert not method.validates  # by its loss, which a collapse brings to 0
    for part in ("encoder", "head"):
        for own, copy in zip(getattr(method, part).parameters(), method.target[part].parameters(), strict=True):
            # One beyond the copy each time, so that a step moves it by 1 - momentum: a cosine from 0.996 to 1.
            for step, moved in ((0, 0.004), (3, 0.002 * (1 + math.cos(0.3 * math.pi))), (5, 0.002), (10, 0.0)):
                with torch.no_grad():
                    own.copy_(copy + 1.0)
                before = copy.clone()
                method.after_step(step, 10)
                torch.testing.assert_close(copy, before + moved)


def test_mae_gradients_are_those_of_the_definition():
    method, both = build("mae").double(), views().double()
    wanted = []
    for view in range(2):
        hidden = method._hidden(torch.Size([16, 16]), SEEDS, view)
        assert (hidden.flatten(1).sum(dim=1) == 12 * 16).all()  # 12 of 16 cells of 4 x 4
        for image, mask in zip(both[view], hidden):
            shown = image.clone()
            shown[mask] = image.mean()
            rebuilt = method.network(shown[None])[0]
            wanted.append((rebuilt - image)[mask].square().mean())
    assert_same_step(method, method(both, labels("mae"), SEEDS), torch.stack(wanted).mean())


def test_mae_hides_by_the_seeds_of_the_units_alone():
    method = build("mae")
    together = method._hidden(torch.Size([16, 12]), SEEDS, 0)
    alone = method._hidden(torch.Size([16, 12]), SEEDS[3:4], 0)
    assert together.shape == (6, 1, 16, 12) and torch.equal(together[3:4], alone)
    assert not torch.equal(together, method._hidden(torch.Size([16, 12]), SEEDS, 1))
    assert not torch.equal(together[0], together[1])


def test_labels_matter_where_they_should():
    both = views()
    for name in TRAINED:
        method, other = build(name), torch.tensor([0, 1, 2, 0, 1, 2])
        if name == "pseudo-class-tree":
            other = torch.stack([other, other], dim=1)
        changed = float(method(both, labels(name), SEEDS).detach()) != float(method(both, other, SEEDS).detach())
        uses = {"pseudo-class", "pseudo-class-tree", "pseudo-class-attract", "random-class", "oracle-class"}
        assert changed == (name in uses), name


def known(n=60):
    draw = np.random.default_rng(3)
    features = draw.normal(size=(4, 5))[np.arange(n) % 4] * 3 + draw.normal(size=(n, 5))
    tree = linkage(features)
    groups = torch.arange(n) % 3 - 1
    return Known(n, 7, features.astype(np.float32), tree, torch.from_numpy(cut_tree(tree, n_clusters=4)), groups)


def test_labels_come_from_where_each_method_says():
    have = known()
    assert torch.equal(METHODS["pseudo-class"].label(have, SETTINGS), have.pseudo_class)
    assert torch.equal(METHODS["pseudo-class-attract"].label(have, SETTINGS), have.pseudo_class)
    assert torch.equal(METHODS["oracle-class"].label(have, SETTINGS), have.groups)
    shuffled = METHODS["random-class"].label(have, SETTINGS)
    assert torch.equal(torch.bincount(shuffled), torch.bincount(have.pseudo_class))
    assert not torch.equal(shuffled, have.pseudo_class)
    assert torch.equal(shuffled, METHODS["random-class"].label(have, SETTINGS))  # by the seed
    for name in ("simclr", "byol", "mae"):
        assert (METHODS[name].label(have, SETTINGS) == -1).all()


def test_the_tree_gives_nested_cuts():
    have = known()
    levels = METHODS["pseudo-class-tree"].label(have, SETTINGS)
    assert levels.shape == (60, 2) and torch.equal(levels[:, 0], have.pseudo_class)
    assert levels[:, 1].max() == 7
    for fine in range(8):  # each of the finer classes lies in one of the coarser
        assert len(levels[levels[:, 1] == fine, 0].unique()) == 1


def test_g_simclr_makes_as_many_groups_as_a_batch_holds():
    groups = METHODS["g-simclr"].label(known(), SETTINGS)
    assert len(groups.unique()) == 6 and METHODS["g-simclr"].one_of_a_class


def test_baselines_do_not_pretrain():
    assert {name: kind.start for name, kind in METHODS.items() if not kind.pretrains} == {
        "scratch": "random",
        "autoencoder": "autoencoder",
    }
