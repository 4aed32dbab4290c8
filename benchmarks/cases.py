"""The cases of the benchmarks: each measures a few sides in turn, and states the targets."""

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psycopg

from benchmarks import sides, slow_link
from benchmarks.database import DATABASES, LARGEST, ROWS_OF_FEW, Shape, build, build_many
from benchmarks.measure import Spread, measure
from benchmarks.proxy import CountingProxy
from benchmarks.record import Figure, Outcome, Result, Target, machine, wall
from benchmarks.runs import Bench, alternate, create_source
from benchmarks.sides import Side
from benchmarks.stores import BUCKET, Store
from pipeline.catalog.manifest import TOC_NAME, load_manifest

_MIB = 1 << 20
_MEMORY, _SPOOL = 256, 256  # MiB
_STARTS = 5
"""How often the case ``start`` runs a command, for each run of a command in other cases. A start takes only a fraction of a second."""
_BESIDE = 65536
"""The bytes that a restore of one table may fetch beside the objects and the manifest: the listing, and the headers of all answers."""
_SAME_BYTES = 1.001
"""The most stored bytes at ``--level auto``, divided by those at level 3. Which files share an object depends on time, and
changes a few bytes."""


RIVALS = (
    sides.PGSTOW,
    sides.PIPE,
    sides.SEQUENTIAL,
    sides.COMPRESSING,
    sides.RESTIC,
    sides.PG_BACK,
    sides.GREENMASK,
)
"""pgstow, and the tools that README compares it with."""
RIVAL_RESTORES = (
    sides.RESTORE,
    sides.PIPED_RESTORE,
    sides.SEQUENTIAL_RESTORE,
    sides.COMPRESSED_RESTORE,
    sides.RESTIC_RESTORE,
    sides.GREENMASK_RESTORE,
)


@dataclass(frozen=True, slots=True)
class Data:
    """The databases of a server on which cases run."""

    name: str
    fill: Callable[[Bench, float], tuple[str, int]]
    """Fills the server with a share of the whole size. Returns a description, and the bytes of COPY text (0 if unknown)."""


@dataclass(frozen=True, slots=True)
class Case:
    """A case. ``measure`` takes the number of runs of each side, and returns the outcome."""

    data: Data
    measure: Callable[[Bench, int], Outcome]


def _fill(shape: Shape, bench: Bench, share: float) -> tuple[str, int]:
    source = create_source(bench.cluster)
    build(source, Shape(shape.megabytes * share, shape.largest, shape.largest_share, shape.small_tables))
    with psycopg.connect(source) as connection:
        row = connection.execute("SELECT pg_database_size(current_database())").fetchone()
    size = row[0] / 1e6 if row else 0
    dumped, compressed = bench.prepare()
    return (
        f"{size:.0f} MB on disk, with a large table {LARGEST} of {shape.largest_share:.0%} of the data and {shape.small_tables:,} small "
        f"tables. As COPY text it has {dumped / 1e6:.0f} MB, which zstd compresses to {compressed / 1e6:.0f} MB "
        f"({dumped / compressed:.2f} : 1)."
    ), dumped


def _fill_many(bench: Bench, _share: float) -> tuple[str, int]:
    build_many(bench.cluster)
    return f"{DATABASES} databases, each with {sum(ROWS_OF_FEW):,} rows in {len(ROWS_OF_FEW)} tables.", 0


_NOTHING = Data("nothing", lambda _bench, _share: ("none.", 0))
_SMALL = Data("small", partial(_fill, Shape(150)))
_MEDIUM = Data("medium", partial(_fill, Shape(220, small_tables=400)))  # as many tables for each byte as in _LARGE
_LARGE = Data("large", partial(_fill, Shape(1100)))
_ONE_TABLE = Data("one-table", partial(_fill, Shape(1100, largest_share=0.95, small_tables=20)))
_MANY = Data("many", _fill_many)


def _measure_start(bench: Bench, repeat: int) -> Outcome:
    starts = (sides.INTERPRETER, sides.VERSION, sides.HELP)
    stage = Path(tempfile.mkdtemp(prefix="stage-", dir=bench.directory))

    def run(side: Side, result: Result, _turn: int) -> None:
        result.runs.append(measure(side.command, environment=bench.environment(stage), watched=stage))

    outcome = Outcome("Start", alternate(starts, repeat * _STARTS, run, major=bench.cluster.major))
    for side, limit in ((sides.VERSION, 0.12), (sides.HELP, 0.35)):
        beyond = [own.wall - bare.wall for own, bare in outcome.pairs(side.name, sides.INTERPRETER.name)]
        spread = Spread.of(beyond) if beyond else None
        outcome.targets.append(_target(f"{side.name}: wall beyond the interpreter's own", spread, limit, " s"))
    return outcome


