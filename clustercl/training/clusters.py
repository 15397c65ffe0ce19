"""Stage 2: units, their features, the tree over them, and the pseudo-classes that cutting it gives."""

import csv
from collections.abc import Callable, Sequence

import numpy as np
import torch

from clustercl.cluster import linkage
from clustercl.cut import choose_cut, cut_tree
from clustercl.data.prepare import Prepared
from clustercl.data.units import Unit, make_units, unit_image
from clustercl.errors import DataError
from clustercl.evaluation.memory import SMALLER, memory_advice_untrained
from clustercl.files import save_npy, write_csv
from clustercl.models.autoencoder import AutoEncoder
from clustercl.models.checkpoint import read_checkpoint
from clustercl.progress import Progress, track
from clustercl.training.context import Context
from clustercl.training.run import RunFolder

HEADER = ("unit", "source", "pseudo_class")


def run_cluster(context: Context) -> None:
    """Encode every unit of the training and unlabelled images, cluster, cut. units.csv is written last."""
    if context.fabric.is_global_zero:
        _cluster(context)
    context.fabric.barrier()


def _cluster(context: Context) -> None:
    settings, folder = context.config.cluster, context.run.clusters
    prepared = context.prepared(context.training_ids)
    units = make_units(prepared, context.task, context.config.data)
    if len(units) < 2:
        raise DataError(f"there is only {len(units)} unit to cluster: give more images, with --unlabelled for instance")
    features = whitened(encode_units(context, prepared, units), settings.whiten)
    save_npy(folder / "features.npy", features)
    tree = grow_tree(context, features)
    save_npy(folder / "linkage.npy", tree)
    wanted = settings.n_clusters
    if wanted == "auto":
        context.say(f"clusters: {choose_cut(tree, features)}")
    elif wanted > most_classes(len(units)):
        context.say(f"clusters: {most_classes(len(units))} pseudo-classes instead of {wanted}, as there are only "
                    f"{len(units)} units")  # fmt: skip
    labels = cut(context, tree)
    sizes = np.bincount(labels)
    write_csv(folder / "units.csv", HEADER, [(unit.id, unit.source, int(k)) for unit, k in zip(units, labels)])
    classes = f"{len(sizes)} pseudo-class{'es' * (len(sizes) > 1)} of {sizes.min()} to {sizes.max()} units"
    context.say(f"clusters: {len(units)} units in {classes}, by {settings.linkage} linkage")


def whitened(features: np.ndarray, share: float) -> np.ndarray:
    """Features (n, d) float32 along their principal directions, each divided by sqrt(v + share * largest v), v being
    its variance; as they are for a share of 0. PCA whitening that does not blow up what hardly varies."""
    if share == 0:
        return features
    centred = features.astype(np.float64) - features.mean(axis=0, dtype=np.float64)
    variance, directions = np.linalg.eigh(centred.T @ centred / len(centred))
    scale = np.sqrt(variance.clip(0) + share * variance[-1])
    return (centred @ directions / np.where(scale > 0, scale, 1)).astype(np.float32)


def most_classes(units: int) -> int:
    """Of two units or more each, on average."""
    return max(1, units // 2)


def cut(context: Context, tree: np.ndarray) -> np.ndarray:
    """Pseudo-classes (n,) int64 from a linkage matrix, as many as the configuration wants."""
    wanted = context.config.cluster.n_clusters
    return cut_tree(tree, n_clusters=wanted if wanted == "auto" else min(wanted, most_classes(len(tree) + 1)))


def grow_tree(context: Context, features: np.ndarray) -> np.ndarray:
    """The linkage matrix of features (n, d), with a bar that tells its merges."""
    with Progress("clustering", len(features) - 1, "merges", quiet=context.quiet) as progress:

        def told(merges: int, rounds: int, distances: int) -> None:
            progress.update(merges - progress.count, f"{rounds} rounds" if rounds else None)

        rows = torch.from_numpy(features).to(context.fabric.device)  # on a GPU they are clustered there
        return linkage(rows, method=context.config.cluster.linkage, progress=told)


@torch.no_grad()
def encode_units(context: Context, prepared: Sequence[Prepared], units: Sequence[Unit]) -> np.ndarray:
    """Features (n, d) float32 of the units as they are, from the best auto-encoder."""
    config = context.config
    model = AutoEncoder(context.new_encoder("autoencoder"), config.model.code_dim)
    with context.run.reading("autoencoder"):
        content = read_checkpoint(context.run.best("autoencoder"), "autoencoder")
    model.load_state_dict(content["model"])
    model = context.layout(model).to(context.fabric.device).eval()
    encode = model.encode if config.cluster.feature == "code" else model.pooled
    return encoded(context, prepared, units, encode, on_host=f"clustercl cluster {context.run.path}")


def encoded(
    context: Context,
    prepared: Sequence[Prepared],
    units: Sequence[Unit],
    encode: Callable[[torch.Tensor], torch.Tensor],
    on_host: str | None = None,
) -> np.ndarray:
    """What `encode`, images (b, c, *s) to (b, d), makes of the units: (n, d) float32. `on_host`: a command that does it
    on the CPU."""
    config, size, features = context.config, context.config.autoencoder.batch_size, []
    # A batch norm wants two units; fewer are not to be had.
    smaller = f"--set autoencoder.batch_size={size // 2}" if size > 3 else SMALLER
    with memory_advice_untrained(f"encoding units in batches of {size}", context.fabric.device, smaller, on_host):
        for first in track(range(0, len(units), size), "encoding units", unit="batch", quiet=context.quiet):
            batch = units[first : first + size]
            images = context.to_device(torch.stack([unit_image(prepared, unit, config.data) for unit in batch]))
            with context.fabric.autocast():
                features.append(encode(images).float().cpu())
    return torch.cat(features).numpy()


def read_pseudo_classes(run: RunFolder, units: Sequence[Unit]) -> torch.Tensor:
    """Pseudo-classes (n,) int64 of these units. DataError where units.csv does not name them all."""
    path = run.clusters / "units.csv"
    try:
        with open(path, newline="", encoding="utf-8") as file:
            known = {row["unit"]: int(row["pseudo_class"]) for row in csv.DictReader(file)}
        return torch.tensor([known[unit.id] for unit in units])
    except (KeyError, ValueError, TypeError) as error:
        raise DataError(f"{path}: does not give every unit of this run its pseudo-class ({error}): cluster again with "
                        f"clustercl cluster {run.path}") from error  # fmt: skip
