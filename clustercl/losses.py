"""The pseudo-class-masked contrastive loss: NT-Xent whose negatives, or positives, come from a clustering.

Source: Zhang et al., IEEE BIBM 2022 (`exclude`); Khosla et al., NeurIPS 2020 (`attract`); Chen et al., ICML 2020
(`ignore`).
"""

import math
from numbers import Integral, Real

import torch
from torch import Tensor, nn

from clustercl.ops.contrastive import contrastive_loss
from clustercl.ops.gather import gather_flags, gather_rows, rank, world_size

SAME_CLASS = ("exclude", "attract", "ignore")
REDUCTIONS = ("mean", "sum", "none")


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
) -> Tensor:
    """Contrast the views of each image with the rows of other images, with regard to their pseudo-classes.

    With s_ij = <z_i, z_j> / temperature on rows of length 1, row i of image a has the loss
    logsumexp over its candidates of s_ij minus the mean of s_ip over its positives. Positives are the other views of a;
    candidates are the positives and every row of another image. `same_class` says what images of a's pseudo-class are:
    "exclude" neither (the paper), "attract" positives too (SupCon), "ignore" ordinary negatives (NT-Xent).

    embeddings    (n, d), n = views * b rows, view-major: all images of view 0, then all of view 1, ...
    pseudo_class  (b,) integers, one per image; None means "ignore"
    views         views per image, at least 2
    temperature   positive number, or a tensor without dimension, which then receives a gradient
    ignore_label  pseudo-class of images whose class is not known: excludes nothing, is excluded by nothing
    normalize     divide rows by their norm, with its gradient; a row of norm 0 stays 0 and gets gradient 0
    reduction     "mean" or "sum" over the n rows, or "none" for (n,)
    check_finite  raise ValueError on non-finite embeddings (waits for the device); otherwise the loss is non-finite

    Float64, float32, bfloat16 or float16 embeddings of any strides; the loss is float64 for float64, else float32.
    ValueError or TypeError, naming the argument, for anything else.
    """
    _check_settings(temperature, same_class, ignore_label, reduction, views)
    b = _check_embeddings(embeddings, views, check_finite)
    pseudo_class = _check_pseudo_class(pseudo_class, b, embeddings)
    if b < 2:
        raise ValueError(f"pseudo_class_nt_xent: embeddings must hold at least 2 images, got {b} of {views} views")
    image = torch.arange(b, device=embeddings.device).repeat(views)
    per_row = None if pseudo_class is None else pseudo_class.repeat(views)
    rows = _loss_of_rows(embeddings, image, per_row, temperature, same_class, ignore_label, normalize)
    return _reduce(rows, reduction)


