"""The pseudo-class-masked contrastive loss: NT-Xent whose negatives, or positives, come from a clustering.

Source: Zhang et al., IEEE BIBM 2022 (`exclude`); Khosla et al., NeurIPS 2020 (`attract`); Chen et al., ICML 2020
(`ignore`).
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from clustercl.loss_arguments import (
    DTYPES,
    check_device,
    check_embeddings,
    check_pseudo_class,
    check_settings,
    view_major,
)
from clustercl.ops.contrastive import contrastive_loss
from clustercl.ops.gather import SAME_SHAPE, gather_numbers, gather_rows, meeting_device, rank, world_size


def pseudo_class_nt_xent(
    embeddings: Tensor,
    pseudo_class: Tensor | None = None,
    views: int = 2,
    temperature: float | Tensor = 0.1,
    same_class: str = "exclude",
    ignore_label: int = -1,
    normalize: bool = True,
    reduction: str = "mean",
    check_finite: bool = False,
    base_temperature: float | None = None,
    level_weight: Sequence[float] | None = None,
) -> Tensor:
    """Contrast the views of each image with the rows of other images, with regard to their pseudo-classes.

    With s_ij = <z_i, z_j> / temperature on rows of length 1, row i of image a has the loss
    logsumexp over its candidates of s_ij minus the mean of s_ip over its positives. Positives are the other views of a;
    candidates are the positives and every row of another image. `same_class` says what images of a's pseudo-class are:
    "exclude" neither (the paper), "attract" positives too (SupCon), "ignore" ordinary negatives (NT-Xent).

    embeddings    (n, d), n = views * b rows, view-major: all images of view 0, then all of view 1, ...
    pseudo_class  (b,) integers, one per image, or (b, levels), see level_weight; None means "ignore"
    views         views per image, at least 2
    temperature   positive number, or a tensor without dimension, which then receives a gradient
    ignore_label  pseudo-class of images whose class is not known: excludes nothing, is excluded by nothing
    normalize     divide rows by their norm, with its gradient; a row of norm 0 stays 0 and gets gradient 0
    reduction     "mean" or "sum" over the n rows, or "none" for (n,)
    check_finite  raise ValueError on non-finite embeddings (waits for the device); otherwise the loss is non-finite
    base_temperature  None, or a positive number: the loss is multiplied by temperature / base_temperature, which
                  keeps the gradient's size while the temperature is tuned; SupContrast does so with 0.07

    level_weight  None, or 1 to 4 numbers from 0 to 1 with pseudo_class (b, levels), for instance cuts of one
                  dendrogram at several heights: a negative counts with the product of the weights of the levels on
                  which it shares the anchor's class, so that close relatives are pushed less than strangers. [0] is
                  "exclude", [1] is "ignore"; with same_class="exclude" only

    Float64, float32, bfloat16 or float16 embeddings of any strides; the loss is float64 for float64, else float32.
    ValueError or TypeError, naming the argument, for anything else.
    """
    check_settings(temperature, same_class, ignore_label, reduction, base_temperature, views, level_weight)
    b = check_embeddings(embeddings, views, check_finite)
    check_device(temperature, embeddings)
    pseudo_class = check_pseudo_class(pseudo_class, b, embeddings, level_weight)
    if b < 2:
        raise ValueError(f"pseudo_class_nt_xent: embeddings must hold at least 2 images, got {b} of {views} views")
    image = _per_row(torch.arange(b, device=embeddings.device), views)
    per_row = _per_row(pseudo_class, views)
    rows = _loss_of_rows(embeddings, image, per_row, temperature, same_class, ignore_label, normalize, level_weight)
    return _scaled(_reduce(rows, reduction), temperature, base_temperature)


class PseudoClassNTXentLoss(nn.Module):
    """`pseudo_class_nt_xent` as a module, called as lightly's NTXentLoss or as SupContrast's SupConLoss.

    loss(z0, z1), loss(z0, z1, pseudo_class)   two views, (b, d) each
    loss(features), loss(features, pseudo_class)   features (b, views, d)

    gather_distributed  contrast with the images of all processes of torch.distributed. The result covers this process'
                        rows: averaged over processes, as DistributedDataParallel averages gradients, loss ("mean") and
                        gradient are those of one process with the whole batch. Every process needs the same batch size,
                        views and dtype, and either all or none of them give pseudo-classes; else, and where a process
                        refuses its own input, ValueError on each.

    The other parameters are those of `pseudo_class_nt_xent`. Equivalent to lightly's NTXentLoss (whose default
    temperature is 0.5) without pseudo-classes, and with same_class="attract", base_temperature=0.07 to SupContrast's
    SupConLoss.
    """

    def __init__(
        self,
        temperature: float | Tensor = 0.1,
        same_class: str = "exclude",
        ignore_label: int = -1,
        gather_distributed: bool = False,
        normalize: bool = True,
        reduction: str = "mean",
        check_finite: bool = False,
        base_temperature: float | None = None,
        level_weight: Sequence[float] | None = None,
    ):
        super().__init__()
        check_settings(temperature, same_class, ignore_label, reduction, base_temperature, 2, level_weight)
        self.temperature = temperature
        self.same_class = same_class
        self.ignore_label = ignore_label
        self.gather_distributed = gather_distributed
        self.normalize = normalize
        self.reduction = reduction
        self.check_finite = check_finite
        self.base_temperature = base_temperature
        self.level_weight = None if level_weight is None else tuple(level_weight)

    if TYPE_CHECKING:  # nn.Module's takes and returns anything

        def __call__(self, z0: Tensor, z1: Tensor | None = None, pseudo_class: Tensor | None = None) -> Tensor: ...

    def forward(self, z0: Tensor, z1: Tensor | None = None, pseudo_class: Tensor | None = None) -> Tensor:
        """The loss of z0 and z1 (b, d), or of z0 = features (b, views, d), whose pseudo_class may come second."""
        if not self.gather_distributed or world_size() == 1:
            embeddings, pseudo_class, views = view_major(z0, z1, pseudo_class)
            return pseudo_class_nt_xent(
                embeddings,
                pseudo_class,
                views,
                self.temperature,
                self.same_class,
                self.ignore_label,
                self.normalize,
                self.reduction,
                self.check_finite,
                self.base_temperature,
                self.level_weight,
            )
        embeddings, pseudo_class, views = self._agreed(z0, z1, pseudo_class)
        b = len(embeddings) // views
        image = _per_row(torch.arange(b, device=embeddings.device), views)
        image = torch.cat([image + process * b for process in range(world_size())])
        everything = gather_rows(embeddings)
        per_row = None if pseudo_class is None else gather_rows(_per_row(pseudo_class, views))
        own = (rank() * len(embeddings), len(embeddings))
        options = (self.temperature, self.same_class, self.ignore_label, self.normalize, self.level_weight)
        rows = _loss_of_rows(everything, image, per_row, *options, *own)
        return _scaled(_reduce(rows, self.reduction), self.temperature, self.base_temperature)

    def _agreed(self, z0, z1, pseudo_class) -> tuple[Tensor, Tensor | None, int]:
        """Embeddings, pseudo-class and views of this process. An error on one, be it no tensor at all, is one on all,
        which else would wait."""
        refused, mine, device = None, [0] * 5, meeting_device((z0, z1, pseudo_class))
        try:
            embeddings, pseudo_class, views = view_major(z0, z1, pseudo_class)
            b = check_embeddings(embeddings, views, self.check_finite)
            if b < 1:
                raise ValueError(f"gather_distributed: embeddings must hold an image on every process, got {b}")
            if embeddings.device != device:
                raise ValueError(f"gather_distributed: embeddings are on {embeddings.device}, wanted them where the "
                                 f"process group exchanges, as {device.type}")  # fmt: skip
            check_device(self.temperature, embeddings)
            pseudo_class = check_pseudo_class(pseudo_class, b, embeddings, self.level_weight)
            mine = [*embeddings.shape, views, DTYPES.index(embeddings.dtype), pseudo_class is not None]
        except Exception as error:  # whatever it is, the others are to hear of it
            refused = error
        found = gather_numbers([refused is None, *mine], device)
        if refused is not None:
            raise refused
        if others := [process for process, (fine, *_) in enumerate(found) if not fine]:
            raise ValueError(f"gather_distributed: the batch of process {others[0]} was refused there, which says why")
        _, *shape, views_of, dtype_of, given = zip(*found)
        shapes = list(zip(*shape))
        if len({*zip(shapes, views_of)}) > 1:
            views_told = "" if len({*views_of}) == 1 else f" of {list(views_of)} views"
            raise ValueError(f"gather_distributed: embeddings {SAME_SHAPE}, got {shapes}{views_told}")
        if len({*dtype_of}) > 1:
            got = ", ".join(str(DTYPES[dtype]) for dtype in dtype_of)
            raise ValueError(f"gather_distributed: embeddings must have one dtype on all processes, got {got}")
        if len({*given}) > 1:
            got = [bool(flag) for flag in given]
            raise ValueError(f"gather_distributed: pseudo_class must be given on every process or on none, got {got}")
        return embeddings, pseudo_class, views

    def extra_repr(self) -> str:
        return (
            f"temperature={self.temperature}, same_class='{self.same_class}', ignore_label={self.ignore_label}, "
            f"gather_distributed={self.gather_distributed}, normalize={self.normalize}, reduction='{self.reduction}'"
            + ("" if self.base_temperature is None else f", base_temperature={self.base_temperature}")
            + ("" if self.level_weight is None else f", level_weight={self.level_weight}")
        )


def _loss_of_rows(
    embeddings, image, per_row, temperature, same_class, ignore_label, normalize, level_weight, first=0, count=-1
):
    if per_row is None:
        same_class, level_weight = "ignore", None
    if level_weight is not None:
        per_row = per_row.T.contiguous()
        level_weight = torch.tensor(level_weight, dtype=torch.float64, device="cpu")  # whatever torch.device() says
    if not isinstance(temperature, Tensor):
        # Written by the device itself, which a CUDA graph can hold.
        scalar = {"dtype": torch.float64, "device": embeddings.device}
        if torch.compiler.is_compiling():  # a product keeps a number open that torch.full would fix, compiling for each
            temperature = torch.ones((), **scalar) * temperature
        else:
            temperature = torch.full((), float(temperature), **scalar)
    return contrastive_loss(
        embeddings, image, per_row, temperature, same_class, int(ignore_label), normalize, first, count, level_weight
    )


def _per_row(of_image: Tensor | None, views: int) -> Tensor | None:
    """Of images (b,) or (b, levels) to that of rows, view-major."""
    if of_image is None:
        return None
    # As repeat() does, which takes the host longer: on a GPU the loss waits for it.
    # Not len(): a size that is a symbol stays one.
    return of_image.expand(views, *of_image.shape).reshape(views * of_image.shape[0], *of_image.shape[1:])


def _reduce(rows: Tensor, reduction: str) -> Tensor:
    return rows if reduction == "none" else rows.mean() if reduction == "mean" else rows.sum()


def _scaled(loss: Tensor, temperature: float | Tensor, base_temperature: float | None) -> Tensor:
    if base_temperature is None:
        return loss
    factor = temperature / base_temperature
    return loss * (factor.to(loss.dtype) if isinstance(factor, Tensor) else factor)
