"""The training loop: learning, choosing the best, and going on after a kill with the same bits."""

import json
import re
import time
from dataclasses import dataclass, replace
from types import SimpleNamespace

import pytest
import torch
from lightning_fabric import Fabric

from clustercl.errors import DataError, RunError
from clustercl.files import read_rows
from clustercl.models.checkpoint import read_checkpoint
from clustercl.training.interrupt import Interrupt, Stopped
from clustercl.training.loop import fit
from clustercl.training.resume import restore
from clustercl.training.schedule import learning_rate_factor
from clustercl.training.settings import FinetuneSettings
from clustercl.training.work import Work

SETTINGS = FinetuneSettings(
    steps=24, batch_size=8, lr=2e-2, validate_every=8, log_every=4, save_seconds=0, weight_decay=0.0
)


@dataclass
class Batch:
    x: torch.Tensor
    y: torch.Tensor


class Killed(BaseException):
    """Stands for SIGKILL: nothing of the loop may catch it and tidy up."""


def work(validate="dice", kill_at=None) -> Work:
    """A regression with dropout, so that random numbers within a step matter."""
    torch.manual_seed(3)
    model = torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.ReLU(), torch.nn.Dropout(0.2), torch.nn.Linear(16, 1))
    calls = []

    def batch(step: int) -> Batch:
        generator = torch.Generator().manual_seed(step)
        x = torch.randn(8, 4, generator=generator)
        return Batch(x, x.sum(1, keepdim=True))

    def loss(model, batch):
        calls.append(1)
        if kill_at is not None and len(calls) > kill_at:
            raise Killed
        return torch.nn.functional.mse_loss(model(batch.x), batch.y)

    def measure(model):
        assert not model.training
        held_out = batch(10_000)
        return -float(torch.nn.functional.mse_loss(model(held_out.x), held_out.y))

    header = {"config": {}, "task": {}}
    return Work("finetune", model, batch, loss, measure if validate else None, "validation_dice", True, header)


def run(folder, settings=SETTINGS, interrupt=None, **options):
    fabric = Fabric(accelerator="cpu", devices=1)
    fabric.launch()
    fit(work(**options), settings, fabric, folder, seed=0, quiet=True, interrupt=interrupt)
    return read_checkpoint(folder / "last.pt")


class AskedAt(Interrupt):
    """As if a signal came during the given step."""

    def __init__(self, step):
        super().__init__()
        self.left = step

    def step(self):
        self.left -= 1
        return "SIGTERM" if self.left == 0 else None


def assert_same(first, second):
    """Bit for bit, through nested dicts and lists."""
    assert type(first) is type(second)
    if isinstance(first, dict):
        assert first.keys() == second.keys()
        for key in first:
            assert_same(first[key], second[key])
    elif isinstance(first, list):
        for one, other in zip(first, second, strict=True):
            assert_same(one, other)
    elif isinstance(first, torch.Tensor):
        assert torch.equal(first, second)
    else:
        assert first == second


def test_loss_falls_and_the_best_is_kept(tmp_path):
    last = run(tmp_path)
    rows = read_rows(tmp_path / "metrics.jsonl")
    assert [row["step"] for row in rows] == list(range(4, 25, 4))
    assert rows[-1]["loss"] < 0.5 * rows[0]["loss"]
    validated = {row["step"]: row["validation_dice"] for row in rows if "validation_dice" in row}
    assert list(validated) == [8, 16, 24]
    best = read_checkpoint(tmp_path / "best.pt")
    assert best["best"] == max(validated.values()) == validated[best["step"]] == last["best"]
    assert last["step"] == 24 and "optimizer" in last and "optimizer" not in best
    assert list(tmp_path.glob("events.out.tfevents*"))


def test_the_share_of_time_that_waits_for_data_is_told(tmp_path, capsys):
    """Batches of 30 ms beside steps of some 2 ms: nearly all of the time is waiting, and is said to be."""
    slow = work()
    quick, slow.batch = slow.batch, lambda step: (time.sleep(0.03), quick(step))[1]
    fabric = Fabric(accelerator="cpu", devices=1)
    fabric.launch()
    fit(slow, SETTINGS, fabric, tmp_path, seed=0)
    told = re.search(r"finetune: ([\d.]+)% of the time of its steps was spent waiting", capsys.readouterr().err)
    assert 50 < float(told[1]) < 100


@pytest.mark.parametrize("kill_at", [2, 5, 9, 23])
def test_resumed_equals_uninterrupted(tmp_path, kill_at):
    whole = run(tmp_path / "whole")
    with pytest.raises(Killed):
        run(tmp_path / "killed", kill_at=kill_at)
    resumed = run(tmp_path / "killed")
    assert_same(resumed, whole)
    assert_same(read_checkpoint(tmp_path / "killed/best.pt"), read_checkpoint(tmp_path / "whole/best.pt"))
    assert (tmp_path / "killed/metrics.jsonl").read_text() == (tmp_path / "whole/metrics.jsonl").read_text()


@pytest.mark.parametrize("step", [1, 3, 4, 8, 11, 23])
def test_stopped_by_a_signal_equals_uninterrupted(tmp_path, step):
    """Within a row, at its end, and where validation is due: what the row is to count is saved too."""
    settings = replace(SETTINGS, save_seconds=1e9)
    whole = run(tmp_path / "whole", settings)
    with pytest.raises(Stopped, match=rf"stopped by SIGTERM in finetune after step {step}: the same command") as caught:
        run(tmp_path / "stopped", settings, AskedAt(step))
    assert caught.value.exit_code == 143
    assert read_checkpoint(tmp_path / "stopped/last.pt")["step"] == step
    assert_same(run(tmp_path / "stopped", settings), whole)
    assert (tmp_path / "stopped/metrics.jsonl").read_text() == (tmp_path / "whole/metrics.jsonl").read_text()


