"""What the command line asks for: devices, processes and machines."""

import os
from dataclasses import dataclass

import torch

from clustercl.errors import UsageError


@dataclass(frozen=True)
class Placement:
    """accelerator: "cpu" or "cuda"; processes: on each machine; nodes: machines; launcher: "torchrun" or "srun" where
    one of them started the processes, "" where this program does."""

    accelerator: str
    processes: int = 1
    nodes: int = 1
    launcher: str = ""

    @property
    def world(self) -> int:
        return self.processes * self.nodes


@dataclass(frozen=True)
class DeviceRequest:
    """What the command line asked for. device: "auto" (a GPU where one is visible), "cpu" or "cuda"; gpus: how many on
    each machine; processes: on the CPU of each machine; nodes: machines; None: one, or as many as torchrun or srun
    started. workers: threads that read images, None for one per core, 0 for none beside the main one."""

    device: str = "auto"
    gpus: int | None = None
    processes: int | None = None
    workers: int | None = None
    nodes: int | None = None

    def resolved(self) -> Placement:
        """UsageError where the request cannot be met here."""
        if self.device not in ("auto", "cpu", "cuda"):
            raise UsageError(f"--device: wanted auto, cpu or cuda, got {self.device!r}")
        for name, least in (("processes", 1), ("nodes", 1), ("workers", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise UsageError(f"--{name}: wanted a number from {least} on, got {value}")
        launcher, started, nodes = _started()
        if self.nodes is not None and launcher and self.nodes != nodes:
            raise UsageError(f"--nodes {self.nodes}: {launcher} started processes on {nodes}; leave --nodes out")
        nodes = nodes if launcher else self.nodes or 1
        if nodes > 1 and not launcher and not {"MASTER_ADDR", "MASTER_PORT", "NODE_RANK"} <= os.environ.keys():
            raise UsageError(f"--nodes {nodes}: set MASTER_ADDR, MASTER_PORT and NODE_RANK (0, 1, ...) and start the "
                             "same command on every machine, or let torchrun or srun start it")  # fmt: skip
        visible = torch.cuda.device_count()
        if self._on_cpu(visible):
            return Placement("cpu", self._counted("processes", launcher, started), nodes, launcher)
        if self.processes is not None:
            raise UsageError("--processes counts processes on the CPU: pass --device cpu, or --gpus N for GPUs")
        processes = self._counted("gpus", launcher, started)
        if processes > visible:
            raise UsageError(f"--gpus {processes}: {_count(visible)} visible on this machine")
        return Placement("cuda", processes, nodes, launcher)

    def require_one_process(self, what: str, instead: str) -> None:
        """UsageError, which one process tells for all, where torchrun, srun or an option makes several; `what`: is for
        one, as in "evaluate: one process measures"; `instead`: what to do."""
        place = self.resolved()
        if place.world > 1:
            by = place.launcher or "--gpus, --processes or --nodes"
            error = UsageError(f"{what}, got {place.world} by {by}: {instead}")
            error.joint = True
            raise error

    def _on_cpu(self, visible: int) -> bool:
        if self.gpus is not None:
            if self.device == "cpu":
                raise UsageError("--gpus and --device cpu exclude each other")
            if self.gpus < 1:
                raise UsageError(f"--gpus: wanted at least 1, got {self.gpus}; --device cpu uses none")
            return False
        if self.device == "cuda" and not visible:
            raise UsageError("--device cuda: no GPU is visible on this machine")
        return self.device == "cpu" or (self.device == "auto" and not visible)

    def _counted(self, name: str, launcher: str, started: int) -> int:
        wanted = getattr(self, name)
        if launcher and wanted is not None and wanted != started:
            raise UsageError(f"--{name} {wanted}: {launcher} started {started} per machine; leave --{name} out")
        return started if launcher else wanted or 1


def _started() -> tuple[str, int, int]:
    """("torchrun" or "srun", processes per machine, machines) where one of them started this process, else ("", 1, 1).

    SLURM's variables are there in a batch script too, where no srun has started several processes.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        launcher, world, local = "torchrun", int(os.environ["WORLD_SIZE"]), int(os.environ["LOCAL_WORLD_SIZE"])
    elif int(os.environ.get("SLURM_STEP_NUM_TASKS", 1)) > 1:
        world = int(os.environ["SLURM_STEP_NUM_TASKS"])
        launcher, local = "srun", -(-world // int(os.environ.get("SLURM_STEP_NUM_NODES", 1)))
    else:
        return "", 1, 1
    if world % local:
        raise UsageError(f"{launcher} started {world} processes, not equally many on every machine")
    return launcher, local, world // local


def _count(gpus: int) -> str:
    return {0: "no GPU is", 1: "1 GPU is"}.get(gpus, f"{gpus} GPUs are")
