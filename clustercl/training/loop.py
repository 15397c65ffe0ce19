"""The one training loop: AdamW, warm-up and cosine, checkpoints, rows of numbers, progress. Used by stages 1, 3 and 4.

Everything random in a step is drawn from (seed, stage, step), and batches are functions of the step, so a run that is
killed and started again goes on from `last.pt` with the same numbers as one that never stopped. `last.pt` is written
where a row of metrics.jsonl ends, or holds what the next row is to count, so that file has no half-counted rows either.
"""

import json
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path
from time import monotonic
from typing import Any

import torch
from torch import nn

from clustercl.data.seeds import mix
from clustercl.errors import RunError
from clustercl.files import keep_as, save_torch, write_text
from clustercl.models.checkpoint import FORMAT, STAGES
from clustercl.progress import Progress, say
from clustercl.training.clock import Clock
from clustercl.training.config import StageSettings
from clustercl.training.interrupt import EXIT_CODES, Interrupt, Stopped
from clustercl.training.resume import restore

STEPS_BETWEEN_TALKS = 10  # of several processes, about whether one of them was told to stop


@dataclass
class Work:
    """What a stage trains.

    batch: step to the batch of all processes, a dataclass of CPU tensors (b, ...), a pure function of the step.
    loss: (model, batch) to a scalar. validate: the model in eval mode to the number under `metric`, or None where
    nothing can be validated: then best.pt is the last. header: config and task, kept in every checkpoint.
    """

    stage: str
    model: nn.Module
    batch: Callable[[int], Any]
    loss: Callable[[nn.Module, Any], torch.Tensor]
    validate: Callable[[nn.Module], float] | None
    metric: str
    higher_is_better: bool
    header: dict


def stage_seed(seed: int, stage: str) -> int:
    """A seed of a stage's own: two stages never share a stream."""
    return mix(seed, STAGES.index(stage)).item()


def fit(
    work: Work,
    settings: StageSettings,
    fabric,
    folder: Path,
    seed: int,
    quiet: bool = False,
    interrupt: Interrupt | None = None,
) -> float:
    """Train to the end, from `folder`/last.pt where there is one; leaves last.pt, best.pt and metrics.jsonl there.

    Returns the share of the time of its steps that was spent waiting for batches. Stopped, after saving, where
    `interrupt` says so.
    """
    seed = stage_seed(seed, work.stage)
    optimizer = torch.optim.AdamW(work.model.parameters(), lr=settings.lr, weight_decay=settings.weight_decay)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: learning_rate_factor(step, settings))
    model, wrapped = fabric.setup(work.model, optimizer)
    step, best, losses = restore(work.model, work.stage, optimizer, scheduler, folder, fabric.is_global_zero)
    record = _Record(folder, step) if fabric.is_global_zero else None
    saved, interrupt = monotonic(), interrupt or Interrupt()
    rank, world = fabric.global_rank, fabric.world_size
    quiet = quiet or not fabric.is_global_zero

    def save(losses: list[torch.Tensor]) -> None:
        """losses: of the steps since the last row, which an uninterrupted run would go on adding up."""
        if record is not None:
            content = _content(work, step, best) | {"losses": torch.stack(losses) if losses else torch.empty(0)}
            content |= {"optimizer": optimizer.state_dict(), "scheduler": scheduler.state_dict()}
            if (folder / "last.pt").is_file():
                keep_as(folder / "last.pt", folder / "previous.pt")
            save_torch(folder / "last.pt", content)

    with (
        ThreadPoolExecutor(1) as ahead,
        Progress(work.stage, settings.steps, "step", start=step, quiet=quiet) as progress,
        interrupt.deferred(),
    ):
        coming = ahead.submit(work.batch, step)
        model.train()
        clock = Clock()
        while step < settings.steps:
            with clock.waiting():
                batch = _share(coming.result(), rank, world)
            coming = ahead.submit(work.batch, step + 1)  # drawn while the network works
            torch.manual_seed(mix(mix(seed, step), rank).item())
            loss = work.loss(model, batch)
            fabric.backward(loss)
            if settings.clip_norm:
                fabric.clip_gradients(model, wrapped, max_norm=settings.clip_norm, error_if_nonfinite=False)
            wrapped.step()
            rate = scheduler.get_last_lr()[0]
            scheduler.step()
            optimizer.zero_grad()
            losses.append(loss.detach())
            step += 1
            last = step == settings.steps
            due = last or bool(settings.validate_every and step % settings.validate_every == 0)
            if not due and step % settings.log_every:
                progress.update()
                _stop_if_asked(interrupt, work, step, fabric, lambda: save(losses))
                continue
            row = {"step": step, "loss": _mean(losses, fabric, work.stage, step), "lr": rate}
            clock.pause()
            losses.clear()
            improved = last and work.validate is None
            if due and work.validate is not None:
                row[work.metric] = value = _validated(work, fabric)
                improved = best is None or (value > best if work.higher_is_better else value < best)
                best = value if improved else best
            progress.update(note=_note(row, work.metric, settings, progress))
            if record is not None:
                record.add(row, clock.share)
                if improved:
                    save_torch(folder / "best.pt", _content(work, step, best))
                if last or due or monotonic() - saved >= settings.save_seconds:
                    save([])
                    saved = monotonic()
            if not last:
                _stop_if_asked(interrupt, work, step, fabric, lambda: save([]))
            clock.go_on()
        coming.cancel()
    if record is not None:
        record.close()
        if clock.steps and not quiet:
            say(f"{work.stage}: {clock.share:.1%} of the time of its steps was spent waiting for data")
    fabric.barrier()
    return clock.share


