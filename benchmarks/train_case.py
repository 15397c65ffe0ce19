"""Steps of each training stage, timed in processes of their own:

python -m clustercl.benchmarks.train_case TASK PRESET PROCESSES DEVICE STEPS DATA FOLDER SETS   writes FOLDER/rows.json

With several processes the first starts the others by this very command line.
"""

import json
import sys
import time
from pathlib import Path

import torch

from clustercl.files import save_torch, write_json
from clustercl.models.checkpoint import FORMAT
from clustercl.training.config import resolve
from clustercl.training.context import Context
from clustercl.training.devices import DeviceRequest
from clustercl.training.guards import memory_advice
from clustercl.training.launch import start_fabric
from clustercl.training.loop import backward, share
from clustercl.training.peers import together
from clustercl.training.run import TRAINING, RunFolder, Source
from clustercl.training.stages import new_work
from clustercl.training.work import Work

WARM_UP = 1


class Stopwatch:
    """Seconds by what they were spent on, the device waited for at every mark."""

    def __init__(self, device: torch.device):
        self.device, self.seconds, self.last = device, {}, 0.0

    def start(self) -> None:
        self.last = self._now()

    def mark(self, spent_on: str) -> None:
        now = self._now()
        self.seconds[spent_on] = self.seconds.get(spent_on, 0.0) + now - self.last
        self.last = now

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


def watch(work: Work, clock: Stopwatch) -> None:
    """Marks where network and criterion begin and end, forward and backward. A method's criterion lies inside it."""
    inside = work.stage == "pretrain"

    def marking(spent_on):
        return lambda *ignored: clock.mark(spent_on)

    work.model.register_forward_pre_hook(marking("data"))  # augmentation, and the copy to the device
    work.criterion.register_forward_pre_hook(marking("forward"))
    work.criterion.register_forward_hook(marking("loss"))
    if not inside:
        work.model.register_forward_hook(marking("forward"))
    work.criterion.register_full_backward_pre_hook(marking("backward"))
    work.criterion.register_full_backward_hook(marking("loss"))


def measure(stage: str, context: Context, steps: int) -> dict:
    fabric, settings = context.fabric, getattr(context.config, stage)
    work = new_work(stage, context)
    optimizer = torch.optim.AdamW(work.model.parameters(), lr=settings.lr)
    clock = Stopwatch(fabric.device)
    watch(work, clock)
    model, optimizer = fabric.setup(work.model, optimizer)
    for step in range(WARM_UP + steps):
        if step == WARM_UP:
            fabric.barrier()
            clock.seconds.clear()
            if fabric.device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(fabric.device)
            began = time.perf_counter()
        clock.start()
        whole = work.batch(step)
        batch = share(whole, fabric.global_rank, fabric.world_size)
        clock.mark("data")
        loss = backward(work, model, batch, fabric, step)
        clock.mark("backward")
        if not loss.isfinite():
            raise RuntimeError(f"{stage}: the loss of step {step} is {float(loss)}")
        fabric.clip_gradients(model, optimizer, max_norm=settings.clip_norm or 1.0, error_if_nonfinite=False)
        optimizer.step()
        optimizer.zero_grad()
        clock.mark("optimizer")
    total = time.perf_counter() - began
    if fabric.is_global_zero:  # what the next stage begins with
        header = {"format": FORMAT, "stage": stage, "step": steps, "best": None} | work.header
        save_torch(context.run.best(stage), header | {"model": work.model.state_dict()})
    fabric.barrier()
    size = len(whole.seeds)  # less than the setting where there are fewer units
    row = {"stage": stage, "processes": fabric.world_size, "batch_size": size, "steps": steps}
    row |= {"steps_per_second": steps / total, "samples_per_second": steps * size / total}
    if fabric.device.type == "cuda":
        row["peak_megabytes"] = 1e-6 * torch.cuda.max_memory_allocated(fabric.device)
    spent = sum(clock.seconds.values())
    return row | {"share": {name: seconds / spent for name, seconds in sorted(clock.seconds.items())}}


def main(task: str, preset: str, processes: str, device: str, steps: str, data: str, folder: str, sets: str) -> None:
    config = resolve(task, preset, sets=json.loads(sets), method="simclr")
    count = {"gpus": int(processes)} if device == "cuda" else {"processes": int(processes)}
    fabric = start_fabric(DeviceRequest(device, **count), config)
    with together(fabric) as peers:
        inner = Path(data, "unlabelled")
        source = Source.of(Path(data), [inner] if inner.is_dir() else [], None, None)
        context = Context(RunFolder(Path(folder, "run")), config, source, fabric, quiet=True)
        context.peers = peers
        context.open()
        rows = []
        for stage in TRAINING:
            with memory_advice(stage, getattr(config, stage), fabric.world_size, fabric.device):
                rows.append(measure(stage, context, int(steps)))
        context.lock.release()
    if fabric.is_global_zero:
        write_json(Path(folder, "rows.json"), rows)


if __name__ == "__main__":
    main(*sys.argv[1:])
