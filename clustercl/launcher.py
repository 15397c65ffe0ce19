"""What torchrun and srun tell the processes that they started with one command line."""

import os

from clustercl.errors import UsageError

WORLD = {"torchrun": "WORLD_SIZE", "srun": "SLURM_STEP_NUM_TASKS"}
RANK = {"torchrun": "RANK", "srun": "SLURM_PROCID"}


def launcher() -> str:
    """ "torchrun" or "srun" where it started this process, srun with others; "" where neither did.

    SLURM's variables are there in a batch script too, where no srun has started several processes, and in a shell that
    `srun --ntasks 4 --pty bash` gave.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return "torchrun"
    return "srun" if int(os.environ.get(WORLD["srun"], 1)) > 1 and not _typed_by_hand() else ""


def _typed_by_hand() -> bool:
    """Whether this is what somebody started in a shell of srun's: no task of srun's has a terminal but with --pty, and
    of those one alone."""
    return os.environ.get("SLURM_TASK_PID", str(os.getpid())) != str(os.getpid()) and os.isatty(0)


def started_world() -> int:
    """How many processes one of them started, 1 where none did."""
    return int(os.environ.get(WORLD.get(launcher(), ""), 1))


def started_rank() -> int:
    """Number of this process among them, 0 for the first."""
    return int(os.environ.get(RANK.get(launcher(), ""), 0))


def require_one_process(what: str, instead: str, world: int | None = None) -> None:
    """UsageError, which one process tells for all, where torchrun or srun started several, or options ask for a `world`
    of them; `what`: is for one, as in "evaluate: one process measures"; `instead`: what to do."""
    count = started_world() if world is None else world
    if count > 1:
        error = UsageError(f"{what}, got {count} by {launcher() or '--gpus, --processes or --nodes'}: {instead}")
        error.joint = True
        raise error
