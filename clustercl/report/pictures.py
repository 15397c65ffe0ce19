"""Pictures of a run that stand alone."""

from pathlib import Path

from clustercl.files import atomic
from clustercl.report.overlays import add_legend, choose, draw_contours, draw_image, segment, slices
from clustercl.report.run import Ranked, Run
from clustercl.report.style import INK, new_figure, png

SIDE = 2.3  # inches of a tile


def overlay_strip(run: Path | str, out: Path | str, cases: int = 4) -> Path:
    """Write one PNG of `cases` test cases side by side, evenly spaced from the best Dice to the worst; returns `out`.

    Photographs make one row; volumes two, an axial slice above a coronal one. RunError or DataError where the run has
    no network or no metrics yet, or its data are gone.
    """
    opened = Run(run)
    chosen: list[Ranked] = choose(opened.ranking, cases)
    done = segment(opened, chosen)
    views = [""] if opened.task.spatial_dims == 2 else ["axial", "coronal"]
    drawn = [slices(item) for item in done]
    shapes = [[(part[name].truth.shape[0] * part[name].aspect, part[name].truth.shape[1]) for part in drawn]
              for name in views]  # fmt: skip
    tall = sum(max(height / width for height, width in row) for row in shapes)
    figure = new_figure(SIDE * len(done), SIDE * tall + 0.55)
    grid = figure.subplots(len(views), len(done), squeeze=False)
    for column, (item, parts) in enumerate(zip(done, drawn)):
        for row, name in enumerate(views):
            draw_image(grid[row, column], parts[name])
            draw_contours(grid[row, column], parts[name], len(opened.task.classes))
        grid[0, column].set_title(f"Dice {item.case.dice:.2f}", fontsize=9.5, color=INK)
    add_legend(figure, opened.task.classes)
    with atomic(out) as aside:
        aside.write_bytes(png(figure, dpi=140))
    return Path(out)
