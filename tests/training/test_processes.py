"""Two processes on the CPU: one training in two parts, stopped, killed and failing as one."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from clustercl.data.demo import write_demo
from clustercl.files import read_json
from clustercl.models.checkpoint import read_checkpoint
from clustercl.training.record import read_rows
from clustercl.training.run import TRAINING

pytestmark = pytest.mark.slow
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}

# A file, as the command line of the first process is started again for the second.
PROGRAM = """
import json, os, sys
from pathlib import Path
from clustercl.cli.main import run
from clustercl.training import loop, stages
from clustercl.training.config import Config
from clustercl.training.devices import DeviceRequest
from clustercl.training.pipeline import train
import clustercl.cli.train
config, out, data, processes, fault = sys.argv[1:]
rank = int(os.environ.get("LOCAL_RANK", 0))
step = loop.backward
calls = []
def faulty(work, *rest):
    calls.append(1)
    if fault == f"raise {rank}" and len(calls) == 3:
        raise OSError("the cable was pulled")
    if fault == f"nan {rank}" and len(calls) == 3:
        rest[1].images[0] *= float("nan")
    if fault == f"hang {1 - rank}" and len(calls) == 3:
        import time
        time.sleep(1000)
    if fault == f"kill {rank}" and len(calls) == 3 or fault == f"hang {rank}" and len(calls) == 3:
        os.kill(os.getpid(), 9)
    return step(work, *rest)
loop.backward = faulty
def main(*ignored, **options):
    train(Config.from_dict(json.loads(config)), out, Path(data), [Path(data, "unlabelled")],
          devices=DeviceRequest("cpu", processes=int(processes)))
clustercl.cli.train.command.callback = main
sys.exit(run(["train", "--task", "skin", "--out", out]))
"""


@pytest.fixture
def start(tmp_path, skin):
    """start(config, out, processes=2, fault="") -> Popen of a training; whatever lives on at the end is killed."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    started = []

    def begin(config, out: Path, processes: int = 2, fault: str = "") -> subprocess.Popen:
        arguments = [sys.executable, str(program), json.dumps(config.to_dict()), str(out), str(skin), str(processes)]
        started.append(
            subprocess.Popen(
                [*arguments, fault], env=ENVIRONMENT, stderr=subprocess.PIPE, text=True, start_new_session=True
            )
        )
        return started[-1]

    yield begin
    for process in started:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def ended(process: subprocess.Popen, seconds: float = 100) -> tuple[int, str]:
    """Its exit code and what it said; nothing of its session may live on."""
    error = process.communicate(timeout=seconds)[1]
    end = time.monotonic() + 30
    while time.monotonic() < end:
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return process.returncode, error
        time.sleep(0.05)
    raise AssertionError(f"a process lives on after the first has ended: {error}")


GRADIENT = """
import json, os, sys
from pathlib import Path
import torch
from clustercl.cluster import linkage
from clustercl.methods import Known
from clustercl.training import labels, launch, stages
from clustercl.training.config import Config
from clustercl.training.devices import DeviceRequest
from clustercl.training.loop import backward, share
from clustercl.training import pipeline
config, out, data, processes, result = sys.argv[1:]
processes = int(processes)
torch.set_default_dtype(torch.float64)
launch.FABRIC_NAMES["32"] = "64-true"
found = {}
def gradient(work, settings, fabric, folder, *rest):
    model, _ = fabric.setup(work.model, torch.optim.SGD(work.model.parameters(), lr=0.1))
    model.train()
    batch = share(work.batch(0), fabric.global_rank, fabric.world_size)
    loss = fabric.all_reduce(backward(work, model, batch, fabric, 0).detach(), reduce_op="mean")
    found[work.stage] = [loss] + [p.grad.clone() for p in work.model.parameters() if p.grad is not None]
    found[work.stage] += [buffer.double() for buffer in work.model.buffers()]
    folder.mkdir(exist_ok=True)
    if fabric.is_global_zero:
        header = {"format": 2, "stage": work.stage, "step": settings.steps, "best": None} | work.header
        torch.save(header | {"model": work.model.state_dict()}, folder / "best.pt")
    fabric.barrier()
stages.fit = gradient
evaluated = pipeline._run
pipeline._run = lambda stage, context: stage in ("clusters", "evaluation") or evaluated(stage, context)
def known(context, kind, units):
    features = torch.randn(len(units), 3, generator=torch.Generator().manual_seed(0)).numpy()
    return Known(len(units), 0, features, linkage(features), torch.arange(len(units)) % 3)
labels.known_units = known
pipeline._metrics = lambda context: None
pipeline.train(Config.from_dict(json.loads(config)), out, Path(data), devices=DeviceRequest("cpu", processes=processes),
               quiet=True)
torch.save(found, result + os.environ.get("LOCAL_RANK", "0"))
"""
SMALL_HEART = ["data.spacing=[9,9,9]", "data.patch=[16,16,16]", "autoencoder.batch_size=4", "finetune.batch_size=4"]


