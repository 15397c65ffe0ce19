"""Training on a GPU: steps of each stage with the preset for one GPU, on demo data, where its packages are."""

import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from clustercl.benchmarks import train
from clustercl.data.demo import write_demo
from clustercl.progress import say

CASES = (("skin", "default"), ("heart", "default"))
LABELLED = {"skin": 110, "heart": 6}  # of demo cases: as many units as a batch of pre-training wants
STEPS = 20
SECONDS = 120.0  # for a case at most, which wants a fraction of it: one that hangs is not to cost all the rest
NEEDED = ("PIL", "click", "lightning_fabric", "monai", "nibabel", "scipy", "sklearn", "tensorboard", "tqdm")


def missing() -> list[str]:
    """Packages that training needs and a machine with a GPU may lack."""
    return [name for name in NEEDED if find_spec(name) is None]


def run(cases: Sequence[tuple[str, str]] = CASES, device: str = "cuda", steps: int = STEPS) -> list[dict]:
    """Rows of `train.run`, for each task and preset one of each stage; none where a package is missing, which is said.

    RunError where a loss is not finite.
    """
    rows = []
    if lacking := missing():
        say(f"training is not measured: {', '.join(lacking)} not installed")
        return rows
    for task, preset in cases:
        with tempfile.TemporaryDirectory(prefix="clustercl.") as folder:
            data = write_demo(Path(folder, "data"), task, cases=LABELLED[task])
            rows += train.run(task, preset, (1,), steps, device, data, most=SECONDS)["rows"]
    return rows
