"""The one training loop: AdamW, warm-up and cosine, checkpoints, rows of numbers, progress. Used by stages 1, 3 and 4.

Everything random in a step is drawn from (seed, stage, step), and batches are functions of the step, so a run that is
killed and started again goes on from `last.pt` with the same numbers as one that never stopped; there is no state of a
generator or sampler to keep. `last.pt` is written where a row of metrics.jsonl ends, or holds what the next row is to
count, so that file has no half-counted rows either.
"""

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from pathlib import Path
from time import monotonic

import torch
from torch import nn

from clustercl.data.seeds import mix
from clustercl.errors import RunError
from clustercl.files import keep_as, save_torch
from clustercl.models.checkpoint import FORMAT
from clustercl.ops.gather import gather_rows
from clustercl.progress import Progress, say
from clustercl.training.clock import Clock
from clustercl.training.guards import LossWatch, all_finite, collapse_warning, memory_advice
from clustercl.training.interrupt import EXIT_CODES, Interrupt, Stopped
from clustercl.training.peers import Peers
from clustercl.training.record import Record
from clustercl.training.resume import restore
from clustercl.training.schedule import learning_rate_factor
from clustercl.training.settings import StageSettings
from clustercl.training.work import Work, stage_seed

NOT_FINITE = len(EXIT_CODES) + 1  # what processes tell each other: 0, or a reason of EXIT_CODES, or this


def fit(
    work: Work,
    settings: StageSettings,
    fabric,
    folder: Path,
    seed: int,
    quiet: bool = False,
    interrupt: Interrupt | None = None,
    peers: Peers | None = None,
) -> float:
    """Train to the end, from `folder`/last.pt where there is one; leaves last.pt, best.pt and metrics.jsonl there.

    Returns the share of the time of its steps that was spent waiting for batches. Stopped, after saving, where
    `interrupt` says so; RunError, after saving, where a loss is not finite.
    """
    seed = stage_seed(seed, work.stage)
    optimizer = torch.optim.AdamW(work.model.parameters(), lr=settings.lr, weight_decay=settings.weight_decay)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: learning_rate_factor(step, settings))
    model, wrapped = fabric.setup(work.model, optimizer)
    step, best, losses = restore(work.model, work.stage, optimizer, scheduler, folder, fabric)
    record = Record(folder, step) if fabric.is_global_zero else None
    saved, interrupt, peers = monotonic(), interrupt or Interrupt(), peers or Peers(fabric)
    rank, world = fabric.global_rank, fabric.world_size
    quiet = quiet or not fabric.is_global_zero
    watch, warned = LossWatch(), False

    def save(losses: list[torch.Tensor]) -> None:
        """losses: of the steps since the last row, which an uninterrupted run would go on adding up."""
        kept = gather_rows(torch.stack(losses)[None], "losses") if losses else torch.empty(world, 0)
        if record is not None:
            content = _content(work, step, best) | {"losses": kept, "precision": fabric.strategy.precision.precision}
            content |= {"optimizer": optimizer.state_dict(), "scheduler": scheduler.state_dict()}
            content |= {"scaler": fabric.strategy.precision.state_dict()}
            if (folder / "last.pt").is_file():
                keep_as(folder / "last.pt", folder / "previous.pt")
            save_torch(folder / "last.pt", content)

    with (
        ThreadPoolExecutor(1) as ahead,
        Progress(work.stage, settings.steps, "step", start=step, quiet=quiet) as progress,
        interrupt.deferred(),
        memory_advice(work.stage, settings, world, fabric.device),
    ):
        coming = ahead.submit(work.batch, step)
        model.train()
        clock = Clock()
        while step < settings.steps:
            with clock.waiting():
                batch = share(coming.result(), rank, world)
            coming = ahead.submit(work.batch, step + 1)  # drawn while the network works
            if work.before is not None and step and step % work.every == 0:
                with clock.stopped():
                    work.before(step)
            loss = backward(work, model, batch, fabric, mix(mix(seed, step), rank).item(), watch)
            told = NOT_FINITE if not watch.finite else _code(interrupt.step())
            told = peers.worst(told)
            if told == NOT_FINITE:
                _give_up(work, step, watch, lambda: save(losses))
            watch.norms.append(_norm(fabric, model, wrapped, settings.clip_norm))
            wrapped.step()
            work.after(step + 1)
            rate = scheduler.get_last_lr()[0]
            scheduler.step()
            optimizer.zero_grad()
            losses.append(loss.detach())
            step += 1
            last = step == settings.steps
            due = last or bool(settings.validate_every and step % settings.validate_every == 0)
            if not due and step % settings.log_every:
                progress.update()
                _stop_if(told, work, step, lambda: save(losses))
                continue
            row = {"step": step, "loss": float(fabric.all_reduce(torch.stack(losses).mean(), reduce_op="mean"))}
            row["lr"] = rate
            clock.pause()
            losses.clear()
            for name, number in work.numbers().items():
                row[name] = float(fabric.all_reduce(number, reduce_op="mean"))
            if "embedding_spread" in row:
                warning = collapse_warning(work.stage, step, row["embedding_spread"])
                if warning and not warned and not quiet and step > settings.warmup * settings.steps:
                    say(warning)
                    warned = True
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
                _stop_if(told, work, step, lambda: save([]))
            clock.go_on()
        coming.cancel()
    if record is not None:
        record.close()
        if clock.steps and not quiet:
            say(f"{work.stage}: {clock.share:.1%} of the time of its steps was spent waiting for data")
    fabric.barrier()
    return clock.share


