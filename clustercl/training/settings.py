"""The settings of each stage, the sections of a configuration: what they mean and what they may be."""

from dataclasses import dataclass

from clustercl.errors import UsageError
from clustercl.loss_arguments import MOST_LEVELS, check_settings


@dataclass(frozen=True)
class StageSettings:
    """Trained by AdamW. steps: optimiser steps. batch_size: over all processes. accumulate: parts of the batch that
    pass through the network one after another, for less memory at the same result. lr: the highest learning rate, after
    a rise over `warmup` (a share of the steps) and before half a cosine down to 0. weight_decay: AdamW's. clip_norm:
    bound of the gradient's norm, 0 for none. warmup: see lr.

    validate_every: steps between validations, 0 for one at the end. log_every: steps between rows of metrics.jsonl.
    save_seconds: the first row after so long writes `last.pt`.
    """

    steps: int = 10_000
    batch_size: int = 16
    accumulate: int = 1
    lr: float = 1e-3
    weight_decay: float = 1e-2
    warmup: float = 0.05
    clip_norm: float = 1.0
    validate_every: int = 500
    log_every: int = 20
    save_seconds: float = 60.0

    def __post_init__(self):
        for name, least in (
            ("steps", 1),
            ("batch_size", 1),
            ("accumulate", 1),
            ("validate_every", 0),
            ("log_every", 1),
        ):
            if getattr(self, name) < least:
                raise UsageError(f"{self.section}.{name}: wanted at least {least}, got {getattr(self, name)}")
        for name in ("weight_decay", "clip_norm"):
            if not getattr(self, name) >= 0:
                raise UsageError(f"{self.section}.{name}: wanted a number from 0 on, got {getattr(self, name):g}")
        if not self.lr > 0:
            raise UsageError(f"{self.section}.lr: wanted a number above 0, got {self.lr:g}")
        if not 0 <= self.warmup < 1:
            raise UsageError(f"{self.section}.warmup: wanted a share of the steps in 0..1, got {self.warmup:g}")

    @property
    def section(self) -> str:
        return type(self).__name__.removesuffix("Settings").lower()


@dataclass(frozen=True)
class AutoencoderSettings(StageSettings):
    """Stage 1. The loss is the mean squared error of the reconstruction."""

    # At 2e-3 the code drifts faster than the running statistics of its batch norm follow: on photographs of ISIC 2017
    # the error of held-out ones was 0.07 after 200 steps, at 5e-4 it was 0.008.
    lr: float = 5e-4

    def __post_init__(self):
        super().__post_init__()
        _at_least_two("autoencoder.batch_size", self.batch_size, "units, which a batch norm compares")


@dataclass(frozen=True)
class PretrainSettings(StageSettings):
    """Stage 3. batch_size: in units. views: random views of each. view_scale: sides of a view as a share of the
    image's, for cheaper steps. temperature: of the contrastive loss. start: the encoder begins with "random" weights or
    with those of stage 1, "autoencoder". recluster_epochs: after every so many epochs the units are clustered again by
    what the encoder makes of them then, 0 for never; only with methods whose loss uses pseudo-classes. tree_cuts: of
    pseudo-class-tree, up to 4, in multiples of the number of pseudo-classes. tree_weights: of a negative that shares
    the anchor's class on that cut, 0 to 1. momentum: of byol's slow copy, at the start. mask_share: of the image that
    mae hides. mask_cell: side of a hidden cell in pixels or voxels."""

    temperature: float = 0.1
    views: int = 2
    view_scale: float = 1.0
    start: str = "random"
    recluster_epochs: int = 0
    tree_cuts: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0)
    tree_weights: tuple[float, ...] = (0.7, 0.7, 0.5, 0.0)
    momentum: float = 0.996
    mask_share: float = 0.75
    mask_cell: int = 16

    def __post_init__(self):
        super().__post_init__()
        _at_least_two("pretrain.batch_size", self.batch_size, "units: one alone has no negative")
        _at_least_two("pretrain.views", self.views, "views, which attract each other")
        if not 0 < self.view_scale <= 1:
            raise UsageError(f"pretrain.view_scale: wanted a share above 0 and up to 1, got {self.view_scale:g}")
        if not self.temperature > 0:
            raise UsageError(f"pretrain.temperature: wanted a number above 0, got {self.temperature:g}")
        if self.start not in ("random", "autoencoder"):
            raise UsageError(f"pretrain.start: wanted random or autoencoder, got {self.start!r}")
        if self.recluster_epochs < 0:
            raise UsageError(f"pretrain.recluster_epochs: wanted a number from 0 on, got {self.recluster_epochs}")
        if not 1 <= len(self.tree_cuts) <= MOST_LEVELS or len(self.tree_cuts) != len(self.tree_weights):
            raise UsageError(f"pretrain.tree_cuts: wanted 1 to {MOST_LEVELS} numbers and as many tree_weights, got "
                             f"{len(self.tree_cuts)} and {len(self.tree_weights)}")  # fmt: skip
        if not min(self.tree_cuts) > 0:
            raise UsageError(f"pretrain.tree_cuts: wanted numbers above 0, got {min(self.tree_cuts):g}")
        for key, values in (("tree_weights", self.tree_weights), ("momentum", [self.momentum])):
            for value in values:
                if not 0 <= value <= 1:
                    raise UsageError(f"pretrain.{key}: wanted 0 to 1, got {value:g}")
        if not 0 < self.mask_share < 1:
            raise UsageError(f"pretrain.mask_share: wanted a share between 0 and 1, got {self.mask_share:g}")
        if self.mask_cell < 1:
            raise UsageError(f"pretrain.mask_cell: wanted at least 1, got {self.mask_cell}")
        try:  # what the loss itself would refuse, after hours of the stages before
            check_settings(self.temperature, "exclude", -1, "mean", level_weight=self.tree_weights)
        except ValueError as error:
            raise UsageError(f"pretrain: {error}") from None


