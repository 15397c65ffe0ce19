"""What the extension tells of itself."""

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
