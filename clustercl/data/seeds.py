"""Seeds of single samples: numbers that depend on what they are for and on nothing else."""

import numpy as np

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def mix(seed: int | np.ndarray, part: int | np.ndarray) -> np.ndarray:
    """Combine integers, element by element, into well-spread int64 seeds >= 0 (SplitMix64, Steele et al. 2014)."""
    with np.errstate(over="ignore"):  # arithmetic modulo 2**64 is what is wanted
        return (_scramble(_scramble(_unsigned(seed)) + _unsigned(part)) >> np.uint64(1)).astype(np.int64)


def _unsigned(value: int | np.ndarray) -> np.ndarray:
    if isinstance(value, int):
        value %= 2**64
    return np.atleast_1d(np.asarray(value)).astype(np.uint64)


def _scramble(x: np.ndarray) -> np.ndarray:
    x = x + _GOLDEN
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
