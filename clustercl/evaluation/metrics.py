"""Overlap and distance of one segmentation to another, per class and case, through MONAI.

What is empty counts so:
- a class that neither truth nor prediction holds says nothing about the network: NaN, left out of every mean;
- a class that only one of them holds: Dice, Jaccard and surface Dice are 0, HD95 is the diagonal of the image, so that
  missing a structure never looks better than finding it badly.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np

from clustercl.evaluation.surfaces import percentile_95, surface_distances

METRICS = ("dice", "jaccard", "hd95", "surface_dice")
JACCARD_THRESHOLD = 0.65  # ISIC 2018 task 1: a case below it scores 0


def case_metrics(
    prediction: np.ndarray,
    truth: np.ndarray,
    classes: Sequence[str],
    spacing: Sequence[float],
    tolerance: float,
    tell: Callable[[str], None] = lambda doing: None,
) -> dict[str, dict[str, float]]:
    """{class: {"dice", "jaccard", "hd95", "surface_dice"}} of two maps of class indices 0..k, (h, w) or (x, y, z).

    spacing: size of a pixel or voxel along each axis; hd95 and `tolerance` are in its unit. hd95 is the 95th percentile
    of the distances of each surface to the other, the larger of the two directions; surface_dice the share of both
    surfaces that lies within `tolerance` of the other (Nikolov et al., 2018). `tell` hears of each class before it is
    measured, and how far it is: one of a whole CT may take many seconds where the network has hardly learnt.
    """
    if prediction.shape != truth.shape:
        raise ValueError(f"case_metrics: prediction has shape {prediction.shape}, truth has {truth.shape}")
    diagonal = math.dist([0] * truth.ndim, [length * step for length, step in zip(truth.shape, spacing, strict=True)])
    measured = {}
    for index, name in enumerate(classes, start=1):
        tell(f"measuring {name}")
        measured[name] = _class_metrics(
            prediction == index, truth == index, spacing, tolerance, diagonal,
            lambda share, name=name: tell(f"measuring {name}, {share:.0%}"),
        )  # fmt: skip
    return measured


def _class_metrics(
    prediction: np.ndarray,
    truth: np.ndarray,
    spacing: Sequence[float],
    tolerance: float,
    diagonal: float,
    tell: Callable[[float], None],
) -> dict[str, float]:
    if not prediction.any() and not truth.any():
        return dict.fromkeys(METRICS, math.nan)
    if not prediction.any() or not truth.any():
        return {"dice": 0.0, "jaccard": 0.0, "hd95": diagonal, "surface_dice": 0.0}
    import warnings

    import torch
    from monai.metrics import compute_dice, compute_iou

    box = _bounding_box(prediction | truth)
    pair = [np.ascontiguousarray(mask[box]) for mask in (prediction, truth)]
    batch = [torch.from_numpy(mask)[None, None] for mask in pair]
    overlap = {"dice": compute_dice(*batch).item(), "jaccard": compute_iou(*batch).item()}
    with warnings.catch_warnings():
        # MONAI 1.6 passes itself an argument that it has deprecated, and says so on every call.
        warnings.filterwarnings("ignore", ".*always_return_as_numpy.*", FutureWarning)
        apart = surface_distances(*pair, spacing, tell)
    within = sum(int(np.count_nonzero(distances <= tolerance)) for distances in apart)
    return overlap | {
        "hd95": max(map(percentile_95, apart)),
        "surface_dice": float(np.float32(within) / np.float32(sum(map(len, apart)))),
    }


def _bounding_box(mask: np.ndarray) -> tuple[slice, ...]:
    """What holds the mask and one voxel around it: distances inside are those of the whole image, at its cost."""
    box = []
    for axis in range(mask.ndim):
        filled = np.flatnonzero(mask.any(axis=tuple(other for other in range(mask.ndim) if other != axis)))
        box.append(slice(max(0, filled[0] - 1), filled[-1] + 2))
    return tuple(box)


def summarise(cases: Sequence[dict[str, dict[str, float]]], classes: Sequence[str]) -> dict:
    """The content of metrics.json: for each metric the mean over cases per class, and the mean of these over classes.

    A class that occurs in no case, in truth or prediction, is null and left out of the mean over classes.
    """
    summary: dict = {"cases": len(cases)}
    for metric in METRICS:
        per_class = {name: _mean([case[name][metric] for case in cases]) for name in classes}
        summary[metric] = {
            "mean": _mean([value for value in per_class.values() if value is not None]),
            "per_class": per_class,
        }
    return summary


def absent_note(summary: dict) -> str | None:
    """The sentence that says which classes `summarise` left out."""
    absent = [name for name, value in summary["dice"]["per_class"].items() if value is None]
    if not absent:
        return None
    return f"Neither truth nor prediction holds {', '.join(absent)} in any case: left out of the means."


def thresholded_jaccard(cases: Sequence[dict[str, dict[str, float]]], name: str) -> float | None:
    """ISIC's score: the mean over cases of the Jaccard index, counted as 0 where it is below 0.65."""
    values = [case[name]["jaccard"] for case in cases]
    return _mean([value if math.isnan(value) or value >= JACCARD_THRESHOLD else 0.0 for value in values])


def _mean(values: Sequence[float]) -> float | None:
    found = [value for value in values if not math.isnan(value)]
    return sum(found) / len(found) if found else None


def table(summary: dict) -> str:
    """A summary as text: a row for each class and one for the mean; a dash where a class never occurs."""
    rows = [["class", "Dice", "Jaccard", f"HD95 ({summary['unit']})", f"surface Dice at {summary['tolerance']:g}"]]
    for name in [*summary["dice"]["per_class"], None]:
        values = [summary[metric]["mean"] if name is None else summary[metric]["per_class"][name] for metric in METRICS]
        rows.append([name or "mean", *("-" if value is None else f"{value:.3f}" for value in values)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines.append(f"{summary['cases']} cases")
    if summary.get("thresholded_jaccard") is not None:
        lines.append(f"ISIC's thresholded Jaccard: {summary['thresholded_jaccard']:.3f}")
    if summary.get("note"):
        lines.append(f"NOTE: {summary['note']}")
    return "\n".join(lines)
