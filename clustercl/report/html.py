"""`write_report`: a run as one page with pictures, whatever of the run there is."""

from collections.abc import Callable
from functools import partial
from html import escape
from pathlib import Path

from clustercl.errors import ClusterclError, RunError
from clustercl.files import require_writable, write_text
from clustercl.report import page
from clustercl.report.run import Ranked, Run

DASH = "–"
TITLES = {"dice": "Dice", "jaccard": "Jaccard", "hd95": "HD95", "surface_dice": "surface Dice"}
SPLIT = {
    "train": "learnt from, with or without label",
    "labelled": "of these, labels used",
    "unlabelled": "learnt from, never labelled",
    "validation": "validation",
    "test": "test",
}


def write_report(run: Path | str, out: Path | None = None) -> Path:
    """Write one self-contained page, RUN/report.html where `out` names no other file, and return its path.

    What cannot be shown, as the run is not finished or its data are gone, is left out with a sentence that says so. The
    best, median and worst test case are segmented anew for their pictures. RunError where `run` is no run folder,
    or the page cannot be written, as where `out` is a file that is no such page.
    """
    opened = Run(run)
    out = opened.path / "report.html" if out is None else out
    if out.is_dir():
        raise RunError(f"{out}: is a folder, wanted a file for the page: name one such as {out / 'report.html'}")
    require_writable(out.parent, "name another file with --out")
    if out.exists() and out != opened.path / "report.html" and not page.is_page(out):
        raise RunError(f"{out}: exists and is no page of clustercl, so it is kept: name another file with --out")
    name = opened.path.resolve().name
    config = opened.config
    body = [
        f"<h1>{escape(name)}</h1>",
        page.paragraph(
            f"clustercl, task {opened.task.name}, method {config.get('method')}, preset {config.get('preset')}, "
            f"seed {config.get('seed')}", "sub"
        ),
    ]  # fmt: skip
    if opened.note:
        body.append(f'<div class="note" role="note">Note: {escape(opened.note)}</div>')
    body.append(_summary(opened))
    sections: dict[str, Callable[[Run], list[str]]] = {
        "Results on the test set": _metrics,
        "Test cases": _overlays,
        "Pseudo-classes": _tree,
        "Examples of each pseudo-class": _examples,
        "Training": _curves,
        "Data": _split,
        "Configuration": _configuration,
    }
    for title, build in sections.items():
        body.append(f"<h2>{title}</h2>")
        try:
            body += build(opened)
        except ClusterclError as error:
            body.append(page.paragraph(f"Left out: {str(error).rstrip('.')}.", "missing"))
    write_text(out, page.page(name, body))
    return out


def number(value: float | None, digits: int = 3) -> str:
    return DASH if value is None else f"{value:.{digits}f}"


def _summary(run: Run) -> str:
    """The numbers one looks for first, those that are there."""
    values = []
    try:
        metrics = run.metrics
        values.append((number(metrics["dice"]["mean"]), "mean Dice on the test set"))
        if "hd95" in metrics:
            values.append((number(metrics["hd95"]["mean"], 1), f"HD95, {_unit(run)}"))
    except ClusterclError:
        pass
    try:
        values.append((str(len(run.split.labelled)), "labelled training cases"))
        values.append((str(len(run.split.train) + len(run.split.unlabelled)), "cases learnt from"))
    except ClusterclError:
        pass
    try:
        values.append((str(len({row["pseudo_class"] for row in run.units})), "pseudo-classes"))
    except ClusterclError:
        pass
    return page.tiles(values) if values else ""


def _unit(run: Run) -> str:
    return "mm" if run.task.spatial_dims == 3 else "pixels"


def _metrics(run: Run) -> list[str]:
    metrics = run.metrics
    shown = [key for key, value in metrics.items() if isinstance(value, dict) and "per_class" in value]
    header = ["class", *(f"{TITLES.get(key, key)}{f' ({_unit(run)})' if key == 'hd95' else ''}" for key in shown)]
    digits = {key: 1 if key == "hd95" else 3 for key in shown}
    classes = [*dict.fromkeys(name for key in shown for name in metrics[key]["per_class"])]
    rows = [[name, *(number(metrics[key]["per_class"].get(name), digits[key]) for key in shown)] for name in classes]
    if len(rows) > 1:
        rows.append(["mean", *(number(metrics[key]["mean"], digits[key]) for key in shown)])
    tolerance = run.config.get("evaluation", {}).get("tolerance_mm")
    cases = metrics.get("cases")
    words = f"{cases} test case{'' if cases == 1 else 's'} at the original resolution. "
    words += "HD95 is the 95th percentile of the distance between the contours: lower is better. "
    words += "A class that was missed, or found where there is none, counts with the diagonal of its image."
    if "surface_dice" in shown and tolerance is not None:
        words += f" Surface Dice counts what lies within {tolerance:g} {_unit(run)}."
    if metrics.get("thresholded_jaccard") is not None:
        words += f" ISIC's thresholded Jaccard is {number(metrics['thresholded_jaccard'])}."
    if any(DASH in row for row in rows):
        words += f" {DASH} means that the class occurs in no test case."
    return [page.table(header, rows, total=len(classes) > 1), page.paragraph(words, "explain")]


