"""Predict a backup and a restore of a large database from the record of the benchmarks: ``python -m benchmarks.model``.

Each stage works through all bytes, and all stages work at the same time. So the slowest stage decides how long the whole takes. The model
scales the measured core-seconds of a byte up, and divides them by the cores, the jobs or the one thread that the stage may use. The figures
are from the database with one large table, where the costs of each table weigh little. pgstow's start is subtracted.
"""

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from benchmarks import sides
from benchmarks.measure import Measurement
from benchmarks.record import Record
from pipeline.config import Limits

_MIB = 1 << 20
_DEFAULTS = Limits(jobs=1)
_RECORD = Path(__file__).parents[1] / "docs" / "benchmarks.json"


def _option(default: float, text: str) -> Any:
    """Return a field of :class:`Plan`, which is an option of the command line."""
    return field(default=default, metadata={"help": f"{text} (default %(default)s)"})


@dataclass(frozen=True, slots=True)
class Plan:
    """The database, the machine, the link and the prices. Each core is as fast as a core of the benchmark's machine.

    The prices are Amazon's for S3 Standard in us-east-1, in US dollars: https://aws.amazon.com/s3/pricing/. The rates of S3 are from
    https://docs.aws.amazon.com/AmazonS3/latest/userguide/optimizing-performance.html and the design patterns there.
    """

    terabytes: float = _option(1.0, "the size of the data as COPY text, in 10^12 bytes")
    gigabits: float = _option(10.0, "the speed of the link to the store, in Gbit/s")
    cores: int = _option(16, "the cores of pgstow's machine; the server has a machine of its own with as many")
    jobs: int = _option(16, "pgstow's --jobs")
    transfers: int = _option(16, "pgstow's --transfers")
    dump_share: float = _option(0.0, "the share of the data that one job has to dump: 0 with --split-tables auto")
    restore_share: float = _option(0.0, "the share of the data that one job has to restore: 0 with --split-tables auto")
    request_mb: float = _option(
        85.0, "the speed of one request in MB/s; Amazon's rule is one request for each 85 to 90 MB/s"
    )
    put_rate: float = _option(3500.0, "the most PUTs per second below a prefix")
    put_price: float = _option(0.005, "the price of 1,000 PUTs")
    get_price: float = _option(0.0004, "the price of 1,000 GETs")
    month_price: float = _option(0.023, "the price of 10^9 bytes for a month")

    @property
    def size(self) -> float:
        """The data as COPY text, in bytes."""
        return self.terabytes * 1e12


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage, and the seconds that it takes for all data if no other stage makes it wait."""

    name: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Costs:
    """What one byte of COPY text costs, as measured."""

    server: float
    """Core-seconds of the server."""
    client: float
    """Core-seconds of pgstow and of PostgreSQL's programs."""
    owner: float
    """Seconds of pgstow's main thread."""
    stored: float
    """Bytes in the store."""
    memory: float
    """The most memory of the process tree in bytes, for the whole database."""
    further_puts: int
    """The PUTs beyond those of full objects, for the whole backup."""


