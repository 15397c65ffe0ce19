"""Views: seeded per sample, within their promises, and the identity at zero strength."""

import numpy as np
import pytest
import torch

from clustercl.data.augment import (
    CONTRAST_IMAGES,
    CONTRAST_VOLUMES,
    PAIR_IMAGES,
    Recipe,
    augment_pair,
    contrastive_views,
)
from clustercl.data.seeds import mix

SHAPES = {"photographs": (5, 3, 24, 20), "volumes": (4, 1, 16, 12, 10)}


def batch(kind, seed=0):
    """Smooth random images in 0..1, seeds, and whether they are coloured."""
    shape = SHAPES[kind]
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(*shape[:2], *[4] * (len(shape) - 2), generator=generator)
    mode = "bilinear" if kind == "photographs" else "trilinear"
    images = torch.nn.functional.interpolate(coarse, shape[2:], mode=mode)
    return images, torch.arange(100, 100 + shape[0]), kind == "photographs"


@pytest.mark.parametrize("kind", SHAPES)
def test_views(kind):
    images, seeds, colour = batch(kind)
    before = images.clone()
    views = contrastive_views(images, seeds, 3, colour)
    assert views.shape == (3, *images.shape) and views.dtype == torch.float32 and views.isfinite().all()
    assert torch.equal(images, before)
    assert torch.equal(views, contrastive_views(images, seeds, 3, colour))
    assert torch.equal(views[:2], contrastive_views(images, seeds, 2, colour))
    flat = torch.cat([views, images[None]]).flatten(2)
    for one in range(4):
        for other in range(one):
            assert ((flat[one] - flat[other]).abs().mean(1) > 0.01).all()
    assert not torch.equal(views, contrastive_views(images, seeds + 1000, 3, colour))
    if colour:
        assert views.min() >= 0 and views.max() <= 1


@pytest.mark.parametrize("kind", SHAPES)
def test_autocast_leaves_them_alone(kind):
    """Validation draws its views under it."""
    images, seeds, colour = batch(kind)
    views = contrastive_views(images, seeds, 2, colour)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(contrastive_views(images, seeds, 2, colour), views)


@pytest.mark.parametrize("kind", SHAPES)
def test_batch_mates_do_not_matter(kind):
    images, seeds, colour = batch(kind)
    labels = (images[:, 0] > 0.5).long()
    views = contrastive_views(images, seeds, 2, colour)
    moved, targets = augment_pair(images, labels, seeds, colour)
    for keep in ([2], [3, 1], [0, 2, 3]):
        # Sums over one sample may be split among threads in another way: the last bits of float32.
        alone = contrastive_views(images[keep], seeds[keep], 2, colour)
        assert torch.allclose(alone, views[:, keep], atol=1e-5)
        image, target = augment_pair(images[keep], labels[keep], seeds[keep], colour)
        assert torch.allclose(image, moved[keep], atol=1e-5)
        assert (target != targets[keep]).float().mean() < 1e-3  # a centre may lie on the edge of two voxels


@pytest.mark.parametrize("kind", SHAPES)
def test_zero_strength_is_the_identity(kind):
    images, seeds, colour = batch(kind)
    labels = (images[:, 0] > 0.5).long()
    assert torch.equal(contrastive_views(images, seeds, 2, colour, Recipe()), torch.stack([images, images]))
    moved, targets = augment_pair(images, labels, seeds, colour, Recipe())
    assert torch.equal(moved, images) and torch.equal(targets, labels)


@pytest.mark.parametrize("kind", SHAPES)
def test_a_recipe_is_followed_in_part_or_not_at_all(kind):
    images, seeds, colour = batch(kind)
    labels = (images[:, 0] > 0.5).long()
    whole, little, none = (augment_pair(images, labels, seeds, colour, strength=factor) for factor in (1, 0.05, 0))
    assert torch.equal(none[0], images) and torch.equal(none[1], labels)
    assert torch.equal(whole[0], augment_pair(images, labels, seeds, colour)[0])
    assert 0 < (little[0] - images).abs().mean() < (whole[0] - images).abs().mean() / 2
    recipe = Recipe(crop=0.4, rotation=30, blur=0.5, blur_passes=2, noise=0.4, noise_sd=0.2, cutout=1, cutout_side=0.3)
    assert recipe.times(0.5) == Recipe(crop=0.2, rotation=15, blur=0.25, blur_passes=2, noise=0.2, noise_sd=0.2,
                                       cutout=0.5, cutout_side=0.3)  # fmt: skip