def _overlays(run: Run) -> list[str]:
    from clustercl.report.overlays import choose, draw_case, segment

    chosen = choose(run.ranking, 3)
    names = {1: ["The only one"], 2: ["Best", "Worst"], 3: ["Best", "Median", "Worst"]}.get(len(chosen), [])
    if not chosen:
        return [page.paragraph("No test case has a Dice, as no class occurs in any.", "missing")]
    words = "By mean Dice over the classes. White is the truth, colour is the prediction."
    if run.task.spatial_dims == 3:
        words += " Slices lie where the structures are largest; the patient's right is on the left."
    parts = [page.paragraph(words, "explain")]
    drawn = segment(run, chosen, partial(draw_case, run))
    for rank, case, picture in zip(names, chosen, drawn, strict=True):
        title = _case_title(rank, case)
        parts.append(f"<h3>{escape(title)}</h3>")
        parts.append(page.figure(picture, f"Overlay of truth and prediction. {title}"))
    return parts


def _case_title(rank: str, case: Ranked) -> str:
    return f"{rank}: {case.id}, Dice {number(case.dice)}"


def _tree(run: Run) -> list[str]:
    from clustercl.report.clusters import draw_tree, read_tree

    tree = read_tree(run)
    settings = run.config.get("cluster", {})
    words = (
        f"{len(tree.labels)} units in {len(tree.order)} pseudo-classes, by {settings.get('linkage')} linkage of the "
        "auto-encoder's features. The tree shows the last merges only; what lies below the cut is one pseudo-class."
    )
    drawn = page.figure(draw_tree(tree), "Dendrogram of the units with its cut, and the sizes of the pseudo-classes")
    return [page.paragraph(words, "explain"), f'<div class="wide">{drawn}</div>']


def _examples(run: Run) -> list[str]:
    from clustercl.report.clusters import VOLUMES_READ, draw_examples, read_tree

    tree = read_tree(run)
    drawn = draw_examples(run, tree)
    words = "From the most typical of each pseudo-class on the left to the least."
    if run.task.spatial_dims == 3:
        words += f" Middle axial slices of sub-volumes, chosen from {VOLUMES_READ} volumes at most."
    if len(drawn) < len(tree.order):
        words += f" Shown are the {len(drawn)} largest of {len(tree.order)}."
    parts = [page.paragraph(words, "explain")]
    for group in drawn:
        dot = f'<span class="dot" style="background:{tree.colours[group.pseudo_class]}"></span>'
        title = f"Pseudo-class {group.pseudo_class}, {group.size} unit{'' if group.size == 1 else 's'}"
        images = "".join(
            page.picture(png, f"Unit {name} of pseudo-class {group.pseudo_class}", name) for name, png in group.pictures
        )
        parts.append(f'<div class="class"><h3>{dot}{title}</h3><div class="thumbs">{images}</div></div>')
    return parts


def _curves(run: Run) -> list[str]:
    from clustercl.report.curves import draw_curves

    drawn = draw_curves(run)
    pictures = [page.figure(png, f"Training curve of stage {stage}") for stage, png in drawn if png is not None]
    parts = [f'<div class="grid">{"".join(pictures)}</div>'] if pictures else []
    for stage in (stage for stage, png in drawn if png is None):
        words = f"Left out: stage {stage} has no numbers; it has not run, or method {run.config.get('method')} does "
        parts.append(page.paragraph(words + "without it.", "missing"))
    return parts


def _split(run: Run) -> list[str]:
    rows = [[words, str(len(getattr(run.split, part)))] for part, words in SPLIT.items()]
    return [page.table(["part", "cases"], rows)]


def _configuration(run: Run) -> list[str]:
    rows = page.table([], [[key, _plain(value)] for key, value in _flat(run.config)])
    return [f"<details><summary>All settings of the run</summary>{rows}</details>"]


def _flat(content: dict, prefix: str = "") -> list[tuple[str, object]]:
    found: list[tuple[str, object]] = []
    for key, value in content.items():
        found += _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else [(prefix + key, value)]
    return found


def _plain(value: object) -> str:
    if value is None or value == []:
        return DASH
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
