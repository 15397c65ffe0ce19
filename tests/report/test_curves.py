"""Training curves: that what there is can be seen."""

import io

import numpy as np
import pytest
from PIL import Image, ImageColor

from clustercl.report import curves
from clustercl.report.style import ACCENT, SECOND, png


def pixels(picture: bytes, colour: str) -> int:
    array = np.asarray(Image.open(io.BytesIO(picture)).convert("RGB")).astype(int)
    return int((abs(array - ImageColor.getrgb(colour)).max(axis=2) < 8).sum())


@pytest.fixture
def drawn(monkeypatch):
    """drawn(rows): the picture of their losses, and its axes."""
    figures = []
    monkeypatch.setattr(curves, "png", lambda figure: figures.append(figure) or png(figure))

    def draw(rows):
        picture = curves._panel(rows, ["loss", "validation_loss"], "a title", "loss")
        return picture, figures[-1].axes[0]

    return draw


def test_a_single_row_is_seen(drawn):
    picture, axes = drawn([{"step": 10, "loss": 0.5}])
    assert pixels(picture, ACCENT) > 20
    picture, axes = drawn([{"step": 10, "loss": 0.5}, {"step": 20, "loss": 0.4, "validation_loss": 0.45}])
    assert pixels(picture, SECOND) > 20
    assert [line.get_marker() for line in axes.lines] == ["None", "o"]  # a curve of two points is a line


@pytest.mark.parametrize("steps", [[1], [8], [2, 3], [7, 18], [20, 200], [1000, 20_000]])
def test_steps_are_whole_numbers(drawn, steps):
    _, axes = drawn([{"step": step, "loss": 1 / step} for step in steps])
    ticks = axes.get_xticks()
    assert len(ticks) and (ticks == np.round(ticks)).all()