def test_losses_of_half_a_row_come_back_to_the_device(tmp_path):
    """The next are put beside them there. torch has no device without a GPU but "meta" that would refuse to."""
    with pytest.raises(Stopped):
        run(tmp_path, interrupt=AskedAt(3))
    fabric = SimpleNamespace(device=torch.device("meta"), is_global_zero=True, world_size=1, global_rank=0)
    fabric.strategy = Fabric(accelerator="cpu", devices=1).strategy
    model = work().model
    optimizer = torch.optim.AdamW(model.parameters())
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    step, _, losses = restore(model, "finetune", optimizer, scheduler, tmp_path, fabric)
    assert step == 3 and [loss.device.type for loss in losses] == ["meta"] * 3


def test_asked_in_the_last_step_it_ends_as_always(tmp_path):
    assert run(tmp_path, interrupt=AskedAt(SETTINGS.steps))["step"] == SETTINGS.steps


@pytest.mark.parametrize("damage", [b"", b"not a checkpoint", None])
def test_a_damaged_checkpoint_is_told_and_the_one_before_used(tmp_path, capsys, damage):
    whole = run(tmp_path / "whole")
    with pytest.raises(Killed):
        run(tmp_path / "killed", kill_at=17)
    last, previous = tmp_path / "killed/last.pt", tmp_path / "killed/previous.pt"
    assert (read_checkpoint(previous)["step"], read_checkpoint(last)["step"]) == (12, 16)
    last.write_bytes(last.read_bytes()[:1000] if damage is None else damage)
    with pytest.raises(Killed):
        run(tmp_path / "killed", kill_at=1)  # before it could save
    assert read_checkpoint(last)["step"] == read_checkpoint(previous)["step"] == 12
    assert_same(run(tmp_path / "killed"), whole)
    said = capsys.readouterr().err
    assert "last.pt: is damaged" in said and "going on from the one before" in said and "after step 12" in said
    assert (tmp_path / "killed/metrics.jsonl").read_text() == (tmp_path / "whole/metrics.jsonl").read_text()
    for path in (last, previous):
        path.write_bytes(b"")
    with pytest.raises(DataError, match=r"last.pt: is damaged"):
        run(tmp_path / "killed")


def test_going_on_with_another_number_of_processes_is_said(tmp_path, capsys):
    with pytest.raises(Killed):
        run(tmp_path, kill_at=9)
    content = torch.load(tmp_path / "last.pt", weights_only=True)
    torch.save(content | {"losses": torch.zeros(2, 0)}, tmp_path / "last.pt")  # one row for each process
    run(tmp_path)
    assert (
        capsys.readouterr().err.count("finetune: the number of processes was 2, is 1: the batches stay the same") == 1
    )
    run(tmp_path)
    assert "number of processes" not in capsys.readouterr().err


def test_rows_beyond_the_checkpoint_and_torn_rows_are_dropped(tmp_path):
    with pytest.raises(Killed):
        run(tmp_path, kill_at=9)
    before = read_rows(tmp_path / "metrics.jsonl")
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write(json.dumps({"step": 12, "loss": -1.0}) + '\n{"step": 16, "lo')
    run(tmp_path)
    rows = read_rows(tmp_path / "metrics.jsonl")
    assert rows[: len(before)] == before
    assert [row["step"] for row in rows] == list(range(4, 25, 4)) and min(row["loss"] for row in rows) > 0


def test_without_validation_the_best_is_the_last(tmp_path):
    last = run(tmp_path, validate=None)
    best = read_checkpoint(tmp_path / "best.pt")
    assert best["step"] == 24 and best["best"] is None
    assert_same(best["model"], last["model"])


def test_a_finished_stage_is_left_as_it_is(tmp_path):
    run(tmp_path)
    before = (tmp_path / "last.pt").read_bytes()
    run(tmp_path, kill_at=0)
    assert (tmp_path / "last.pt").read_bytes() == before


def test_a_loss_that_is_not_finite_stops_the_stage(tmp_path):
    broken = work()
    broken.loss = lambda model, batch: model(batch.x).mean() * float("nan")
    fabric = Fabric(accelerator="cpu", devices=1)
    with pytest.raises(
        RunError, match=r"finetune: the loss was not finite in step 1 .*its batch: .*saved after step 0"
    ):
        fit(broken, SETTINGS, fabric, tmp_path, seed=0, quiet=True)
    assert read_checkpoint(tmp_path / "last.pt")["step"] == 0


def test_a_checkpoint_of_another_network_is_refused(tmp_path):
    run(tmp_path)
    other = work()
    other.model = torch.nn.Linear(4, 1)
    with pytest.raises(RunError, match=r"last\.pt: does not fit the network of this run"):
        fit(other, SETTINGS, Fabric(accelerator="cpu", devices=1), tmp_path, seed=0, quiet=True)


def test_learning_rate_rises_then_falls():
    settings = FinetuneSettings(steps=100, warmup=0.1)
    factors = [learning_rate_factor(step, settings) for step in range(101)]
    assert factors[0] == pytest.approx(0.1) and factors[9] == pytest.approx(1.0) and factors[10] == pytest.approx(1.0)
    assert factors[55] == pytest.approx(0.5) and factors[100] == pytest.approx(0.0)
    assert sorted(factors[10:], reverse=True) == factors[10:]
