"""Pictures of stage 2: the tree with its cut and the sizes below it, and examples of each pseudo-class."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from clustercl.data.cache import CachedCase, prepare_cached
from clustercl.data.prepare import to_float
from clustercl.data.units import Unit, make_units, unit_image
from clustercl.errors import DataError
from clustercl.report.run import Run
from clustercl.report.style import GRID, INK, MUTED, SECOND, group_colour, image_png, new_figure, plain_axes, png
from clustercl.report.volumes import VIEWS, grey_range, view

NAMED = 60  # pseudo-classes whose numbers can be read below the tree
LEAVES = 40  # of the truncated tree, more where there are more than half as many pseudo-classes
EXAMPLES, CLASSES_SHOWN, VOLUMES_READ, THUMB = 6, 24, 8, 120


@dataclass(frozen=True)
class Tree:
    """Linkage matrix z (n - 1, 4), pseudo-classes (n,) of the rows, and `order`: pseudo-classes as the tree has them,
    from left to right, each with the places of its leaves on the axis."""

    z: np.ndarray
    labels: np.ndarray
    drawn: dict
    order: dict[int, list[float]]

    @cached_property
    def colours(self) -> dict[int, str]:
        return {name: group_colour(place) for place, name in enumerate(self.order)}

    @cached_property
    def cut(self) -> float:
        """The height halfway between the last merge that the pseudo-classes keep and the first that they do not."""
        heights, k = np.sort(self.z[:, 2]), len(self.order)
        above = heights[-1] * 1.05 if k == 1 else heights[len(heights) - k + 1]
        below = heights[len(heights) - k] if k <= len(heights) else 0.0
        return float((above + below) / 2)


def read_tree(run: Run) -> Tree:
    """The tree of a run, truncated to its last merges. DataError where linkage.npy and units.csv do not belong."""
    from scipy.cluster.hierarchy import dendrogram

    z = run.array("linkage")
    try:
        labels = np.array([int(row["pseudo_class"]) for row in run.units])
    except ValueError as error:
        raise DataError(f"{run.path / 'clusters/units.csv'}: is damaged ({error})") from error
    n = len(labels)
    if z.ndim != 2 or z.shape != (n - 1, 4):
        raise DataError(f"clusters/linkage.npy has shape {z.shape}, units.csv names {n} units: they are not of one run")
    leaves = max(LEAVES, 2 * len(np.unique(labels)))
    with _deep_recursion(leaves):
        drawn = dendrogram(z, p=min(leaves, n), truncate_mode="lastp", no_plot=True)
    order: dict[int, list[float]] = {}
    for place, node in enumerate(drawn["leaves"]):
        while node >= n:  # any unit below the node will do: all are of one pseudo-class
            node = int(z[node - n, 0])
        order.setdefault(int(labels[node]), []).append(5 + 10.0 * place)  # SciPy's places: 5, 15, 25, ...
    return Tree(z, labels, drawn, order)


@contextmanager
def _deep_recursion(depth: int) -> Iterator[None]:
    """SciPy goes down a tree by recursion, and a chain of single linkage is as deep as it has leaves."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(before + 2 * depth)
    try:
        yield
    finally:
        sys.setrecursionlimit(before)


def draw_tree(tree: Tree) -> bytes:
    """The truncated dendrogram with the cut, and under each pseudo-class its number of units."""
    from matplotlib.collections import LineCollection

    figure = new_figure(7.2, 4.6)
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1.3])
    place_of = {place: name for name, places in tree.order.items() for place in places}
    lines, colours = [], []
    for x, y in zip(tree.drawn["icoord"], tree.drawn["dcoord"]):
        lines.append(np.column_stack([x, y]))
        # Between the legs of a link below the cut lie leaves of one pseudo-class only.
        leaf = 5 + 10 * round((x[0] - 5) / 10)
        colours.append(tree.colours[place_of[leaf]] if max(y) <= tree.cut else MUTED)
    top.add_collection(LineCollection(lines, colors=colours, linewidths=1.4))
    plain_axes(top, y="height of the merge")
    top.set_ylim(0, tree.z[:, 2].max() * 1.06 or 1.0)  # all heights are 0 where all features are equal
    top.axhline(tree.cut, color=SECOND, linewidth=1.1, linestyle=(0, (5, 3)))
    top.text(1, tree.cut, " cut", transform=top.get_yaxis_transform(), color=SECOND, fontsize=8.5, va="center")
    top.tick_params(bottom=False)
    top.grid(axis="x", visible=False)
    sizes = np.bincount(tree.labels)
    places = [float(np.mean(found)) for found in tree.order.values()]
    counts = [int(sizes[name]) for name in tree.order]
    colours = list(tree.colours.values())
    plain_axes(bottom, x="pseudo-class", y="units")
    bottom.grid(axis="x", visible=False)
    if len(counts) > NAMED:  # thousands of bars would take minutes
        bottom.vlines(places, 0, counts, colors=colours, linewidths=1)
        bottom.set_xticks([])
        bottom.set_ylim(bottom=0)
    else:
        bars = bottom.bar(places, counts, width=7, color=colours)
        bottom.set_xticks(places, [str(name) for name in tree.order], fontsize=8)
        if len(counts) <= 30:
            bottom.bar_label(bars, fontsize=7.5, color=INK, padding=1.5)
            bottom.margins(y=0.22)
    bottom.set_xlim(0, 10 * len(tree.drawn["leaves"]))
    bottom.spines["bottom"].set_color(GRID)
    return png(figure)


