"""Intervals, the paired test and its correction, by hand and against SciPy."""

import numpy as np
import pytest
from scipy.stats import wilcoxon

from clustercl.evaluation.statistics import bootstrap_interval, holm, paired_p


def test_interval_of_many_normal_values_is_two_standard_errors_each_way():
    values = np.random.default_rng(0).normal(3, 2, size=900)
    low, high = bootstrap_interval(values)
    error = values.std() / 30
    # Of 10,000 resamples the 2.5 % quantile is known to some 2 % of the standard error.
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.1 * error)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.1 * error)
    assert (low, high) == bootstrap_interval(values)


def test_interval_of_one_value_and_of_none():
    assert bootstrap_interval([0.7]) == (0.7, 0.7)
    assert all(np.isnan(bootstrap_interval([])))


def test_paired_p():
    draw = np.random.default_rng(1)
    one, other = draw.random(40), draw.random(40)
    assert paired_p(one, other) == wilcoxon(one, other).pvalue
    assert paired_p(one, one - 0.1) < 1e-8
    assert paired_p(one, one) == 1.0


def test_holm_by_hand():
    # In order 0.01 * 4, 0.02 * 3, 0.03 * 2 = 0.06 again, 0.5.
    assert holm([0.02, 0.5, 0.01, 0.03]) == pytest.approx([0.06, 0.5, 0.04, 0.06])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([]) == []
