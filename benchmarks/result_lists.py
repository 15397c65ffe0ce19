"""The fixed splits of docs/results: python -m clustercl.benchmarks.result_lists skin|heart|demo-ct DATA OUT.csv

skin: the folder of 2,000 labelled photographs of ISIC 2017 at 256 pixels and 600 others: 1,500 train, 100 validate, 400
test. heart: 80 volumes of ACDC by their list.csv: 48 patients train, 8 validate, 24 test. demo-ct: `clustercl data demo
--task heart --cases 24`: 14 train, 2 validate, 8 test, and 12 without labels. Who is in which part is decided by a hash
of the id alone; images that are the same pixel for pixel go by the first id of them.
"""

import hashlib
import os
import sys
from pathlib import Path

import numpy as np

from clustercl.data.cases import Case, find_cases
from clustercl.data.read import read_source
from clustercl.data.task import Task, get_task
from clustercl.files import write_csv

PARTS = {"skin": (("train", 1500), ("validation", 100), ("test", 400)),
         "heart": (("train", 48), ("validation", 8), ("test", 24)),
         "demo-ct": (("train", 14), ("validation", 2), ("test", 8))}  # fmt: skip


def split(groups: dict[str, list[str]], parts: tuple[tuple[str, int], ...]) -> dict[str, str]:
    """The part of each id, from ids by group: in the order of their hash, groups fill one part after another."""
    order = sorted(groups, key=lambda group: hashlib.blake2b(group.encode(), digest_size=8).digest())
    found: dict[str, str] = {}
    waiting, (part, room) = list(parts[1:]), parts[0]
    for group in order:
        if room <= 0 and waiting:
            part, room = waiting.pop(0)
        found |= dict.fromkeys(groups[group], part)
        room -= len(groups[group])
    return found


def same_pixels(cases: list[Case], task: Task) -> dict[str, list[str]]:
    """Ids by the first group of a case with the very same image."""
    first: dict[bytes, str] = {}
    groups: dict[str, list[str]] = {}
    for case in cases:
        source = read_source(case, task)
        pixels = source if isinstance(source, np.ndarray) else source.array
        content = hashlib.blake2b(np.ascontiguousarray(pixels).tobytes()).digest()
        groups.setdefault(first.setdefault(content, case.group), []).append(case.id)
    return groups


def rows(name: str, data: Path) -> list[tuple[str, str, str, str, str]]:
    """id, image, label, group, split; paths are absolute."""
    kind = get_task("skin" if name == "skin" else "heart")
    cases = find_cases(kind, None, (), data / "list.csv") if name == "heart" else find_cases(kind, data)
    groups = same_pixels([case for case in cases if case.label is not None], kind)
    part = split(groups, PARTS[name])
    group = {id_: first for first, ids in groups.items() for id_ in ids}
    return [
        (case.id, os.path.abspath(case.image), os.path.abspath(case.label) if case.label else "",
         group.get(case.id, case.group), part.get(case.id, ""))
        for case in cases
    ]  # fmt: skip


def main(name: str, data: str, out: str) -> None:
    found = rows(name, Path(data))
    write_csv(Path(out), ("id", "image", "label", "group", "split"), found)
    counts = {name: sum(row[-1] == name for row in found) for name in ("train", "validation", "test", "")}
    print(f"{out}:", ", ".join(f"{count} {name or 'unlabelled'}" for name, count in counts.items()))


if __name__ == "__main__":
    main(*sys.argv[1:])
