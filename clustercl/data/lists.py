"""Lists: a CSV or JSON file that names images and label maps, for data in no known layout."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path

from clustercl.data.layouts import Fault, Found, stem
from clustercl.errors import DataError

SPLITS = {"train": "train", "training": "train", "validation": "validation", "val": "validation", "test": "test"}
COLUMNS = ("image", "label", "mask", "group", "split", "id")


def read_list(path: Path) -> tuple[list[Found], list[Fault]]:
    """Rows of a CSV with the columns image, label or mask, and optionally group, split, id; more columns are ignored.

    Or a JSON list of objects with those names, or an object that has such lists under training, validation and test (as
    the dataset.json of the Medical Segmentation Decathlon, where a mere path is an image without label).
    Paths are relative to the list; of a volume they may be the folder of a DICOM series. An empty label means
    unlabelled; an empty group means the id; an id left out is the image's name. Files that are missing come back as
    faults; a list that cannot be understood is a DataError.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such list: wanted a CSV file with the columns image,label")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"{path}: the list is not UTF-8 text: wanted a CSV file with the columns image,label") from None
    found: list[Found] = []
    faults: list[Fault] = []
    for where, cell in (_json_rows if path.suffix.lower() == ".json" else _csv_rows)(path, text):
        if not any(cell.values()):
            continue
        if not cell["image"]:
            faults.append(Fault(path, f"{where}: no image named: fill in the column image or remove the line"))
            continue
        if cell["split"] and cell["split"].lower() not in SPLITS:
            faults.append(Fault(path, f"{where}: split {cell['split']!r} is none of train, validation, test"))
            continue
        if any(sign in cell["id"] for sign in "/\\") or cell["id"].startswith("."):
            # Ids become names of files: of masks, of units.
            faults.append(Fault(path, f"{where}: id {cell['id']!r} must be a plain name, no slash, no leading dot"))
            continue
        image, label = path.parent / cell["image"], cell["label"] or cell["mask"]
        label = path.parent / label if label else None
        missing = [file for file in (image, label) if file is not None and not file.exists()]
        if missing:
            kind = "image" if missing[0] is image else "label"
            faults.append(Fault(missing[0], f"{missing[0]}: the {kind} named in {where} does not exist: add the file "
                                            "or correct the list"))  # fmt: skip
            continue
        split = SPLITS[cell["split"].lower()] if cell["split"] else None
        found.append(Found(cell["id"] or stem(image), image, label, cell["group"], split))
    if not found and not faults:
        raise DataError(f"{path}: the list names no image: add lines below the header")
    return found, faults


def _csv_rows(path: Path, text: str) -> Iterator[tuple[str, dict[str, str]]]:
    lines = text.splitlines()
    header = lines[0] if lines else ""
    rows = csv.DictReader(lines, delimiter=";" if ";" in header and "," not in header else ",")
    names = {(name or "").strip().lower(): name for name in rows.fieldnames or []}
    if "image" not in names or len({"label", "mask"} & set(names)) == 2:
        raise DataError(f"{path}: line 1 must name the columns image and label (or mask), and optionally group, split, "
                        f"id; it says {header[:80]!r}")  # fmt: skip
    try:
        for row in rows:
            cell = {name: (row.get(names[name]) or "").strip() if name in names else "" for name in COLUMNS}
            yield f"{path}, line {rows.line_num}", cell
    except csv.Error as error:
        raise DataError(f"{path}, line {rows.line_num}: is no line of a CSV file ({error}): look whether a quote "
                        "before it is not closed") from None  # fmt: skip


def _json_rows(path: Path, text: str) -> Iterator[tuple[str, dict[str, str]]]:
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"{path}: the list is no JSON ({error})") from None
    parts = {"": content} if isinstance(content, list) else {}
    if isinstance(content, dict):
        parts = {
            name: content[name] for name in ("training", "validation", "test") if isinstance(content.get(name), list)
        }
    if not parts:
        raise DataError(f"{path}: wanted a JSON list of objects with image and label, or such lists under training, "
                        "validation and test")  # fmt: skip
    for part, rows in parts.items():
        for number, row in enumerate(rows, 1):
            where = f"{path}, {part} entry {number}".replace(",  entry", ", entry")
            if isinstance(row, str):
                row = {"image": row}
            elif isinstance(row, dict) and part and (row.get("label") or row.get("mask")):
                row = {"split": part} | row
            if not isinstance(row, dict) or not all(isinstance(row.get(name) or "", str) for name in COLUMNS):
                raise DataError(
                    f"{where}: wanted an object whose image, label, group, split and id are texts, got {row!r}"
                )
            yield where, {name: (row.get(name) or "").strip() for name in COLUMNS}