@pytest.mark.parametrize("kind", SHAPES)
def test_smaller_views_show_the_same_in_larger_pixels(kind):
    images, seeds, colour = batch(kind)
    half = tuple(side // 2 for side in images.shape[2:])
    views = contrastive_views(images, seeds, 2, colour, Recipe(), scale=0.5)
    assert views.shape == (2, *images.shape[:2], *half)
    # Half way between two pixels a linear interpolation is their mean, on every axis.
    pooled = torch.nn.functional.adaptive_avg_pool2d if colour else torch.nn.functional.adaptive_avg_pool3d
    torch.testing.assert_close(views[0], pooled(images, half), rtol=0, atol=1e-5)  # float32 coordinates
    drawn = contrastive_views(images, seeds, 2, colour, scale=0.5)
    assert drawn.shape == views.shape and not torch.equal(drawn[0], drawn[1])
    alone = contrastive_views(images[1:2], seeds[1:2], 2, colour, scale=0.5)
    torch.testing.assert_close(alone[:, 0], drawn[:, 1], rtol=0, atol=1e-5)


STRENGTHS = {
    "crop": 0.4, "zoom_out": 0.3, "aspect": 0.3, "shift": 0.2, "rotation": 30, "flip": 1, "blur": 1, "noise": 1,
    "gamma": 0.5, "brightness": 0.5, "contrast": 0.5, "colour": 0.3, "saturation": 0.5, "cutout": 1,
}  # fmt: skip


@pytest.mark.parametrize("name", STRENGTHS)
def test_each_strength_does_something_and_tiny_ones_little(name):
    images, seeds, _ = batch("photographs")
    strong = augment_pair(images, images[:, 0].long(), seeds, True, Recipe(**{name: STRENGTHS[name]}))[0]
    assert ((strong - images).abs().flatten(1).mean(1) > 1e-4).all()
    if name not in ("flip", "blur", "noise", "cutout"):  # chances, which have no small strength
        weak = augment_pair(images, images[:, 0].long(), seeds, True, Recipe(**{name: 1e-6}))[0]
        assert torch.allclose(weak, images, atol=1e-4)


@pytest.mark.parametrize("kind", SHAPES)
def test_labels_move_with_their_image(kind):
    images, seeds, _ = batch(kind)
    labels = (images[:, 0] > 0.5).long()
    recipe = Recipe(crop=0.3, zoom_out=0.1, aspect=0.1, shift=0.1, rotation=25, flip=0.5)
    moved, targets = augment_pair((labels[:, None].float()).expand_as(images), labels, seeds, False, recipe)
    assert targets.dtype == labels.dtype and set(targets.unique().tolist()) <= {0, 1}
    # The nearest label is the rounded linear mixture but for ties and thin corners.
    assert ((moved[:, 0] > 0.5).long() == targets).float().mean() > 0.97
    assert (targets != labels).any()


def test_flips_alone_permute_pixels():
    images, seeds, _ = batch("volumes")
    moved, _ = augment_pair(images, images[:, 0].long(), seeds, False, Recipe(flip=1))
    assert torch.allclose(moved, images.flip((2, 3, 4)), atol=1e-5)


def test_turns_keep_shapes_on_long_grids():
    """A disc stays a disc when a grid of unequal sides is turned: angles are taken in voxels."""
    rows, columns = torch.meshgrid(torch.arange(40.0), torch.arange(80.0), indexing="ij")
    disc = (((rows - 19.5) ** 2 + (columns - 39.5) ** 2) < 8**2).float()[None, None].repeat(8, 1, 1, 1)
    moved, _ = augment_pair(disc, disc[:, 0].long(), torch.arange(8), False, Recipe(rotation=90))
    changed = (moved - disc)[..., 20:60].abs().flatten(1).sum(1)  # beyond that the mirrored disc comes into view
    assert (changed / disc[0].sum() < 0.1).all()  # its blurred rim; stretched to double it would differ by 0.6


def ball(voxel, shape):
    """A ball of 9 mm in the middle of a grid with voxels of these sides in mm, eight times."""
    axes = [(torch.arange(float(n)) - (n - 1) / 2) * mm for n, mm in zip(shape, voxel)]
    distance = sum(axis**2 for axis in torch.meshgrid(*axes, indexing="ij"))
    return torch.sigmoid(9 - distance.sqrt())[None, None].repeat(8, 1, 1, 1, 1)


def test_turns_are_in_mm_whatever_the_voxels():
    voxel = (1.0, 1.0, 2.5)
    inside = ball(voxel, (40, 36, 16))
    labels = inside[:, 0].long()
    recipe = Recipe(rotation=60)
    turned, _ = augment_pair(inside, labels, torch.arange(8), False, recipe, voxel)
    in_voxels, _ = augment_pair(inside, labels, torch.arange(8), False, recipe)
    # Interpolation between slices of 2.5 mm blurs its rim; taken for cubes, the voxels would make it an ellipsoid.
    off, wrong = ((moved - inside).abs().flatten(1).sum(1) / inside[0].sum() for moved in (turned, in_voxels))
    assert (off < 0.2).all() and (wrong > 2 * off).all()


def test_slices_are_not_mixed_where_they_are_thick():
    images, seeds, _ = batch("volumes")
    images[:, :, :, :, 3] += 5  # one slice
    for voxel in ((1.5, 1.5, 10.0), (1.5, 1.5, 4.6)):
        moved, _ = augment_pair(images, images[:, 0].long(), seeds, False, Recipe(rotation=15), voxel)
        assert moved[..., 3].min() > 4 and moved[..., [0, 1, 2, 4, 5]].max() < 2
        assert not torch.allclose(moved, images, atol=0.01)
    moved, _ = augment_pair(images, images[:, 0].long(), seeds, False, Recipe(rotation=15), (1.5, 1.5, 4.4))
    assert moved[..., 3].min() < 4


def test_zscored_volumes_keep_their_scale():
    images, seeds, _ = batch("volumes")
    images = (images - images.mean()) / images.std() * 50  # far outside 0..1, negative half the time
    views = contrastive_views(images, seeds)
    assert views.isfinite().all() and 10 < views.std() < 100


def test_flat_images_stay_finite():
    for value in (0.0, 0.5):
        images = torch.full((3, 3, 16, 16), value)
        assert contrastive_views(images, torch.arange(3), 2, True).isfinite().all()


def test_photographs_are_turned_freely_hearts_are_not_mirrored_for_segmentation():
    assert CONTRAST_IMAGES.rotation == PAIR_IMAGES.rotation == 180
    labels = torch.zeros(6, 16, 16, 16, dtype=torch.long)
    labels[:, :5] = 1  # "left"
    images = labels[:, None].float()
    _, moved = augment_pair(images, labels, torch.arange(6))
    assert (moved[:, :5].float().flatten(1).mean(1) > moved[:, -5:].float().flatten(1).mean(1)).all()
    assert CONTRAST_VOLUMES.flip > 0


def test_seeds_are_spread():
    values = mix(np.arange(1000)[:, None], np.arange(50))
    assert values.dtype == np.int64 and values.min() >= 0 and len(np.unique(values)) == values.size
    bits = (values[..., None] >> np.arange(63)) & 1
    assert np.abs(bits.mean((0, 1)) - 0.5).max() < 0.02  # 50,000 draws: nine standard errors
    assert mix(7, 3).tolist() == mix(np.array([7]), np.array([3])).tolist() != mix(3, 7).tolist()
    assert mix(-1, 0) >= 0