def _measure_backup(size: str, most_wall: float, bench: Bench, repeat: int) -> Outcome:
    own, pipe, sealed = sides.PGSTOW.name, sides.PIPE.name, sides.SEALED.name
    with _store(bench) as store:
        outcome = Outcome(f"Backup of {size}", bench.back_up(store, (sides.PGSTOW, sides.SEALED, sides.PIPE), repeat))
    outcome.targets += [
        _ratio(outcome, f"sealed backup of {size}", sealed, own, 1.1),
        _ratio(outcome, f"backup of {size}", own, pipe, most_wall),
        _ratio(outcome, f"backup of {size}", own, pipe, 1.05, machine),
        *_resources(outcome, f"backup of {size}", own),
    ]
    return outcome


def _measure_stages(bench: Bench, repeat: int) -> Outcome:
    with _store(bench) as store:
        results = bench.back_up(store, (sides.DUMP_ALONE, sides.COMPRESS_ALONE, sides.UPLOAD_ALONE), repeat)
    return Outcome("Stages of a backup, each by itself", results)


def _measure_link(link: slow_link.Link, most_wall: float, bench: Bench, repeat: int) -> Outcome:
    outcome = Outcome(f"Backup over a link of {link}", problem=slow_link.why_not())
    if outcome.problem:
        return outcome
    with (
        slow_link.slow_link(link) as prefix,
        _store(bench, address=slow_link.FAR, prefix=prefix) as store,
    ):
        beside = (sides.AUTO, sides.PGSTOW, sides.PIPE, sides.UPLOAD_ALONE)
        outcome.results = bench.back_up(store, beside, repeat)
    what, auto, fixed = f"backup over {link}", sides.AUTO.name, sides.PGSTOW.name
    stored = [result.stored if (result := outcome.result(name)) and result.cost else 0 for name in (auto, fixed)]
    outcome.targets += [
        _ratio(outcome, f"{what}, --level auto", auto, sides.PIPE.name, most_wall),
        Target(f"{what}, --level auto: stored bytes ÷ those at level 3", _quotient(*stored), _SAME_BYTES),
        _ratio(outcome, f"{what}, level 3", fixed, sides.UPLOAD_ALONE.name, 1.05),
        *_resources(outcome, what, auto),
    ]
    return outcome


def _measure_many(bench: Bench, repeat: int) -> Outcome:
    with _store(bench) as store:
        results = bench.back_up(store, (sides.SERVER, sides.ALL_AT_ONCE, sides.ONE_BY_ONE), repeat)
    outcome = Outcome(f"Backup of a server with {DATABASES} small databases", results)
    what = f"backup of {DATABASES} small databases"
    outcome.targets.append(_ratio(outcome, what, sides.SERVER.name, sides.ALL_AT_ONCE.name, 1.0))
    return outcome


def _measure_restore(bench: Bench, repeat: int) -> Outcome:
    with _store(bench) as store:
        results = bench.restore(store, (sides.RESTORE, sides.PROOF, sides.FLOOR), repeat)
    outcome = Outcome("Restore", results)
    floor = sides.FLOOR.name
    outcome.targets += [
        _ratio(outcome, "restore", sides.RESTORE.name, floor, 0.90),
        _ratio(outcome, "proof", sides.PROOF.name, floor, 1.0),
        _memory(outcome, "restore", sides.RESTORE.name),
        _memory(outcome, "proof", sides.PROOF.name),
    ]
    return outcome


def _measure_large_table(bench: Bench, repeat: int) -> Outcome:
    with _store(bench) as store:
        results = bench.back_up(store, (sides.PGSTOW, sides.WHOLE, sides.DUMP_ALONE), repeat)
    outcome = Outcome("Backup of a database with one large table", results)
    outcome.targets.append(_ratio(outcome, "backup of one large table", sides.PGSTOW.name, sides.WHOLE.name, 1.0))
    return outcome


def _measure_split(bench: Bench, repeat: int) -> Outcome:
    with _store(bench) as store:
        results = bench.restore(store, (sides.SPLIT, sides.UNSPLIT, sides.FLOOR), repeat)
    outcome = Outcome("Restore of a database with one large table", results)
    outcome.targets += [
        _ratio(outcome, "restore of one large table", sides.SPLIT.name, sides.UNSPLIT.name, 0.75),
        _memory(outcome, "restore of one large table", sides.SPLIT.name),
    ]
    return outcome


