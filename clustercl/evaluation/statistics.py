"""Is one method better than another on the same cases: intervals, a paired test, and its correction for many."""

from collections.abc import Sequence

import numpy as np

RESAMPLES = 10_000


def bootstrap_interval(values: Sequence[float], level: float = 0.95, seed: int = 0) -> tuple[float, float]:
    """Percentile interval of the mean of values (n,), from 10,000 samples of n with replacement; NaN for none.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993.
    """
    values = np.asarray(values, dtype=float)
    if not len(values):
        return float("nan"), float("nan")
    drawn = np.random.default_rng(seed).integers(len(values), size=(RESAMPLES, len(values)))
    low, high = np.quantile(values[drawn].mean(axis=1), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def paired_p(values: Sequence[float], others: Sequence[float]) -> float:
    """Two-sided p of Wilcoxon's signed-rank test on pairs (n,), (n,); 1 where no pair differs, or there is none."""
    from scipy.stats import wilcoxon

    difference = np.asarray(values, dtype=float) - np.asarray(others, dtype=float)
    if not difference.any():
        return 1.0
    return float(wilcoxon(difference).pvalue)


def holm(p: Sequence[float]) -> list[float]:
    """Corrected so that any of the claims being wrong by chance stays as unlikely as each p says.

    Source: Holm, A Simple Sequentially Rejective Multiple Test Procedure, 1979.
    """
    order, corrected, most = np.argsort(p), [0.0] * len(p), 0.0
    for place, index in enumerate(order):
        most = max(most, min(1.0, (len(p) - place) * p[index]))
        corrected[index] = most
    return corrected
