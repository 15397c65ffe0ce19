"""Who trains, who validates, who tests: drawn from the seed and the ids alone, by group, before anything is read."""

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from clustercl.data.cases import Case
from clustercl.data.task import Task, get_task
from clustercl.errors import DataError, UsageError
from clustercl.files import read_json

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
    def read(cls, path: Path) -> "Split":
        """From a file with what `to_dict` gave. DataError where it holds none."""
        try:
            plain = read_json(path)
            for part in ("train", "labelled", "validation", "test"):
                if not isinstance(plain.get(part), list):
                    raise ValueError(f"wanted a list of cases as {part}, got {plain.get(part)!r}")
            return cls(**plain)
        except (ValueError, TypeError, AttributeError, OSError) as error:
            raise DataError(f"{path}: is damaged ({error})") from error


def make_split(
    cases: Sequence[Case],
    task: Task,
    seed: int = 0,
    label_fraction: float = 1.0,
    fold: str = "",
    extents: Mapping[str, int] | None = None,
    label_seed: int | None = None,
) -> Split:
    """Split labelled cases 70 / 10 / 20 into train, validation and test; groups are never separated.

    The order of groups is a hash of seed and name: the same cases give the same split whatever else the folder holds.

    - The splits of a list, or of a challenge's own folders, are obeyed; what they leave out of validation and test is
      drawn from their train cases.
    - `fold` "2/5": the second of five parts of the groups tests, instead of a fifth of them; every group tests in one
      fold. Not with splits that are given.
    - Heart: where MM-WHS 1003, 1006, 1012 and 1015 are labelled, they are the test set.
    - One labelled group serves as train, validation and test; of two, one trains and validates, the other tests. `note`
      says so. From three on nothing is shared.
    - `label_fraction` (0 < f <= 1) of the training cases keep their labels, rounded; of the published heart split it is
      a fraction of all 16, so that 0.5, 0.25, 0.125 are the 8, 4, 2 of the papers; 2 of them validate, so 1 means 14,
      as `note` says, and what lies between is an error. Sets are nested: those of a small fraction are among those of
      a larger one. With `extents`, the foreground of each case by id, every such set has small and large ones in their
      proportion. Validation and test do not depend on any of it.
    - `label_seed`: of that draw alone, by default `seed`.
    - Unlabelled cases of a group that validates or tests are left out, and `note` says how many.
    """
    if not 0 < label_fraction <= 1:
        raise UsageError(f"--label-fraction: wanted a number above 0 and at most 1, got {label_fraction:g}")
    labelled = [case for case in cases if case.label is not None]
    if not labelled:
        raise DataError(f"none of the {len(cases)} cases has a label: fine-tuning and evaluation need at least one")
    for _, sentence in faults_of_splits(cases):
        raise DataError(sentence)
    notes: list[str] = []
    by_split: dict[str, set[str]] = {"train": set(), "validation": set(), "test": set()}
    for case in labelled:
        by_split[case.split or "train"].add(case.group)
    given = any(case.split for case in labelled)
    published = not given and not fold and _published_test(labelled, task)
    if fold:
        by_split["test"] = _fold(by_split["train"], fold, seed, given)
        by_split["train"] -= by_split["test"]
    elif published:
        by_split["test"] = published
        by_split["train"] -= published
    shares = _draw(labelled, by_split, seed, notes, given)
    names = {part: [case.id for case in labelled if case.group in groups] for part, groups in shares.items()}
    count = _labelled_count(names, label_fraction, bool(published), notes)
    kept = sorted(_label_order(names["train"], seed if label_seed is None else label_seed, extents)[:count])
    held_out = (shares["validation"] | shares["test"]) - shares["train"]
    unlabelled = [case for case in cases if case.label is None]
    if left_out := [case.id for case in unlabelled if case.group in held_out]:
        notes.append(f"{len(left_out)} unlabelled cases are left out, as their group validates or tests")
    return Split(
        train=names["train"],
        labelled=kept,
        validation=names["validation"],
        test=names["test"],
        unlabelled=[case.id for case in unlabelled if case.group not in held_out],
        note="; ".join(notes) or None,
    )


