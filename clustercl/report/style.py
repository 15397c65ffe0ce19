"""How everything drawn looks: colours, fonts and sizes, and figures as PNG. Matplotlib's objects, never pyplot."""

import io
from collections.abc import Sequence

INK, MUTED, GRID, ACCENT, SECOND = "#1f2933", "#6b7785", "#e3e8ee", "#1f6f8b", "#d1603d"
# Bright enough to be seen on grey tissue and on brown skin, and none close to the white of the truth.
PREDICTED = ("#22d3ee", "#ff9f1c", "#ff5fbf", "#ffe14d", "#4ade80", "#6d8dff", "#ff5a5f")
# Muted, in an order in which neighbours differ.
GROUPS = ("#1f6f8b", "#d1603d", "#5b8c5a", "#8a5a9e", "#c9952c", "#4a6fa5", "#a64d5f", "#5f7a76", "#b07b4f", "#6b6ba8",
          "#c77fa5", "#3f4a55")  # fmt: skip


def class_colour(number: int) -> str:
    """Of foreground class 0, 1, ... as predicted."""
    return PREDICTED[number % len(PREDICTED)]


def group_colour(number: int) -> str:
    """Of the pseudo-class that stands at this place of the dendrogram."""
    return GROUPS[number % len(GROUPS)]


def new_figure(width: float, height: float, face: str = "white"):
    """An empty figure of that size in inches, laid out so that nothing overlaps."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained", facecolor=face)


def plain_axes(axes, title: str = "", x: str = "", y: str = "") -> None:
    """Two thin spines, a light grid, small type."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(MUTED)
    axes.tick_params(labelsize=8, colors=MUTED, labelcolor=INK, length=3)
    axes.grid(True, color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.set_title(title, fontsize=10, color=INK, loc="left")
    axes.set_xlabel(x, fontsize=8.5, color=INK)
    axes.set_ylabel(y, fontsize=8.5, color=INK)


def png(figure, dpi: int = 150) -> bytes:
    """The figure as PNG, drawn by Agg whatever display there is."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_figure(
        buffer, format="png", dpi=dpi, facecolor=figure.get_facecolor(), metadata={"Software": None}
    )
    return buffer.getvalue()


def image_png(array, size: Sequence[int] | None = None) -> bytes:
    """An array (h, w) or (h, w, 3) uint8 as PNG, resized to `size` = (width, height) pixels where given."""
    import numpy as np
    from PIL import Image

    picture = Image.fromarray(np.ascontiguousarray(array))
    if size is not None:
        picture = picture.resize(tuple(size), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, format="png", optimize=True)
    return buffer.getvalue()
