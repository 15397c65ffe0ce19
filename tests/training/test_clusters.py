"""Features on their way to the tree."""

import numpy as np
import pytest

from clustercl.training.clusters import whitened


def features():
    """One direction that is ten times as strong as the next, turned so that every column holds it."""
    draw = np.random.default_rng(0)
    turn = np.linalg.qr(draw.normal(size=(6, 6)))[0]
    return (draw.normal(size=(500, 6)) * [10, 1, 1, 0.5, 0.5, 0.01] @ turn + 3).astype(np.float32)


def test_no_direction_decides_alone():
    x = features()
    assert whitened(x, 0.0) is x
    share = 0.01
    before = np.linalg.eigvalsh(np.cov(x.T.astype(np.float64), bias=True))[::-1]
    after = np.linalg.eigvalsh(np.cov(whitened(x, share).T.astype(np.float64), bias=True))[::-1]
    np.testing.assert_allclose(after, before / (before + share * before[0]), rtol=1e-4)  # float32 features
    assert before[0] > 50 * before[1] and after[0] < 3 * after[1]
    assert after[-1] < 1e-3  # what hardly varies is not blown up


@pytest.mark.parametrize("x", [np.ones((5, 3), np.float32), np.eye(2, 9, dtype=np.float32)])
def test_features_without_variance_stay_finite(x):
    assert np.isfinite(whitened(x, 0.01)).all()
    assert np.isfinite(whitened(x, 1e-12)).all()