def backward(work: Work, model: nn.Module, batch, fabric, seed: int, watch: LossWatch | None = None) -> torch.Tensor:
    """The loss of this process' part of a batch; its gradient, averaged over the processes, is left in the model."""
    torch.manual_seed(seed)
    loss = work.loss(model, batch)
    if watch is not None:
        watch.copy(loss)
    fabric.backward(loss)
    return loss


def share(batch, rank: int, world: int):
    """A process' part of a batch."""
    if world == 1:
        return batch
    return type(batch)(**{item.name: getattr(batch, item.name)[rank::world] for item in fields(batch)})


def _code(reason: str | None) -> int:
    return 0 if reason is None else 1 + list(EXIT_CODES).index(reason)


def _stop_if(told: int, work: Work, step: int, save: Callable[[], None]) -> None:
    """After the same step on every process, as soon as one of them was told to stop."""
    if told:
        save()
        stopped = Stopped(list(EXIT_CODES)[told - 1], f"in {work.stage} after step {step}")
        stopped.joint = True
        raise stopped


def _give_up(work: Work, step: int, watch: LossWatch, save: Callable[[], None]) -> None:
    """The optimiser has not yet seen the gradient: what is saved is the state before this step, if that is sound."""
    saved = "its last checkpoint holds the state before that"
    if all_finite(work.model):
        save()
        saved = f"saved after step {step}"
    error = watch.failure(work.stage, step + 1, work.files(step), saved)
    error.joint = True
    raise error


def _norm(fabric, model: nn.Module, optimizer, clip_norm: float) -> torch.Tensor:
    """Of the gradient, before it is clipped."""
    # error_if_nonfinite would make the host wait for the device; with a scaler such a step is skipped anyway.
    return fabric.clip_gradients(model, optimizer, max_norm=clip_norm or math.inf, error_if_nonfinite=False).detach()


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
    if not all_finite(work.model):
        raise RunError(f"{work.stage}: a weight is not finite at step {step}, so the checkpoint before is kept: lower "
                       f"{work.stage}.lr, and set clip_norm where it is 0")  # fmt: skip
    header = {"format": FORMAT, "stage": work.stage, "step": step, "best": best}
    return header | work.header | {"model": work.model.state_dict()}


def _note(row: dict, metric: str, settings: StageSettings, progress: Progress) -> str:
    rate = (row["step"] - progress.start) * settings.batch_size / max(monotonic() - progress.began, 1e-9)
    note = f"{rate:.3g} samples/s, loss {row['loss']:.4f}"
    return note + (f", {metric.replace('_', ' ')} {row[metric]:.4f}" if metric in row else "")
