"""Test cases as pictures: the contour of the truth in white, that of the prediction in the colour of its class."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from clustercl.data.prepare import prepare_image_array, ras_spacing, restore, to_float, to_ras
from clustercl.data.read import read_pair
from clustercl.errors import DataError, RunError
from clustercl.report.run import Ranked, Run
from clustercl.report.style import INK, class_colour, new_figure, png
from clustercl.report.volumes import VIEWS, aspect, grey_range, view

Picture = TypeVar("Picture")
MARGIN = 0.3  # shown around the structures of a volume, as a share of their extent
MAX_SIDE = 900  # pixels of a photograph that are drawn
WIDTH = 7.2  # inches of a case
LEGEND_ENTRY = 0.85  # inches of one entry


@dataclass(frozen=True)
class Segmented:
    """A case and its segmentation on the grid of its image.

    image: photograph (h, w, 3) uint8, or volume (x, y, z) in RAS order scaled to 0..1; truth and prediction: class
    indices on the same grid; spacing in mm, or ones.
    """

    case: Ranked
    image: np.ndarray
    truth: np.ndarray
    prediction: np.ndarray
    spacing: tuple[float, ...]


@dataclass(frozen=True)
class Slice:
    """What is drawn in one picture: grey or colour image, truth and prediction; the height of a pixel over its width,
    and its width in mm, or 1."""

    image: np.ndarray
    truth: np.ndarray
    prediction: np.ndarray
    aspect: float
    across: float

    @property
    def extent(self) -> tuple[float, float]:
        """Width and height, in mm or pixels."""
        rows, columns = self.truth.shape
        return columns * self.across, rows * self.across * self.aspect

    @property
    def proportion(self) -> float:
        """Width over height as drawn."""
        return self.extent[0] / self.extent[1]


def choose(ranking: Sequence[Ranked], count: int) -> list[Ranked]:
    """`count` cases evenly spaced from the best to the worst; all of them where there are no more."""
    measured = [case for case in ranking if case.dice is not None]
    if len(measured) <= count:
        return measured
    return [measured[round(place)] for place in np.linspace(0, len(measured) - 1, count)]


def segment(run: Run, chosen: Sequence[Ranked], work: Callable[[Segmented], Picture]) -> list[Picture]:
    """What `work` makes of each of these cases, segmented by the fine-tuned network: volumes of several do not lie
    beside one another. RunError without a network or where memory runs out, DataError where a case cannot be read."""
    import torch

    from clustercl.evaluation.inference import predict_probabilities
    from clustercl.evaluation.memory import SMALLER, memory_advice_untrained
    from clustercl.models.checkpoint import load_segmentation
    from clustercl.progress import Progress

    path = run.path / "finetune" / "best.pt"
    if not path.is_file():
        raise RunError("finetune/best.pt is not there: the run has no fine-tuned network")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    layout = torch.channels_last if run.task.spatial_dims == 2 else torch.channels_last_3d
    network = load_segmentation(path).network.to(device, memory_format=layout)
    overlap = run.config["evaluation"]["overlap"]

    def segmented(ranked: Ranked, tell: Callable[[str], None]) -> Segmented:
        case = run.case(ranked.id)
        source, truth = read_pair(case, run.task)
        if truth is None:
            raise DataError(f"the case {ranked.id} no longer has a label to compare with")
        image, geometry = prepare_image_array(source, run.task, run.settings)
        probabilities = predict_probabilities(network, to_float(image), run.settings, run.task, device, overlap, tell)
        prediction = restore(probabilities, geometry, run.settings, tell)
        if run.task.spatial_dims == 2:
            return Segmented(ranked, source, truth, prediction, geometry.spacing)
        turned = [to_ras(array, geometry.affine) for array in (source.array, truth, prediction)]
        low, high = grey_range(turned[0], run.settings)
        grey = ((turned[0].astype(np.float32) - low) / (high - low)).clip(0, 1)
        return Segmented(ranked, grey, *turned[1:], ras_spacing(geometry))

    made = []
    what = "segmenting test cases"
    with Progress(what, len(chosen), "case") as progress, memory_advice_untrained(what, device, SMALLER):
        for ranked in chosen:
            made.append(work(segmented(ranked, progress.about(ranked.id))))
            progress.update(note="")
    return made


def slices(item: Segmented) -> dict[str, Slice]:
    """The pictures to draw of a case: the photograph, or one slice of a volume in each direction.

    Slices lie where the true structures are largest (the predicted where there are no true ones), cut to what surrounds
    the structures.
    """
    if item.image.ndim == 3 and item.image.shape[-1] == 3 and item.truth.ndim == 2:
        step = -(-max(item.truth.shape) // MAX_SIDE)
        planes = (array[::step, ::step] for array in (item.image, item.truth, item.prediction))
        return {"": Slice(*planes, 1.0, 1.0)}
    drawn = {}
    seen = (item.truth > 0) | (item.prediction > 0)
    counted = item.truth > 0 if item.truth.any() else seen
    window = tuple(_around(seen, axis) for axis in range(3))
    for name, how in VIEWS.items():
        others = tuple(axis for axis in range(3) if axis != how.axis)
        index = int(counted.sum(axis=others).argmax()) if counted.any() else counted.shape[how.axis] // 2
        kept = tuple(slice(None) if axis == how.axis else part for axis, part in enumerate(window))
        planes = (view(array[kept], name, index) for array in (item.image, item.truth, item.prediction))
        drawn[name] = Slice(*planes, aspect(item.spacing, name), item.spacing[how.axes[0]])
    return drawn


def _around(mask: np.ndarray, axis: int) -> slice:
    """The extent of a mask along an axis with a margin; everything where the mask is empty."""
    found = np.flatnonzero(mask.any(axis=tuple(other for other in range(mask.ndim) if other != axis)))
    if not len(found):
        return slice(None)
    margin = max(8, round(MARGIN * (found[-1] - found[0] + 1)))
    return slice(max(0, found[0] - margin), found[-1] + 1 + margin)


def draw_case(run: Run, item: Segmented) -> bytes:
    """One case: photograph and photograph with contours, or three slices with contours above those without."""
    parts = slices(item)
    classes = run.task.classes
    if run.task.spatial_dims == 2:
        part = parts[""]
        figure = new_figure(WIDTH, WIDTH / 2 / part.proportion + 0.4)
        left, right = figure.subplots(1, 2)
        draw_image(left, part)
        draw_image(right, part)
        draw_contours(right, part, len(classes))
    else:
        # One scale for all: thick slices make low pictures, and made as tall as the axial one they would dwarf it.
        widths, heights = zip(*(part.extent for part in parts.values()))
        figure = new_figure(WIDTH, 2 * WIDTH * max(heights) / sum(widths) + 0.6)
        above, below = figure.subplots(2, len(parts), width_ratios=widths)
        for upper, lower, (name, part) in zip(above, below, parts.items(), strict=True):
            draw_image(upper, part)
            draw_contours(upper, part, len(classes))
            draw_image(lower, part)
            upper.set_title(name, fontsize=9, color=INK)
    add_legend(figure, classes)
    return png(figure)


def draw_image(axes, part: Slice) -> None:
    axes.imshow(part.image, cmap="gray", vmin=0, vmax=1, aspect=part.aspect, interpolation="bilinear")
    axes.set_axis_off()


def draw_contours(axes, part: Slice, classes: int) -> None:
    """The truth of every class in white with a dark rim, over it the prediction in the colours of the classes."""
    from matplotlib.patheffects import withStroke

    # Of several classes each predicted contour lies just inside its own, or neighbours would hide each other's.
    inside = 0.5 if classes == 1 else 0.9
    rim = [withStroke(linewidth=2.6, foreground=(0, 0, 0, 0.55))]
    for array, colour, width, level in ((part.truth, "white", 1.5, 0.5), (part.prediction, None, 1.3, inside)):
        for number in range(classes):
            mask = array == number + 1
            if not mask.any():
                continue
            # A rim of background around the picture closes contours that run into its border.
            closed = np.pad(mask, 1).astype(np.float32)
            rows, columns = (np.arange(-1, length + 1) for length in mask.shape)
            lines = axes.contour(
                columns, rows, closed, [level], colors=[colour or class_colour(number)], linewidths=width
            )
            lines.set_path_effects([*rim, *_plain()] if colour else _plain())
    axes.set_xlim(-0.5, part.truth.shape[1] - 0.5)
    axes.set_ylim(part.truth.shape[0] - 0.5, -0.5)


def _plain() -> list:
    from matplotlib.patheffects import Normal

    return [Normal()]


def add_legend(figure, classes: Sequence[str]) -> None:
    """Below everything: truth, and the predicted classes, in as many rows as the figure's width asks for."""
    from matplotlib.lines import Line2D
    from matplotlib.patheffects import Normal, withStroke

    rim = [withStroke(linewidth=3.2, foreground="#444c55"), Normal()]
    entries = [Line2D([], [], color="white", linewidth=1.8, path_effects=rim, label="truth")]
    for number, name in enumerate(classes):
        label = f"{name}, predicted" if len(classes) == 1 else name
        entries.append(Line2D([], [], color=class_colour(number), linewidth=2.6, label=label))
    columns = max(1, min(len(entries), int(figure.get_figwidth() / LEGEND_ENTRY)))
    figure.legend(
        handles=entries, loc="outside lower center", ncols=columns, fontsize=8.5, frameon=False, labelcolor=INK,
        handlelength=1.6, columnspacing=1.4,
    )  # fmt: skip
