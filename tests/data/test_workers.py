"""Threads that read files: order kept, the first error first, and its cause never hidden."""

import threading

import pytest

from clustercl.data import workers as module
from clustercl.data.cases import Case
from clustercl.data.workers import in_threads
from clustercl.errors import DataError, RunError


@pytest.mark.parametrize("workers", [0, 1, 4, None])
def test_results_keep_their_order(workers):
    assert in_threads(lambda number: number**2, range(50), "squares", quiet=True, workers=workers) == [
        number**2 for number in range(50)
    ]


@pytest.mark.parametrize(("heavy", "wanted"), [(False, 4), (True, 3)])
def test_many_cores_do_not_mean_much_memory(heavy, wanted, monkeypatch):
    """Of photographs of 6000 x 4000 pixels, or of volumes, so many are in memory at once; --workers may want more."""
    monkeypatch.setattr(module.os, "sched_getaffinity", lambda _: range(64), raising=False)
    asked = []

    class Pool(module.ThreadPoolExecutor):
        def __init__(self, threads):
            asked.append(threads)
            super().__init__(threads)

    monkeypatch.setattr(module, "ThreadPoolExecutor", Pool)
    for given in (None, 9):
        in_threads(str, range(3), "reading", quiet=True, workers=given, heavy=heavy)
    assert asked == [wanted, 9]


def test_no_workers_means_this_thread():
    assert set(in_threads(lambda _: threading.get_ident(), range(5), "where", quiet=True, workers=0)) == {
        threading.get_ident()
    }
    assert threading.get_ident() not in in_threads(
        lambda _: threading.get_ident(), range(5), "where", quiet=True, workers=1
    )


@pytest.mark.parametrize("workers", [0, 3])
def test_what_goes_wrong_is_told_with_the_file(workers):
    def work(case):
        if case.id == "a":
            raise DataError("a.png: broken")
        raise ZeroDivisionError("division by zero") if case.id == "b" else MemoryError

    cases = {name: Case(name, f"{name}.png") for name in "abc"}
    with pytest.raises(DataError, match=r"^a.png: broken$"):
        in_threads(work, [cases["a"], cases["b"]], "reading", quiet=True, workers=workers)
    with pytest.raises(RunError, match=r"^reading: b.png: ZeroDivisionError: division by zero$") as caught:
        in_threads(work, [cases["b"]], "reading", quiet=True, workers=workers)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    with pytest.raises(RunError, match=r"^reading: c.png: there is not enough memory for it: end other programs"):
        in_threads(work, [cases["c"]], "reading", quiet=True, workers=workers)


def test_the_rest_is_left_after_an_error():
    done = []

    def work(number):
        if number == 0:
            raise DataError("first")
        done.append(number)

    with pytest.raises(DataError):
        in_threads(work, range(10_000), "reading", quiet=True, workers=2)
    assert len(done) < 10_000