def _measure_small_table(bench: Bench, repeat: int) -> Outcome:
    side, table = sides.RESTORE_ONE, "table_1001"
    with _store(bench) as store, CountingProxy(store.endpoint, bench.directory / "requests.log") as proxy:
        remote = bench.backup_for(side, store)
        needed = _needed_bytes(store.objects / BUCKET / remote, table)
        settings = {**store.environment, "AWS_ENDPOINT_URL": proxy.endpoint, "REMOTE": remote, "TABLE": table}

        def run(side: Side, result: Result, _turn: int) -> None:
            before = proxy.answered()
            with bench.new_database() as target:
                result.runs.append(bench.run(side.command, {**settings, **target}))
            result.fetched = proxy.answered() - before

        outcome = Outcome("Restore of one small table", alternate((side,), repeat, run, major=bench.cluster.major))
    [result] = outcome.results
    spread = Spread.of([run.wall for run in result.runs]) if result.cost else None
    outcome.targets += [
        Target(
            f"restore -t: bytes fetched beside its objects, the table of contents' object and the manifest ({needed:,} bytes)",
            result.fetched - needed if result.cost else None,
            _BESIDE,
        ),
        _target("restore -t: wall, with the time of the fetch", spread, 1.5, " s"),
    ]
    return outcome


def _measure_rivals(what: str, beside: Sequence[Side], bench: Bench, repeat: int) -> Outcome:
    with _store(bench) as store:
        run = bench.restore if beside[0].reads else bench.back_up
        return Outcome(f"{what} beside other tools", run(store, beside, repeat))


CASES: Mapping[str, Case] = {
    "start": Case(_NOTHING, _measure_start),
    "backup": Case(_LARGE, partial(_measure_backup, "1 GB", 1.05)),
    "stages": Case(_LARGE, _measure_stages),
    "restore": Case(_LARGE, _measure_restore),
    "small-table": Case(_LARGE, _measure_small_table),
    "link-200": Case(_LARGE, partial(_measure_link, slow_link.Link(200.0, 20.0), 0.96)),
    "rivals-backup": Case(_LARGE, partial(_measure_rivals, "Backup", RIVALS)),
    "rivals-restore": Case(_LARGE, partial(_measure_rivals, "Restore", RIVAL_RESTORES)),
    "backup-small": Case(_SMALL, partial(_measure_backup, "150 MB", 1.2)),
    "link-20": Case(_MEDIUM, partial(_measure_link, slow_link.Link(20.0, 20.0), 0.92)),
    "one-table-backup": Case(_ONE_TABLE, _measure_large_table),
    "one-table-restore": Case(_ONE_TABLE, _measure_split),
    "many": Case(_MANY, _measure_many),
}
"""All cases, by the names that ``--only`` takes. Cases with the same data follow each other, and share a server."""


@contextmanager
def _store(bench: Bench, *, address: str = "127.0.0.1", prefix: Sequence[str] = ()) -> Iterator[Store]:
    """Yield a new, empty store, and delete it afterwards."""
    directory = Path(tempfile.mkdtemp(prefix="store-", dir=bench.directory))
    with Store(directory, address=address, prefix=prefix) as store:
        yield store
    shutil.rmtree(directory)


def _needed_bytes(folder: Path, table: str) -> int:
    """Return the size of the manifest, and of the objects that hold the table of contents and the table's data, in bytes."""
    [path] = (folder / "manifests").rglob("*.json")
    manifest = load_manifest(path.read_bytes(), path.relative_to(folder).as_posix())
    files = [file for file in manifest.files if file.path == TOC_NAME or file.relation == table]
    objects = {segment.object for file in files for segment in file.segments}
    return path.stat().st_size + sum(manifest.objects[number].size for number in objects)


def _target(what: str, spread: Spread | None, limit: float, unit: str = "") -> Target:
    return Target(what, spread.median if spread else None, limit, unit, spread)


def _ratio(outcome: Outcome, what: str, own: str, other: str, limit: float, figure: Figure = wall) -> Target:
    kind = "wall" if figure is wall else "core-seconds of the machine"
    return _target(f"{what}: {kind} ÷ {other}", outcome.ratio(own, other, figure), limit)


def _resources(outcome: Outcome, what: str, own: str) -> Iterator[Target]:
    result = outcome.result(own)
    cost = result.cost if result else None
    yield _memory(outcome, what, own)
    yield Target(f"{what}: spool", cost.disk / _MIB if cost else None, _SPOOL, " MiB")
    yield Target(
        f"{what}: PUTs for the stored bytes ÷ 32 MiB + 10",
        result.puts if result and cost else None,
        round(result.stored / (32 * _MIB) + 10, 1) if result else 10,
    )


def _memory(outcome: Outcome, what: str, own: str) -> Target:
    result = outcome.result(own)
    return Target(f"{what}: memory", result.cost.memory / _MIB if result and result.cost else None, _MEMORY, " MiB")


def _quotient(one: float, other: float) -> float | None:
    return one / other if one and other else None
