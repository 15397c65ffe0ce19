"""Stages that runs of one comparison share: what one of them trained, the others take over."""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from clustercl.data.check import Report
from clustercl.errors import RunError
from clustercl.methods import METHODS
from clustercl.owner import owner
from clustercl.training.context import Context
from clustercl.training.graph import ancestors
from clustercl.training.labels import true_groups
from clustercl.training.lock import RunLock

SHARED = ("autoencoder", "clusters", "pretrain")
ALWAYS = ("task", "seed", "deterministic", "compile", "data", "model")  # what every stage depends on
SECTIONS = {"autoencoder": ["autoencoder"], "clusters": ["cluster"], "pretrain": ["pretrain", "method"]}
POLL_SECONDS = 2.0


class StageStore:
    """A folder of finished stages, named by all that their results depend on; also of use to several processes at once.

    `report`: what checking the data gave, for the runs that follow.
    """

    def __init__(self, folder: Path):
        self.folder = Path(folder)
        self.report: Report | None = None

    def run(self, stage: str, context: Context, train: Callable[[], None]) -> None:
        """`train` the stage, unless another run did, or does at this moment."""
        if stage not in SHARED:
            train()
            return
        place = self.folder / f"{stage}-{fingerprint(stage, context)}"
        lock, waited = RunLock(self.folder / f".{place.name}.lock"), False
        while not self._take(stage, context, place):
            try:
                lock.take()
            except RunError:
                if not waited:
                    context.say(f"{stage}: waiting for another run that is at the same stage")
                waited = True
                context.interrupt.between(f"before stage {stage}")
                time.sleep(POLL_SECONDS)
                continue
            try:
                if not self._take(stage, context, place):  # finished since the last look
                    train()
                    self._keep(stage, context, place)
                return
            finally:
                lock.release()

    def _take(self, stage: str, context: Context, place: Path) -> bool:
        if not place.is_dir():
            return False
        context.run.discard(stage)
        _link(place, context.run.path / stage)
        context.say(f"{stage}: taken over from a run with the same settings")
        return True

    def _keep(self, stage: str, context: Context, place: Path) -> None:
        aside = self.folder / f".{place.name}.{owner()}"
        shutil.rmtree(aside, ignore_errors=True)
        _link(context.run.path / stage, aside)
        try:
            os.rename(aside, place)
        except OSError:  # somebody else was faster
            shutil.rmtree(aside)


def fingerprint(stage: str, context: Context) -> str:
    """Of everything that the result of a stage depends on: settings, and the images that it may see, by their content:
    data that were moved are the same, others of the same names are not."""
    config = context.config.to_dict()
    stages = [stage, *sorted(ancestors(context.config, stage))]
    keys = [*ALWAYS, *(key for name in stages for key in SECTIONS[name])]
    split = context.split
    images = context.prepared(context.training_ids + split.validation)
    has_groups = stage == "pretrain" and METHODS[context.config.method].needs_groups
    content = {
        "stages": stages,
        "config": {key: config[key] for key in keys},
        "precision": context.fabric.strategy.precision.precision,  # what `auto` came to on this device
        "labels": context.source.labels,
        "encoder": context.source.encoder,
        "groups": true_groups(context, context.training_ids).tolist() if has_groups else None,
        "cases": [split.train, split.unlabelled, split.validation],
        "images": [image.content for image in images],
    }
    return hashlib.blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=10).hexdigest()


def _link(folder: Path, to: Path) -> None:
    """The files of a folder under a second name, as a whole or not at all; none of them is ever written to again."""
    aside = to.with_name(f".{owner()}.{to.name}")
    shutil.rmtree(aside, ignore_errors=True)
    to.parent.mkdir(parents=True, exist_ok=True)
    try:
        shutil.copytree(folder, aside, copy_function=os.link)
    except (OSError, shutil.Error):
        shutil.rmtree(aside, ignore_errors=True)
        shutil.copytree(folder, aside)
    os.replace(aside, to)
