"""Units and the streams of batches."""

from pathlib import Path

import numpy as np
import pytest
import torch

from clustercl.data.cases import Case
from clustercl.data.feed import LabelledFeed, UnitFeed, jittered
from clustercl.data.prepare import Geometry, Prepared
from clustercl.data.settings import DataSettings
from clustercl.data.task import get_task
from clustercl.data.units import axis_origins, make_units, unit_image
from clustercl.errors import DataError

SKIN, HEART = get_task("skin"), get_task("heart", "A=1,B=2,C=3")
SETTINGS = DataSettings(patch=(8, 8, 8))


@pytest.fixture
def photographs():
    def make(count):
        return [
            Prepared(
                Case(f"p{number}", Path("p.jpg"), Path("m.png")),
                torch.full((3, 8, 8), number, dtype=torch.uint8),
                torch.full((8, 8), number % 2, dtype=torch.uint8),
                Geometry((8, 8), None, (1.0, 1.0)),
            )
            for number in range(count)
        ]

    return make


@pytest.mark.parametrize(
    ("length", "origins"),
    [(3, [0]), (8, [0]), (9, [0]), (10, [1]), (12, [0, 4]), (13, [0, 5]), (16, [0, 4, 8]), (21, [0, 4, 9, 13])],
)
def test_windows_of_eight(length, origins):
    assert axis_origins(length, 8) == origins