def _labelled_count(names: Mapping[str, Sequence[str]], fraction: float, published: bool, notes: list[str]) -> int:
    """How many of the training cases keep their labels. UsageError where there are none, or not so many."""
    train = len(names["train"])
    pool = len({*names["train"], *names["validation"]}) if published else train
    count = round(fraction * pool)
    if count < 1:
        raise UsageError(f"--label-fraction {fraction:g}: of {pool} labelled training cases this is less than "
                         f"one, wanted at least {1 / pool:.2g}")  # fmt: skip
    if count <= train:
        return count
    short = f"{train} of the {pool} labelled training cases train, as {pool - train} validate"
    if fraction < 1:
        raise UsageError(f"--label-fraction {fraction:g}: this is {count} cases, but {short}: wanted at most "
                         f"{train / pool:.3g}, or 1 for all {train}")  # fmt: skip
    notes.append(short)
    return train


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
                notes.append(f"no test case is named: {len(test)} of the training groups test")
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


def _fold(groups: set[str], fold: str, seed: int, given: bool) -> set[str]:
    """The groups of one fold: every n-th in the seeded order."""
    number, parts = parse_fold(fold)
    if given:
        raise UsageError(f"--fold {fold}: the data name their own splits: give the training data alone, of ISIC its "
                         "training folder, or leave folds out")  # fmt: skip
    if len(groups) < max(3, parts):
        raise DataError(f"--fold {fold}: wanted at least {max(3, parts)} labelled groups, there are {len(groups)}")
    return set(sorted(groups, key=lambda group: _rank(seed, f"fold/{group}"))[number - 1 :: parts])


def parse_fold(fold: str) -> tuple[int, int]:
    """ "2/5" to (2, 5). UsageError where it is no fold."""
    match = re.fullmatch(r"(\d+)/(\d+)", fold)
    if not match or not 1 <= int(match[1]) <= int(match[2]) or int(match[2]) < 2:
        raise UsageError(f"--fold: wanted K/N as in 2/5, K from 1 to N and N at least 2, got {fold!r}")
    return int(match[1]), int(match[2])


def _label_order(names: Sequence[str], seed: int, extents: Mapping[str, int] | None) -> list[str]:
    """The order in which cases get their labels. Of those sorted by extent, each next one lies a golden section of the
    whole further on, so that the first few are spread evenly however many they are (Kronecker's sequence)."""
    shuffled = sorted(names, key=lambda name: _rank(seed, f"label/{name}"))
    if extents is None:
        return shuffled
    by_extent = sorted(shuffled, key=lambda name: extents[name])
    count = len(by_extent)
    free = list(range(count))  # where to look for the next free place, from each place on
    start = int.from_bytes(_rank(seed, "label order")) / 2**64
    order = []
    for step in range(count):
        place = int((start + step * (5**0.5 - 1) / 2) % 1 * count)
        passed = []
        while free[place] != place:
            passed.append(place)
            place = free[place]
        order.append(by_extent[place])
        free[place] = (place + 1) % count
        for before in passed:
            free[before] = free[place]
    return order


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
    is_there = all(number in numbers for number in PUBLISHED_HEART_TEST)
    return {numbers[number] for number in PUBLISHED_HEART_TEST} if is_there else None


def faults_of_splits(cases: Iterable[Case]) -> Iterator[tuple[Case, str]]:
    """What is wrong with splits that are given, case by case, each in a sentence: a group in two of them, or a case to
    validate or test with that has no label."""
    place: dict[str, Case] = {}
    for case in cases:
        if case.label is None:
            if case.split in ("validation", "test"):
                yield case, (f"{case.image}: the list puts it in split {case.split}, but names no label: add the label "
                             "or leave the split empty")  # fmt: skip
            continue
        other = place.setdefault(case.group, case)
        if other.split != case.split:
            yield case, (f"{case.image}: group {case.group} is in split {case.split or '(none)'} here and in "
                         f"{other.split or '(none)'} for {other.image}: give a group one split")  # fmt: skip


def _rank(seed: int, name: str) -> bytes:
    """A place in a seeded order that depends on nothing but the name."""
    return hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=8).digest()
