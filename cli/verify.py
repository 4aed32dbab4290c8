"""``pgstow verify``."""

import os
import sys
import time
from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from cli import display, options
from cli.errors import ExitCode

if TYPE_CHECKING:
    from pipeline.verify import Verification


def verify(
    backup: options.BackupId = "latest",
    *,
    from_: options.From,
    store_option: options.StoreOptions = None,
    give_up_after: options.GiveUpAfter = 300.0,
    cluster: options.Cluster = None,
    database: options.Database = None,
    at: options.At = None,
    partial: options.Partial = False,
    level: Annotated[
        str,
        typer.Option(
            metavar="LEVEL",
            help="objects: all there, as the store reports; bytes: all read and hashed; archive: all decompressed and parsed too",
        ),
    ] = "bytes",
    transfers: options.Transfers = 4,
    memory: options.Memory = options.parse_size(options.MEMORY_DEFAULT),
    spool_dir: options.SpoolDir = None,
    limit_rate: options.LimitRate = None,
    nice: options.Nice = 0,
    bin_dir: options.BinDir = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Verify that a backup is still what was stored."""
    from pipeline.catalog import Wanted
    from pipeline.verify import Level, VerifyRequest
    from pipeline.verify import verify as verify_backup

    if level not in list(Level):
        raise typer.BadParameter(f"{level!r} is none of {', '.join(Level)}", param_hint="--level")
    request = VerifyRequest(
        wanted=Wanted(backup=backup, cluster=cluster, database=database, at=at, partial=partial),
        level=Level(level),
        limits=options.make_limits(None, transfers, memory, spool_dir),
        programs=tuple(bin_dir or ()),
    )
    started = time.monotonic()
    os.nice(nice)
    store = options.open_store(from_, store_option, give_up_after, limit_rate)
    with closing(store), display.progress(quiet=quiet or json) as notify:
        found = verify_backup(request, store, notify)
    if json:
        display.print_json(
            {
                "backup_id": found.manifest.backup_id,
                "level": found.level,
                "good": not found.problems,
                "objects": found.objects,
                "objects_without_checksum": found.without_checksum,
                "files": found.files,
                "read": found.read,
                "problems": found.problems,
            }
        )
    else:
        _print(found, time.monotonic() - started)
    if found.problems:
        raise typer.Exit(ExitCode.DAMAGED)


def _print(found: "Verification", seconds: float) -> None:
    for problem in found.problems:
        print(f"pgstow: {problem}", file=sys.stderr)
    name = f"{found.manifest.cluster}/{found.manifest.database} {found.manifest.backup_id}"
    if found.problems:
        print(f"{name} is DAMAGED: {len(found.problems)} of its objects or files are not what they were.")
        return
    proof = {
        "objects": f"all {found.objects:,} objects are there, as the store reports them; no data was read",
        "bytes": f"all {found.objects:,} objects were read ({display.format_size(found.read)}) and have their SHA-256",
        "archive": f"all {found.objects:,} objects and {found.files:,} files have their SHA-256, and pg_restore can parse the archive",
    }[found.level]
    print(f"{name} is good: {proof} ({display.format_duration(seconds)}).")
    if found.without_checksum:
        print(
            f"For {found.without_checksum:,} objects the store reports no checksum: only their size is known at this level."
        )
