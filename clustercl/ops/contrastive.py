"""The op behind the loss: torch.ops.clustercl.contrastive_loss with its fake kernel, autograd and fallback.

Compiled kernels (csrc/kernels/contrastive.h has the formulas) serve CPU tensors, and CUDA's where they were built and
the card can run them. Everything else takes the blocked torch path of `_blocked.py` and says so once.
"""

import threading
import warnings
from functools import cache

import torch
from torch import Tensor

from clustercl.ops import _blocked
from clustercl.ops._extension import available, why_no_kernels

# As in csrc/bindings/module.cpp, which defines them when the extension is there.
SCHEMAS = {
    "contrastive_loss": "(Tensor rows, Tensor image, Tensor? pseudo_class, Tensor temperature, str same_class, "
    "int ignore_label, bool normalize, int first, int count, bool tf32=False, "
    "Tensor? level_weight=None) -> (Tensor, Tensor, Tensor)",
    "contrastive_loss_backward": "(Tensor grad_loss, Tensor lse, Tensor order, Tensor rows, Tensor image, "
    "Tensor? pseudo_class, Tensor temperature, str same_class, int ignore_label, bool normalize, int first, "
    "bool tf32=False, Tensor? level_weight=None) -> (Tensor, Tensor)",
}
FORWARD, BACKWARD = "clustercl::contrastive_loss", "clustercl::contrastive_loss_backward"

_library = torch.library.Library("clustercl", "FRAGMENT")
if not available():
    for _name, _schema in SCHEMAS.items():
        _library.define(_name + _schema)


@cache
def _announce(device: torch.device) -> None:
    reason = why_no_kernels(device) or "another card in use cannot run the compiled kernels"
    message = f"clustercl: the contrastive loss runs as blocked torch operations, several times slower: {reason}"
    warnings.warn(message, RuntimeWarning, stacklevel=2)


def _fallback_forward(rows, *arguments):
    _announce(rows.device)
    loss, lse = _blocked.forward(rows, *_without_tf32(arguments, 8))
    return loss, lse, rows.new_zeros(_order_shape(rows), dtype=torch.int32)


def _fallback_backward(grad_loss, lse, _order, *arguments):
    return _blocked.backward(grad_loss, lse, *_without_tf32(arguments, 8))


def _order_shape(rows: Tensor) -> tuple[int, ...]:
    """Of what the forward pass found out about which rows belong together, for the backward pass: on CUDA alone."""
    return (4, rows.shape[0]) if rows.is_cuda else (0,)  # not len(): a size that is a symbol stays one


def _without_tf32(arguments, at):
    """torch's own products follow torch's own setting; the dispatcher leaves trailing defaults out."""
    return *arguments[:at], *arguments[at + 1 :]


def _fall_back(key: str) -> None:
    _library.impl("contrastive_loss", _fallback_forward, key)
    _library.impl("contrastive_loss_backward", _fallback_backward, key)


_fall_back("CompositeExplicitAutograd")


_replaced: set[str] = set()
_one_replaces = threading.Lock()


@torch.compiler.assume_constant_result
def _make_way(device: torch.device) -> None:
    """Where the card cannot run the compiled kernels, the fallback takes their place, for all devices of its type."""
    _made_way(device)


@cache
def _made_way(device: torch.device) -> None:
    if why_no_kernels(device) is None:
        return
    with _one_replaces:  # a thread for each card may come here
        if device.type not in _replaced:
            _replaced.add(device.type)
            with warnings.catch_warnings(action="ignore", category=UserWarning):  # torch's, of a kernel replaced
                _fall_back(device.type.upper())


@torch.library.register_fake(FORWARD)
def _fake_forward(rows, image, pseudo_class, temperature, same_class, ignore_label, normalize, first, count, *_):
    dtype = torch.promote_types(rows.dtype, torch.float32)
    shape = (rows.shape[0] if count < 0 else count,)
    order = rows.new_empty(_order_shape(rows), dtype=torch.int32)
    return rows.new_empty(shape, dtype=dtype), rows.new_empty(shape, dtype=dtype), order


@torch.library.register_fake(BACKWARD)
def _fake_backward(grad_loss, lse, order, rows, image, pseudo_class, temperature, *_):
    return rows.new_empty(rows.shape), torch.empty_like(temperature)


def _save(ctx, inputs, output):
    rows, image, pseudo_class, temperature, same_class, ignore_label, normalize, first, _, tf32, level_weight = inputs
    _, lse, order = output
    ctx.settings = (same_class, ignore_label, normalize, first, tf32, level_weight)
    ctx.save_for_backward(rows, image, pseudo_class, temperature, lse, order)


