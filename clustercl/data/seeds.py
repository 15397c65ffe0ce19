"""Seeds of single samples: numbers that depend on what they are for and on nothing else."""

import numpy as np


def mix(seed: int | np.ndarray, part: int | np.ndarray) -> np.ndarray:
    """Combine integers, element by element, into well-spread int64 seeds >= 0 (SplitMix64's finaliser, Steele 2014)."""
    with np.errstate(over="ignore"):
        x = np.asarray(seed).astype(np.int64).view(np.uint64) if np.ndim(seed) else np.uint64(int(seed) % 2**64)
        part = np.asarray(part).astype(np.int64).view(np.uint64) if np.ndim(part) else np.uint64(int(part) % 2**64)
        x = (x + np.uint64(0x9E3779B97F4A7C15)) * np.uint64(0xD1342543DE82EF95) + (part + np.uint64(1)) * np.uint64(
            0x9E3779B97F4A7C15
        )
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x = x ^ (x >> np.uint64(31))
    return np.asarray(x >> np.uint64(1)).astype(np.int64)
