"""Measure commands on stores with very large or very many manifests. No stock command does the same, so the figures stand by themselves."""

import json
from collections.abc import Iterator
from pathlib import Path

from benchmarks.measure import CommandFailedError
from benchmarks.runs import SOURCE, Bench, say
from benchmarks.scale import commands
from benchmarks.scale.catalogs import CLUSTER
from benchmarks.scale.databases import create_databases
from benchmarks.scale.lab import Lab, counted_store
from benchmarks.scale.rows import Row, Trial, repeat

_LARGE_MANIFESTS, _LARGE_OBJECTS = 10, 200_000
_DATABASES = [f"database_{number:02}" for number in range(10)]
_BACKUPS, _KEPT = 1_000, 30
"""The number of backups of each database in the folder, and the number that prune keeps."""
_BACKUPS_ON_S3, _KEPT_ON_S3 = 100, 70
DELAY = 0.005
"""The time that each request to the S3 store waits, in seconds."""
_FURTHER_READS = 10
"""The manifests of each database that a run may read again: a new backup reads the previous one, for example."""


def measure_large_manifests(lab: Lab) -> Iterator[Row]:
    """Yield the row of the folder with ten backups of 200,000 large objects each."""
    objects = lab.size(_LARGE_OBJECTS)
    bench = lab.start("large-manifests")
    template = lab.template(bench).with_large_objects(objects)
    what = f"{_LARGE_MANIFESTS} backups of {objects:,} large objects"
    say(f"Writing the manifests of {what}")
    template.copy(folder := bench.directory / "folder", [SOURCE], _LARGE_MANIFESTS)
    row = Row(f"{what}: list", {"seconds": 2, "memory": 150})
    repeat(row, lab.repeat, lambda _turn: Trial(bench.run(commands.LIST, {"FOLDER": str(folder)})))
    yield row


def measure_many_manifests(lab: Lab) -> Iterator[Row]:
    """Yield the rows of the folder with 10,000 backups of 20 tables each."""
    backups, kept = lab.size(_BACKUPS), lab.size(_KEPT)
    bench = lab.start("many-manifests")
    template = lab.template(bench)
    whole = len(_DATABASES) * backups
    folders = [bench.directory / f"folder-{turn}" for turn in range(lab.repeat)]
    for folder in folders:
        say(f"Writing {whole:,} backups")
        template.copy(folder, _DATABASES, backups)

    def run(command: str, folder: Path) -> Trial:
        return Trial(bench.run(command, {"FOLDER": str(folder), "KEEP": str(kept)}))

    def prune(turn: int) -> Trial:
        trial = run(commands.PRUNE, folders[turn])
        _expect(folders[turn], len(_DATABASES) * kept)
        return trial

    listing = Row(f"{whole:,} backups: list", {"seconds": 6})
    repeat(listing, lab.repeat, lambda _turn: run(commands.LIST, folders[0]))
    yield listing
    plan = Row(f"{whole:,} backups: prune --dry-run", {"seconds": 6})
    repeat(plan, lab.repeat, lambda _turn: run(commands.PLAN, folders[0]))
    yield plan
    pruned = Row(f"{whole:,} backups: prune --yes of {len(_DATABASES) * (backups - kept):,}", {"seconds": 15})
    repeat(pruned, lab.repeat, prune)
    yield pruned


def measure_s3(lab: Lab) -> Iterator[Row]:
    """Yield the rows of the S3 store with 1,000 backups of 20 tables each."""
    backups, kept = lab.size(_BACKUPS_ON_S3), lab.size(_KEPT_ON_S3)
    bench = lab.start("s3")
    template = lab.template(bench)
    create_databases(bench.cluster.conninfo(), _DATABASES)
    whole = len(_DATABASES) * backups
    what = f"S3, {DELAY * 1000:g} ms a request, {whole:,} backups"
    night = Row(
        f"{what}: run of {len(_DATABASES)} databases", {"seconds": 15, "GET": whole + _FURTHER_READS * len(_DATABASES)}
    )
    pruned = Row(f"{what}: prune --yes of {len(_DATABASES) * (backups - kept):,}", {"seconds": 10})
    with counted_store(bench, delay=DELAY) as store:
        # All backups are there before the first request: rclone remembers the content of folders.
        places = ["run", *(f"prune-{turn}" for turn in range(lab.repeat))]
        for place in places:
            say(f"Writing {whole:,} backups")
            template.copy(store.folder(place), _DATABASES, backups)

        def run(_turn: int) -> Trial:
            trial = store.run(commands.RUN, {"CONFIG": str(config), "REMOTE": places[0]})
            _expect(store.folder(places[0]), whole)
            return trial

        def prune(turn: int) -> Trial:
            trial = store.run(commands.PRUNE_S3, {"REMOTE": places[turn + 1], "KEEP": str(kept)})
            _expect(store.folder(places[turn + 1]), len(_DATABASES) * kept)
            return trial

        config = _write_config(bench, keep=backups)
        repeat(night, lab.repeat, run)
        yield night
        repeat(pruned, lab.repeat, prune)
        yield pruned


def _expect(folder: Path, backups: int) -> None:
    """Raise CommandFailedError if the store in the folder has another number of backups."""
    if (found := sum(1 for _ in (folder / "manifests").rglob("*.json"))) != backups:
        raise CommandFailedError(f"the store has {found} backups instead of {backups}")


def _write_config(bench: Bench, *, keep: int) -> Path:
    """Write a pgstow.toml that backs up all databases to the store at ``$STORE``, and keeps so many backups of each."""
    tables = [
        f'[defaults]\ncluster = "{CLUSTER}"\njobs = {bench.jobs}\n',
        '[destinations.s3]\nurl = { env = "STORE" }\n',
        *(f"[databases.{name}]\nconninfo = {json.dumps(bench.cluster.conninfo(name))}\n" for name in _DATABASES),
        f"[retention.default]\nkeep_last = {keep}\n",
    ]
    path = bench.directory / "pgstow.toml"
    path.write_text("\n".join(tables), encoding="utf-8")
    return path