def learning_rate_factor(step: int, settings: StageSettings) -> float:
    """Of the peak rate: a linear rise over the warm-up, then half a cosine down to 0."""
    rise = max(1, round(settings.warmup * settings.steps))
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, settings.steps - rise)))


def _stop_if_asked(interrupt: Interrupt, work: Work, step: int, fabric, save: Callable[[], None]) -> None:
    reason = interrupt.step()
    if fabric.world_size > 1:  # all stop after the same step, as soon as one was told
        if step % STEPS_BETWEEN_TALKS:
            return
        told = fabric.all_gather(torch.tensor(list(EXIT_CODES).index(reason) if reason else -1)).max().item()
        reason = list(EXIT_CODES)[int(told)] if told >= 0 else None
    if reason is not None:
        save()
        raise Stopped(reason, f"in {work.stage} after step {step}")


def _share(batch, rank: int, world: int):
    """This process' part of a batch."""
    if world == 1:
        return batch
    return type(batch)(**{item.name: getattr(batch, item.name)[rank::world] for item in fields(batch)})


def _mean(losses: list[torch.Tensor], fabric, stage: str, step: int) -> float:
    mean = float(fabric.all_reduce(torch.stack(losses).mean(), reduce_op="mean"))
    if not math.isfinite(mean):
        raise RunError(f"{stage}: the loss was {mean} in the {len(losses)} steps up to {step}: lower {stage}.lr, or "
                       "check the images; the run can be started again from its last checkpoint")  # fmt: skip
    return mean


@torch.no_grad()
def _validated(work: Work, fabric) -> float:
    """Validate on the first process, without the wrapper of several: a forward of one alone would wait for the rest."""
    work.model.eval()
    value = 0.0
    if fabric.is_global_zero:
        with fabric.autocast():
            value = work.validate(work.model)
    work.model.train()
    return fabric.broadcast(value)


def _content(work: Work, step: int, best: float | None) -> dict:
    header = {"format": FORMAT, "stage": work.stage, "step": step, "best": best}
    return header | work.header | {"model": work.model.state_dict()}


def _note(row: dict, metric: str, settings: StageSettings, progress: Progress) -> str:
    rate = (row["step"] - progress.start) * settings.batch_size / max(monotonic() - progress.began, 1e-9)
    note = f"{rate:.3g} samples/s, loss {row['loss']:.4f}"
    return note + (f", {metric.replace('_', ' ')} {row[metric]:.4f}" if metric in row else "")


class _Record:
    """metrics.jsonl and TensorBoard's event files. Rows beyond the checkpoint that is gone on from are dropped."""

    def __init__(self, folder: Path, step: int):
        from torch.utils.tensorboard import SummaryWriter

        self.path = folder / "metrics.jsonl"
        write_text(self.path, "".join(f"{json.dumps(row)}\n" for row in read_rows(self.path) if row["step"] <= step))
        self.board = SummaryWriter(str(folder), purge_step=step + 1)

    def add(self, row: dict, waiting: float) -> None:
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(f"{json.dumps(row)}\n")
        # Times differ from run to run, which rows of metrics.jsonl never do.
        for key, value in (row | {"share_waiting_for_data": waiting}).items():
            if key != "step":
                self.board.add_scalar(key, value, row["step"])

    def close(self) -> None:
        self.board.close()


def read_rows(path: Path) -> list[dict]:
    """The rows of a metrics.jsonl, none where it does not exist; a row that a kill cut short is left out."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return rows
