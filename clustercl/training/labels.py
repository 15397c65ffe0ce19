"""The labels that pre-training gives its units: from the stages before, from the data, or from clustering again."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from clustercl.data.feed import UnitFeed
from clustercl.data.groups import read_groups
from clustercl.data.source import Source
from clustercl.data.units import Unit
from clustercl.errors import DataError, UsageError
from clustercl.methods import METHODS, Known, Method
from clustercl.models.encoder import Encoder
from clustercl.training.clusters import cut, encoded, grow_tree, read_pseudo_classes, whitened
from clustercl.training.context import Context
from clustercl.training.launch import contrastive_batch
from clustercl.training.run import RunFolder
from clustercl.training.work import stage_seed

NEARLY_ALL = 0.95  # of the negatives, where somebody should look; no measured bound


class Labels:
    """A method's labels of the units of a feed. The first process finds them, all get them."""

    def __init__(self, context: Context, kind: type[Method], feed: UnitFeed):
        self.context, self.kind, self.feed = context, kind, feed
        self._known: Known | None = None
        self.settings = context.config.pretrain
        if kind.one_of_a_class:  # it makes as many classes as a batch holds units, which few units make fewer
            batch = contrastive_batch(context.config, len(feed.units), context.fabric.world_size)
            self.settings = replace(self.settings, batch_size=batch)

    def first(self) -> torch.Tensor:
        """Labels (n,) or (n, levels) int64 at the beginning of the stage."""

        def find() -> torch.Tensor:
            self._known = known_units(self.context, self.kind, self.feed.units)
            return self.kind.label(self._known, self.settings)

        return self.context.from_the_first(find)

    def again(self, encoder: Encoder) -> torch.Tensor:
        """Labels from clustering what an encoder makes of the units now: the space means of its coarsest maps."""

        def find() -> torch.Tensor:
            again = clustered_again(self.context, self._known, encoder, self.feed)
            return self.kind.label(again, self.settings)

        return self.context.from_the_first(find)


def known_units(context: Context, kind: type[Method], units: Sequence[Unit]) -> Known:
    """What the stages before, and the data, tell a pre-training method of its units."""
    known = Known(len(units), stage_seed(context.config.seed, "pretrain"))
    if kind.needs_groups:
        known = replace(known, groups=true_groups(context, [unit.source for unit in units]))
    if kind.needs_clusters:
        features, tree = (_stored(context.run, name, len(units)) for name in ("features", "linkage"))
        known = replace(known, features=features, tree=tree, pseudo_class=read_pseudo_classes(context.run, units))
    return known


def require_groups(method: str, source: Source, begun: Path | str | None = None) -> None:
    """UsageError where the method wants true groups and no table of them was named; `begun`: a run that exists."""
    if not METHODS[method].needs_groups or source.is_demo or source.groups is not None:
        return
    if begun is None:
        raise UsageError(f"method {method} compares with true groups: name a table of them with --groups F.csv "
                         "(columns id,group)")  # fmt: skip
    raise UsageError(f"method {method} compares with true groups, and {begun} was started without a table of them: "
                     "start a new run with --groups F.csv (columns id,group)")  # fmt: skip


def true_groups(context: Context, cases: Sequence[str]) -> torch.Tensor:
    """Groups (n,) int64 of these n ids, from the table of the run. DataError where it names none of them."""
    table = context.run.demo_data / "kinds.csv" if context.source.is_demo else context.source.groups
    return read_groups(Path(table), cases)


@torch.no_grad()
def clustered_again(context: Context, known: Known, encoder: Encoder, feed: UnitFeed) -> Known:
    """`known` with other features, tree and pseudo-classes. The encoder is left in the mode that it was in."""
    training = encoder.training
    encoder.eval()
    features = encoded(context, feed.prepared, feed.units, lambda images: encoder(images)[-1].flatten(2).mean(dim=2))
    encoder.train(training)
    features = whitened(features, context.config.cluster.whiten)
    tree = grow_tree(context, features)
    return replace(known, features=features, tree=tree, pseudo_class=torch.from_numpy(cut(context, tree)))


def weight_left_out(labels: torch.Tensor, level_weight: Sequence[float] = (0.0,)) -> float:
    """The share of the weight of all negatives that labels (n,) or (n, levels) take away, on average over pairs of two
    different units, of 2,000 units or so where there are more."""
    labels = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))[:2000]]
    n, levels = len(labels), labels.reshape(len(labels), -1)
    weight = torch.ones(n, n)
    for column, factor in zip(levels.T, level_weight, strict=True):
        shared = (column[:, None] == column[None]) & (column >= 0)
        weight = torch.where(shared, weight * factor, weight)
    return 1 - float((weight.sum() - weight.diagonal().sum()) / max(1, n * (n - 1)))


def warn_of_all_left_out(context: Context, share: float) -> None:
    """`share`: of the weight of the negatives."""
    if share < NEARLY_ALL:
        return
    context.say(
        f"warning: pretrain: with {share:.1%} of the weight of the negatives taken away there is "
        "hardly anything to learn from: take more pseudo-classes (cluster.n_clusters), finer groups, or simclr"
    )


def agreement(before: torch.Tensor, after: torch.Tensor) -> float:
    """The adjusted Rand index of two labellings (n,) of the same units; of several levels (n, levels) their mean."""
    from sklearn.metrics import adjusted_rand_score

    pairs = zip(before.reshape(len(before), -1).T, after.reshape(len(after), -1).T, strict=True)
    return float(np.mean([adjusted_rand_score(one.numpy(), other.numpy()) for one, other in pairs]))


def _stored(run: RunFolder, name: str, units: int) -> np.ndarray:
    path = run.clusters / f"{name}.npy"
    try:
        found = np.load(path)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path}: cannot be read ({error}): cluster again with clustercl cluster {run.path}") from error
    if len(found) != units - (name == "linkage"):
        raise DataError(f"{path}: is not of the {units} units of this run: cluster again with clustercl cluster "
                        f"{run.path}")  # fmt: skip
    return found
