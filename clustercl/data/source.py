"""Where the data of a run lie."""

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from clustercl.errors import DataError, UsageError


@dataclass(frozen=True)
class Source:
    """Where a run's data lie: absolute paths, as config.json keeps them. Neither folder nor list: the demo data."""

    data: str | None = None
    unlabelled: tuple[str, ...] = ()
    list: str | None = None
    labels: str | None = None
    encoder: str | None = None  # weights that the encoder begins with
    groups: str | None = None  # a CSV of true groups

    @classmethod
    def of(
        cls,
        data: Path | None,
        unlabelled: Sequence[Path],
        list_csv: Path | None,
        labels: str | None,
        encoder: Path | None = None,
        groups: Path | None = None,
    ) -> "Source":
        """UsageError on options that exclude each other."""
        if data is not None and list_csv is not None:
            raise UsageError("--data and --list exclude each other: a list names every image itself")
        if data is None and list_csv is None and (unlabelled or labels or groups):
            option = "--unlabelled" if unlabelled else "--labels" if labels else "--groups"
            raise UsageError(f"{option} needs --data or --list: without them a run uses its own demo data")
        absolute = [os.path.abspath(folder) for folder in unlabelled]
        return cls(
            data=None if data is None else os.path.abspath(data),
            unlabelled=tuple(absolute),
            list=None if list_csv is None else os.path.abspath(list_csv),
            labels=labels,
            encoder=None if encoder is None else os.path.abspath(encoder),
            groups=None if groups is None else os.path.abspath(groups),
        )

    @classmethod
    def from_dict(cls, content: dict) -> "Source":
        """What `to_dict` gave."""
        return cls(**content | {"unlabelled": tuple(content["unlabelled"])})

    @property
    def is_demo(self) -> bool:
        return self.data is None and self.list is None

    def places(self, demo_data: Path) -> tuple[Path | None, Sequence[Path], Path | None]:
        """Folder, folders without labels and list to find the cases in; `demo_data`: where a run's own would lie."""
        if self.is_demo:
            inner = demo_data / "unlabelled"
            return demo_data, [inner] if inner.is_dir() else [], None
        folders = [Path(folder) for folder in self.unlabelled]
        return self.data and Path(self.data), folders, self.list and Path(self.list)

    def moved_to(self, now: "Source") -> "Source":
        """With the places of `now` for those of its own where nothing is any more."""

        def place(before: str | None, after: str | None) -> str | None:
            return after if before and after and not os.path.exists(before) else before

        unlabelled = self.unlabelled
        if len(unlabelled) == len(now.unlabelled):
            unlabelled = tuple(map(place, unlabelled, now.unlabelled))
        moved = {key: place(getattr(self, key), getattr(now, key)) for key in ("data", "list", "encoder", "groups")}
        return replace(self, unlabelled=unlabelled, **moved)

    def differing(self, now: "Source") -> str:
        """What lies elsewhere `now`, as "/old is now /new"."""
        own, others = (*self._places(), self.encoder, self.groups), (*now._places(), now.encoder, now.groups)
        pairs = zip(own, others, strict=True)
        return ", ".join(f"{before} is now {after}" for before, after in pairs if before != after)

    def require_there(self, run: Path) -> None:
        """DataError where something of the data of `run` is gone."""
        options = ("--data", "--list", *["--unlabelled"] * len(self.unlabelled))
        for option, place in zip(options, self._places(), strict=True):
            if place is not None and not os.path.exists(place):
                raise DataError(f"{place}: is gone, where data of {run} lay: put it back, or repeat clustercl train "
                                f"with {option} and its new place")  # fmt: skip

    def _places(self) -> tuple[str | None, ...]:
        return self.data, self.list, *self.unlabelled

    def to_dict(self) -> dict:
        return asdict(self) | {"unlabelled": [*self.unlabelled]}
