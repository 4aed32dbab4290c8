"""The model of a large backup scales the figures of the benchmarks up, and finds the slowest stage."""

import math

import pytest

from benchmarks import sides
from benchmarks.measure import Measurement
from benchmarks.model import Plan, backup_costs, memory_option, model, most_memory, puts, restore_costs, stages
from benchmarks.record import Outcome, Record, Result

MIB = 1 << 20
DUMPED = 1_000_000_000
STORED = 320_000_000
FULL = 32 * MIB - 4 * MIB * 0.32 / 2
"""The bytes of a full object on average: whole frames, each from 4 MiB of COPY text."""


def _run(*, cpu: float, machine: float, main_thread: float = 0.0, memory: int = 0) -> Measurement:
    return Measurement(1.0, cpu, machine, memory, 0, 0, main_thread)


def _outcome(*results: Result) -> Outcome:
    return Outcome("", list(results), dumped=DUMPED)


@pytest.fixture
def record() -> Record:
    """A record of 1 GB of COPY text, of which 320 MB are stored by nine full objects and eight others."""
    own = Result(sides.PGSTOW.name, [_run(cpu=8.5, machine=16.0, main_thread=2.5, memory=250 * MIB)], 17, STORED)
    dump = Result(sides.DUMP_ALONE.name, [_run(cpu=1.0, machine=5.0)])
    restore = Result(sides.SPLIT.name, [_run(cpu=3.5, machine=20.0, main_thread=1.5, memory=240 * MIB)])
    floor = Result(sides.FLOOR.name, [_run(cpu=1.0, machine=17.0)])
    start = Result(sides.HELP.name, [_run(cpu=0.5, machine=0.5)])
    outcomes = {
        "start": _outcome(start),
        "one-table-backup": _outcome(own, dump),
        "one-table-restore": _outcome(restore, floor),
    }
    return Record("", 1.0, [], outcomes)


def _seconds(record: Record, plan: Plan) -> dict[str, float]:
    costs = backup_costs(record)
    return {
        stage.name: stage.seconds for stage in stages(costs, plan, requests=puts(costs, plan), one_job=plan.dump_share)
    }


def test_each_stage_of_a_backup_takes_its_share_of_the_machine(record: Record) -> None:
    plan = Plan(terabytes=1.0, gigabits=10.0, cores=16, jobs=8, transfers=10, dump_share=0.5, request_mb=100.0)
    seconds = _seconds(record, plan)
    assert seconds == {
        "the largest table, by one job of the server": pytest.approx(4.0 * 1000 * 0.5),
        "the server, 8 jobs on 16 cores": pytest.approx(4.0 * 1000 / 8),
        "pgstow's main thread, on one core": pytest.approx(2.0 * 1000),
        "pgstow and its programs, on 16 cores": pytest.approx(8.0 * 1000 / 16),
        "the link of 10 Gbit/s": pytest.approx(STORED * 1000 * 8 / 10e9),
        "10 requests at once, 100 MB/s each": pytest.approx(STORED * 1000 / 1e9),
        "the store, 3,500 requests per second": pytest.approx(puts(backup_costs(record), plan) / 3500),
    }


def test_the_slowest_stage_comes_first(record: Record) -> None:
    costs = backup_costs(record)
    assert stages(costs, Plan(), requests=1, one_job=0.0)[0].name == "pgstow's main thread, on one core"
    assert stages(costs, Plan(gigabits=0.1), requests=1, one_job=1.0)[0].name == "the link of 0.1 Gbit/s"
    assert (
        stages(costs, Plan(transfers=1, request_mb=10), requests=1, one_job=1.0)[0].name
        == "1 requests at once, 10 MB/s each"
    )


def test_a_restore_is_bounded_by_the_servers_work_beyond_the_clients(record: Record) -> None:
    costs = restore_costs(record, stored=0.3)
    assert costs.server * DUMPED == pytest.approx(16.0)
    assert costs.owner * DUMPED == pytest.approx(1.0)
    assert costs.stored == 0.3


def test_requests_are_full_objects_and_the_further_ones_of_the_benchmark(record: Record) -> None:
    costs = backup_costs(record)
    assert costs.further_puts == 17 - STORED // FULL == 8
    assert puts(costs, Plan(terabytes=1.0)) == math.ceil(1000 * STORED / FULL) + 8


def test_more_transfers_and_cores_need_more_memory(record: Record) -> None:
    assert memory_option(Plan(transfers=1, cores=1)) == 128 * MIB
    plan = Plan(transfers=16, cores=16)
    assert memory_option(plan) == (16 * 32 + 16 * 4) * MIB
    assert most_memory(backup_costs(record), plan) == (250 + 2 * (576 - 128)) * MIB


def test_the_print_names_the_bound_and_the_costs(record: Record) -> None:
    text = model(record, Plan(dump_share=0.0))
    assert "Backup: 33 minutes, bounded by pgstow's main thread, on one core" in text
    assert "9,740 PUTs of at most 32 MiB cost $0.05; as many GETs cost $0.00" in text
    assert "Storage: $7.36 a month" in text


def test_a_missing_figure_is_named(record: Record) -> None:
    del record.outcomes["one-table-backup"].results[1]
    with pytest.raises(ValueError, match="no figures of 'pg_dump alone' in the case one-table-backup"):
        model(record, Plan())
