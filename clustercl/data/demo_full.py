"""Demo cases enlarged to the size that real ones have, to try reading, memory and speed: not more detail, more pixels.

Noise comes on top, so that files are as hard to compress as a camera's or a scanner's.
"""

import numpy as np

PHOTOGRAPH = (2000, 3000)  # (h, w)
VOLUME = (512, 512, 250)  # right, anterior, superior


def photograph(rng: np.random.Generator, image: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Image (h, w, 3) and mask (h, w), uint8, enlarged to PHOTOGRAPH; each side is stretched by its own factor."""
    from PIL import Image

    size = PHOTOGRAPH[::-1]
    large = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC), np.int16)
    grain = rng.integers(-6, 7, PHOTOGRAPH, dtype=np.int16)[..., None]
    return (large + grain).clip(0, 255).astype(np.uint8), np.asarray(Image.fromarray(mask).resize(size, 0))


def volume(
    rng: np.random.Generator, image: np.ndarray, label: np.ndarray, affine: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Image and label (x, y, z) int16, in any axis order, and affine enlarged to VOLUME; the field of view stays."""
    import torch
    from nibabel.orientations import io_orientation

    from clustercl.data.prepare import resample

    shape = tuple(VOLUME[int(axis)] for axis in io_orientation(affine)[:, 0])
    large = resample(torch.from_numpy(image.astype(np.float32))[None], shape)[0].numpy()
    large += rng.standard_normal(shape, dtype=np.float32) * 12
    for axis, (old, new) in enumerate(zip(image.shape, shape)):
        label = label.take(((np.arange(new) + 0.5) * old / new).astype(np.int64), axis=axis)
    factor = np.array(image.shape) / np.array(shape)
    scale = np.diag([*factor, 1.0])
    scale[:3, 3] = (factor - 1) / 2  # the outer faces stay where they are
    return np.rint(large.clip(-1024, 3071)).astype(np.int16), np.ascontiguousarray(label), affine @ scale