def backup_costs(record: Record) -> Costs:
    """Return the costs of a backup. Raise ValueError if the record lacks a figure."""
    own, dump = (_measured(record, "one-table-backup", side) for side in (sides.PGSTOW, sides.DUMP_ALONE))
    outcome, start = record.outcomes["one-table-backup"], _start(record)
    result, size = outcome.results[0], outcome.dumped
    stored = result.stored / size
    return Costs(
        server=(dump.machine_cpu - dump.cpu) / size,
        client=(own.cpu - start) / size,
        owner=(own.main_thread - start) / size,
        stored=stored,
        memory=own.memory,
        further_puts=result.puts - int(result.stored // _full_object(stored)),
    )


def restore_costs(record: Record, stored: float) -> Costs:
    """Return the costs of a restore. ``stored`` is as in :class:`Costs`. Raise ValueError if the record lacks a figure."""
    own, floor = (_measured(record, "one-table-restore", side) for side in (sides.SPLIT, sides.FLOOR))
    size, start = record.outcomes["one-table-restore"].dumped, _start(record)
    return Costs(
        server=(floor.machine_cpu - floor.cpu) / size,
        client=(own.cpu - start) / size,
        owner=(own.main_thread - start) / size,
        stored=stored,
        memory=own.memory,
        further_puts=0,
    )


def stages(costs: Costs, plan: Plan, *, requests: int, one_job: float) -> Sequence[Stage]:
    """Return the stages of a backup or a restore, the slowest first.

    ``requests`` is the number of PUTs or GETs. ``one_job`` is the share of the data that one job has to work on.
    """
    size, stored = plan.size, plan.size * costs.stored
    found = [
        Stage("the largest table, by one job of the server", costs.server * size * one_job),
        Stage(f"the server, {plan.jobs} jobs on {plan.cores} cores", costs.server * size / min(plan.jobs, plan.cores)),
        Stage("pgstow's main thread, on one core", costs.owner * size),
        Stage(f"pgstow and its programs, on {plan.cores} cores", costs.client * size / plan.cores),
        Stage(f"the link of {plan.gigabits:g} Gbit/s", stored * 8 / (plan.gigabits * 1e9)),
        Stage(
            f"{plan.transfers} requests at once, {plan.request_mb:g} MB/s each",
            stored / (plan.transfers * plan.request_mb * 1e6),
        ),
        Stage(f"the store, {plan.put_rate:,.0f} requests per second", requests / plan.put_rate),
    ]
    working = [stage for stage in found if stage.seconds]  # no large table, for example, means no work for its stage
    return sorted(working, key=lambda stage: stage.seconds, reverse=True)


def puts(costs: Costs, plan: Plan) -> int:
    """Return the number of PUT requests of a backup."""
    return math.ceil(plan.size * costs.stored / _full_object(costs.stored)) + costs.further_puts


def _full_object(stored: float) -> float:
    """Return the average size of a full object, in bytes. An object holds whole frames, so half a frame's room stays empty on average."""
    return _DEFAULTS.object_size - _DEFAULTS.piece_size * stored / 2


def memory_option(plan: Plan) -> int:
    """Return the ``--memory`` that keeps all transfers and all cores busy, in bytes."""
    return max(_DEFAULTS.memory, plan.transfers * _DEFAULTS.object_size + plan.cores * _DEFAULTS.piece_size)


def most_memory(costs: Costs, plan: Plan) -> float:
    """Return the most memory in bytes. More ``--memory`` counts twice, since zstd's buffers may take as much again."""
    return costs.memory + 2 * (memory_option(plan) - _DEFAULTS.memory)


def model(record: Record, plan: Plan) -> str:
    """Return the text that the model prints. Raise ValueError if the record lacks a figure."""
    backup = backup_costs(record)
    restore = restore_costs(record, backup.stored)
    requests, stored = puts(backup, plan), plan.size * backup.stored
    return "\n".join(
        [
            f"{plan.terabytes:g} TB of COPY text, {stored / 1e12:.2f} TB in the store, {plan.cores} cores, {plan.gigabits:g} Gbit/s",
            "",
            *_lines("Backup", stages(backup, plan, requests=requests, one_job=plan.dump_share), plan),
            "",
            *_lines("Restore", stages(restore, plan, requests=requests, one_job=plan.restore_share), plan),
            "",
            f"Memory, with --memory {memory_option(plan) // _MIB}MiB: backup at most {most_memory(backup, plan) / _MIB:,.0f} MiB, "
            f"restore at most {most_memory(restore, plan) / _MIB:,.0f} MiB",
            f"Spool: at most {_DEFAULTS.spool // _MIB} MiB",
            f"Requests: {requests:,} PUTs of at most {_DEFAULTS.object_size // _MIB} MiB cost ${requests / 1000 * plan.put_price:.2f}; "
            f"as many GETs cost ${requests / 1000 * plan.get_price:.2f}",
            f"Storage: ${stored / 1e9 * plan.month_price:.2f} a month",
        ]
    )


def _lines(title: str, found: Sequence[Stage], plan: Plan) -> list[str]:
    head = f"{title}: {found[0].seconds / 60:.0f} minutes, bounded by {found[0].name}"
    return [
        head,
        *(
            f"  {stage.seconds / 60:6.1f} min {plan.size / stage.seconds / 1e6:8,.0f} MB/s  {stage.name}"
            for stage in found
        ),
    ]


def _measured(record: Record, case: str, side: sides.Side) -> Measurement:
    outcome = record.outcomes.get(case)
    result = outcome.result(side.name) if outcome else None
    if not result or not result.cost:
        raise ValueError(f"The record has no figures of '{side.name}' in the case {case}: run the benchmarks first.")
    return result.cost


def _start(record: Record) -> float:
    """Return the CPU seconds of a start of pgstow. They don't grow with the data."""
    return _measured(record, "start", sides.HELP).cpu


def main() -> None:
    """Print the model for the plan on the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.model", description=__doc__)
    for each in fields(Plan):
        name, kind = f"--{each.name.replace('_', '-')}", type(each.default)
        parser.add_argument(name, type=kind, default=each.default, help=each.metadata["help"])
    parser.add_argument(
        "--record", type=Path, default=_RECORD, help="the record of the benchmarks (default %(default)s)"
    )
    options = vars(parser.parse_args())
    if not (record := options.pop("record")).exists():
        parser.error(f"there is no {record}: run the benchmarks with --publish or --json first")
    print(model(Record.load(record), Plan(**options)))


if __name__ == "__main__":
    main()
