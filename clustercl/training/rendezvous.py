"""Until the processes of a training have found each other: nobody waits for ever, nor deaf to signals."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from clustercl.progress import say

SECONDS = 600.0
PARENT = "CLUSTERCL_STARTED_BY"  # number of the process that started the others of its machine


@contextmanager
def rendezvous(world: int, first: bool, child: bool) -> Iterator[None]:
    """To be held around what starts `world` processes and waits for them. `first`: this one tells; `child`: the first
    of its machine, neither torchrun nor srun, started this one, which ends with it.

    The groups made there know no end of their own, as the first process may cluster for hours; so this gives up after
    SECONDS. Nothing can be lost yet, and waiting leaves no room for handlers of Python: SIGTERM and Ctrl-C end this
    process at once.
    """
    if first:
        say(f"waiting for {world} processes")
    parent = int(os.environ.get(PARENT, 0)) if child else 0
    if not child:
        os.environ[PARENT] = str(os.getpid())
    done = threading.Event()
    threading.Thread(target=_watch, args=(world, done, parent), daemon=True).start()
    main = threading.current_thread() is threading.main_thread()  # nobody else may set handlers
    before = {one: signal.signal(one, signal.SIG_DFL) for one in (signal.SIGTERM, signal.SIGINT) if main}
    try:
        yield
    finally:
        done.set()
        for one, handler in before.items():
            signal.signal(one, handler)


def _watch(world: int, done: threading.Event, parent: int) -> None:
    end = time.monotonic() + SECONDS
    while not done.wait(0.5):
        if parent and os.getppid() != parent:
            os._exit(1)
        if time.monotonic() > end:
            say(f"clustercl: waited {SECONDS / 60:.0f} minutes for {world} processes and not all came: an error of "
                "one stands above, or in the log of its machine")  # fmt: skip
            os._exit(1)