def _save_and_mark(ctx, inputs, output):
    _save(ctx, inputs, output)
    ctx.mark_non_differentiable(*output[1:])


def _differentiate(ctx, grad_loss, *_, by=torch.ops.clustercl.contrastive_loss_backward):
    rows, image, pseudo_class, temperature, lse, order = ctx.saved_tensors
    grad_rows, grad_temperature = by(grad_loss, lse, order, rows, image, pseudo_class, temperature, *ctx.settings)
    return grad_rows, None, None, grad_temperature, *[None] * 7


def _no_second_derivative(ctx, *grads):
    raise NotImplementedError("contrastive_loss: the gradient cannot be differentiated again")


torch.library.register_autograd(FORWARD, _differentiate, setup_context=_save_and_mark)
torch.library.register_autograd(BACKWARD, _no_second_derivative)


class _Loss(torch.autograd.Function):
    """What register_autograd makes of the op, in half of the host's time: a small batch on a GPU waits for the host."""

    @staticmethod
    def forward(ctx, *inputs):
        output = torch.ops.clustercl.contrastive_loss(*inputs)
        _save(ctx, inputs, output)
        return output[0]

    @staticmethod
    def backward(ctx, grad_loss):
        return _differentiate(ctx, grad_loss)


class _TransformedLoss(torch.autograd.Function):
    """_Loss in the form that torch.func asks for, which takes longer."""

    generate_vmap_rule = True

    @staticmethod
    def forward(*inputs):
        return torch.ops.clustercl.contrastive_loss(*inputs)

    setup_context = staticmethod(_save_and_mark)

    @staticmethod
    def backward(ctx, grad_loss, *_):
        return _differentiate(ctx, grad_loss, by=_TransformedBackward.apply)

    @staticmethod
    def jvp(ctx, *tangents):
        raise NotImplementedError("contrastive_loss: there is no forward-mode derivative; use reverse mode")


class _TransformedBackward(torch.autograd.Function):
    """The gradient, likewise."""

    generate_vmap_rule = True

    @staticmethod
    def forward(*inputs):
        return torch.ops.clustercl.contrastive_loss_backward(*inputs)

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    backward = jvp = staticmethod(_no_second_derivative)


def _transformed() -> bool:
    """Whether torch.func or forward-mode differentiation follows what is computed, without requires_grad."""
    return torch._C._are_functorch_transforms_active() or torch.autograd.forward_ad._current_level >= 0


@torch.compiler.assume_constant_result
def _tf32() -> bool:
    """Whether torch multiplies float32 matrices in TF32 on CUDA."""
    # Newer names of torch first, of which "none" leaves it to the next: with them set, reading the older one fails.
    for settings in (torch.backends.cuda.matmul, torch.backends):
        if (precision := getattr(settings, "fp32_precision", "none")) != "none":
            return precision == "tf32"
    return torch.backends.cuda.matmul.allow_tf32


def contrastive_loss(
    rows: Tensor,
    image: Tensor,
    pseudo_class: Tensor | None,
    temperature: Tensor,
    same_class: str,
    ignore_label: int = -1,
    normalize: bool = True,
    first: int = 0,
    count: int = -1,
    level_weight: Tensor | None = None,
) -> Tensor:
    """The loss of each anchor row; `clustercl.losses` checks arguments and reduces.

    rows (n, d) floating; image (n,) int64, one number for all views of an image; pseudo_class (n,) int64 or None,
    or (levels, n) with level_weight (levels,), float64 on the CPU: a pair's term is multiplied by those of the levels
    that it shares; temperature a tensor without dimension; anchors are the rows first <= i < first + count (count < 0:
    all). Returns (count,), float64 for float64 rows, else float32. Differentiable by rows and temperature. On CUDA
    float32 rows are multiplied in TF32 where torch.backends.cuda.matmul says so, else by three products of TF32 or
    float16.
    """
    if rows.is_cuda:
        _make_way(rows.device)
    tf32 = rows.is_cuda and _tf32()
    settings = (same_class, ignore_label, normalize, first, count, tf32, level_weight)
    inputs = (rows, image, pseudo_class, temperature, *settings)
    if not torch.compiler.is_compiling() and _transformed():
        return _TransformedLoss.apply(*inputs)[0]
    wants_gradient = torch.is_grad_enabled() and (rows.requires_grad or temperature.requires_grad)
    if torch.compiler.is_compiling() or not wants_gradient:  # compiled, the op is one node with its own autograd
        return torch.ops.clustercl.contrastive_loss(*inputs)[0]
    return _Loss.apply(*inputs)
