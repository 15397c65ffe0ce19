"""Who trains, who validates, who tests: drawn from the seed and the ids alone, by group, before anything is read."""

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field

from clustercl.data.cases import Case
from clustercl.data.task import Task, get_task
from clustercl.errors import DataError, UsageError

TEST_SHARE, VALIDATION_SHARE = 0.2, 0.1
# The split of MM-WHS that papers on few labels use: 16 volumes to train with (16, 8, 4 or 2 labelled), 4 to test.
PUBLISHED_HEART_TEST = ("1003", "1006", "1012", "1015")


@dataclass
class Split:
    """Ids of cases. `labelled` is the part of `train` whose labels may be used; `unlabelled` never had any. `note` is
    set where the split is not what one would expect and must be shown."""

    train: list[str]
    labelled: list[str]
    validation: list[str]
    test: list[str]
    unlabelled: list[str] = field(default_factory=list)
    note: str | None = None

    def to_dict(self) -> dict:
        return asdict(self)

    @classmethod
    def from_dict(cls, plain: dict) -> "Split":
        return cls(**plain)


def make_split(cases: Sequence[Case], task: Task, seed: int = 0, label_fraction: float = 1.0) -> Split:
    """Split labelled cases 70 / 10 / 20 into train, validation and test; groups are never separated.

    The order of groups is a hash of seed and name: the same cases give the same split whatever else the folder holds.

    - A list's own `split` column is obeyed; what it leaves out of validation and test is drawn from its train cases.
    - Heart: where MM-WHS 1003, 1006, 1012 and 1015 are labelled, they are the test set.
    - One labelled group serves as train, validation and test; of two, one trains and validates, the other tests. `note`
      says so. From three on nothing is shared.
    - `label_fraction` (0 < f <= 1) of the training cases keep their labels, rounded, at least one; of the published
      heart split it is a fraction of all 16, so that 0.5, 0.25, 0.125 are the 8, 4, 2 of the papers. Sets are nested:
      those of a small fraction are among those of a larger one. Validation and test do not depend on it.
    - Unlabelled cases of a group that validates or tests are left out, and `note` says how many.
    """
    if not 0 < label_fraction <= 1:
        raise UsageError(f"--label-fraction: wanted a number above 0 and at most 1, got {label_fraction:g}")
    labelled = [case for case in cases if case.label is not None]
    if not labelled:
        raise DataError(f"none of the {len(cases)} cases has a label: fine-tuning and evaluation need at least one")
    _check_list(cases)
    notes: list[str] = []
    by_split: dict[str, set[str]] = {"train": set(), "validation": set(), "test": set()}
    for case in labelled:
        by_split[case.split or "train"].add(case.group)
    given = any(case.split for case in labelled)
    published = not given and _published_test(labelled, task)
    if published:
        by_split["test"] = published
        by_split["train"] -= published
    shares = _draw(labelled, by_split, seed, notes, given)
    names = {part: [case.id for case in labelled if case.group in groups] for part, groups in shares.items()}
    pool = len(names["train"]) + (len(names["validation"]) if published else 0)
    count = min(len(names["train"]), max(1, round(label_fraction * pool)))
    kept = sorted(sorted(names["train"], key=lambda name: _rank(seed, f"label/{name}"))[:count])
    held_out = (shares["validation"] | shares["test"]) - shares["train"]
    unlabelled = [case for case in cases if case.label is None]
    left_out = [case.id for case in unlabelled if case.group in held_out]
    if left_out:
        notes.append(f"{len(left_out)} unlabelled cases are left out, as their group validates or tests")
    return Split(
        train=names["train"],
        labelled=kept,
        validation=names["validation"],
        test=names["test"],
        unlabelled=[case.id for case in unlabelled if case.group not in held_out],
        note="; ".join(notes) or None,
    )


def _draw(
    labelled: Sequence[Case], by_split: dict[str, set[str]], seed: int, notes: list[str], given: bool
) -> dict[str, set[str]]:
    """Fill empty parts from the train groups."""
    size: dict[str, int] = defaultdict(int)
    for case in labelled:
        size[case.group] += 1
    train = sorted(by_split["train"], key=lambda group: _rank(seed, group))
    validation, test = set(by_split["validation"]), set(by_split["test"])
    if not train:
        raise DataError("the list gives no labelled case to split train: name at least one")
    alone = f"{len(labelled)} labelled case{'s' * (len(labelled) > 1)} in {len(size)} group{'s' * (len(size) > 1)}"
    if not test:
        if len(train) == 1:
            test = set(train)
            notes.append(f"{alone}: what trains the network also tests it, so the metrics show that the program runs, "
                         "not how well it segments new images")  # fmt: skip
        else:
            # One group stays to train with, and one to validate where three or more are there.
            spare = len(train) - (1 if validation or len(train) == 2 else 2)
            test = _take(train, size, TEST_SHARE * len(labelled), spare)
            train = [group for group in train if group not in test]
            if given:
                notes.append(f"the list names no test case: {len(test)} of its training groups test")
    if not validation:
        if len(train) == 1:
            validation = set(train)
            if test != validation:
                notes.append(f"{alone}: what trains the network also validates it, so its best checkpoint is chosen on "
                             "training data")  # fmt: skip
        else:
            pool = sum(size[group] for group in by_split["train"])
            validation = _take(train, size, VALIDATION_SHARE * pool, len(train) - 1)
            train = [group for group in train if group not in validation]
    return {"train": set(train), "validation": validation, "test": test}


def _take(groups: Sequence[str], size: dict[str, int], wanted: float, most: int) -> set[str]:
    """The first groups that together hold at least the wanted number of cases, rounded; at least 1, at most `most`."""
    taken: set[str] = set()
    cases = 0
    for group in groups[:most]:
        if taken and cases >= round(wanted):
            break
        taken.add(group)
        cases += size[group]
    return taken


def _published_test(labelled: Sequence[Case], task: Task) -> set[str] | None:
    if task != get_task("heart"):
        return None
    numbers = {match[1]: case.group for case in labelled if (match := re.fullmatch(r"ct_train_(\d+)", case.id.lower()))}
    if all(number in numbers for number in PUBLISHED_HEART_TEST):
        return {numbers[number] for number in PUBLISHED_HEART_TEST}
    return None


def _check_list(cases: Iterable[Case]) -> None:
    """No group in two splits of a list; no case to validate or test with that has no label."""
    place: dict[str, Case] = {}
    for case in cases:
        if case.split in ("validation", "test") and case.label is None:
            raise DataError(f"{case.image}: the list puts it in split {case.split}, but names no label: add the label "
                            "or leave the split empty")  # fmt: skip
        if case.label is None:
            continue
        other = place.setdefault(case.group, case)
        if other.split != case.split:
            raise DataError(f"{case.image}: group {case.group} is in split {case.split or '(none)'} here and in "
                            f"{other.split or '(none)'} for {other.image}: give a group one split")  # fmt: skip


def _rank(seed: int, name: str) -> bytes:
    """A place in a seeded order that depends on nothing but the name."""
    return hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=8).digest()
