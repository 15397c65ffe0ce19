"""What the loss may be called with; every refusal names the argument, what was wanted and what came."""

import math
from numbers import Integral, Real

import torch
from torch import Tensor, nn

from clustercl.ops.arrays import require_dense

SAME_CLASS = ("exclude", "attract", "ignore")
MOST_LEVELS = 4
REDUCTIONS = ("mean", "sum", "none")
DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def view_major(z0, z1, pseudo_class) -> tuple[Tensor, Tensor | None, int]:
    """Embeddings (views * b, d), pseudo-class and number of views from either way of calling the module."""
    if not isinstance(z0, Tensor):
        raise TypeError(f"PseudoClassNTXentLoss: z0 must be a tensor, got {type(z0).__name__}")
    require_dense(z0, "PseudoClassNTXentLoss: z0")
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
    require_dense(z1, "PseudoClassNTXentLoss: z1")
    return torch.cat([z0, z1]), pseudo_class, 2


def check_settings(
    temperature, same_class: str, ignore_label, reduction: str, base_temperature=None, views: int = 2, level_weight=None
) -> None:
    """ValueError or TypeError on a setting."""
    if isinstance(temperature, Tensor):
        if temperature.dim() != 0 or not temperature.is_floating_point():
            got = f"{temperature.dtype} of shape {tuple(temperature.shape)}"
            raise ValueError(
                f"pseudo_class_nt_xent: temperature must be a floating tensor without dimension, got {got}"
            )
        # Reading it on a GPU would wait for the device.
        if temperature.device.type == "cpu" and type(temperature) in (Tensor, nn.Parameter) and not _valueless():
            _check_positive(temperature.item(), "temperature")
    elif isinstance(temperature, bool) or not isinstance(temperature, Real):
        raise TypeError(f"pseudo_class_nt_xent: temperature must be a number or a tensor, got {temperature!r}")
    else:
        _check_positive(temperature, "temperature")
    if base_temperature is not None:
        if isinstance(base_temperature, bool) or not isinstance(base_temperature, Real):
            raise TypeError(
                f"pseudo_class_nt_xent: base_temperature must be a number or None, got {base_temperature!r}"
            )
        _check_positive(base_temperature, "base_temperature")
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
    if level_weight is not None:
        _check_levels(level_weight, same_class)


def _check_levels(level_weight, same_class: str) -> None:
    try:
        values = [float(value) for value in level_weight]
    except (TypeError, ValueError):
        raise TypeError(f"pseudo_class_nt_xent: level_weight must be numbers, got {level_weight!r}") from None
    if not 1 <= len(values) <= MOST_LEVELS:
        raise ValueError(
            f"pseudo_class_nt_xent: level_weight must hold 1 to {MOST_LEVELS} numbers, got {len(values)} of them"
        )
    product = 1.0
    for value in values:
        if not 0 <= value <= 1:
            raise ValueError(f"pseudo_class_nt_xent: level_weight must lie in 0..1, got {value:g}")
        product *= value or 1.0
    # A pair that shares such levels has a weight that float32 loses, or whose inverse is infinite.
    if product < torch.finfo(torch.float32).tiny:
        raise ValueError("pseudo_class_nt_xent: level_weight must be 0 where the product of the others is below 1e-38, "
                         f"got {tuple(values)}")  # fmt: skip
    if same_class != "exclude":
        raise ValueError(f"pseudo_class_nt_xent: level_weight goes with same_class='exclude', got {same_class!r}")


def _check_positive(value: Real, name: str) -> None:
    # Below the smallest normal float32 the inverse of a temperature is infinite. Not math.isfinite, which torch.compile
    # does not take of a number that it keeps open.
    if not torch.finfo(torch.float32).tiny <= value < math.inf:
        raise ValueError(f"pseudo_class_nt_xent: {name} must be a positive number, got {value}")


def _valueless() -> bool:
    """Whether a tensor may have no value that could be looked at: in a traced program, under torch.func's vmap."""
    traced = torch.compiler.is_compiling() or torch.jit.is_tracing()
    return traced or torch._C._are_functorch_transforms_active()


def check_embeddings(embeddings, views: int, check_finite: bool) -> int:
    """The number of images."""
    if not isinstance(embeddings, Tensor):
        raise TypeError(f"pseudo_class_nt_xent: embeddings must be a tensor, got {type(embeddings).__name__}")
    require_dense(embeddings, "pseudo_class_nt_xent: embeddings")
    if views < 2:
        raise ValueError(f"pseudo_class_nt_xent: views must be at least 2, got {views}")
    if embeddings.dim() != 2:
        raise ValueError(f"pseudo_class_nt_xent: embeddings must be (n, d), got shape {tuple(embeddings.shape)}")
    if embeddings.dtype not in DTYPES:
        wanted = "float64, float32, bfloat16 or float16"
        raise TypeError(f"pseudo_class_nt_xent: embeddings must be {wanted}, got {embeddings.dtype}")
    n = embeddings.shape[0]
    if n % views != 0:
        raise ValueError(f"pseudo_class_nt_xent: embeddings must have a multiple of views = {views} rows, got {n}")
    if check_finite and not embeddings.isfinite().all():
        count = int((~embeddings.isfinite()).any(dim=1).sum())
        raise ValueError(f"pseudo_class_nt_xent: embeddings must be finite, got NaN or infinity in {count} of {n} rows")
    return n // views


def check_device(temperature, embeddings: Tensor) -> None:
    """The dispatcher would take one that lies elsewhere for a sign of where to compute."""
    if isinstance(temperature, Tensor) and temperature.device.type not in ("cpu", embeddings.device.type):
        got = f"{temperature.device} and {embeddings.device}"
        raise ValueError(f"pseudo_class_nt_xent: temperature must be on the device of embeddings or the CPU, got {got}")


def check_pseudo_class(pseudo_class, b: int, embeddings: Tensor, level_weight=None) -> Tensor | None:
    """As int64, (b,), or (b, levels) with weights of levels."""
    if pseudo_class is None:
        return None
    if not isinstance(pseudo_class, Tensor):
        raise TypeError(f"pseudo_class_nt_xent: pseudo_class must be a tensor, got {type(pseudo_class).__name__}")
    require_dense(pseudo_class, "pseudo_class_nt_xent: pseudo_class")
    if pseudo_class.is_floating_point() or pseudo_class.is_complex() or pseudo_class.dtype == torch.bool:
        raise TypeError(f"pseudo_class_nt_xent: pseudo_class must hold integers, got {pseudo_class.dtype}")
    wanted, what = (
        ((b,), "one per image") if level_weight is None else ((b, len(level_weight)), "one per image and level")
    )
    if pseudo_class.shape != wanted:
        got = tuple(pseudo_class.shape)
        raise ValueError(f"pseudo_class_nt_xent: pseudo_class must be {wanted}, {what}, got shape {got}")
    if pseudo_class.device != embeddings.device:
        got = f"{pseudo_class.device} and {embeddings.device}"
        raise ValueError(f"pseudo_class_nt_xent: pseudo_class must be on the device of embeddings, got {got}")
    labels = pseudo_class.long()
    if pseudo_class.dtype == torch.uint64 and not _valueless() and (labels < 0).any():
        raise ValueError(f"pseudo_class_nt_xent: pseudo_class must be below 2**63, got {int(labels.min()) + 2**64}")
    return labels
