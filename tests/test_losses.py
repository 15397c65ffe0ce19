"""The public loss: values by hand, calling conventions, reductions, compile, autocast, errors, several processes."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from clustercl import PseudoClassNTXentLoss, pseudo_class_nt_xent
from clustercl.reference import pseudo_class_nt_xent as reference


def embeddings(b=6, views=2, d=5, dtype=torch.float64, seed=0):
    return torch.randn(views * b, d, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def test_by_hand():
    # Two images whose views coincide, orthogonal to each other, temperature 1: the positive at 1, two negatives at 0.
    x = torch.tensor([[2.0, 0.0], [0.0, 3.0], [1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    e = torch.tensor(1.0).double().exp()
    assert pseudo_class_nt_xent(x, temperature=1.0).item() == pytest.approx(((e + 2).log() - 1).item(), abs=1e-14)
    # Of one class: excluded, only the positive is left; attracted, positives at 1, 0, 0 among the same candidates.
    same = torch.tensor([4, 4])
    assert pseudo_class_nt_xent(x, same, temperature=1.0).item() == 0
    attract = pseudo_class_nt_xent(x, same, temperature=1.0, same_class="attract").item()
    assert attract == pytest.approx(((e + 2).log() - 1 / 3).item(), abs=1e-14)
    # Not known: as if there were no classes; another number may stand for it.
    for unknown, options in ((torch.tensor([-1, -1]), {}), (same, {"ignore_label": 4})):
        for same_class in ("exclude", "attract"):
            value = pseudo_class_nt_xent(x, unknown, temperature=1.0, same_class=same_class, **options)
            assert value.item() == pytest.approx(((e + 2).log() - 1).item(), abs=1e-14)


@pytest.mark.parametrize("same_class", ["exclude", "attract", "ignore"])
def test_calling_conventions_and_reductions(same_class):
    b, views = 6, 2
    x, c = embeddings(b, views), torch.tensor([0, 1, 1, -1, 0, 0])
    options = {"temperature": 0.2, "same_class": same_class}
    wanted = reference(x, c, views, **options)
    rows = pseudo_class_nt_xent(x, c, reduction="none", **options)
    torch.testing.assert_close(rows, wanted)
    torch.testing.assert_close(pseudo_class_nt_xent(x, c, **options), wanted.mean())
    torch.testing.assert_close(pseudo_class_nt_xent(x, c, reduction="sum", **options), wanted.sum())
    loss = PseudoClassNTXentLoss(**options)
    z0, z1 = x[:b], x[b:]
    features = torch.stack([z0, z1], dim=1)
    for value in (loss(z0, z1, c), loss(z0, z1, pseudo_class=c), loss(features, c), loss(features, pseudo_class=c)):
        torch.testing.assert_close(value, wanted.mean())
    for value in (loss(z0, z1), loss(features)):
        torch.testing.assert_close(value, reference(x, None, views, temperature=0.2).mean())
    assert f"same_class='{same_class}'" in repr(loss)


@pytest.mark.parametrize("kind", [torch.uint8, torch.int16, torch.int32, torch.int64])
def test_three_views_and_any_integers(kind):
    x, c = embeddings(5, 3), torch.tensor([7, 7, 200 if kind == torch.uint8 else -300, 1, 7]).to(kind)
    features = x.view(3, 5, -1).transpose(0, 1)
    torch.testing.assert_close(PseudoClassNTXentLoss()(features, c), reference(x, c, 3).mean())


def test_gradient_reaches_both_views_and_the_temperature():
    z0, z1 = embeddings().chunk(2)
    t = torch.nn.Parameter(torch.tensor(0.3))
    loss = PseudoClassNTXentLoss(temperature=t)
    assert list(loss.parameters()) == [t]
    z0.requires_grad_(), z1.requires_grad_()
    loss(z0, z1, torch.tensor([0, 0, 1, 1, 2, 3])).backward()
    x, s = torch.cat([z0, z1]).detach().requires_grad_(), torch.tensor(0.3).double().requires_grad_()
    reference(x, torch.tensor([0, 0, 1, 1, 2, 3]), temperature=s).mean().backward()
    # The temperature is float32: 0.3 itself is off by 1e-8.
    torch.testing.assert_close(torch.cat([z0.grad, z1.grad]), x.grad, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(t.grad, s.grad.float(), rtol=1e-5, atol=1e-6)


def test_base_temperature_multiplies_as_in_supcontrast():
    x, c = embeddings(), torch.tensor([0, 1, 1, -1, 0, 0])
    wanted = reference(x, c, temperature=0.2).mean() * 0.2 / 0.07
    torch.testing.assert_close(pseudo_class_nt_xent(x, c, temperature=0.2, base_temperature=0.07), wanted)
    loss = PseudoClassNTXentLoss(0.2, base_temperature=0.07)
    torch.testing.assert_close(loss(x[:6], x[6:], c), wanted)
    assert "base_temperature=0.07" in repr(loss)
    # A tensor temperature gets the gradient of the factor too; the loss keeps the type of float32 embeddings.
    t = torch.tensor(0.2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda t: pseudo_class_nt_xent(x, c, temperature=t, base_temperature=0.07), (t,))
    assert pseudo_class_nt_xent(x.float(), c, temperature=t, base_temperature=0.07).dtype == torch.float32


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_gradient_scaler_would_see_what_is_not_finite(value):
    x = embeddings(dtype=torch.float32)
    x[3] = 0
    x[3, 1] = value
    x.requires_grad_()
    pseudo_class_nt_xent(x).backward()
    assert not x.grad.isfinite().all()


def test_autocast_leaves_the_precision_of_the_loss_alone():
    x = embeddings(20, 2, 64, torch.float32)
    wanted = pseudo_class_nt_xent(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(pseudo_class_nt_xent(x), wanted)
        linear = torch.nn.Linear(64, 64)
        value = pseudo_class_nt_xent(linear(x))
    assert value.dtype == torch.float32
    value.backward()
    assert linear.weight.grad.isfinite().all()


def test_compiles_without_graph_break():
    loss = PseudoClassNTXentLoss(temperature=0.2)

    def step(x, w, c):
        z = x @ w
        return loss(z[: len(z) // 2], z[len(z) // 2 :], c)

    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    for b in (6, 9):
        x, c = embeddings(b), torch.arange(b) % 3
        w, v = (torch.eye(5, dtype=torch.float64).requires_grad_() for _ in range(2))
        value = compiled(x, w, c)
        value.backward()
        plain = step(x, v, c)
        plain.backward()
        torch.testing.assert_close(value, plain)
        torch.testing.assert_close(w.grad, v.grad)


@pytest.mark.parametrize("base_temperature", [None, 0.07])
def test_compiles_with_sizes_and_temperatures_that_change(base_temperature):
    torch._dynamo.reset()
    x, c = embeddings(), torch.arange(6) % 3
    loss = PseudoClassNTXentLoss(temperature=0.2, base_temperature=base_temperature)
    at_once = torch.compile(loss, fullgraph=True, dynamic=True, backend="aot_eager")
    step_by_step = torch.compile(loss, fullgraph=True, backend="aot_eager")
    for step in range(12):  # a graph for each would be refused: torch stops at eight
        loss.temperature = 0.2 - 0.01 * step
        b = 3 + step % 4
        z = torch.stack([x[:b], x[6 : 6 + b]], dim=1).requires_grad_()
        for compiled in (at_once, step_by_step):
            value, plain = compiled(z, c[:b]), loss(z, c[:b])
            torch.testing.assert_close(value, plain)
            torch.testing.assert_close(*(torch.autograd.grad(one, z)[0] for one in (value, plain)))


def test_models_with_temperatures_of_their_own_are_mapped_at_once():
    x, temperatures = embeddings(), torch.tensor([0.1, 0.3], dtype=torch.float64)
    loss = PseudoClassNTXentLoss(torch.nn.Parameter(temperatures[0]), base_temperature=0.07)
    labels = torch.tensor([[0, 1, 1, 2, 2, 0], [0, 0, 1, 1, 2, 2]]).to(torch.uint64)

    def of_model(t, c):
        return torch.func.functional_call(loss, {"temperature": t}, (*x.chunk(2), c))

    found = torch.vmap(torch.func.grad_and_value(of_model))(temperatures, labels)
    for gradient, value, t, c in zip(*found, temperatures, labels):
        t = t.clone().requires_grad_()
        wanted = pseudo_class_nt_xent(x, c, temperature=t, base_temperature=0.07)
        torch.testing.assert_close(value, wanted.detach())
        torch.testing.assert_close(gradient, *torch.autograd.grad(wanted, t))


def test_is_exported_for_any_batch():
    x, c = embeddings(), torch.arange(6) % 3
    b = torch.export.Dim("b", min=2)
    loss = PseudoClassNTXentLoss(temperature=0.2)
    program = torch.export.export(loss, (x[:6], x[6:], c), dynamic_shapes=({0: b}, {0: b}, {0: b})).module()
    torch.testing.assert_close(program(x[:4], x[6:10], c[:4]), loss(x[:4], x[6:10], c[:4]))


def test_numbers_of_numpy_are_numbers():
    x = embeddings()
    value = pseudo_class_nt_xent(x, torch.arange(6), np.int64(2), np.float64(0.2), ignore_label=np.int64(-1))
    torch.testing.assert_close(value, pseudo_class_nt_xent(x, torch.arange(6), temperature=0.2))


def test_non_finite_embeddings():
    x = embeddings()
    x[3, 1] = float("nan")
    assert not pseudo_class_nt_xent(x).isfinite()
    with pytest.raises(ValueError, match=r"embeddings must be finite, got NaN or infinity in 1 of 12 rows"):
        pseudo_class_nt_xent(x, check_finite=True)
    with pytest.raises(ValueError, match="embeddings must be finite"):
        PseudoClassNTXentLoss(check_finite=True)(x[:6], x[6:])


X, C = embeddings(), torch.arange(6)
BAD = [
    (lambda: pseudo_class_nt_xent(X, temperature=0), ValueError, "temperature must be a positive number, got 0"),
    (lambda: pseudo_class_nt_xent(X, temperature=-0.1), ValueError, "temperature must be a positive number, got -0.1"),
    (lambda: pseudo_class_nt_xent(X, temperature=float("nan")), ValueError, "temperature .* got nan"),
    (lambda: pseudo_class_nt_xent(X, temperature="0.1"), TypeError, "temperature must be a number .* got '0.1'"),
    (lambda: pseudo_class_nt_xent(X, temperature=torch.ones(2)), ValueError, r"temperature .* shape \(2,\)"),
    (lambda: pseudo_class_nt_xent(X, temperature=torch.tensor(-1.0)), ValueError, "temperature .* got -1"),
    (lambda: pseudo_class_nt_xent(X, temperature=torch.tensor(float("nan"))), ValueError, "temperature .* got nan"),
    (
        lambda: pseudo_class_nt_xent(X, temperature=torch.tensor(0.1, device="meta")),
        ValueError,
        "temperature must be on the device of embeddings or the CPU, got meta and cpu",
    ),
    (lambda: pseudo_class_nt_xent(X, temperature=1e-39), ValueError, "temperature must be a positive .* got 1e-39"),
    (lambda: pseudo_class_nt_xent(X, C, ignore_label=None), TypeError, "ignore_label must be an integer, got None"),
    (lambda: pseudo_class_nt_xent(X, C, ignore_label=2**70), ValueError, "ignore_label must fit into 64 bits"),
    (lambda: pseudo_class_nt_xent(X, base_temperature=0), ValueError, "base_temperature must be a positive .* got 0"),
    (lambda: pseudo_class_nt_xent(X, base_temperature="a"), TypeError, "base_temperature must be a number or None"),
    (lambda: pseudo_class_nt_xent(X, same_class="drop"), ValueError, "same_class must be one of .* got 'drop'"),
    (lambda: pseudo_class_nt_xent(X, reduction="max"), ValueError, "reduction must be one of .* got 'max'"),
    (lambda: pseudo_class_nt_xent(X, views=1), ValueError, "views must be at least 2, got 1"),
    (lambda: pseudo_class_nt_xent(X, views=2.0), TypeError, "views must be an integer, got 2.0"),
    (lambda: pseudo_class_nt_xent(X, views=5), ValueError, "multiple of views = 5 rows, got 12"),
    (lambda: pseudo_class_nt_xent(X[:2]), ValueError, "at least 2 images, got 1 of 2 views"),
    (lambda: pseudo_class_nt_xent(X[:0]), ValueError, "at least 2 images, got 0 of 2 views"),
    (lambda: pseudo_class_nt_xent(X[0]), ValueError, r"embeddings must be \(n, d\), got shape \(5,\)"),
    (lambda: pseudo_class_nt_xent(X.long()), TypeError, "embeddings must be float64.* got torch.int64"),
    (lambda: pseudo_class_nt_xent(X.numpy()), TypeError, "embeddings must be a tensor, got ndarray"),
    (lambda: pseudo_class_nt_xent(X, C[:5]), ValueError, r"pseudo_class must be \(6,\), .* got shape \(5,\)"),
    (lambda: pseudo_class_nt_xent(X, C.float()), TypeError, "pseudo_class must hold integers, got torch.float32"),
    (
        lambda: pseudo_class_nt_xent(X, torch.full((6,), 2**64 - 1, dtype=torch.uint64)),
        ValueError,
        r"below 2\*\*63, got",
    ),
    (lambda: pseudo_class_nt_xent(X, [0, 1]), TypeError, "pseudo_class must be a tensor, got list"),
    (lambda: pseudo_class_nt_xent(X, C.to("meta")), ValueError, "pseudo_class must be on the device of embeddings"),
    (lambda: pseudo_class_nt_xent(X.to_sparse()), TypeError, "embeddings must be dense, got a torch.sparse_coo"),
    (lambda: pseudo_class_nt_xent(X, C.to_sparse()), TypeError, "pseudo_class must be dense, got a torch.sparse_coo"),
    (lambda: PseudoClassNTXentLoss()(X, X.to_sparse()), TypeError, "z1 must be dense, got a torch.sparse_coo"),
    (
        lambda: PseudoClassNTXentLoss()(torch.nested.nested_tensor([X, X])),
        TypeError,
        "z0 .* dense, got a nested tensor",
    ),
    (lambda: PseudoClassNTXentLoss(temperature=0.0), ValueError, "temperature must be a positive number"),
    (lambda: PseudoClassNTXentLoss()(X), ValueError, r"z0 and z1 must both be \(b, d\).* got \(12, 5\) and NoneType"),
    (lambda: PseudoClassNTXentLoss()(X[:6], X[:5]), ValueError, r"got \(6, 5\) and \(5, 5\)"),
    (lambda: PseudoClassNTXentLoss()(X[:6], X[6:].float()), ValueError, "one dtype .* torch.float64 .* torch.float32"),
    (lambda: PseudoClassNTXentLoss()(X.view(6, 2, 5), C, C), ValueError, "features .* one pseudo_class"),
    (lambda: PseudoClassNTXentLoss()(X.view(12, 1, 5), C), ValueError, "views must be at least 2, got 1"),
    (lambda: PseudoClassNTXentLoss()(C, C), ValueError, "z0 and z1"),
]


@pytest.mark.parametrize("call, kind, text", BAD, ids=[text for _, _, text in BAD])
def test_bad_input_names_the_argument(call, kind, text):
    with pytest.raises(kind, match=text):
        call()


# One process of two (or the only one): a linear layer and a temperature see their part of the batch.
WORKER = """
import sys, torch, torch.distributed as dist
from clustercl import PseudoClassNTXentLoss
rank, processes, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
if processes > 1:
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=processes)
torch.manual_seed(0)
images, c = torch.randn(12, 2, 6, dtype=torch.float64), torch.arange(12) % 4 - 1
own = slice(rank * 12 // processes, (rank + 1) * 12 // processes)
net = torch.nn.Linear(6, 4).double()
found = {}
for name, same_class, labels, weights in (
    ("exclude", "exclude", c, None), ("attract", "attract", c, None),
    ("levels", "exclude", torch.stack([c, 2 * c + torch.arange(12) % 2], dim=1), (0.6, 0.1)),
):
    model = torch.nn.parallel.DistributedDataParallel(net) if processes > 1 else net
    temperature = torch.tensor(0.2, dtype=torch.float64, requires_grad=True)
    loss = PseudoClassNTXentLoss(temperature, same_class, gather_distributed=True, level_weight=weights)
    net.zero_grad()
    value = loss(model(images[own].flatten(0, 1)).view(-1, 2, 4), labels[own])
    value.backward()
    if processes > 1:  # what DistributedDataParallel would do were the temperature a parameter of the model
        dist.all_reduce(temperature.grad)
        temperature.grad /= processes
    found[name] = [value.detach(), temperature.grad, *(p.grad.clone() for p in net.parameters())]
if processes > 1:
    loss = PseudoClassNTXentLoss(gather_distributed=True)
    try:
        loss(images[:6], c[:6] if rank else None)
        raise SystemExit("classes on one process only must raise")
    except ValueError as error:
        assert "pseudo_class must be given on every process or on none, got [False, True]" in str(error), error
    nan = torch.full_like(images[:6], float("nan"))
    finite = PseudoClassNTXentLoss(gather_distributed=True, check_finite=True)
    elsewhere = PseudoClassNTXentLoss(torch.tensor(0.1, device="meta"), gather_distributed=True)
    refused = "the batch of process 1 was refused there, which says why"
    shapes = "must have the same shape on every process (drop the last, smaller batch), got [(12, 6), "
    other_views, other_types = [(6, 2, 6), (3, 4, 6)][rank], [torch.float32, torch.bfloat16][rank]
    for what, call, messages in (
        ("batches", lambda: loss(images[: 6 - rank], c[: 6 - rank]), 2 * [shapes + "(10, 6)]"]),
        ("views", lambda: loss(images[:6].reshape(other_views)), 2 * [shapes + "(12, 6)] of [2, 4] views"]),
        ("types", lambda: loss(images[:6].to(other_types)), 2 * ["one dtype on all processes, got torch.float32, "]),
        ("no images", lambda: loss(images[:0], c[:0]), 2 * ["must hold an image on every process, got 0"]),
        ("NaN on one", lambda: finite([images[:6], nan][rank]), [refused, "got NaN or infinity in 12 of 12 rows"]),
        ("no tensor on one", lambda: loss([images[:6], images[:6].numpy()][rank], c[:6]),
         [refused, "z0 must be a tensor, got ndarray"]),
        ("nothing on one", lambda: loss([images[:6], None][rank]), [refused, "z0 must be a tensor, got NoneType"]),
        ("no second view on one", lambda: loss(images[:6, 0], [images[:6, 1], "z1"][rank]),
         [refused, "got (6, 6) and str"]),
        ("classes in a list on one", lambda: loss(images[:6], [c[:6], c[:6].tolist()][rank]),
         [refused, "pseudo_class must be a tensor, got list"]),
        ("another device on one", lambda: loss(images[:6].to(["cpu", "meta"][rank])),
         [refused, "embeddings are on meta, wanted them where the process group exchanges, as cpu"]),
        ("one class too many", lambda: loss(images[:6], c[: 6 + rank]), [refused, "must be (6,), one per image"]),
        ("temperature elsewhere on one", lambda: [loss, elsewhere][rank](images[:6], c[:6]),
         [refused, "temperature must be on the device of embeddings or the CPU, got meta and cpu"]),
    ):
        try:
            call()
            raise SystemExit(f"{what} must raise")
        except (ValueError, TypeError) as error:
            assert messages[rank] in str(error), error
torch.save(found, f"{folder}/{rank}of{processes}.pt")
if processes > 1:  # left to the interpreter's end, gloo's threads now and then abort the process
    dist.barrier()
    dist.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes_give_the_gradient_of_one(tmp_path):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    runs = [
        subprocess.Popen([sys.executable, "-c", WORKER, str(rank), str(processes), tmp_path], env=environment)
        for rank, processes in ((0, 1), (0, 2), (1, 2))
    ]
    assert [run.wait(timeout=120) for run in runs] == [0, 0, 0]
    one, first, second = (torch.load(tmp_path / name) for name in ("0of1.pt", "0of2.pt", "1of2.pt"))
    assert list(one) == ["exclude", "attract", "levels"]
    for name, wanted in one.items():
        value = (first[name][0] + second[name][0]) / 2
        torch.testing.assert_close(value, wanted[0], rtol=1e-12, atol=0)
        for part in (first, second):
            for grad, truth in zip(part[name][1:], wanted[1:]):
                # float64 throughout; only the order of the sums differs.
                assert grad.norm() / truth.norm() == pytest.approx(1, abs=1e-10)
                assert torch.cosine_similarity(grad.flatten(), truth.flatten(), dim=0).item() == pytest.approx(
                    1, abs=1e-10
                )


def test_levels_of_a_tree_in_both_ways_of_calling():
    x, levels = embeddings(), torch.tensor([[0, 0], [0, 0], [0, 1], [1, 2], [-1, -1], [1, -1]])
    weights = (0.5, 0.2)
    wanted = reference(x, levels, temperature=0.2, level_weight=weights).mean()
    torch.testing.assert_close(pseudo_class_nt_xent(x, levels, temperature=0.2, level_weight=weights), wanted)
    loss = PseudoClassNTXentLoss(temperature=0.2, level_weight=weights)
    z0, z1 = x.chunk(2)
    torch.testing.assert_close(loss(z0, z1, levels), wanted)
    torch.testing.assert_close(loss(torch.stack([z0, z1], dim=1), levels), wanted)
    torch.testing.assert_close(loss(z0, z1), reference(x, temperature=0.2).mean())  # no classes: no levels
    assert "level_weight=(0.5, 0.2)" in repr(loss)


def test_levels_weigh_wherever_torch_makes_new_tensors():
    x, levels = embeddings(), torch.tensor([[0, 0], [0, 0], [0, 1], [1, 2], [-1, -1], [1, -1]])
    loss = PseudoClassNTXentLoss(temperature=0.2, level_weight=(0.5, 0.2))
    wanted = loss(*x.chunk(2), levels)
    with torch.device("meta"):  # as torch.set_default_device("cuda") on a machine that has one
        assert torch.equal(loss(*x.chunk(2), levels), wanted)


def test_levels_by_hand():
    # The positive at 1, two negatives at 0 that count half: e + 2 / 2 under the logarithm.
    x = torch.tensor([[2.0, 0.0], [0.0, 3.0], [1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    value = pseudo_class_nt_xent(x, torch.tensor([[4], [4]]), temperature=1.0, level_weight=[0.5])
    assert value.item() == pytest.approx(((torch.tensor(1.0).double().exp() + 1).log() - 1).item(), abs=1e-14)


@pytest.mark.parametrize(
    "levels, options, error, message",
    [
        (2, {"level_weight": 0.5}, TypeError, "level_weight must be numbers, got 0.5"),
        (2, {"level_weight": []}, ValueError, "1 to 4 numbers, got 0"),
        (5, {"level_weight": [0.5] * 5}, ValueError, "1 to 4 numbers, got 5"),
        (2, {"level_weight": [0.5, 1.5]}, ValueError, "must lie in 0..1, got 1.5"),
        (2, {"level_weight": [1e-20, 0.0, 1e-20]}, ValueError, "0 where the product of the others is below"),
        (2, {"level_weight": [0.5, float("nan")]}, ValueError, "must lie in 0..1, got nan"),
        (2, {"level_weight": [0.5, 0.1], "same_class": "attract"}, ValueError, "goes with same_class='exclude'"),
        (3, {"level_weight": [0.5, 0.1]}, ValueError, r"must be \(6, 2\), one per image and level, got shape \(6, 3\)"),
        (3, {}, ValueError, r"must be \(6,\), one per image, got shape \(6, 3\)"),
    ],
)
def test_levels_refuse_what_does_not_fit(levels, options, error, message):
    with pytest.raises(error, match=message):
        pseudo_class_nt_xent(embeddings(), torch.zeros(6, levels, dtype=torch.long), **options)
