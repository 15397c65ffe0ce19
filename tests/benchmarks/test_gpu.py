"""What `make gpu-check` is made of, as far as it shows without a GPU."""

import sys

import pytest
import torch

from clustercl.benchmarks import gpu_check, loss_gpu
from clustercl.errors import RunError


def test_rows_are_checked_and_timed(monkeypatch):
    monkeypatch.setattr(loss_gpu, "SECONDS", 0.0)
    monkeypatch.setattr(loss_gpu, "compiled", loss_gpu.naive)  # the compiler takes half a minute
    rows = loss_gpu.run([(64, 8, "float32"), (64, 8, "bfloat16"), (64, 8, "tf32")], device="cpu")
    assert [(row["precision"], row["program"]) for row in rows] == [
        (precision, program)
        for precision in ("float32", "bfloat16", "tf32")
        for program in ("clustercl", "naive torch", "torch.compile")
    ]
    for row in rows:
        assert 0 < row["fastest"] <= row["milliseconds"] <= row["slowest"] and row["repeats"] >= 4
        assert row["tflops"] == pytest.approx(1e-9 * 4 * 64**2 * 8 / row["milliseconds"])
        assert row["loss_error"] < 0.1
    assert torch.get_float32_matmul_precision() == "highest"


def test_a_wrong_answer_stops_it(monkeypatch):
    right = loss_gpu.ours
    monkeypatch.setattr(loss_gpu, "ours", lambda mode: lambda x, labels: 1.001 * right(mode)(x, labels))
    with pytest.raises(RunError, match="clustercl, n 64, d 8, float32: the loss is off by"):
        loss_gpu.run([(64, 8, "float32")], device="cpu")


def test_a_step_tells_how_it_ended(monkeypatch, capsys):
    monkeypatch.setattr(gpu_check, "STEP_SECONDS", 5)
    good = gpu_check.step("good", [sys.executable, "-c", "print('fine')"])
    assert good["passed"] and good["output"] == "fine\n" and good["seconds"] > 0
    bad = gpu_check.step("bad", [sys.executable, "-c", "raise SystemExit('broken')"])
    assert not bad["passed"] and "broken" in bad["output"] and "broken" in capsys.readouterr().err
    slow = gpu_check.step("slow", [sys.executable, "-c", "import time; time.sleep(60)"])
    assert not slow["passed"] and "timed out" in slow["output"]
    assert not gpu_check.step("missing", ["no-such-program"])["passed"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_gpu_it_says_so(tmp_path):
    with pytest.raises(SystemExit, match="torch sees no CUDA device"):
        gpu_check.run(tmp_path)