@dataclass(frozen=True)
class FinetuneSettings(StageSettings):
    """Stage 4. The loss is Dice plus cross-entropy (MONAI's DiceCELoss). augment: how far images and labels are changed
    at random: 1 turns volumes by up to 30 degrees and shows 0.7 to 1.3 times their sides, about as nnU-Net does; less
    suits networks that are trained for minutes, 0 changes nothing."""

    augment: float = 1.0

    def __post_init__(self):
        super().__post_init__()
        if not 0 <= self.augment <= 1:
            raise UsageError(f"finetune.augment: wanted 0 to 1, got {self.augment:g}")


@dataclass(frozen=True)
class ClusterSettings:
    """Stage 2. linkage: ward, average, complete or single. n_clusters: pseudo-classes, or "auto" for the widest gap
    between merge heights. feature: what of the auto-encoder is clustered, its "code" or the space "mean" of its
    coarsest map. whiten: w above 0 divides each principal direction of the features, of variance v, by the root of v +
    w times the largest v, so that one strong direction such as brightness does not decide alone; 0 leaves them."""

    linkage: str = "ward"
    n_clusters: int | str = 20
    feature: str = "code"
    whiten: float = 0.0

    def __post_init__(self):
        if not self.whiten >= 0:
            raise UsageError(f"cluster.whiten: wanted a number from 0 on, got {self.whiten:g}")
        if self.linkage not in ("ward", "average", "complete", "single"):
            raise UsageError(f"cluster.linkage: wanted ward, average, complete or single, got {self.linkage!r}")
        if self.n_clusters != "auto" and (isinstance(self.n_clusters, str) or self.n_clusters < 1):
            raise UsageError(f"cluster.n_clusters: wanted a number from 1 on or auto, got {self.n_clusters!r}")
        if self.feature not in ("code", "mean"):
            raise UsageError(f"cluster.feature: wanted code or mean, got {self.feature!r}")


@dataclass(frozen=True)
class EvaluationSettings:
    """overlap: share by which sliding windows overlap. tolerance_mm: surface Dice counts points as matched within this
    distance (pixels where there is no spacing)."""

    overlap: float = 0.5
    tolerance_mm: float = 2.0

    def __post_init__(self):
        if not 0 <= self.overlap < 1:
            raise UsageError(f"evaluation.overlap: wanted a share in 0..1, got {self.overlap:g}")
        if not self.tolerance_mm >= 0:
            raise UsageError(f"evaluation.tolerance_mm: wanted a distance from 0 on, got {self.tolerance_mm:g}")


def _at_least_two(key: str, value: int, what: str) -> None:
    if value < 2:
        raise UsageError(f"{key}: wanted at least 2 {what}, got {value}")
