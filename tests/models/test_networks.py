"""Encoder, U-Net, auto-encoder and head: shapes, MONAI's network as the truth, and what group norm is there for."""

import pytest
import torch
from monai.networks.nets import BasicUNet

from clustercl.errors import UsageError
from clustercl.models.autoencoder import AutoEncoder
from clustercl.models.encoder import ACTIVATION, Encoder, group_norm
from clustercl.models.projection import ProjectionHead
from clustercl.models.settings import ModelSettings
from clustercl.models.unet import UNet

FEATURES = (4, 8, 12, 16, 20)


@pytest.mark.parametrize("dims, shape", [(2, (48, 32)), (3, (32, 16, 16))])
def test_unet_is_basic_unet_with_the_same_weights(dims, shape):
    torch.manual_seed(0)
    ours = UNet(Encoder(dims, 2, FEATURES), 3).eval()
    theirs = BasicUNet(dims, 2, 3, (*FEATURES, FEATURES[0]), act=ACTIVATION, norm=group_norm(FEATURES)).eval()
    theirs.load_state_dict({key.removeprefix("encoder."): value for key, value in ours.state_dict().items()})
    x = torch.rand(2, 2, *shape)
    with torch.no_grad():
        assert torch.equal(ours(x), theirs(x))


@pytest.mark.parametrize("dims, shape", [(2, (37, 50)), (2, (16, 16)), (3, (17, 21, 19))])
def test_any_size_from_the_smallest_on(dims, shape):
    encoder = Encoder(dims, 1, FEATURES)
    assert encoder.smallest_input == 16
    x = torch.rand(1, 1, *shape)
    assert UNet(encoder, 4)(x).shape == (1, 4, *shape)
    assert AutoEncoder(encoder, 7).eval()(x).shape == x.shape
    assert [tuple(part.shape[1:]) for part in encoder(x)] == [
        (width, *(side // 2**level for side in shape)) for level, width in enumerate(FEATURES)
    ]


def test_code_length_does_not_depend_on_the_size():
    model = AutoEncoder(Encoder(2, 3, (4, 8)), 5)
    assert model.encode(torch.rand(2, 3, 24, 16)).shape == model.encode(torch.rand(2, 3, 9, 40)).shape == (2, 5)
    assert model.pooled(torch.rand(2, 3, 24, 16)).shape == (2, 8)


def test_the_reconstruction_passes_the_code_alone():
    """Without a skip connection, equal codes give equal reconstructions."""
    model = AutoEncoder(Encoder(2, 1, (4, 8)), 5)
    torch.nn.init.ones_(model.final_conv.weight)
    model.eval()
    assert not torch.equal(model(torch.rand(1, 1, 16, 16)), model(torch.rand(1, 1, 16, 16)))
    torch.nn.init.zeros_(model.to_code.weight)
    first, second = model(torch.rand(1, 1, 16, 16)), model(torch.rand(1, 1, 16, 16))
    assert torch.equal(first, second)


def test_pooled_features_tell_images_apart():
    """Instance norm would give every image of one texture the same channel means."""
    torch.manual_seed(0)
    encoder = Encoder(2, 1, (8, 16, 32))
    texture = torch.rand(1, 1, 32, 32)
    with torch.no_grad():
        means = [encoder.down_1(encoder.conv_0(texture * scale)).mean(dim=(2, 3)) for scale in (0.2, 1.0)]
    assert float((means[0] - means[1]).abs().max()) > 1e-3
    groups = group_norm((8, 16, 32))[1]["num_groups"]
    assert 8 // groups >= 4, "fewer than 4 channels to a group come near instance norm"


@pytest.mark.parametrize("features", [(8, 16), (6, 10), (3, 5), (32, 48, 320), (1, 1)])
def test_group_norm_fits_every_width(features):
    groups = group_norm(features)[1]["num_groups"]
    assert all(width % groups == 0 for width in features)


def test_head_pools_and_projects():
    assert ProjectionHead(6, 4)(torch.rand(3, 6, 2, 2, 2)).shape == (3, 4)


@pytest.mark.parametrize(
    "wrong", [{"features": (8,)}, {"features": (8, 0)}, {"code_dim": 0}, {"projection_dim": -1}, {"dropout": 1.0}]
)
def test_settings_refuse(wrong):
    with pytest.raises(UsageError, match=f"model.{next(iter(wrong))}"):
        ModelSettings(**wrong)


def test_auto_encoder_learns_more_than_the_mean_image():
    """Codes that do not tell images apart reach the error of the mean image at best."""
    torch.manual_seed(0)
    rows = torch.linspace(0, 1, 16)
    slopes = torch.rand(16, 2, 1, 1)
    images = (slopes[:, :1] * rows[:, None] + slopes[:, 1:] * rows[None, :]).reshape(16, 1, 16, 16)
    model = AutoEncoder(Encoder(2, 1, (4, 8)), 4)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(80):
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(model(images), images)
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.3 * float(((images - images.mean(0)) ** 2).mean())


@pytest.mark.parametrize("dims, shape", [(2, (24, 16)), (3, (16, 8, 8))])
def test_the_gradient_of_the_reconstruction_is_that_of_its_definition(dims, shape):
    """Along a random direction of all weights, against central differences of the mean squared error, in float64."""
    torch.manual_seed(0)
    model = AutoEncoder(Encoder(dims, 1, (4, 6, 8)), 5).double()
    images = torch.randn(3, 1, *shape, dtype=torch.float64)
    weights = list(model.parameters())
    torch.nn.functional.mse_loss(model(images), images).backward()
    directions = [torch.randn_like(weight) for weight in weights]
    found = sum((weight.grad * along).sum() for weight, along in zip(weights, directions))

    @torch.no_grad()
    def moved(step):
        for weight, along in zip(weights, directions):
            weight += step * along
        return ((model(images) - images) ** 2).mean()

    step = 1e-8  # small, as leaky ReLUs that change sides within it would bend the line; rounding is 1e-15 / 1e-8
    ahead, back = moved(step), moved(-2 * step)
    assert float(found) == pytest.approx(float(ahead - back) / (2 * step), rel=1e-5) and abs(float(found)) > 1e-3
