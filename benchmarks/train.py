"""How fast is each training stage, by one process and by several, and what is the time of its steps spent on?"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from clustercl.benchmarks.record import last_word, machine
from clustercl.data.demo import write_demo
from clustercl.errors import RunError
from clustercl.files import read_json, require_writable, write_json
from clustercl.progress import say

PARTS = ("data", "forward", "loss", "backward", "optimizer")
STEPS = 5
NOTE = (
    "data: drawing a batch and its augmentation, which training does beside the network's work; forward and backward:\n"
    "the network; loss: its value and gradient. One step warms up."
)
MUCH = 0.05  # of a step, for the loss; at the default batch it must stay below


def run(
    task: str,
    preset: str = "tiny",
    processes: Sequence[int] | None = None,
    steps: int = STEPS,
    device: str = "auto",
    data: Path | None = None,
    sets: Sequence[str] = (),
    out: Path | None = None,
    most: float | None = None,
) -> dict:
    """Time some steps of every stage with each number of processes, on demo data or `data`.

    device: "cpu", "cuda", or "auto": cuda where a GPU is visible; there `processes` are GPUs. By default one and two,
    or one where no second GPU is visible. most: seconds after which a number of processes is given up.
    Returns what `out`/train.json holds: machine and rows. A row: task, preset, stage, processes, batch_size (of all),
    steps, steps_per_second, samples_per_second, on a GPU peak_megabytes of its memory, and share: of the time, by what
    it was spent on.
    """
    if out is not None:
        require_writable(out)
    gpus = torch.cuda.device_count()
    if device == "auto":
        device = "cuda" if gpus else "cpu"
    processes = processes or ((1,) if device == "cuda" and gpus < 2 else (1, 2))
    rows = []
    with tempfile.TemporaryDirectory(prefix="clustercl.") as folder:
        if data is None:
            data = write_demo(Path(folder, "data"), task)
        for count in processes:
            say(f"{task}, {preset}, {count} process{'es' * (count > 1)} ...")
            own = Path(folder, str(count))
            own.mkdir()
            command = [sys.executable, "-m", "clustercl.benchmarks.train_case", task, preset, str(count), device]
            command += [str(steps), os.path.abspath(data), str(own), json.dumps([*sets])]
            try:
                done = subprocess.run(command, capture_output=True, text=True, timeout=most)
            except subprocess.TimeoutExpired:
                raise RunError(f"bench train: {task}, {preset}: not finished after {most:.0f} s") from None
            if done.returncode != 0:
                raise RunError(f"bench train: {last_word(done)}")
            rows += [{"task": task, "preset": preset} | row for row in read_json(own / "rows.json")]
    found = {"machine": machine(("torch", "monai", "lightning-fabric")), "rows": rows}
    if out is not None:
        write_json(Path(out) / "train.json", found)
    return found


def table(found: dict) -> str:
    """The machine, a line per stage and number of processes, what the columns mean."""
    about = found["machine"]
    cells = [["task", "preset", "stage", "processes", "batch", "steps/s", "samples/s", *PARTS]]
    for row in found["rows"]:
        rates = [f"{row[key]:.3g}" for key in ("steps_per_second", "samples_per_second")]
        much = row["share"].get("loss", 0.0) > MUCH
        shares = [f"{row['share'].get(part, 0.0):.1%}" + "*" * (part == "loss" and much) for part in PARTS]
        named = [str(row[key]) for key in ("task", "preset", "stage", "processes", "batch_size")]
        cells.append([*named, *rates, *shares])
    widths = [max(map(len, column)) for column in zip(*cells)]
    where = about["gpu"] or f"{about['cpu']}, {about['threads']} threads"
    lines = [f"{where}, commit {about['commit']}, {about['date']}", ""]
    lines += ["  ".join(cell.rjust(width) for cell, width in zip(line, widths)).rstrip() for line in cells]
    marked = any("*" in line for line in lines[2:])
    return "\n".join([*lines, "", NOTE, *[f"*: the loss takes more than {MUCH:.0%} of a step."] * marked])
