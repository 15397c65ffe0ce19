"""What the extension tells of itself, and its threads in a process that was forked off."""

import subprocess
import sys
from contextlib import contextmanager

import pytest
import torch

from clustercl.ops import _extension


@pytest.mark.parametrize(
    "card, wgmma, told",
    [
        ((9, 0), True, "compiled, by wgmma from 4,096 rows on where that serves (docs/loss.md), else by mma.sync"),
        ((9, 0), False, "compiled, by mma.sync (built without compute capability 9.0a)"),
        ((8, 6), True, "compiled, by mma.sync (compute capability 8.6)"),
        (None, True, "compiled"),
    ],
)
def test_the_kernel_of_the_loss_on_a_gpu_is_told(monkeypatch, card, wgmma, told):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: card is not None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: card)
    monkeypatch.setattr(_extension, "build_info", lambda: {"wgmma": wgmma})
    assert _extension.cuda_loss_kernel() == told


def test_a_build_says_whether_it_holds_wgmma():
    if not _extension.available():
        pytest.skip("no extension")
    info = _extension.build_info()
    assert isinstance(info["wgmma"], bool) and (info["cuda"] or not info["wgmma"])


class Card:
    """Stands for a build with CUDA kernels where torch sees GPUs; `said` is what the runtime finds wrong with each."""

    def __init__(self, monkeypatch, said, capability):
        self.asked = []
        monkeypatch.setattr(_extension, "_C", self)
        monkeypatch.setattr(_extension, "MISSING", None)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
        monkeypatch.setattr(torch.cuda, "device", self.device)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: capability)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: f"Card {index}")
        self.said = said
        _extension._card_refuses.cache_clear()

    @contextmanager
    def device(self, index):
        self.asked.append(index)
        yield

    def card_refuses(self):
        return self.said[self.asked[-1]]

    def build_info(self):
        return {"cuda": True}


@pytest.fixture
def forget():
    yield
    _extension._card_refuses.cache_clear()


def test_a_card_that_cannot_run_the_kernels_is_told(monkeypatch, forget):
    card = Card(monkeypatch, ["no kernel image is available", ""], (7, 5))
    wanted = (
        "Card 0 (compute capability 7.5) cannot run the compiled kernels, they want 8.0 or newer: "
        "no kernel image is available"
    )
    for device in ("cuda", "cuda:0", torch.device("cuda", 0)):
        assert _extension.why_no_kernels(device) == wanted
    assert _extension.why_no_kernels("cuda:1") is None
    assert _extension.why_no_kernels("cpu") is None
    assert card.asked == [0, 1]  # each card is asked once
    Card(monkeypatch, ["CUDA driver version is insufficient for CUDA runtime version"], (9, 0))
    assert _extension.why_no_kernels("cuda") == (
        "Card 0 (compute capability 9.0) cannot run the compiled kernels: "
        "CUDA driver version is insufficient for CUDA runtime version"
    )


def test_other_devices_have_no_kernel_and_are_told():
    if not _extension.available():
        pytest.skip("no extension")
    assert _extension.why_no_kernels("xpu") == "this version has no compiled kernels for device type 'xpu'"


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_card_at_hand_runs_the_kernels():
    assert _extension.why_no_kernels("cuda") is None
    for op in ("contrastive_loss", "contrastive_loss_backward", "pairwise_distances"):
        assert torch._C._dispatch_has_kernel_for_dispatch_key(f"clustercl::{op}", "CUDA")
    assert hasattr(_extension._C, "linkage_cuda")


@pytest.mark.parametrize("loaded", [True, False], ids=["loaded", "imported alone"])
def test_a_forked_process_does_not_wait_for_threads_that_it_has_not(loaded):
    """Also where the parent only says `import clustercl`, and the names are first used in the child."""
    code = """
import os, signal, sys, torch
import clustercl
torch.set_num_threads(2)
rows = torch.randn(2000, 16, generator=torch.Generator().manual_seed(0))
rows.exp_().log_()  # torch's own threads are awake, too

def everything():
    x = rows.clone().requires_grad_()
    value = clustercl.pseudo_class_nt_xent(x, torch.arange(1000) % 9)
    value.backward()
    trees = [clustercl.linkage(rows.numpy(), method) for method in ("ward", "average", "complete", "single")]
    tensors = value.detach(), x.grad, clustercl.pairwise_distances(rows)
    return b"".join(part.tobytes() for part in (*(tensor.numpy() for tensor in tensors), *trees))

wanted = everything() if "loaded" in sys.argv else b""
assert ("clustercl._C" in sys.modules) == ("loaded" in sys.argv)
child = os.fork()
if child == 0:
    signal.alarm(60)  # ends one that waits
    os._exit(0 if everything().endswith(wanted) else 3)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""
    subprocess.run([sys.executable, "-c", code, *["loaded"] * loaded], check=True, timeout=120)
