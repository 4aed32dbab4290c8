"""Worker pools: results come back to the owner's thread. The first failure is raised, and stalled work is not waited for."""

import threading
import time
import weakref

import pytest
from support.pgstow import PATIENCE, wait_until

from pipeline.concurrency import Workers


def collect_all(workers: Workers, *pools: object) -> None:
    while any(pool.pending for pool in pools):  # type: ignore[attr-defined]
        workers.collect(timeout=PATIENCE)


def test_results_come_back_to_the_owners_thread() -> None:
    found: list[tuple[int, str]] = []
    with Workers() as workers:
        pool = workers.pool(3, "work")
        for number in range(50):
            pool.submit(
                lambda number=number: (number, threading.current_thread().name),
                lambda result: found.append((result[0], f"{result[1]} {threading.current_thread().name}")),
            )
        assert pool.pending == 50
        collect_all(workers, pool)
        assert pool.pending == 0
    assert sorted(number for number, _ in found) == list(range(50))
    assert {names for _, names in found} <= {f"work-{n} {threading.current_thread().name}" for n in range(3)}


def test_a_pool_runs_one_piece_of_work_on_each_thread_and_begins_them_in_order() -> None:
    running, begun = threading.Barrier(3), []
    with Workers() as workers:
        pool = workers.pool(3, "work")
        for _ in range(3):
            pool.submit(lambda: running.wait(PATIENCE), lambda result: None)
        collect_all(workers, pool)
        single = workers.pool(1, "single")
        for number in range(20):
            single.submit(lambda number=number: begun.append(number), lambda result: None)
        collect_all(workers, single)
    assert begun == list(range(20))


def test_each_item_comes_with_its_result() -> None:
    ticks = []
    with Workers() as workers:
        found = dict(workers.map(str, range(50), threads=3, name="work", tick=lambda: ticks.append(None)))
        assert found == {number: str(number) for number in range(50)}
        assert list(workers.map(str, [], threads=1, name="work")) == []
        with pytest.raises(ValueError, match="needs at least one thread"):
            next(workers.map(str, [1], threads=0, name="work"))
    assert ticks


def test_map_takes_only_a_few_items_ahead() -> None:
    taken: list[int] = []
    with Workers() as workers:
        results = workers.map(str, (taken.append(number) or number for number in range(50)), threads=2, name="work")
        next(results)
        assert len(taken) <= 5


def test_map_yields_the_results_from_before_a_failure() -> None:
    go_on, failed = threading.Event(), threading.Event()

    def work(number: int) -> int:
        if number:
            go_on.wait(PATIENCE)
        if number == 2:
            time.sleep(0.1)  # so that the result of 1 most likely comes before the failure
            failed.set()
            raise ValueError("a failure")
        return number

    with Workers() as workers:
        results = workers.map(work, [0, 1, 2], threads=2, name="work")
        assert next(results) == (0, 0)
        go_on.set()
        failed.wait(PATIENCE)
        time.sleep(0.1)  # so that the result and the failure are most likely collected together
        assert next(results) == (1, 1)
        with pytest.raises(ValueError, match="a failure"):
            next(results)


def test_collect_waits_no_longer_than_its_timeout() -> None:
    with Workers() as workers:
        assert workers.collect() is False
        assert workers.collect(timeout=0.01) is False
        pool = workers.pool(1, "work")
        pool.submit(lambda: None, lambda result: None)
        assert workers.collect(timeout=PATIENCE) is True


def test_the_end_of_the_block_waits_for_running_work() -> None:
    begun, let_go, ended = threading.Event(), threading.Event(), []

    def work() -> None:
        begun.set()
        let_go.wait(PATIENCE)
        ended.append(True)

    with Workers() as workers:
        workers.pool(1, "work").submit(work, lambda result: None)
        begun.wait(PATIENCE)
        threading.Timer(0.05, let_go.set).start()
    assert ended


def test_the_first_failure_is_raised_without_waiting_for_stalled_work() -> None:
    let_go, begun, later = threading.Event(), threading.Event(), []

    def fail() -> None:
        begun.wait(PATIENCE)
        raise OSError("first")

    def stall() -> None:
        begun.set()
        let_go.wait(PATIENCE)

    with pytest.raises(OSError, match="first"), Workers() as workers:  # noqa: PT012 - this tests the whole block
        stalling, failing = workers.pool(1, "stalling"), workers.pool(1, "failing")
        stalling.submit(stall, lambda result: later.append("a result after the failure"))
        stalling.submit(lambda: later.append("queued work"), lambda result: None)
        failing.submit(fail, lambda result: None)
        collect_all(workers, stalling, failing)
    assert not let_go.is_set(), "the stalled work still stalls"
    let_go.set()
    wait_until(
        lambda: not any(thread.name.startswith("stalling") for thread in threading.enumerate()), "the thread ended"
    )
    assert later == []


def test_work_that_is_nearly_done_at_a_failure_may_finish() -> None:
    begun, ended = threading.Event(), []

    def work() -> None:
        begun.set()
        failed.wait(PATIENCE)
        time.sleep(0.1)
        ended.append(True)

    failed = threading.Event()
    with pytest.raises(ZeroDivisionError), Workers() as workers:  # noqa: PT012
        workers.pool(1, "work").submit(work, lambda result: None)
        begun.wait(PATIENCE)
        failed.set()
        raise ZeroDivisionError
    assert ended


def test_an_error_of_then_is_raised_too() -> None:
    def refuse(result: object) -> None:
        raise ValueError("no use for it")

    with pytest.raises(ValueError, match="no use"), Workers() as workers:  # noqa: PT012
        pool = workers.pool(1, "work")
        pool.submit(lambda: None, refuse)
        collect_all(workers, pool)


def test_an_idle_thread_keeps_no_reference_to_a_result() -> None:
    class Body:
        pass

    body = Body()
    gone = weakref.ref(body)
    with Workers() as workers:
        pool = workers.pool(1, "work")
        pool.submit(lambda body=body: body, lambda result: None)
        del body
        collect_all(workers, pool)
        wait_until(lambda: gone() is None, "no thread refers to the result")
