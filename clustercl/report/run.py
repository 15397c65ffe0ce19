"""Reading a run for its report. What is not there raises a sentence, which the page shows in place of the part."""

import csv
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from clustercl.data.cases import Case, find_cases
from clustercl.data.settings import DataSettings
from clustercl.data.source import Source
from clustercl.data.split import Split
from clustercl.data.task import Task, get_task
from clustercl.errors import ClusterclError, DataError, RunError
from clustercl.evaluation.comparison import no_run
from clustercl.files import read_json, read_rows


@dataclass(frozen=True)
class Ranked:
    """A test case and its Dice, the mean over the classes; None where there was none to compute."""

    id: str
    dice: float | None


class Run:
    """A run folder, finished or not. RunError where it is no run, DataError where its config.json is damaged."""

    def __init__(self, path: Path | str):
        self.path = Path(path)
        if not (self.path / "config.json").is_file():
            raise no_run(self.path)
        self.config = self._json("config.json")
        try:
            self.source = Source.from_dict(self.config["source"])
            self.task: Task = get_task(self.config["task"], self.source.labels)
            self.settings = DataSettings(**self.config["data"])
        except (KeyError, TypeError, AttributeError, ClusterclError) as error:
            raise DataError(f"{self.path / 'config.json'}: is damaged or of another version ({error})") from error

    def _there(self, name: str) -> Path:
        path = self.path / name
        if not path.is_file():
            raise RunError(f"{name} is not there: the run has not come so far")
        return path

    def _json(self, name: str) -> dict:
        path = self._there(name)
        try:
            content = read_json(path)
        except (ValueError, OSError) as error:
            raise DataError(f"{path}: is damaged ({error})") from error
        if not isinstance(content, dict):
            raise DataError(f"{path}: is damaged (wanted an object)")
        return content

    def _csv(self, name: str, columns: tuple[str, ...]) -> list[dict[str, str]]:
        path = self._there(name)
        try:
            with open(path, newline="", encoding="utf-8") as file:
                rows = list(csv.DictReader(file))
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise DataError(f"{path}: is damaged ({error})") from error
        if not rows or any(row.get(column) is None for row in rows for column in columns):
            raise DataError(f"{path}: is damaged: wanted rows with the columns {', '.join(columns)}")
        return rows

    @cached_property
    def split(self) -> Split:
        return Split.read(self._there("split.json"))

    @cached_property
    def metrics(self) -> dict:
        content = self._json("evaluation/metrics.json")
        for name in {"dice"} | {key for key, value in content.items() if isinstance(value, dict)}:
            value = content.get(name)
            if not isinstance(value, dict) or "mean" not in value or not isinstance(value.get("per_class"), dict):
                raise DataError(f"{self.path / 'evaluation/metrics.json'}: is damaged (wanted mean and per_class of "
                                f"{name}, got {value!r})")  # fmt: skip
        return content

    @property
    def note(self) -> str | None:
        """What must be shown loudly: the note of the split, or the one that the metrics carry."""
        for of in (lambda: self.split.note, lambda: self.metrics.get("note")):
            try:
                if note := of():
                    return note
            except ClusterclError:
                continue
        return None

    def rows(self, stage: str) -> list[dict]:
        """The rows of a stage's metrics.jsonl, none where it did not run; a line that a kill cut short is left out."""
        return read_rows(self.path / stage / "metrics.jsonl")

    @cached_property
    def units(self) -> list[dict[str, str]]:
        """Rows of clusters/units.csv: unit, source, pseudo_class."""
        return self._csv("clusters/units.csv", ("unit", "source", "pseudo_class"))

    def array(self, name: str):
        """clusters/NAME.npy."""
        import numpy as np

        path = self._there(f"clusters/{name}.npy")
        try:
            return np.load(path, allow_pickle=False)
        except (ValueError, OSError, EOFError) as error:
            raise DataError(f"{path}: is damaged ({error})") from error

    @cached_property
    def ranking(self) -> list[Ranked]:
        """Test cases from the best mean Dice to the worst; those without a Dice last."""
        found: dict[str, list[float]] = {}
        for row in self._csv("evaluation/per_case.csv", ("case", "dice")):
            values = found.setdefault(row["case"], [])
            try:
                value = float(row["dice"])
            except ValueError:  # empty where it does not exist
                continue
            if value == value:
                values.append(value)
        ranked = [Ranked(name, sum(values) / len(values) if values else None) for name, values in found.items()]
        return sorted(ranked, key=lambda case: (-1.0 if case.dice is None else case.dice, case.id), reverse=True)

    @cached_property
    def cases(self) -> dict[str, Case]:
        """All cases by id, from where config.json says that the data lay. DataError where they are gone."""
        found = find_cases(self.task, *self.source.places(self.path / "demo_data"))
        return {case.id: case for case in found}

    def case(self, name: str) -> Case:
        if name not in self.cases:
            raise DataError(f"the data no longer hold the case {name}")
        return self.cases[name]
