"""Training curves of a run: for each stage the loss, and what was validated."""

from clustercl.report.run import Run
from clustercl.report.style import ACCENT, SECOND, new_figure, plain_axes, png

TITLES = {
    "autoencoder": "1 Auto-encoder: mean squared error",
    "pretrain": "3 Pre-training: contrastive loss",
    "finetune": "4 Fine-tuning: Dice + cross-entropy",
}
LOG_FROM = 10.0  # a loss that falls by more than this factor is drawn on a logarithmic axis


def draw_curves(run: Run) -> list[tuple[str, bytes | None]]:
    """(stage, PNG) in order; None for a stage without numbers. What is validated but no loss gets a picture more."""
    drawn: list[tuple[str, bytes | None]] = []
    for stage, title in TITLES.items():
        rows = [row for row in run.rows(stage) if "step" in row]
        if not rows:
            drawn.append((stage, None))
            continue
        others = sorted({key for row in rows for key in row} - {"step", "lr", "loss", "validation_loss"})
        drawn.append((stage, _panel(rows, ["loss", "validation_loss"], title, "loss")))
        for key in others:
            name = key.replace("_", " ")
            drawn.append((stage, _panel(rows, [key], f"{title.split(':')[0]}: {name}", name)))
    return drawn


def _panel(rows: list[dict], keys: list[str], title: str, label: str) -> bytes:
    from matplotlib.ticker import MaxNLocator

    figure = new_figure(4.4, 2.7)
    axes = figure.add_subplot()
    plain_axes(axes, title, "step", label)
    axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1))
    lines = 0
    everything = []
    for key in keys:
        points = [(row["step"], row[key]) for row in rows if isinstance(row.get(key), int | float)]
        if not points:
            continue
        validated = key.startswith("validation")
        steps, values = zip(*points)
        style = {"color": SECOND if validated else ACCENT}
        if validated or len(points) == 1:  # a line of one point is not seen
            style |= {"marker": "o", "markersize": 3.5}
        axes.plot(steps, values, linewidth=1.6, label="validation" if validated else "training", **style)
        everything += values
        lines += 1
    if everything and min(everything) > 0 and max(everything) > LOG_FROM * min(everything):
        axes.set_yscale("log")
    if lines > 1:
        axes.legend(fontsize=8, frameon=False)
    return png(figure)