@dataclass(frozen=True)
class Examples:
    """Examples of one pseudo-class: (unit id, PNG), from the most typical to the least."""

    pseudo_class: int
    size: int
    pictures: list[tuple[str, bytes]]


def draw_examples(run: Run, tree: Tree) -> list[Examples]:
    """Up to EXAMPLES units of each of the CLASSES_SHOWN largest pseudo-classes, in the order of the tree."""
    sizes = np.bincount(tree.labels)
    largest = set(np.argsort(-sizes, kind="stable")[:CLASSES_SHOWN].tolist())
    shown = [name for name in tree.order if name in largest]
    rows = _candidates(run, tree.labels, shown)
    typical = _distances(run, tree.labels)
    chosen: dict[int, list[int]] = {}
    for name in shown:
        members = sorted((row for row in rows if tree.labels[row] == name), key=lambda row: (typical[row], row))
        picks = np.linspace(0, len(members) - 1, min(EXAMPLES, len(members))).round().astype(int)
        chosen[name] = [members[pick] for pick in picks]
    sources = sorted({run.units[row]["source"] for rows in chosen.values() for row in rows})
    prepared = prepare_cached(
        [run.case(name) for name in sources], run.task, run.settings, with_label=False, label="reading examples"
    )
    units = {unit.id: unit for unit in make_units(prepared, run.task, run.settings)}
    thumbs = {}
    for row in (row for rows in chosen.values() for row in rows):
        name = run.units[row]["unit"]
        if name not in units:
            raise DataError(f"units.csv names the unit {name}, which the data no longer give")
        thumbs[row] = (name, _thumb(run, prepared, units[name]))
    return [Examples(name, int(sizes[name]), [thumbs[row] for row in rows]) for name, rows in chosen.items()]


def _candidates(run: Run, labels: np.ndarray, shown: list[int]) -> list[int]:
    """Rows of the units to choose from: all photographs, or the units of a few volumes that show every pseudo-class."""
    if run.task.spatial_dims == 2:
        return list(range(len(labels)))
    classes: dict[str, set[int]] = {}
    for row, label in zip(run.units, labels.tolist()):
        classes.setdefault(row["source"], set()).add(label)
    read: list[str] = []
    missing = set(shown)
    while len(read) < min(VOLUMES_READ, len(classes)):
        left = sorted(set(classes) - set(read))
        read.append(max(left, key=lambda name: len(classes[name] & missing)))
        missing -= classes[read[-1]]
    return [number for number, row in enumerate(run.units) if row["source"] in read]


def _distances(run: Run, labels: np.ndarray) -> np.ndarray:
    """Distance (n,) of each unit's feature vector from the mean of its pseudo-class; zeros without features.npy."""
    if not (run.path / "clusters" / "features.npy").is_file():
        return np.zeros(len(labels))
    features = run.array("features").astype(np.float64)
    if features.ndim != 2 or len(features) != len(labels):
        raise DataError(f"clusters/features.npy has shape {features.shape}, units.csv names {len(labels)} units")
    means = np.zeros((labels.max() + 1, features.shape[1]))
    np.add.at(means, labels, features)
    means /= np.maximum(np.bincount(labels), 1)[:, None]
    return np.linalg.norm(features - means[labels], axis=1)


def _thumb(run: Run, prepared: list[CachedCase], unit: Unit) -> bytes:
    """A photograph in its own proportions, or the middle axial slice of a sub-volume."""
    image = to_float(unit_image(prepared, unit, run.settings)).numpy()
    if run.task.spatial_dims == 2:
        height, width = prepared[unit.case].geometry.shape
        picture = image.transpose(1, 2, 0)
    else:
        low, high = grey_range(prepared[unit.case].image.numpy(), run.settings, prepared=True)
        picture = view((image[0] - low) / (high - low), "axial", image.shape[3] // 2)
        across, up = VIEWS["axial"].axes
        width, height = (image.shape[1 + axis] * run.settings.spacing[axis] for axis in (across, up))
    scale = THUMB / max(width, height)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return image_png((picture.clip(0, 1) * 255).round().astype(np.uint8), size)
