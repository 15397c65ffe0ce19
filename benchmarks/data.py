"""How fast are checking, preparing and feeding, and how much memory do they take, on data of full size?"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from clustercl.benchmarks.record import last_word, machine
from clustercl.data.demo import write_demo
from clustercl.errors import RunError
from clustercl.files import require_writable, write_json
from clustercl.progress import say

CASES = {"skin": 24, "heart": 6}  # labelled; half as many unlabelled come too
COLUMNS = (
    ("task", "{task}"), ("phase", "{phase}"), ("cases", "{cases}"), ("MB", "{megabytes:.0f}"),
    ("seconds", "{seconds:.2f}"), ("cases/s", "{cases_per_second:.2f}"), ("MB/s", "{megabytes_per_second:.0f}"),
    ("peak MB", "{peak_megabytes:.0f}"), ("cache MB", "{cache_megabytes:.0f}"), ("waiting", "{waiting}"),
)  # fmt: skip
NOTES = (
    "MB: of the files; peak MB: memory beyond what importing takes, in a process of its own.",
    "feed: samples in batches of the default preset, two augmented views of each; train, pretrain: samples in steps of",
    "its auto-encoder and of its contrastive pre-training, and the share of their time spent waiting for data.",
)
PHASES = ("check", "prepare", "prepared before", "feed", "train", "pretrain")


def run(task: str, cases: int | None = None, data: Path | None = None, out: Path | None = None) -> dict:
    """Time each phase in a process of its own, over demo data of full size, or the folder `data`.

    Returns what `out`/data.json holds: machine and rows. A row: task, phase, cases, megabytes (of the files), seconds,
    cases_per_second, megabytes_per_second, peak_megabytes beyond what the imports take, cache_megabytes. "feed" draws
    batches of the default preset with two augmented views each, "train" and "pretrain" a few steps of its
    auto-encoder and of its contrastive pre-training, which have waiting: the share of their time that was spent waiting
    for data.
    """
    if out is not None:
        require_writable(out)
    with tempfile.TemporaryDirectory(prefix="clustercl.") as folder:
        if data is None:
            data = write_demo(Path(folder, "data"), task, cases=cases or CASES[task], full_size=True)
        rows = [_phase(task, phase, data, Path(folder, "cache")) for phase in PHASES]
    found = {"machine": machine(("torch", "numpy", "pillow", "nibabel")), "rows": rows}
    if out is not None:
        write_json(Path(out) / "data.json", found)
    return found


def _phase(task: str, phase: str, data: Path, cache: Path) -> dict:
    say(f"{task}, {phase} ...")
    command = [sys.executable, "-m", "clustercl.benchmarks.data_case", task, phase, str(data), str(cache)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise RunError(f"bench data: {task}, {phase}: {last_word(done)}")
    return json.loads(done.stdout)


def table(found: dict) -> str:
    """The machine, a line per phase, what the columns mean."""
    about = found["machine"]
    cells = [[name for name, _ in COLUMNS]]
    for row in found["rows"]:
        shown = row | {"waiting": "" if row["waiting"] is None else f"{row['waiting']:.1%}"}
        cells.append([form.format(**shown) for _, form in COLUMNS])
    widths = [max(map(len, column)) for column in zip(*cells)]
    lines = [f"{about['cpu']}, {about['threads']} threads, commit {about['commit']}, {about['date']}", ""]
    lines += ["  ".join(cell.rjust(width) for cell, width in zip(line, widths)).rstrip() for line in cells]
    return "\n".join([*lines, "", *NOTES])
