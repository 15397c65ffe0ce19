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
from clustercl.files import read_json, read_rows
from clustercl.models.checkpoint import read_checkpoint
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
        rest[1].images = rest[1].images * float("nan")
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
from clustercl.training.context import Context
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
to_device = Context.to_device  # torch 2.10's mean squared error has no gradient where one of the two is float32
Context.to_device = lambda context, images: to_device(context, images).double()
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


def wait_for(process: subprocess.Popen, path: Path, before: int = 0) -> None:
    """Until a file is there, written after `before`, its time of change in nanoseconds."""
    while process.poll() is None and not (path.exists() and path.stat().st_mtime_ns != before):
        time.sleep(0.002)


def second_of(process: subprocess.Popen) -> int:
    """The process that the first has started."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(stat.read_text().rsplit(")", 1)[1].split()[1]) == process.pid:
                return int(stat.parent.name)
        except (OSError, ValueError):
            continue  # gone meanwhile
    return process.pid


def test_killed_and_told_to_stop_in_every_stage(tmp_path, tiny, start):
    """In each: SIGKILL of the first process, then of the second, then SIGTERM of one of them; nothing is lost."""
    often = [f"{stage}.{key}" for stage in TRAINING for key in ("save_seconds=0", "log_every=3", "steps=60")]
    config = tiny(*often)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert ended(start(config, whole))[0] == 0
    seen = {}
    for stage, told in zip(TRAINING, (0, 1, 0), strict=True):
        for number, rank in ((signal.SIGKILL, 0), (signal.SIGKILL, 1), (signal.SIGTERM, told)):
            last = killed / stage / "last.pt"
            before = last.stat().st_mtime_ns if last.exists() else 0
            process = start(config, killed)
            wait_for(process, last, before)
            os.kill(second_of(process) if rank else process.pid, number)
            code, error = ended(process)
            # A first process that outlives the second says so, unless Fabric is quicker to kill it.
            allowed = (0, 143) if number == signal.SIGTERM else (0, -signal.SIGKILL) + (1,) * rank
            assert code in allowed, f"{stage}, {number.name} of {rank}: {code}, {error}"
            seen[stage, number.name, rank] = code
    in_time = [key for key, code in seen.items() if code]
    assert {key[1:] for key in in_time} == {key[1:] for key in seen} and len(in_time) >= 7, f"over too soon: {seen}"
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


SHORT = ["--task", "skin", "--preset", "tiny", "--method", "scratch", "--device", "cpu"]
SHORT += ["--set=data.size=32", "--set=model.features=[4,8,8]", "--set=finetune.steps=2", "--set=finetune.batch_size=4"]


def test_started_by_torchrun(tmp_path, skin):
    """The number of processes is torchrun's; each knows its part."""
    arguments = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "clustercl", "train"]
    arguments += [*SHORT, "--data", skin, "--out", tmp_path / "run"]
    done = subprocess.run([sys.executable, *arguments], env=ENVIRONMENT, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert "2 processes share each batch" in done.stderr and done.stderr.count("evaluation: ") == 1
    assert (tmp_path / "run/evaluation/metrics.json").exists()


def test_started_by_srun(tmp_path, skin, srun):
    """By the variables that it sets: each process is started with the same command line."""
    arguments = [sys.executable, "-m", "clustercl", "train", *SHORT, "--data", skin, "--out", tmp_path / "run"]
    both = [
        subprocess.Popen(arguments, env=ENVIRONMENT | srun(rank), stderr=subprocess.PIPE, text=True) for rank in (1, 0)
    ]
    try:
        told = [process.communicate(timeout=200)[1] for process in both]
    finally:
        for process in both:
            process.kill()
    assert [process.returncode for process in both] == [0, 0], told
    assert "2 processes share each batch" in told[1] and told[1].count("evaluation: ") == 1
    assert "finetune" not in told[0]  # the second of them writes and prints nothing
    assert (tmp_path / "run/evaluation/metrics.json").exists()


def test_resuming_with_another_number_of_processes(tmp_path, tiny, start):
    """The batches are the same, also where there are fewer units than a batch is to hold."""
    # A rate so low that rounding in float32, which differs, does not grow from step to step: a loss tells its batch.
    often = [f"pretrain.{key}" for key in ("batch_size=64", "lr=1e-6", "save_seconds=0", "log_every=1", "steps=40")]
    config, whole, out = tiny(*often, method="simclr"), tmp_path / "whole", tmp_path / "run"
    assert ended(start(config, whole, processes=1))[0] == 0
    process = start(config, out)
    wait_for(process, out / "pretrain/last.pt")
    process.send_signal(signal.SIGTERM)
    code, error = ended(process)
    assert code == 143, error
    by_two = read_checkpoint(out / "pretrain/last.pt")["step"]
    assert 1 <= by_two < 40
    code, again = ended(start(config, out, processes=1))
    assert code == 0 and f"pretrain: going on at step {by_two} of 40" in again, again
    assert again.count("pretrain: the number of processes was 2, is 1: the batches stay the same") == 1
    for said in (error, again):
        assert "pretrain: batches of 8, as there are only " in said
    rows, wanted = (read_rows(folder / "pretrain/metrics.jsonl") for folder in (out, whole))
    assert [row["step"] for row in rows] == [*range(1, 41)]
    assert [row["loss"] for row in rows] == pytest.approx([row["loss"] for row in wanted], rel=1e-3)
    one, other = (read_checkpoint(folder / "pretrain/last.pt")["model"] for folder in (out, whole))
    for key, value in one.items():  # with the running statistics of batch norms, which every batch has changed
        torch.testing.assert_close(value, other[key], rtol=1e-3, atol=1e-3, msg=key)


def test_dropout_does_not_go_on_with_another_number_of_processes(tmp_path, tiny, start):
    """What is dropped would not be the same."""
    out, sets = tmp_path / "run", ["finetune.save_seconds=0", "finetune.log_every=1", "finetune.steps=200"]
    dropped = tiny(*sets, "model.dropout=0.1", method="scratch")
    process = start(dropped, out)
    wait_for(process, out / "finetune/last.pt")
    process.send_signal(signal.SIGTERM)
    assert ended(process)[0] == 143
    code, error = ended(start(dropped, out, processes=1))
    assert code == 1 and "the number of processes was 2, is 1, and with model.dropout=0.1" in error, error