class PseudoClassNTXentLoss(nn.Module):
    """`pseudo_class_nt_xent` as a module, called as lightly's NTXentLoss or as SupContrast's SupConLoss.

    loss(z0, z1), loss(z0, z1, pseudo_class)   two views, (b, d) each
    loss(features), loss(features, pseudo_class)   features (b, views, d)

    gather_distributed  contrast with the images of all processes of torch.distributed. The result covers this process'
                        rows: averaged over processes, as DistributedDataParallel averages gradients, loss ("mean") and
                        gradient are those of one process with the whole batch. Every process needs the same batch size
                        (ValueError otherwise), and either all or none of them give pseudo-classes.

    The other parameters are those of `pseudo_class_nt_xent`. Equivalent to lightly's NTXentLoss (whose default
    temperature is 0.5) without pseudo-classes, and with same_class="attract" to SupConLoss (which also multiplies by
    temperature / 0.07).
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
    ):
        super().__init__()
        _check_settings(temperature, same_class, ignore_label, reduction)
        self.temperature = temperature
        self.same_class = same_class
        self.ignore_label = ignore_label
        self.gather_distributed = gather_distributed
        self.normalize = normalize
        self.reduction = reduction
        self.check_finite = check_finite

    def forward(self, z0: Tensor, z1: Tensor | None = None, pseudo_class: Tensor | None = None) -> Tensor:
        """The loss of z0 and z1 (b, d), or of z0 = features (b, views, d), whose pseudo_class may come second."""
        embeddings, pseudo_class, views = _view_major(z0, z1, pseudo_class)
        if not self.gather_distributed or world_size() == 1:
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
            )
        b = _check_embeddings(embeddings, views, self.check_finite)
        pseudo_class = _check_pseudo_class(pseudo_class, b, embeddings)
        image = torch.arange(b, device=embeddings.device).repeat(views)
        image = torch.cat([image + process * b for process in range(world_size())])
        everything = gather_rows(embeddings, "embeddings")
        given = gather_flags(pseudo_class is not None, embeddings.device)
        if len(set(given)) > 1:
            raise ValueError(f"gather_distributed: pseudo_class must be given on every process or on none, got {given}")
        per_row = None if pseudo_class is None else gather_rows(pseudo_class.repeat(views), "pseudo_class")
        own = (rank() * len(embeddings), len(embeddings))
        options = (self.temperature, self.same_class, self.ignore_label, self.normalize)
        return _reduce(_loss_of_rows(everything, image, per_row, *options, *own), self.reduction)

    def extra_repr(self) -> str:
        return (
            f"temperature={self.temperature}, same_class='{self.same_class}', ignore_label={self.ignore_label}, "
            f"gather_distributed={self.gather_distributed}, normalize={self.normalize}, reduction='{self.reduction}'"
        )


def _loss_of_rows(embeddings, image, per_row, temperature, same_class, ignore_label, normalize, first=0, count=-1):
    if per_row is None:
        same_class = "ignore"
    if not isinstance(temperature, Tensor):
        temperature = torch.tensor(float(temperature), dtype=torch.float64)
    return contrastive_loss(
        embeddings, image, per_row, temperature, same_class, int(ignore_label), normalize, first, count
    )


def _reduce(rows: Tensor, reduction: str) -> Tensor:
    return rows if reduction == "none" else rows.mean() if reduction == "mean" else rows.sum()


def _view_major(z0, z1, pseudo_class) -> tuple[Tensor, Tensor | None, int]:
    if not isinstance(z0, Tensor):
        raise TypeError(f"PseudoClassNTXentLoss: z0 must be a tensor, got {type(z0).__name__}")
    if z0.dim() == 3:
        if z1 is not None and pseudo_class is not None:
            raise ValueError(
                "PseudoClassNTXentLoss: features (b, views, d) take one pseudo_class, got two more tensors"
            )
        return z0.transpose(0, 1).flatten(0, 1), z1 if pseudo_class is None else pseudo_class, z0.shape[1]
    if not isinstance(z1, Tensor) or z0.shape != z1.shape or z0.dim() != 2:
        got = tuple(z1.shape) if isinstance(z1, Tensor) else type(z1).__name__
        raise ValueError(
            "PseudoClassNTXentLoss: z0 and z1 must both be (b, d), or the first argument (b, views, d), "
            f"got {tuple(z0.shape)} and {got}"
        )
    if z0.dtype != z1.dtype or z0.device != z1.device:
        raise ValueError(
            "PseudoClassNTXentLoss: z0 and z1 must have one dtype and one device, "
            f"got {z0.dtype} on {z0.device} and {z1.dtype} on {z1.device}"
        )
    return torch.cat([z0, z1]), pseudo_class, 2


def _check_settings(temperature, same_class: str, ignore_label, reduction: str, views: int = 2) -> None:
    if isinstance(temperature, Tensor):
        if temperature.dim() != 0 or not temperature.is_floating_point():
            got = f"{temperature.dtype} of shape {tuple(temperature.shape)}"
            raise ValueError(
                f"pseudo_class_nt_xent: temperature must be a floating tensor without dimension, got {got}"
            )
        # Reading it on a GPU would wait for the device, and in a traced program it has no value yet.
        if temperature.device.type == "cpu" and type(temperature) in (Tensor, nn.Parameter) and not _tracing():
            _check_temperature(temperature.item())
    elif isinstance(temperature, bool) or not isinstance(temperature, Real):
        raise TypeError(f"pseudo_class_nt_xent: temperature must be a number or a tensor, got {temperature!r}")
    else:
        _check_temperature(temperature)
    if same_class not in SAME_CLASS:
        raise ValueError(f"pseudo_class_nt_xent: same_class must be one of {', '.join(SAME_CLASS)}, got {same_class!r}")
    if reduction not in REDUCTIONS:
        raise ValueError(f"pseudo_class_nt_xent: reduction must be one of {', '.join(REDUCTIONS)}, got {reduction!r}")
    if isinstance(ignore_label, bool) or not isinstance(ignore_label, Integral):
        raise TypeError(f"pseudo_class_nt_xent: ignore_label must be an integer, got {ignore_label!r}")
    if not -(2**63) <= ignore_label < 2**63:
        raise ValueError(f"pseudo_class_nt_xent: ignore_label must fit into 64 bits, got {ignore_label}")
    if isinstance(views, bool) or not isinstance(views, Integral):
        raise TypeError(f"pseudo_class_nt_xent: views must be an integer, got {views!r}")
    if views < 2:
        raise ValueError(f"pseudo_class_nt_xent: views must be at least 2, got {views}")


def _check_temperature(value: Real) -> None:
    # Below the smallest normal float32 its inverse is infinite.
    if not (value >= torch.finfo(torch.float32).tiny and math.isfinite(value)):
        raise ValueError(f"pseudo_class_nt_xent: temperature must be a positive number, got {value}")


def _tracing() -> bool:
    return torch.compiler.is_compiling() or torch.jit.is_tracing()


def _check_embeddings(embeddings, views: int, check_finite: bool) -> int:
    """The number of images."""
    if not isinstance(embeddings, Tensor):
        raise TypeError(f"pseudo_class_nt_xent: embeddings must be a tensor, got {type(embeddings).__name__}")
    if views < 2:
        raise ValueError(f"pseudo_class_nt_xent: views must be at least 2, got {views}")
    if embeddings.dim() != 2:
        raise ValueError(f"pseudo_class_nt_xent: embeddings must be (n, d), got shape {tuple(embeddings.shape)}")
    if embeddings.dtype not in (torch.float64, torch.float32, torch.bfloat16, torch.float16):
        wanted = "float64, float32, bfloat16 or float16"
        raise TypeError(f"pseudo_class_nt_xent: embeddings must be {wanted}, got {embeddings.dtype}")
    n = embeddings.shape[0]
    if n % views != 0:
        raise ValueError(f"pseudo_class_nt_xent: embeddings must have a multiple of views = {views} rows, got {n}")
    if check_finite and not embeddings.isfinite().all():
        count = int((~embeddings.isfinite()).any(dim=1).sum())
        raise ValueError(f"pseudo_class_nt_xent: embeddings must be finite, got NaN or infinity in {count} of {n} rows")
    return n // views


def _check_pseudo_class(pseudo_class, b: int, embeddings: Tensor) -> Tensor | None:
    """As int64, (b,)."""
    if pseudo_class is None:
        return None
    if not isinstance(pseudo_class, Tensor):
        raise TypeError(f"pseudo_class_nt_xent: pseudo_class must be a tensor, got {type(pseudo_class).__name__}")
    if pseudo_class.is_floating_point() or pseudo_class.is_complex() or pseudo_class.dtype == torch.bool:
        raise TypeError(f"pseudo_class_nt_xent: pseudo_class must hold integers, got {pseudo_class.dtype}")
    if pseudo_class.shape != (b,):
        got = tuple(pseudo_class.shape)
        raise ValueError(f"pseudo_class_nt_xent: pseudo_class must be ({b},), one per image, got shape {got}")
    if pseudo_class.device != embeddings.device:
        got = f"{pseudo_class.device} and {embeddings.device}"
        raise ValueError(f"pseudo_class_nt_xent: pseudo_class must be on the device of embeddings, got {got}")
    return pseudo_class.long()
