"""``pgstow find``."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import display, options, record_options, tables, trust_options
from cli.command import Commands
from cli.errors import ExitCode
from cli.tables import Column

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.audit.find import FoundTable

app = Commands()


@app.command(
    "find",
    examples=[
        "pgstow find orders --from s3://bucket/prefix",
        "pgstow find 'sales.order*' --from s3://bucket/prefix --database shop --json",
    ],
)
def find(
    table: Annotated[
        str,
        typer.Argument(
            metavar="TABLE", help="The table, as a pattern of pg_dump --table: orders, 'sales.*' or '\"Orders\"'"
        ),
    ],
    *,
    from_: options.From,
    database: options.Database = None,
    cluster: options.Cluster = None,
    json: options.Json = False,
    trusted_key: trust_options.TrustedKeys = None,
    no_cache: record_options.NoCache = False,
    store_option: options.StoreOptions = None,
    give_up_after: options.GiveUpAfter = 300,
) -> None:
    """Find the backups that have the data of a table, the newest of each database first.

    No data is read. The exit code is 8 if no backup has such a table, and 7 if a backup can't be read or believed.
    """
    from pipeline.audit.find import find_tables
    from pipeline.errors import BackupNotFound

    trust = trust_options.make_trust(trusted_key)
    with record_options.read_manifests(
        from_, store_option, give_up_after, trust, cluster=cluster, database=database, no_cache=no_cache, quiet=json
    ) as (url, databases):
        found = find_tables(databases, table)
    if json:
        display.print_json({"tables": [_document(one) for one in found.tables], "problems": found.problems})
    else:
        _print(found.tables)
        record_options.print_problems(found.problems)
    if found.problems:
        raise typer.Exit(ExitCode.DAMAGED)
    if not found.tables:
        raise BackupNotFound(f"No backup in {url} has a table that fits {table}.")


def _document(one: "FoundTable") -> dict[str, Any]:
    ref, table = one.ref, one.table
    return {
        "cluster": ref.cluster,
        "database": table.database or ref.database,
        "backup_id": ref.backup_id,
        "snapshot_at": f"{one.snapshot_at:%Y-%m-%dT%H:%M:%SZ}",
        "schema": table.schema,
        "relation": table.relation,
        "rows": table.rows,
        "size": table.size,
        "checksum": table.checksum,
        "problem": one.problem,
    }


def _print(found: "Sequence[FoundTable]") -> None:
    tables.print_backups(
        [one.ref for one in found],
        [
            Column("DATA OF", [f"{display.local_time(one.snapshot_at):%Y-%m-%d %H:%M}" for one in found]),
            Column("IN", [display.literal(one.table.database or "") for one in found]),
            Column("TABLE", [display.literal(f"{one.table.schema}.{one.table.relation}") for one in found]),
            Column("ROWS", [f"{one.table.rows:,}" for one in found], right=True),
            Column("SIZE", [display.format_size(one.table.size) for one in found], right=True),
            Column("", ["[red]NOT BELIEVED[/red]" if one.problem else "" for one in found]),
        ],
    )
