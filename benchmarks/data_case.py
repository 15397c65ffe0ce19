"""One phase of the benchmark of the data, in a process of its own so that its peak memory is its own:

python -m clustercl.benchmarks.data_case TASK PHASE DATA CACHE   prints a row as JSON
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from clustercl.benchmarks.peak import give_back, peak_megabytes
from clustercl.data.augment import contrastive_views
from clustercl.data.cache import CachedCase, prepare_cached
from clustercl.data.cases import Case, find_cases
from clustercl.data.check import check_data
from clustercl.data.feed import UnitBatch, UnitFeed
from clustercl.data.prepare import to_float
from clustercl.data.task import Task, get_task
from clustercl.data.units import make_units
from clustercl.errors import RunError
from clustercl.training.config import Config, resolve

FEED_SAMPLES = 128
BATCH = {"skin": 8, "heart": 4}  # what two cores with 8 GB can train; a feed is as fast whatever its batches are
STEPS = {"skin": 8, "heart": 4}


def measure(name: str, phase: str, data: Path) -> dict:
    """A row as `data.run` describes it."""
    task, config = get_task(name), resolve(name, "default")
    inner = data / "unlabelled"
    cases = find_cases(task, data, [inner] if inner.is_dir() else [])
    phases: dict[str, Callable[[], tuple[int, float | None]]] = {
        "check": lambda: _checked(task, cases),
        "prepare": lambda: (len(_prepared(task, config, cases)), None),
        "prepared before": lambda: (len(_prepared(task, config, cases)), None),
        "feed": lambda: _fed(task, config, cases),
        "train": lambda: _trained(task, config, cases, "autoencoder"),
        "pretrain": lambda: _trained(task, config, cases, "pretrain"),
    }
    if phase in ("train", "pretrain"):
        import lightning_fabric  # noqa: F401  imports are no part of the peak
    files = sum(path.stat().st_size for case in cases for path in (case.image, case.label) if path is not None)
    give_back()
    before = peak_megabytes(reset=True)
    began = time.perf_counter()
    count, waiting = phases[phase]()
    seconds = time.perf_counter() - began
    cache = Path(os.environ["CLUSTERCL_CACHE"])
    stored = sum(path.stat().st_size for path in cache.rglob("*") if path.is_file())
    row = {"task": name, "phase": phase, "cases": count, "megabytes": 1e-6 * files, "seconds": seconds}
    row |= {"cases_per_second": count / seconds, "megabytes_per_second": 1e-6 * files / seconds}
    return row | {"peak_megabytes": peak_megabytes() - before, "cache_megabytes": 1e-6 * stored, "waiting": waiting}


def _checked(task: Task, cases: list[Case]) -> tuple[int, None]:
    report = check_data(task, cases, quiet=True)
    if report.errors:
        raise RunError(report.errors[0].sentence)
    return len(report.rows), None


def _prepared(task: Task, config: Config, cases: list[Case]) -> list[CachedCase]:
    return prepare_cached(cases, task, config.data, quiet=True)


def _feed(task: Task, config: Config, cases: list[Case], batch: int) -> UnitFeed:
    prepared = _prepared(task, config, cases)
    return UnitFeed(prepared, make_units(prepared, task, config.data), config.data, task, batch, seed=0)


def _fed(task: Task, config: Config, cases: list[Case]) -> tuple[int, None]:
    feed = _feed(task, config, cases, BATCH[task.name])
    for step in range(FEED_SAMPLES // BATCH[task.name]):
        batch = feed.batch(step)
        views = contrastive_views(to_float(batch.images), batch.seeds, 2, task.in_channels == 3)
        if not views.isfinite().all():
            raise RunError(f"step {step}: a view holds values that are not finite")
    return FEED_SAMPLES, None


def _trained(task: Task, config: Config, cases: list[Case], stage: str) -> tuple[int, float]:
    from dataclasses import replace

    from clustercl.models.encoder import Encoder
    from clustercl.training.devices import DeviceRequest
    from clustercl.training.launch import start_fabric
    from clustercl.training.loop import fit
    from clustercl.training.work import Work

    steps, size = STEPS[task.name], BATCH[task.name]
    feed = _feed(task, config, cases, size)
    encoder = Encoder(task.spatial_dims, task.in_channels, config.model.features, config.model.dropout)
    layout = torch.channels_last if task.spatial_dims == 2 else torch.channels_last_3d
    model, loss = {"autoencoder": _autoencoder, "pretrain": _contrastive}[stage](task, config, encoder, layout)
    header = {"config": config.to_dict(), "task": task.to_dict()}
    work = Work(stage, model.to(memory_format=layout), feed.batch, loss, None, "loss", False, header)
    settings = replace(getattr(config, stage), steps=steps, batch_size=size, validate_every=steps, log_every=steps)
    with tempfile.TemporaryDirectory() as folder:
        waiting = fit(work, settings, start_fabric(DeviceRequest("cpu"), config), Path(folder), 0, quiet=True)
    return steps * size, waiting


def _autoencoder(task: Task, config: Config, encoder: torch.nn.Module, layout: torch.memory_format) -> tuple:
    """The model of the stage and its loss of a batch."""
    from clustercl.models.autoencoder import AutoEncoder

    def loss(model: torch.nn.Module, batch: UnitBatch) -> torch.Tensor:
        images = to_float(batch.images.to(memory_format=layout))
        return torch.nn.functional.mse_loss(model(images), images)

    return AutoEncoder(encoder, config.model.code_dim), loss


def _contrastive(task: Task, config: Config, encoder: torch.nn.Module, layout: torch.memory_format) -> tuple:
    """As `_autoencoder`, of pre-training: without pseudo-classes, which cost no time worth telling."""
    from clustercl.methods import METHODS

    settings = config.pretrain

    def loss(model: torch.nn.Module, batch: UnitBatch) -> torch.Tensor:
        images = to_float(batch.images.to(memory_format=layout))
        views = contrastive_views(images, batch.seeds, settings.views, task.in_channels == 3, scale=settings.view_scale)
        return model(views, None, batch.seeds)

    return METHODS["simclr"](encoder, settings, config.model.projection_dim), loss


if __name__ == "__main__":
    os.environ["CLUSTERCL_CACHE"] = sys.argv[4]
    print(json.dumps(measure(sys.argv[1], sys.argv[2], Path(sys.argv[3]))))
