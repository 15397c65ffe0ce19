"""The same image under several names: found by its values, and kept together by every split."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from clustercl.data.cases import Case
from clustercl.data.findings import Row


def with_copies_together(cases: Sequence[Case], rows: Sequence[Row]) -> list[Case]:
    """The cases with one group for all that hold the same image, and for their groups: no split may separate them."""
    leader = {case.group: case.group for case in cases}

    def lead(group: str) -> str:
        while leader[group] != group:
            group = leader[group]
        return group

    for first, *others in copies(rows):
        for row in others:
            low, high = sorted((lead(first.group), lead(row.group)))
            leader[high] = low
    return [replace(case, group=lead(case.group)) for case in cases]


def also_among(rows: Sequence[Row], others: Sequence[Row]) -> list[Row]:
    """Those of `rows` whose image is one of `others` too, as `copies` understands it."""
    known = {row.content for row in others if row.content is not None}
    return [row for row in rows if row.content in known and row.low != row.high]


def copies(rows: Sequence[Row]) -> list[list[Row]]:
    """Rows of one image in several groups. Constant images are no copies, but empty."""
    same: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row.content is not None and row.low != row.high:
            same[row.content].append(row)
    return [found for found in same.values() if len({row.group for row in found}) > 1]
