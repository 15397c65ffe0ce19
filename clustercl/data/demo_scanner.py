"""What a CT scanner adds to a synthetic chest: noise that is streaky where the body is thick, and dark and bright bands
between dense parts (beam hardening). Both arise as in a scanner: in the line integrals, before they are filtered and
projected back."""

import numpy as np

ANGLES = 90
WATER = 0.02  # absorbed per mm
DENSE = 500  # HU from which on the scanner's own correction, made for water, falls short


def scan(rng: np.random.Generator, hu: np.ndarray, spacing: np.ndarray, noise: float, hardening: float) -> np.ndarray:
    """Hounsfield units (x, y, z) as the scanner would show them, float32.

    `noise`: standard deviation in HU over the volume; `hardening`: share of a dense line integral that goes missing per
    unit of it (about 0.1; 0 is a perfect scanner). The slices lie across z. Memory: about 3 floats per ray and slice.
    """
    from scipy import fft, ndimage

    x, y, slices = hu.shape
    rays, bins = _rays(x, y, spacing)
    step = float(min(spacing[:2]))
    flat = hu.reshape(x * y, slices)
    path = WATER * step * (rays @ np.maximum(1 + flat / 1000, 0).astype(np.float32))
    dense = WATER * step * (rays @ (np.clip(flat - DENSE, 0, 2500) / 1000).astype(np.float32))
    lost = -hardening * dense * (path + 2 * dense)
    counts = rng.standard_normal(path.shape, np.float32) * np.exp(path / 2)  # photons arrive as a Poisson process
    both = np.stack([lost, counts]).reshape(2, ANGLES, bins, slices)
    length = fft.next_fast_len(2 * bins, real=True)
    frequency = fft.rfftfreq(length)
    ramp = (frequency * (0.54 + 0.46 * np.cos(2 * np.pi * frequency))).astype(np.float32)  # Hamming
    filtered = fft.irfft(fft.rfft(both, length, axis=2) * ramp[:, None], length, axis=2)[:, :, :bins]
    streaks, grain = (rays.T @ part.reshape(ANGLES * bins, slices).astype(np.float32) for part in filtered)
    streaks *= 2 * np.pi / ANGLES / (WATER * step) * 1000
    grain = ndimage.gaussian_filter1d(grain, 0.5, axis=1)  # slices overlap
    grain *= noise / max(float(grain.std()), 1e-9)
    return (flat + streaks.clip(-350, 350) + grain).reshape(hu.shape)


def _rays(x: int, y: int, spacing: np.ndarray):
    """Sparse (ANGLES * bins, x * y): how much of each pixel each parallel ray sees, linear between two bins."""
    from scipy import sparse

    step = float(min(spacing[:2]))
    u, v = ((np.arange(n) - (n - 1) / 2) * size / step for n, size in ((x, spacing[0]), (y, spacing[1])))
    bins = 2 * int(np.ceil(np.hypot(u[0], v[0]))) + 4
    angle = np.pi * np.arange(ANGLES)[:, None, None] / ANGLES
    place = np.cos(angle) * u[:, None] + np.sin(angle) * v + bins / 2
    low = np.floor(place).astype(np.int64)
    share = (place - low).astype(np.float32)
    row = (np.arange(ANGLES)[:, None, None] * bins + low).ravel()
    column = np.broadcast_to(np.arange(x * y), (ANGLES, x * y)).ravel()
    area = np.float32(spacing[0] * spacing[1] / step**2)
    values = np.concatenate([(1 - share).ravel(), share.ravel()]) * area
    rays = sparse.csr_array(
        (values, (np.concatenate([row, row + 1]), np.concatenate([column, column]))), shape=(ANGLES * bins, x * y)
    )
    return rays, bins
