"""Windows, overlap and padding do not show in the probabilities."""

import pytest
import torch

from clustercl.data.settings import DataSettings
from clustercl.data.task import get_task
from clustercl.evaluation.inference import predict_probabilities


@pytest.mark.parametrize("shape", [(16, 16, 16), (17, 40, 23), (5, 30, 9)], ids=["one window", "several", "smaller"])
@pytest.mark.parametrize("overlap", [0.0, 0.5])
def test_a_network_that_looks_at_single_voxels_cannot_tell_windows(made, shape, overlap):
    settings = DataSettings(patch=(16, 16, 16))
    image = torch.rand(1, *shape, generator=torch.Generator().manual_seed(0))
    got = predict_probabilities(made.Hearts(), image, settings, get_task("heart"), "cpu", overlap)
    assert got.shape == (8, *shape) and got.dtype == torch.float32
    # The weighted mean over windows of equal values: float32 rounding alone.
    torch.testing.assert_close(got, made.Hearts()(image[None])[0].softmax(0), atol=1e-5, rtol=1e-4)


def test_each_window_is_told(made):
    told = []
    image, settings = torch.zeros(1, 16, 40, 16), DataSettings(patch=(16, 16, 16))
    predict_probabilities(made.Hearts(), image, settings, get_task("heart"), "cpu", 0.0, told.append)
    assert told == [f"segmenting, window {number}" for number in (1, 2, 3)]


def test_small_volumes_are_filled_with_their_smallest_value():
    """As crops in training are: zeros would be a bright rim around a z-scored volume, or tissue around air."""
    seen = []

    def network(x):
        seen.append(x)
        return torch.zeros(len(x), 8, *x.shape[2:])

    image = torch.full((1, 4, 4, 4), 3.0)
    image[0, 0, 0, 0] = -5.0
    predict_probabilities(network, image, DataSettings(patch=(8, 8, 8)), get_task("heart"), "cpu", 0.5)
    assert len(seen) == 1 and seen[0].shape == (1, 1, 8, 8, 8)
    assert (seen[0] == -5).sum() == 8**3 - 4**3 + 1


def test_photographs_go_through_in_one_pass(made):
    image = torch.rand(3, 20, 20, generator=torch.Generator().manual_seed(0))
    got = predict_probabilities(made.Dark(), image, DataSettings(size=20), get_task("skin"), "cpu", 0.5)
    torch.testing.assert_close(got, made.Dark()(image[None])[0].softmax(0))
    assert not got.requires_grad
