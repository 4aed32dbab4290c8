"""Measure backups and restores of databases with many small things, beside stock PostgreSQL."""

from collections.abc import Callable, Iterator
from itertools import count

from benchmarks.measure import Measurement
from benchmarks.runs import SOURCE, Bench, count_content, say
from benchmarks.scale import commands, databases
from benchmarks.scale.lab import CountedStore, Lab, counted_store
from benchmarks.scale.rows import Figure, Row, Trial, repeat

_TABLES, _LARGE_OBJECTS, _SCHEMAS, _PARTITIONS = 20_000, 200_000, 2_000, 2_000
_BACKUP = "backup"
"""The place of the backups in the store. All backups of a database have the same place, so later backups find an earlier backup."""
_SPOOL_LIMIT = 256  # MiB
_SPOOL_FILES = 2_048
"""Twice the files that may wait before pgstow pauses pg_dump. pg_dump writes further files until the pause."""


def measure_tables(lab: Lab) -> Iterator[Row]:
    """Yield the rows of the database with 20,000 tables: backup, restore, and restore of one table."""
    number = lab.size(_TABLES)
    bench = _build(lab, "tables", f"{number:,} tables", databases.build_tables, number)
    with counted_store(bench) as store:
        yield _back_up(lab, store, f"{number:,} tables: backup", {"÷ stock": 1.15, "memory": 200})
        yield _restore(lab, store, f"{number:,} tables: restore", {"÷ stock": 0.95, "memory": 200})
        row = Row(f"1 of {number:,} tables: restore -t", {"seconds": 3})
        targets = _new_names("one")
        table = {"REMOTE": _BACKUP, "TABLE": f"table_{number // 2 + 1:05}"}

        def restore_one(_turn: int) -> Trial:
            trial = store.run(
                commands.RESTORE_ONE, {**table, "TARGET": bench.cluster.conninfo(target := next(targets))}
            )
            bench.compare(bench.cluster.conninfo(target), (databases.ROWS, 1, 1, 1))
            return trial

        repeat(row, lab.repeat, restore_one)
        yield row


def measure_large_objects(lab: Lab) -> Iterator[Row]:
    """Yield the row of the database with 200,000 large objects."""
    limits: dict[Figure, float] = {
        "÷ stock": 1.15,
        "memory": 256,
        "spool": _SPOOL_LIMIT,
        "files in the spool": _SPOOL_FILES,
    }
    number = lab.size(_LARGE_OBJECTS)
    yield _measure_backup(lab, "objects", f"{number:,} large objects", databases.build_large_objects, number, limits)


def measure_schemas(lab: Lab) -> Iterator[Row]:
    """Yield the row of the database with 2,000 schemas of five tables."""
    number = lab.size(_SCHEMAS)
    what = f"{number:,} schemas of {databases.TABLES_OF_A_SCHEMA} tables"
    yield _measure_backup(lab, "schemas", what, databases.build_schemas, number, {"÷ stock": 1.15})


def measure_partitions(lab: Lab) -> Iterator[Row]:
    """Yield the row of the database with two tables of 2,000 partitions."""
    number = lab.size(_PARTITIONS)
    what = f"{databases.PARTITIONED_TABLES} tables of {number:,} partitions"
    yield _measure_backup(lab, "partitions", what, databases.build_partitions, number, {"÷ stock": 1.15})


def _measure_backup(
    lab: Lab, name: str, what: str, build: Callable[[str, int], None], number: int, limits: dict[Figure, float]
) -> Row:
    with counted_store(_build(lab, name, what, build, number)) as store:
        return _back_up(lab, store, f"{what}: backup", limits)


def _build(lab: Lab, name: str, what: str, build: Callable[[str, int], None], number: int) -> Bench:
    """Return a bench with a full database and a local dump of it. The dump also warms the caches."""
    say(f"Building a database with {what}")
    bench = lab.start(name)
    build(bench.cluster.conninfo(SOURCE), number)
    bench.local.mkdir()
    bench.run(commands.STOCK_BACKUP, {"STAGE": str(bench.local)})
    return bench


def _back_up(lab: Lab, store: CountedStore, name: str, limits: dict[Figure, float]) -> Row:
    row = Row(name, limits)
    repeat(
        row,
        lab.repeat,
        lambda _turn: store.run(commands.BACKUP, {"REMOTE": _BACKUP}),
        lambda: store.bench.run(commands.STOCK_BACKUP, {}),
    )
    return row


def _restore(lab: Lab, store: CountedStore, name: str, limits: dict[Figure, float]) -> Row:
    """Restore into new databases. The row has a problem if a database isn't like the original."""
    bench, names = store.bench, _new_names("restored")
    expected = count_content(bench.cluster.conninfo(SOURCE))

    def settings(target: str) -> dict[str, str]:
        return {"REMOTE": _BACKUP, "TARGET": bench.cluster.conninfo(target), "TARGET_NAME": target}

    def run_own(_turn: int) -> Trial:
        trial = store.run(commands.RESTORE, settings(target := next(names)))
        bench.compare(bench.cluster.conninfo(target), expected)
        return trial

    def run_stock() -> Measurement:
        return bench.run(commands.STOCK_RESTORE, settings(next(names)))

    row = Row(name, limits)
    repeat(row, lab.repeat, run_own, run_stock)
    return row


def _new_names(prefix: str) -> Iterator[str]:
    return (f"{prefix}_{number}" for number in count())
