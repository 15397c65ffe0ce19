"""What the command line asks for: devices, processes and machines."""

import os
from dataclasses import dataclass

import torch

from clustercl.errors import UsageError
from clustercl.launcher import launcher, require_one_process, started_world


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
        """As `launcher.require_one_process`, also where an option makes several."""
        require_one_process(what, instead)  # before what they ask for is looked for here, as many GPUs
        require_one_process(what, instead, self.resolved().world)

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
    """("torchrun" or "srun", processes per machine, machines) where one of them started this one, else ("", 1, 1)."""
    by, world = launcher(), started_world()
    if not by:
        return "", 1, 1
    if by == "torchrun":
        local = int(os.environ["LOCAL_WORLD_SIZE"])
    else:
        local = -(-world // int(os.environ.get("SLURM_STEP_NUM_NODES", 1)))
    if world % local:
        raise UsageError(f"{by} started {world} processes, not equally many on every machine")
    return by, local, world // local


def _count(gpus: int) -> str:
    return {0: "no GPU is", 1: "1 GPU is"}.get(gpus, f"{gpus} GPUs are")
