"""The processes of one training: they agree after every step, and when one fails the others end within seconds.

torch.distributed alone leaves the others waiting in their next collective: with NCCL for ten minutes, for ever where
one of them clusters or validates. Here every process listens to the next one, on connections of its own. A failing
process says why, tells the one before it, and that one the one before it; a process that is killed is noticed by its
connections closing.
"""

import atexit
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist

from clustercl.errors import ClusterclError, RunError
from clustercl.launcher import launcher
from clustercl.progress import say

PATIENCE = timedelta(days=7)  # of collectives: the first process may cluster or check data for hours
GRACE_SECONDS = 5.0  # for the main thread to end by itself, once another process has failed
OTHERS_FIRST_SECONDS = 2.0  # where all fail alike, the first process speaks
FAREWELL = 0


class PeerFailed(RunError):
    """Another process of the training failed, and said why."""

    def __init__(self, code: int):
        super().__init__("stopped, as another process of the training failed or was killed")
        self.exit_code = code


class Peers:
    """What a process knows of the others. `failed`: the exit code of the first that failed, as far as is known."""

    def __init__(self, fabric):
        self.rank, self.world = fabric.global_rank, fabric.world_size
        self.failed: int | None = None
        self.last_act: Callable[[], None] = lambda: None  # before a process is ended from the listening thread
        self._noticed = threading.Event()
        self._ended = threading.Event()
        self._telling, self._told = threading.Lock(), False
        if self.world > 1:
            # Groups of their own: an operation of the main thread must never wait for one of the listener's.
            self._agreeing = dist.new_group(backend="gloo", timeout=PATIENCE)
            self._listening = dist.new_group(backend="gloo", timeout=PATIENCE)
            self._listener = threading.Thread(target=self._listen, daemon=True)
            self._listener.start()

    def worst(self, number: int) -> int:
        """The largest of all processes' numbers. Between hosts: no device waits for it."""
        if self.world == 1:
            return number
        everybody = torch.tensor(number)
        dist.all_reduce(everybody, dist.ReduceOp.MAX, group=self._agreeing)
        return int(everybody)

    def heard_failure(self, seconds: float) -> bool:
        """Whether another process is known to have failed, after waiting for so long at most."""
        return self._noticed.wait(seconds)

    def tell(self, code: int) -> None:
        """Once: a second message would wait for a listener that has heard enough."""
        with self._telling:
            if self._told:
                return
            self._told = True
        try:
            dist.send(torch.tensor(code), (self.rank - 1) % self.world, group=self._listening)
        except RuntimeError:
            pass  # gone already

    def end(self) -> None:
        """Leave in good order, all at once; afterwards nobody listens."""
        self._ended.set()
        if self.world > 1:
            self.worst(0)
            self.tell(FAREWELL)
            self._listener.join(GRACE_SECONDS)

    def _listen(self) -> None:
        code = torch.tensor(FAREWELL)
        try:
            dist.recv(code, (self.rank + 1) % self.world, group=self._listening)
        except RuntimeError:
            code.fill_(1)  # closed without a word
        if self._ended.is_set() and not int(code):
            return
        self.failed = int(code) or 1
        self._noticed.set()
        self.tell(self.failed)
        if not self._ended.wait(GRACE_SECONDS):  # in a collective that knows no end, or in a long computation
            if self.rank == 0:
                say(f"clustercl: {PeerFailed(self.failed)}")
            self.last_act()
            os._exit(self.failed)


@contextmanager
def together(fabric) -> Iterator[Peers]:
    """The training's processes as `Peers`. An error of one ends all: it is told by the process that had it, first.

    What leaves this block says by its attribute `told` whether it was.
    """
    peers = Peers(fabric)
    if peers.world == 1:
        yield peers
        return
    parent = os.getppid()
    try:
        yield peers
        peers.end()
    except BaseException as error:
        peers._ended.set()
        error = _blamed(peers, error)
        peers.tell(_code(error))
        if peers.rank and launcher() != "torchrun" and int(os.environ.get("LOCAL_RANK", 0)):
            # Fabric kills the process that started this one as soon as this one ends with an error.
            _wait_until(lambda: os.getppid() != parent, 2 * GRACE_SECONDS)
        atexit.register(_leave, _code(error))
        raise error
    dist.destroy_process_group()


def _blamed(peers: Peers, error: BaseException) -> BaseException:
    """The error to leave with: this process' own, told here, or `PeerFailed` where it is but the echo of another's."""
    own = isinstance(error, ClusterclError)
    # Every process raises these: those marked after the same step, Ctrl-C as a terminal sends it to all.
    joint = getattr(error, "joint", False) or isinstance(error, KeyboardInterrupt)
    if isinstance(error, SystemExit):
        error = PeerFailed(error.code if isinstance(error.code, int) else 1)
    elif not joint and peers.heard_failure(OTHERS_FIRST_SECONDS if peers.rank or not own else 0):
        error = PeerFailed(peers.failed or 1)
    elif not joint:
        who = f"process {peers.rank}: " if peers.rank else ""
        kind = "" if own else f"{type(error).__name__}: "
        say(f"clustercl: {who}{kind}{' '.join(str(error).split()) or 'no further word'}")
        error.told = True
    if peers.rank:
        error.told = True  # the first process speaks for all
    return error


def _code(error: BaseException) -> int:
    return 130 if isinstance(error, KeyboardInterrupt) else error.exit_code if isinstance(error, ClusterclError) else 1


def _leave(code: int) -> None:
    """Without the interpreter's end, where gloo's threads, still at work on what failed, abort the process."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _wait_until(true: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not true() and time.monotonic() < end:
        time.sleep(0.05)