METHODS = ["pseudo-class-tree", "byol", "mae", "g-simclr"]


@pytest.mark.parametrize(
    ("task", "accumulate", "method"),
    [("skin", 1, "pseudo-class"), ("heart", 1, "pseudo-class"), ("heart", 2, "pseudo-class")]
    + [("skin", 2, method) for method in METHODS],
)
def test_the_gradient_of_a_step_is_that_of_one_process(task, accumulate, method, tmp_path, skin, tiny):
    """Every stage, in float64: batch norm, negatives, Dice and class weights are over the whole batch, not over parts.

    And cutting the batch in parts that are computed again changes nothing either.
    """
    from clustercl.training.config import resolve
    from clustercl.training.graph import needed

    sets = [f"{stage}.accumulate={accumulate}" for stage in TRAINING]
    if task == "skin":
        data, config = skin, tiny(*sets, method=method)
    else:
        data = write_demo(tmp_path / "heart", "heart", cases=4)
        small = ["model.features=[4,8,8]", "model.code_dim=4", "model.projection_dim=4", *SMALL_HEART]
        config = resolve("heart", "tiny", sets=small + sets)
    program = tmp_path / "gradient.py"
    program.write_text(GRADIENT)
    for processes in (1, 2):
        own = config if processes == 2 else type(config).from_dict(json.loads(json.dumps(config.to_dict())))
        if processes == 1:
            own = resolve_without_parts(config)
        arguments = [json.dumps(own.to_dict()), str(tmp_path / f"run{processes}"), str(data), str(processes)]
        arguments += [str(tmp_path / f"found{processes}.")]
        done = subprocess.run([sys.executable, program, *arguments], env=ENVIRONMENT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    one, *two = (torch.load(tmp_path / name) for name in ("found1.0", "found2.0", "found2.1"))
    assert list(one) == [stage for stage in TRAINING if stage in needed(config)]
    for stage in one:
        for found in two:
            for value, wanted in zip(found[stage], one[stage], strict=True):
                # float64 throughout: only the order of sums differs. A gradient that vanishes is compared absolutely,
                # with those of the same stage, which are of the order of 1e-3 and more.
                torch.testing.assert_close(value, wanted, rtol=1e-6, atol=1e-11)
        assert any(gradient.abs().max() > 1e-4 for gradient in one[stage][1:])


def resolve_without_parts(config):
    plain = config.to_dict()
    for stage in TRAINING:
        plain[stage]["accumulate"] = 1
    return type(config).from_dict(plain)


def test_the_same_training_by_one_or_two(tmp_path, tiny, start):
    config = tiny()
    runs = {processes: tmp_path / f"by{processes}" for processes in (1, 2)}
    for processes, out in runs.items():
        code, error = ended(start(config, out, processes))
        assert code == 0, error
    assert "2 processes share each batch" in error and "Initializing" not in error
    assert error.count("pretrain: 6 steps") == 1, "every process spoke"
    assert (runs[1] / "split.json").read_text() == (runs[2] / "split.json").read_text()
    for stage in TRAINING:
        rows = [read_rows(out / stage / "metrics.jsonl") for out in runs.values()]
        for row, other in zip(*rows, strict=True):
            assert row.keys() == other.keys()
            # float32, and AdamW divides by the size of gradients, so that rounding grows from step to step.
            assert row["loss"] == pytest.approx(other["loss"], rel=1e-3)
    metrics = [read_json(out / "evaluation/metrics.json") for out in runs.values()]
    assert metrics[0]["dice"]["mean"] == pytest.approx(metrics[1]["dice"]["mean"], abs=0.02)


def same(first: Path, second: Path) -> None:
    """Weights, optimiser and rows, bit for bit."""
    for stage in TRAINING:
        one, other = (read_checkpoint(out / stage / "last.pt") for out in (first, second))
        for key, value in one["model"].items():
            assert torch.equal(value, other["model"][key]), f"{stage}: {key}"
        for index, state in one["optimizer"]["state"].items():
            for key, value in state.items():
                assert torch.equal(value, other["optimizer"]["state"][index][key]), f"{stage}: {index} {key}"
        assert (first / stage / "metrics.jsonl").read_text() == (second / stage / "metrics.jsonl").read_text()
    assert read_json(first / "evaluation/metrics.json") == read_json(second / "evaluation/metrics.json")


def wait_for(process: subprocess.Popen, path: Path) -> None:
    while process.poll() is None and not path.exists():
        time.sleep(0.002)


def test_killed_and_told_to_stop_in_every_stage(tmp_path, tiny, start):
    """SIGKILL of the first process, of the second, SIGTERM of the first and of the second; nothing is lost."""
    often = [f"{stage}.{key}" for stage in TRAINING for key in ("save_seconds=0", "log_every=3", "steps=30")]
    config = tiny(*often)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert ended(start(config, whole))[0] == 0
    seen = []
    for stage in TRAINING:
        for number in (signal.SIGKILL, signal.SIGTERM):
            process = start(config, killed)
            last = killed / stage / "last.pt"
            before = last.stat().st_mtime_ns if last.exists() else 0
            while process.poll() is None and (not last.exists() or last.stat().st_mtime_ns == before):
                time.sleep(0.002)
            process.send_signal(number)
            code, error = ended(process)
            assert code in (0, -number, 128 + number), error
            seen.append(code)
    assert seen.count(-signal.SIGKILL) >= 2 and seen.count(143) >= 1, f"over before the signal came: {seen}"
    code, error = ended(start(config, killed))
    assert code == 0, error
    same(whole, killed)
    assert not (killed / ".lock").exists()


@pytest.mark.parametrize("rank", [0, 1])
def test_an_error_of_one_ends_all_and_is_told_first(rank, tmp_path, tiny, start):
    began = time.monotonic()
    code, error = ended(start(tiny(), tmp_path / "run", fault=f"raise {rank}"), 60)
    assert code == 1, error
    complaints = [line for line in error.splitlines() if line.startswith("clustercl:")]
    who = "process 1: " if rank else ""
    assert complaints[0] == f"clustercl: {who}OSError: the cable was pulled"
    assert complaints[1:] in ([], ["clustercl: stopped, as another process of the training failed or was killed"])
    assert "Traceback" not in error
    assert time.monotonic() - began < 60
    assert not (tmp_path / "run/.lock").exists()


def test_a_process_that_is_killed_ends_the_others(tmp_path, tiny, start):
    """Also one that waits for nothing: the second is asleep, as in a long computation, when the first is killed."""
    for fault in ("kill 1", "hang 0"):
        code, error = ended(start(tiny(), tmp_path / fault.replace(" ", ""), fault=fault), 60)
        assert code in (1, -signal.SIGKILL), error


def test_a_loss_that_is_not_finite_on_one_process_saves_and_ends(tmp_path, tiny, start):
    code, error = ended(start(tiny(method="simclr"), tmp_path / "run", fault="nan 1"))
    assert code == 1, error
    told = re.findall(r"clustercl: pretrain: the loss was not finite in step 3 \(gradient norms before it: (.*); its "
                      r"batch: (.*)\): lower pretrain.lr", error)  # fmt: skip
    assert len(told) == 1 and len(told[0][0].split(", ")) == 2 and len(told[0][1].split(", ")) == 4, error
    assert read_checkpoint(tmp_path / "run/pretrain/last.pt")["step"] == 2


def test_started_by_torchrun(tmp_path, skin):
    """The number of processes is torchrun's; each knows its part."""
    sets = ["data.size=32", "model.features=[4,8,8]", "finetune.steps=2", "finetune.batch_size=4"]
    arguments = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "clustercl", "train"]
    arguments += ["--task", "skin", "--preset", "tiny", "--method", "scratch", "--data", skin, "--device", "cpu"]
    arguments += [part for text in sets for part in ("--set", text)] + ["--out", tmp_path / "run"]
    done = subprocess.run([sys.executable, *arguments], env=ENVIRONMENT, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert "2 processes share each batch" in done.stderr and done.stderr.count("evaluation: ") == 1
    assert (tmp_path / "run/evaluation/metrics.json").exists()


def test_resuming_with_another_number_of_processes(tmp_path, tiny, start):
    """The batches are the same; with dropout what is dropped would not be, so that is refused."""
    out = tmp_path / "run"
    often = ["finetune.save_seconds=0", "finetune.log_every=1", "finetune.steps=200"]
    process = start(tiny(*often, method="scratch"), out)
    wait_for(process, out / "finetune/last.pt")
    process.send_signal(signal.SIGTERM)
    assert ended(process)[0] == 143
    code, error = ended(start(tiny(*often, method="scratch"), out, processes=1))
    assert code == 0 and "finetune: going on at step" in error, error
    dropped = tiny(*often, "model.dropout=0.1", method="scratch")
    process = start(dropped, tmp_path / "dropped")
    wait_for(process, tmp_path / "dropped/finetune/last.pt")
    process.send_signal(signal.SIGTERM)
    assert ended(process)[0] == 143
    code, error = ended(start(dropped, tmp_path / "dropped", processes=1))
    assert code == 1 and "the number of processes was 2, is 1, and with model.dropout=0.1" in error, error
