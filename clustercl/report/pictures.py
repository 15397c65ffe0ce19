"""Pictures of a run that stand alone."""

from pathlib import Path

from clustercl.errors import RunError
from clustercl.files import atomic
from clustercl.report.overlays import add_legend, choose, draw_contours, draw_image, segment, slices
from clustercl.report.run import Run
from clustercl.report.style import INK, new_figure, png

HEIGHT = 2.0  # inches of a tile, at least


def overlay_strip(run: Path | str, out: Path | str, cases: int = 4) -> Path:
    """Write one PNG of `cases` test cases side by side, evenly spaced from the best Dice to the worst; returns `out`.

    Photographs make one row; volumes two, an axial slice above a coronal one. RunError or DataError where the run has
    no network or no metrics yet, or its data are gone.
    """
    opened = Run(run)
    chosen = choose(opened.ranking, cases)
    if not chosen:
        raise RunError(f"{opened.path}: evaluation/per_case.csv holds no case with a Dice, so there is none to show")
    drawn = segment(opened, chosen, slices)
    views = [""] if opened.task.spatial_dims == 2 else ["axial", "coronal"]
    # Tiles of a row are equally tall, and all rows equally wide.
    proportions = [[parts[name].proportion for parts in drawn] for name in views]
    width = HEIGHT * max(map(sum, proportions))
    heights = [width / sum(row) for row in proportions]
    figure = new_figure(width, sum(heights) + 0.6)
    bands = figure.add_gridspec(len(views), 1, height_ratios=heights)
    for row, name in enumerate(views):
        tiles = bands[row].subgridspec(1, len(drawn), width_ratios=proportions[row])
        for column, parts in enumerate(drawn):
            axes = figure.add_subplot(tiles[column])
            draw_image(axes, parts[name])
            draw_contours(axes, parts[name], len(opened.task.classes))
            if row == 0:
                axes.set_title(f"Dice {chosen[column].dice:.2f}", fontsize=9.5, color=INK)
    add_legend(figure, opened.task.classes)
    with atomic(out) as aside:
        aside.write_bytes(png(figure, dpi=140))
    return Path(out)
