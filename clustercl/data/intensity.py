"""Random changes of intensity and colour, each sample by its own numbers. See `augment.Recipe` for the strengths."""

import torch

from clustercl.data.draw import Draw


def change(images: torch.Tensor, draw: Draw, colour: bool, recipe) -> torch.Tensor:
    """Images (b, c, *s) float to new ones of that shape; photographs (`colour`) stay within 0..1."""
    if recipe.blur:
        images = blur(images, draw, recipe.blur, recipe.blur_passes)
    if recipe.gamma or recipe.brightness or recipe.contrast:
        images = tone(images, draw, recipe)
    if colour and (recipe.colour or recipe.saturation):
        images = tint(images, draw, recipe)
    if recipe.noise:
        images = add_noise(images, draw, recipe)
    if recipe.cutout:
        images = cut_out(images, draw, recipe)
    return images.clamp(0, 1) if colour else images


def blur(images: torch.Tensor, draw: Draw, probability: float, passes: int) -> torch.Tensor:
    """Some samples smoothed: binomial 1-2-1 filters along each axis, blended in by a random weight."""
    weight = draw.uniform(0.3, 1)
    chosen = draw.chance(probability).nonzero()[:, 0]
    if not len(chosen):
        return images
    part = images[chosen.to(images.device)]
    smooth = part
    for axis in range(2, images.ndim):
        for _ in range(passes):
            length = smooth.shape[axis]
            ends = smooth.narrow(axis, 0, 1), smooth.narrow(axis, length - 1, 1)
            wide = torch.cat([ends[0], smooth, ends[1]], axis)
            smooth = (wide.narrow(axis, 0, length) + wide.narrow(axis, 2, length)).mul_(0.25).add_(smooth, alpha=0.5)
    part = torch.lerp(part, smooth, _per_sample(weight[chosen], images))
    return images.index_copy(0, chosen.to(images.device), part)


def tone(images: torch.Tensor, draw: Draw, recipe) -> torch.Tensor:
    """Gamma over each sample's own range, contrast about its mean, brightness in its standard deviations."""
    axes = tuple(range(1, images.ndim))
    if recipe.gamma:
        exponent = torch.exp(draw.uniform(-recipe.gamma, recipe.gamma))
        low, high = images.amin(axes, keepdim=True), images.amax(axes, keepdim=True)
        spread = (high - low).clamp_min(1e-6)
        images = ((images - low) / spread).pow_(_per_sample(exponent, images)).mul_(spread).add_(low)
    factor = _per_sample(torch.exp(draw.uniform(-recipe.contrast, recipe.contrast)), images)
    shift = _per_sample(draw.uniform(-recipe.brightness, recipe.brightness), images)
    sd, mean = torch.std_mean(images, axes, keepdim=True, correction=0)
    return images * factor + (mean * (1 - factor) + shift * sd)


def tint(images: torch.Tensor, draw: Draw, recipe) -> torch.Tensor:
    """A factor per colour channel, as under another lamp, and more or less saturation."""
    channels = torch.stack([torch.exp(draw.uniform(-recipe.colour, recipe.colour)) for _ in range(images.shape[1])], 1)
    images = images * channels.to(images).reshape(*channels.shape, *[1] * (images.ndim - 2))
    saturation = _per_sample(1 + draw.uniform(-recipe.saturation, recipe.saturation), images)
    return torch.lerp(images.mean(1, keepdim=True).expand_as(images), images, saturation)


def add_noise(images: torch.Tensor, draw: Draw, recipe) -> torch.Tensor:
    """Normal noise on some samples, in units of the sample's standard deviation."""
    strength = draw.uniform(0, recipe.noise_sd)
    chosen = draw.chance(recipe.noise).nonzero()[:, 0]
    # Drawn even for none: the number of draws must not depend on the batch.
    noise = draw.normal(images.shape[1:], chosen)
    if not len(chosen):
        return images
    where = chosen.to(images.device)
    part = images[where]
    sd = part.std(tuple(range(1, images.ndim)), keepdim=True, correction=0)
    return images.index_add(0, where, (noise * (sd * _per_sample(strength[chosen], images))).to(images.dtype))


def cut_out(images: torch.Tensor, draw: Draw, recipe) -> torch.Tensor:
    """A box of some samples is filled with the sample's mean, channel by channel."""
    chosen = draw.chance(recipe.cutout)
    inside = chosen.reshape(-1, *[1] * (images.ndim - 1)).to(images.device)
    for axis in range(2, images.ndim):
        length = images.shape[axis]
        side = draw.uniform(0.1, recipe.cutout_side) * length
        begin = draw.uniform(0, 1) * (length - side)
        place = torch.arange(length)
        strip = (place >= begin[:, None]) & (place < (begin + side)[:, None])
        inside = inside & strip.reshape(-1, *[1] * (axis - 1), length, *[1] * (images.ndim - axis - 1)).to(
            images.device
        )
    return torch.where(inside, images.mean(tuple(range(2, images.ndim)), keepdim=True), images)


def _per_sample(values: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """(b,) on the CPU to (b, 1, ..., 1) beside the images."""
    return values.to(images).reshape(-1, *[1] * (images.ndim - 1))