@pytest.mark.parametrize("patch", [4, 7, 32])
def test_windows_cover_an_axis_and_overlap(patch):
    for length in range(1, 5 * patch):
        origins = axis_origins(length, patch)
        gaps = np.diff(origins)
        assert len(origins) == 1 or (origins[0] == 0 and origins[-1] == length - patch)
        assert all(patch // 4 <= gap <= patch * 0.75 + 1 for gap in gaps)
        # A lone window leaves out less than a quarter of a patch.
        assert len(origins) > 1 or length - patch <= max(1, patch // 4)


def test_units_of_volumes(prepared_volumes):
    prepared = prepared_volumes((12, 8, 5), (8, 8, 8))
    units = make_units(prepared, HEART, SETTINGS)
    assert [unit.id for unit in units] == ["v0@0-0-0", "v0@4-0-0", "v1@0-0-0"]
    assert [unit.case for unit in units] == [0, 0, 1] and units[1].source == "v0"
    image = unit_image(prepared, units[1], SETTINGS)
    assert image.shape == (1, 8, 8, 8) and image.dtype == torch.float32
    assert torch.equal(image[:, :, :, :5], prepared[0].image[:, 4:])
    assert (image[:, :, :, 5:] == 0).all()  # the volume's smallest value


def test_units_of_photographs(photographs):
    prepared = photographs(3)
    units = make_units(prepared, SKIN, SETTINGS)
    assert [(unit.id, unit.source, unit.case, unit.origin) for unit in units][2] == ("p2", "p2", 2, None)
    assert torch.equal(unit_image(prepared, units[2], SETTINGS), torch.full((3, 8, 8), 2, dtype=torch.uint8))


def same(first, second) -> bool:
    return all(torch.equal(a, b) for a, b in zip(vars(first).values(), vars(second).values()))


def test_batches_are_functions_of_seed_and_step(prepared_volumes):
    prepared = prepared_volumes((20, 20, 20), (12, 9, 9))
    units = make_units(prepared, HEART, SETTINGS)
    for make in (
        lambda seed: UnitFeed(prepared, units, SETTINGS, HEART, 3, seed),
        lambda seed: LabelledFeed(prepared, SETTINGS, HEART, 2, seed),
    ):
        straight = make(1)
        batches = [straight.batch(step) for step in range(6)]
        assert all(same(make(1).batch(step), batches[step]) for step in (5, 2, 0))
        assert not same(make(2).batch(0), batches[0])
        assert not same(batches[0], batches[1])


def test_an_epoch_takes_each_once(photographs):
    prepared = photographs(7)
    feed = UnitFeed(prepared, make_units(prepared, SKIN, SETTINGS), SETTINGS, SKIN, 3, 0)
    assert feed.steps_per_epoch == 2
    seen = torch.stack([torch.cat([feed.batch(2 * epoch + step).units for step in (0, 1)]) for epoch in range(20)])
    assert all(len(set(row.tolist())) == 6 for row in seen)
    assert len(set(seen.flatten().tolist())) == 7
    assert len({tuple(row.tolist()) for row in seen}) > 15
    batch = feed.batch(4)
    assert torch.equal(batch.images[:, 0, 0, 0].long(), batch.units)


def test_a_batch_larger_than_the_set_wraps_round(photographs):
    feed = LabelledFeed(photographs(2), SETTINGS, SKIN, 5, 0)
    batch = feed.batch(0)
    assert batch.images.shape == (5, 3, 8, 8) and batch.labels.dtype == torch.uint8
    assert sorted(torch.bincount(batch.labels[:, 0, 0]).tolist()) == [2, 3]
    assert len(set(batch.seeds.tolist())) == 5  # repeated images are augmented differently
    assert not set(batch.seeds.tolist()) & set(feed.batch(1).seeds.tolist())


@pytest.mark.parametrize("shape", [(9, 20, 30), (8, 5, 21)])
def test_jitter_keeps_the_unit_nearest(shape, prepared_volumes):
    units = make_units(prepared_volumes(shape), HEART, SETTINGS)
    origins = np.array([unit.origin for unit in units])
    moved = 0
    for number, unit in enumerate(units):
        for seed in range(30):
            origin = np.array(jittered(unit.origin, shape, SETTINGS.patch, seed))
            assert all(0 <= at <= max(0, length - 8) for at, length in zip(origin, shape))
            far = ((origins - origin) ** 2).sum(1)
            assert far.argmin() == number and (np.delete(far, number) > far[number]).all()
            moved += (origin != unit.origin).any()
    assert moved > 10


def test_crops_are_what_the_batch_says(prepared_volumes):
    prepared = prepared_volumes((20, 20, 20))
    feed = UnitFeed(prepared, make_units(prepared, HEART, SETTINGS), SETTINGS, HEART, 4, 0)
    batch = feed.batch(3)
    for image, unit in zip(batch.images, batch.units):
        start = np.unravel_index(int(image[0, 0, 0, 0]), (20, 20, 20))  # voxels hold their flat index
        assert np.abs(np.array(start) - feed.units[unit].origin).max() <= 1  # windows are 4 apart


def test_half_of_the_labelled_crops_hold_foreground(prepared_volumes):
    prepared = prepared_volumes((40, 40, 40))
    feed = LabelledFeed(prepared, SETTINGS, HEART, 2, 0)
    batches = [feed.batch(step) for step in range(100)]
    labels = torch.cat([batch.labels for batch in batches])
    images = torch.cat([batch.images for batch in batches])
    held = [(labels == value).flatten(1).any(1).float().mean().item() for value in (1, 2, 3)]
    # Two classes, each tiny and in a corner: a quarter each by being aimed at; 200 draws, four standard errors.
    assert held[0] == pytest.approx(0.25, abs=0.13) and held[1] == 0 and held[2] == pytest.approx(0.25, abs=0.13)
    flat = images[:, 0].long()
    assert torch.equal(labels, prepared[0].label.flatten()[flat])


def test_small_volumes_are_padded(prepared_volumes):
    batch = LabelledFeed(prepared_volumes((5, 12, 4)), SETTINGS, HEART, 2, 0).batch(0)
    assert batch.images.shape == (2, 1, 8, 8, 8) and batch.labels.shape == (2, 8, 8, 8)
    assert (batch.labels[:, 5:] == 0).all() and (batch.labels[..., 4:] == 0).all()


def test_nothing_to_feed(photographs):
    with pytest.raises(DataError, match=r"no units"):
        UnitFeed([], [], SETTINGS, SKIN, 2, 0)
    item = photographs(1)[0]
    item.label = None
    with pytest.raises(DataError, match=r"p.jpg: has no label"):
        LabelledFeed([item], SETTINGS, SKIN, 2, 0)
