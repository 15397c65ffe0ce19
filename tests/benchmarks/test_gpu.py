"""What `make gpu-check` is made of, as far as it shows without a GPU."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from clustercl.benchmarks import (
    gpu_check,
    gpu_profile,
    gpu_show,
    layout_gpu,
    linkage_gpu,
    loss_gpu,
    record,
    steps,
    train_gpu,
)
from clustercl.errors import RunError
from clustercl.training.run import TRAINING


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


def test_trees_are_checked_and_timed(monkeypatch):
    monkeypatch.setattr(linkage_gpu, "SECONDS", 0.0)
    monkeypatch.setattr(linkage_gpu, "COMPARED_MOST", {"ward": 100})
    rows = linkage_gpu.run([("ward", 100), ("ward", 150), ("single", 60)], device="cpu", d=4)
    assert [(row["method"], row["n"], row["compared"]) for row in rows[::2]] == [
        ("ward", 100, True), ("ward", 150, False), ("single", 60, True),
    ]  # fmt: skip
    assert {row["data"] for row in rows} == {"blobs", "gaussian"}
    for row in rows:
        assert 0 < row["fastest"] <= row["milliseconds"] <= row["slowest"] and row["repeats"] == 3
        assert row["scans"] > 0 and (row["rounds"] > 0) == (row["method"] == "ward")


@pytest.mark.parametrize("compared, message", [(100, "the tree is not the CPU's"), (0, "no tree of these rows")])
def test_a_wrong_tree_stops_it(monkeypatch, compared, message):
    right = linkage_gpu.linkage

    def wrong(x, method):
        z = right(x, method)
        return z if isinstance(x, np.ndarray) else z * [1, 1, 1.001, 1]

    monkeypatch.setattr(linkage_gpu, "linkage", wrong)
    monkeypatch.setattr(linkage_gpu, "COMPARED_MOST", {"ward": compared})
    with pytest.raises(RunError, match=message):
        linkage_gpu.run([("ward", 100)], device="cpu", d=4)


def test_a_step_tells_how_it_ended(monkeypatch, capsys):
    monkeypatch.setattr(steps, "STEP_SECONDS", 5)
    good = steps.step("good", [sys.executable, "-c", "print('long'); print('fine')"])
    assert good["passed"] and good["output"] == "fine" and good["seconds"] > 0
    bad = steps.step("bad", [sys.executable, "-c", "raise SystemExit('broken')"])
    assert not bad["passed"] and "broken" in bad["output"] and "broken" in capsys.readouterr().err
    slow = steps.step("slow", [sys.executable, "-c", "import time; time.sleep(60)"])
    assert not slow["passed"] and "timed out" in slow["output"]
    assert not steps.step("missing", ["no-such-program"])["passed"]


def test_a_wrong_answer_fails_its_step_and_leaves_the_rest(monkeypatch):
    def one(cases):
        if cases[0] == loss_gpu.CASES[1]:
            raise RunError("the loss is off")
        if cases[0] == loss_gpu.CASES[2]:
            raise torch.OutOfMemoryError("no room")
        return [{"case": cases[0]}]

    monkeypatch.setattr(loss_gpu, "run", one)
    monkeypatch.setattr(linkage_gpu, "run", lambda cases: [{"case": cases[0]}])
    monkeypatch.setattr(train_gpu, "run", lambda cases: [{"case": cases[0]}])
    found, kept = {"steps": [], "loss": [], "linkage": [], "train": []}, []
    gpu_check.measure(found, lambda: kept.append(len(found["loss"]) + len(found["linkage"])))
    assert [row["case"] for row in found["loss"]] == [*loss_gpu.CASES[:1], *loss_gpu.CASES[3:]]
    assert [row["case"] for row in found["linkage"]] == list(linkage_gpu.CASES)
    assert [row["case"] for row in found["train"]] == list(train_gpu.CASES)
    of_loss, of_linkage, _ = found["steps"]
    lines = of_loss["output"].splitlines()
    assert not of_loss["passed"] and of_linkage["passed"]
    assert lines == ["the loss is off", f"{loss_gpu.CASES[2]}: OutOfMemoryError: no room"]
    assert kept[0] == 1 and kept[-1] == len(loss_gpu.CASES) - 2 + len(linkage_gpu.CASES)


def test_only_files_with_a_test_for_cuda_are_collected():
    assert gpu_check.TRAINING_TESTS.is_file()
    names = {path.name for path in gpu_check.tests()}
    assert names == {f"test_{name}.py" for name in ("contrastive", "cuda_glue", "extension", "linkage", "pairwise")}


@pytest.mark.parametrize(
    "lacking, failing",
    [([], None), ([], "training"), (["monai"], "training"), ([], "pytest -m cuda"), ([], "test_a"), ([], "build")],
)
def test_the_kernels_are_measured_whatever_fails_beside_them(monkeypatch, tmp_path, capsys, lacking, failing):
    def step(name, command, most=None):
        return {"name": name, "passed": not (failing and failing in name), "seconds": 1.0, "output": ""}

    def measure(found, keep):
        found["loss"], found["linkage"] = [{"n": 1}], [{"n": 2}]

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "A card")
    monkeypatch.setattr("clustercl.ops._extension.cuda_loss_kernel", lambda: "compiled")
    monkeypatch.setattr(train_gpu, "missing", lambda: lacking)
    stand_ins = {
        "built": lambda: step("extension", []),
        "built_programs": lambda: [step("build", []), step("test_a", [])],
        "sanitized": lambda end: [step("test_a, memcheck", [])],
    }
    for name, stand_in in (stand_ins | {"step": step, "measure": measure}).items():
        monkeypatch.setattr(gpu_check, name, stand_in)
    passed = gpu_check.run(tmp_path)
    found = json.loads((tmp_path / "a-card.json").read_text())
    assert found["loss"] and found["linkage"]
    assert passed == found["passed"] == (failing is None or bool(lacking))
    names = ["extension", "pytest -m cuda", "build", "test_a"] + ["test_a, memcheck"] * (failing != "build")
    assert [one["name"] for one in found["steps"]] == names + ["pytest -m cuda, training"] * (not lacking)
    assert ("training is left out: monai not installed" in capsys.readouterr().err) == bool(lacking)


def test_without_kernels_nothing_is_measured(monkeypatch, tmp_path):
    def step(name, command=(), most=None):
        return {"name": name, "passed": name != "extension", "seconds": 1.0, "output": ""}

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "A card")
    monkeypatch.setattr("clustercl.ops._extension.cuda_loss_kernel", lambda: "the slow path")
    monkeypatch.setattr(train_gpu, "missing", list)
    monkeypatch.setattr(gpu_check, "built", lambda: step("extension"))
    monkeypatch.setattr(gpu_check, "built_programs", list)
    monkeypatch.setattr(gpu_check, "step", step)
    monkeypatch.setattr(gpu_check, "measure", lambda *_: pytest.fail("measured"))
    assert gpu_check.run(tmp_path) is False


def test_a_step_ends_with_the_time_for_all():
    now = time.monotonic()
    assert gpu_check._until(now + 1000, 50) == 50
    assert 90 < gpu_check._until(now + 100, 240) <= 100
    assert gpu_check._until(now - 1, 240) == gpu_check.LEAST_SECONDS


def test_told_to_end_it_ends_what_it_started(tmp_path):
    """A program of a step is in a session of its own, which no signal to gpu-check reaches."""
    (tmp_path / "endless.sh").write_text("echo $$ > child; exec sleep 100\n")
    script = (
        "from clustercl.benchmarks import gpu_check; "
        f"gpu_check.run = lambda: gpu_check.step('endless', ['sh', '-c', 'cd {tmp_path}; . ./endless.sh']); "
        "gpu_check.main()"
    )
    with subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.DEVNULL) as process:
        child = tmp_path / "child"
        until = time.monotonic() + 60
        while not (child.exists() and child.read_text().strip()) and time.monotonic() < until:
            time.sleep(0.05)
        process.terminate()
        assert process.wait(timeout=30) == 128 + signal.SIGTERM
    number = int(child.read_text())
    until = time.monotonic() + 10
    while _lives(number) and time.monotonic() < until:
        time.sleep(0.05)
    assert not _lives(number)


def test_what_hangs_is_ended_at_the_limit():
    script = (
        "import ctypes; from clustercl.benchmarks import gpu_check; gpu_check.LIMIT_SECONDS = 1; "
        "gpu_check.run = lambda: ctypes.CDLL(None).pause(); gpu_check.main()"  # as a wait for the GPU, it hears nothing
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 128 + signal.SIGALRM and "still at work after 1 s" in done.stderr


def _lives(number: int) -> bool:
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("has, wgmma, missing", [(True, True, ""), (True, False, "wgmma"), (False, True, "refused")])
def test_a_build_without_what_the_card_can_run_fails(monkeypatch, has, wgmma, missing):
    monkeypatch.setattr(gpu_check, "with_wgmma", lambda: True)
    monkeypatch.setattr("clustercl.ops._extension.why_no_kernels", lambda device: None if has else "refused")
    monkeypatch.setattr("clustercl.ops._extension.build_info", lambda: {"wgmma": wgmma})
    found = gpu_check.built()
    assert found["passed"] == (not missing) and missing in found["output"]


def test_every_program_is_put_under_the_sanitizer(monkeypatch, tmp_path):
    monkeypatch.setattr(gpu_check.shutil, "which", lambda name: None)
    assert gpu_check.sanitized(time.monotonic() + 100) == []
    tool = tmp_path / "compute-sanitizer"
    tool.write_text('#!/bin/sh\ncase "$*" in *racecheck*linkage*) exit 9;; esac\necho "$@"\n')
    tool.chmod(0o755)
    monkeypatch.setattr(gpu_check.shutil, "which", lambda name: str(tool))
    monkeypatch.setattr(gpu_check, "with_wgmma", lambda: False)
    assert len(gpu_check.sanitized(time.monotonic() + 100)) == 9
    monkeypatch.setattr(gpu_check, "with_wgmma", lambda: True)
    steps = {one["name"]: one for one in gpu_check.sanitized(time.monotonic() + 100)}
    assert len(steps) == 11
    assert [name for name, one in steps.items() if not one["passed"]] == ["test_linkage_cuda, few, racecheck"]
    words = steps["test_contrastive_cuda, wgmma, memcheck"]["output"].split()
    assert words[:4] == ["--tool", "memcheck", "--error-exitcode", "9"] and words[-1] == "wgmma"
    # Every program of the GPU there is.
    sources = {path.stem for path in (gpu_check.ROOT / "csrc/tests").glob("test_*_cuda.cpp")}
    assert {name for name, _, _ in gpu_check.CHECKED} == sources


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_gpu_it_says_so(tmp_path):
    with pytest.raises(SystemExit, match="torch sees no CUDA device"):
        gpu_check.run(tmp_path)


def test_the_readme_holds_what_was_measured(root):
    readme = (root / "README.md").read_text()
    assert gpu_show.with_section(readme, root / "benchmarks/results") == readme


def test_the_section_tells_a_result_file(tmp_path):
    assert gpu_show.section(tmp_path) == gpu_show.NONE
    timing = {"milliseconds": 1.5, "peak_megabytes": 20.0}
    about = {"gpu": "A card", "driver": "1", "cuda": "13.0", "commit": "abc", "date": "today"}
    about["versions"] = {"torch": "2"}
    steps = [{"name": "built", "passed": True}, {"name": "memcheck", "passed": False}]
    case = {"n": 64, "d": 8, "precision": "tf32", **timing}
    loss = [
        case | {"program": "clustercl", "graph_milliseconds": 1.25},
        case | {"program": "naive", "graph_milliseconds": None},
    ]
    trees = [{"method": "ward", "data": "blobs", "n": 64, "d": 8, "scans": 1.25, **timing}]
    training = [{"task": "skin", "preset": "default", "stage": "pretrain", "batch_size": 128, "peak_megabytes": 5000.0,
                 "samples_per_second": 1234.5, "share": {"data": 0.25, "forward": 0.75}}]  # fmt: skip
    found = {"machine": about, "passed": False, "steps": steps, "loss": loss, "linkage": trees, "train": training}
    found["note"] = "in the rain"
    (tmp_path / "a-card.json").write_text(json.dumps(found))
    text = gpu_show.section(tmp_path)
    assert "A card, driver 1, torch 2, CUDA 13.0, commit abc, today: FAILED: memcheck (in the rain)." in text
    assert "| 64 | 8 | tf32 | clustercl | 1.50 ms | 1.25 ms | 20 MB |" in text
    assert "| 64 | 8 | tf32 | naive | 1.50 ms |  | 20 MB |" in text
    assert "| ward | blobs | 64 | 8 | 1.5 ms | 20 MB | 1.25 |" in text
    assert "| skin | default | pretrain | 128 | 1.23e+03 | 5000 MB | 25% |" in text
    with pytest.raises(ValueError, match="has no <!-- from"):
        gpu_show.with_section("nothing", tmp_path)


def test_who_copied_the_files_tells_their_commit(monkeypatch):
    monkeypatch.setenv("CLUSTERCL_COMMIT", "abcdef0")
    assert record.machine(())["commit"] == "abcdef0"


def test_training_is_measured_where_it_can_run(monkeypatch, capsys):
    monkeypatch.setattr(train_gpu, "LABELLED", {"skin": 8})
    rows = train_gpu.run([("skin", "tiny")], device="cpu", steps=1)
    assert [(row["task"], row["stage"]) for row in rows] == [("skin", stage) for stage in TRAINING]
    assert all(row["samples_per_second"] > 0 for row in rows)
    monkeypatch.setattr(train_gpu, "NEEDED", ("torch", "no_such_package"))
    assert train_gpu.run() == [] and "not measured: no_such_package not installed" in capsys.readouterr().err


def test_every_layout_gives_the_loss_of_the_first():
    cases = [("unet", "skin", 2, 16), ("encoder", "heart", 1, 16)]
    rows = list(layout_gpu.run(cases, "cpu", features=(4, 8, 8)))
    assert len(rows) == 2 * len(layout_gpu.WAYS)
    for row, first in zip(rows, [row for row in rows[:: len(layout_gpu.WAYS)] for _ in layout_gpu.WAYS], strict=True):
        assert row["milliseconds"] > 0
        # bfloat16 has eight binary digits, and a path through the network some twenty roundings.
        assert row["loss"] == pytest.approx(first["loss"], rel=0.05)


def test_a_profile_adds_up_launches_by_kernel():
    one = "void clustercl::(anonymous namespace)::look_kernel<double>(clustercl::ScanCuda, int const*)"
    rows = gpu_profile.by_kernel([(one, 1.0), ("Memset (Device)", 5.0), (one, 3.0)])
    assert [row["kernel"] for row in rows] == ["Memset", "look_kernel<double>"]
    assert rows[1] == {"kernel": "look_kernel<double>", "launches": 2, "milliseconds": 4.0, "longest": 3.0}
