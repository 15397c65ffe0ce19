"""Metrics of a segmentation network on labelled cases, at their original resolution."""

import csv
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Protocol

import torch

from clustercl.data.cases import Case
from clustercl.data.prepare import prepare_image_array, restore, to_float
from clustercl.data.read import read_pair
from clustercl.data.settings import DataSettings
from clustercl.data.task import Task
from clustercl.evaluation.inference import predict_probabilities
from clustercl.evaluation.masks import ENDINGS, mask_name, write_mask
from clustercl.evaluation.metrics import METRICS, absent_note, case_metrics, summarise, thresholded_jaccard
from clustercl.files import atomic_folder, write_csv, write_json
from clustercl.progress import Progress

TABLE, HEADER = "per_case.csv", ["case", "class", *METRICS]


class EvaluationOptions(Protocol):
    """overlap: of sliding windows; tolerance_mm: of surface Dice, in pixels for photographs."""

    overlap: float
    tolerance_mm: float


def evaluate_cases(
    network: torch.nn.Module,
    cases: Sequence[Case],
    task: Task,
    settings: DataSettings,
    device: torch.device | str,
    options: EvaluationOptions,
    out: Path | None = None,
    note: str | None = None,
    save_masks: bool = False,
    quiet: bool = False,
) -> dict:
    """Segment each labelled case, compare on its own grid, and return the content of metrics.json.

    With `out`: writes per_case.csv (a row for each case and class, empty where a class occurs in neither map) and
    metrics.json, and with `save_masks` the predictions under masks/, named by case id: all of them at the end, or none,
    in exchange for what an earlier evaluation wrote there.
    `note` is passed on into metrics.json, which also says there which classes were left out. `cases` have labels, and
    one or more there are.
    """
    with nullcontext() if out is None else atomic_folder(out, "metrics.json", earlier_files) as folder:
        return _evaluate(network, cases, task, settings, device, options, folder, note, save_masks, quiet)


def result_files(out: Path, cases: Sequence[Case], task: Task, save_masks: bool) -> list[Path]:
    """What `evaluate_cases` would write."""
    masks = [out / "masks" / mask_name(case.id, task) for case in cases] if save_masks else []
    return [*masks, out / TABLE, out / "metrics.json"]


def earlier_files(out: Path) -> list[Path]:
    """What an evaluation wrote into a folder, masks of either task, as its table names the cases; no other file.

    A table of other columns is none of an evaluation's, and one without cases names no masks.
    """
    try:
        with open(out / TABLE, newline="", encoding="utf-8") as file:
            rows = csv.reader(file)
            names = {row[0] for row in rows if row} if next(rows, None) == HEADER else set()
    except (OSError, UnicodeDecodeError, csv.Error):  # somebody else's, of the same name
        return []
    masks = [out / "masks" / f"{name}_segmentation{ending}" for name in sorted(names) for ending in ENDINGS.values()]
    return [path for path in masks if path.parent == out / "masks" and path.is_file() and not path.is_symlink()]


def _evaluate(network, cases, task, settings, device, options, folder, note, save_masks, quiet) -> dict:
    network.eval()
    results = []
    with Progress("evaluation", len(cases), "case", quiet=quiet) as progress:
        for case in cases:
            tell = progress.about(case.id)
            source, truth = read_pair(case, task)
            image, geometry = prepare_image_array(source, task, settings)
            del source  # of a whole CT 190 MB or twice that
            probabilities = predict_probabilities(
                network, to_float(image), settings, task, device, options.overlap, tell
            )
            prediction = restore(probabilities, geometry, settings, tell)
            del image, probabilities
            results.append(case_metrics(prediction, truth, task.classes, geometry.spacing, options.tolerance_mm, tell))
            if folder is not None and save_masks:
                tell("writing its mask")
                write_mask(folder / "masks" / mask_name(case.id, task), prediction, task, case.image, geometry.affine)
            progress.update(note="")
    summary = summarise(results, task.classes)
    if task.name == "skin" and len(task.classes) == 1:
        summary["thresholded_jaccard"] = thresholded_jaccard(results, task.classes[0])
    summary |= {
        "unit": "mm" if task.spatial_dims == 3 else "pixels",
        "tolerance": options.tolerance_mm,
        "note": " ".join(f"{part.removesuffix('.')}." for part in (note, absent_note(summary)) if part) or None,
    }
    if folder is not None:
        rows = [
            [case.id, name, *("" if result[name][m] != result[name][m] else result[name][m] for m in METRICS)]
            for case, result in zip(cases, results, strict=True)
            for name in task.classes
        ]
        write_csv(folder / TABLE, HEADER, rows)
        write_json(folder / "metrics.json", summary)  # renamed last: its presence says that the evaluation is complete
    return summary
