"""Random changes of a batch, as batch-wise torch operations on the batch's own device.

Every number drawn for a sample comes from that sample's seed alone: neither its batch mates nor its place in the batch
change it, and a second run repeats it. Geometry (crop, scale, aspect, rotation, shift, flip) is one `grid_sample`; what
it shows beyond the image is the image mirrored, for labels as well. Turning is in mm, whatever the voxels. Intensity
changes are relative to each sample's own spread, so that they suit photographs in 0..1, windowed CT and z-scored MR.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch.nn.functional import affine_grid, grid_sample

from clustercl.data import intensity
from clustercl.data.draw import Draw
from clustercl.data.seeds import mix
from clustercl.data.settings import view_shape

# Between thick slices a turned image would be made of guesses. nnU-Net (Isensee et al., 2021) has this threshold
# too, of the sides of its patches, which follow the voxels'.
ANISOTROPIC = 3.0


@dataclass(frozen=True)
class Recipe:
    """How strong; all zero is the identity.

    Geometry: the window shown has a side of 1 - `crop` to 1 + `zoom_out` times the image's and lies anywhere in the
    image, or beyond its edge by the fraction `shift`; `aspect`: sides differ by a factor of up to 1 + aspect;
    `rotation`: up to so many degrees in each plane, but in none whose voxels are more than ANISOTROPIC times as long
    as they are wide; `flip`: chance per axis.
    Chances: `blur` (`blur_passes` binomial passes of variance 1/2 px), `noise` (up to `noise_sd` times the sample's
    standard deviation), `cutout` (a box with sides of up to `cutout_side` of the image's).
    Tone: exponent exp(+-`gamma`), shift by +-`brightness` standard deviations, factor exp(+-`contrast`).
    Colour images only: a factor exp(+-`colour`) per channel, saturation 1 +- `saturation`.
    """

    crop: float = 0.0
    zoom_out: float = 0.0
    aspect: float = 0.0
    shift: float = 0.0
    rotation: float = 0.0
    flip: float = 0.0
    blur: float = 0.0
    blur_passes: int = 3
    noise: float = 0.0
    noise_sd: float = 0.2
    gamma: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    colour: float = 0.0
    saturation: float = 0.0
    cutout: float = 0.0
    cutout_side: float = 0.35

    def times(self, factor: float) -> "Recipe":
        """All strengths and chances times a factor, 0 for the identity; what a change is like when it comes stays."""
        kept = ("blur_passes", "noise_sd", "cutout_side")
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        return Recipe(**{name: value if name in kept else value * factor for name, value in values.items()})


# Contrast needs views that differ in what does not matter; a pair (image, label) must stay a likely image. Volumes are
# not mirrored for segmentation: left and right ventricle are told apart by their side.
CONTRAST_IMAGES = Recipe(crop=0.5, aspect=0.2, shift=0.05, rotation=180, flip=0.5, blur=0.5, noise=0.5,
                         gamma=0.4, brightness=0.4, contrast=0.4, colour=0.15, saturation=0.4, cutout=0.5)  # fmt: skip
CONTRAST_VOLUMES = Recipe(crop=0.35, zoom_out=0.1, aspect=0.1, shift=0.05, rotation=20, flip=0.5, blur=0.5, noise=0.5,
                          gamma=0.4, brightness=0.3, contrast=0.3, cutout=0.5)  # fmt: skip
PAIR_IMAGES = Recipe(crop=0.25, zoom_out=0.15, aspect=0.1, shift=0.1, rotation=180, flip=0.5, blur=0.2, noise=0.2,
                     noise_sd=0.1, gamma=0.2, brightness=0.2, contrast=0.2, colour=0.05, saturation=0.2)  # fmt: skip
PAIR_VOLUMES = Recipe(crop=0.3, zoom_out=0.3, aspect=0.3, shift=0.1, rotation=30, blur=0.2, noise=0.3, noise_sd=0.1,
                      gamma=0.5, brightness=0.4, contrast=0.4)  # fmt: skip


def contrastive_views(
    images: torch.Tensor,
    seeds: torch.Tensor,
    views: int = 2,
    colour: bool = False,
    recipe: Recipe | None = None,
    scale: float = 1.0,
    spacing: Sequence[float] | None = None,
) -> torch.Tensor:
    """`views` independent random views of each image: (b, c, *s) float and seeds (b,) to (views, b, c, *v).

    `recipe` defaults to the one for images or for volumes; `colour` says that the channels are red, green and blue.
    `scale`: sides of a view as a share of the image's; what is seen stays the same, in larger pixels. `spacing`: sides
    of the images' voxels, in mm, one for each spatial axis; all alike by default.
    """
    recipe = recipe or (CONTRAST_IMAGES if images.ndim == 4 else CONTRAST_VOLUMES)
    own = [torch.from_numpy(mix(seeds.cpu().numpy(), view)) for view in range(views)]
    repeated = images.expand(views, *images.shape).reshape(-1, *images.shape[1:])
    shape = view_shape(images.shape[2:], scale)
    changed, _ = _augment(repeated, None, torch.cat(own), colour, recipe, spacing, shape)
    return changed.unflatten(0, (views, len(images)))


def augment_pair(
    images: torch.Tensor,
    labels: torch.Tensor,
    seeds: torch.Tensor,
    colour: bool = False,
    recipe: Recipe | None = None,
    spacing: Sequence[float] | None = None,
    strength: float = 1.0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Images (b, c, *s) float and labels (b, *s) integer moved together; intensities of the images changed.

    `recipe` and `spacing` as in `contrastive_views`; `strength`: times which the recipe is followed.
    """
    recipe = (recipe or (PAIR_IMAGES if images.ndim == 4 else PAIR_VOLUMES)).times(strength)
    return _augment(images, labels, seeds, colour, recipe, spacing)


def _augment(
    images: torch.Tensor,
    labels: torch.Tensor | None,
    seeds: torch.Tensor,
    colour: bool,
    recipe: Recipe,
    spacing: Sequence[float] | None,
    shape: Sequence[int] | None = None,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """`shape`: spatial, of the results; by default that of the images."""
    # Validation calls it under autocast, where affine_grid would give places in bfloat16: of 256 pixels up to one off.
    with torch.autocast(images.device.type, enabled=False):
        draw = Draw(seeds, images.device)
        matrix = random_affine(draw, images.shape[2:], recipe, spacing)
        shape = tuple(shape or images.shape[2:])
        if matrix is None and shape != images.shape[2:]:
            matrix = torch.eye(len(shape), len(shape) + 1).expand(len(images), -1, -1)
        if matrix is not None:
            grid = affine_grid(matrix.to(images), [*images.shape[:2], *shape], align_corners=False)
            images = grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
            if labels is not None:
                stored = labels[:, None].to(images.dtype)
                moved = grid_sample(stored, grid, mode="nearest", padding_mode="reflection", align_corners=False)
                labels = moved[:, 0].round().to(labels.dtype)
        return intensity.change(images, draw, colour, recipe), labels


def random_affine(
    draw: Draw, shape: torch.Size, recipe: Recipe, spacing: Sequence[float] | None = None
) -> torch.Tensor | None:
    """Matrices (b, d, d+1) for affine_grid: where in the image, in -1..1 per axis, each place of the view comes from.

    None where the recipe moves nothing. Axes are in affine_grid's order, the last spatial axis first.
    """
    if not any((recipe.crop, recipe.zoom_out, recipe.aspect, recipe.shift, recipe.rotation, recipe.flip)):
        return None
    dims = len(shape)
    side = draw.uniform(1 - recipe.crop, 1 + recipe.zoom_out)
    shift, flips, stretch = [], [], []
    for _ in range(dims):
        stretch.append(torch.exp(draw.uniform(-0.5, 0.5) * torch.log1p(torch.tensor(recipe.aspect))))
        flips.append(1 - 2 * draw.chance(recipe.flip).float())
        # A smaller window may lie anywhere in the image, and reach beyond it by `shift`.
        shift.append(draw.uniform(-1, 1) * ((1 - side).clamp_min(0) + 2 * recipe.shift))
    zero, one = torch.zeros_like(side), torch.ones_like(side)
    matrix = torch.diag_embed(torch.stack([side * a * b for a, b in zip(stretch, flips)], 1))
    planes = [(0, 1)] if dims == 2 else [(0, 1), (0, 2), (1, 2)]
    voxel = tuple(spacing or [1.0] * dims)[::-1]
    for first, second in planes:
        angle = draw.uniform(-recipe.rotation, recipe.rotation) * (torch.pi / 180)
        if max(voxel[first], voxel[second]) > ANISOTROPIC * min(voxel[first], voxel[second]):
            continue  # after drawing, so that all else is drawn as for other voxels
        turn = torch.diag_embed(torch.stack([one] * dims, 1))
        turn[:, first, first] = turn[:, second, second] = torch.cos(angle)
        turn[:, first, second], turn[:, second, first] = -torch.sin(angle), torch.sin(angle)
        matrix = turn @ matrix
    # Turning happens in mm, not in coordinates that run from -1 to 1 on short and long axes alike.
    lengths = torch.tensor([side * mm for side, mm in zip(shape[::-1], voxel)], dtype=matrix.dtype)
    matrix = matrix * lengths[None, None, :] / lengths[None, :, None]
    return torch.cat([matrix, torch.stack(shift, 1)[:, :, None] + zero[:, None, None]], 2)
