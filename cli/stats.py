"""``pgstow stats``."""

import dataclasses
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import display, options, record_options, tables, trust_options
from cli.command import Commands
from cli.errors import ExitCode
from cli.tables import Column
from pipeline.counting import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pipeline.audit.report import TableGrowth
    from pipeline.audit.stats import DatabaseStats, Forecast, Night

_AHEAD = 30
"""The days after the last backup for which a forecast is made."""
_TABLES_SHOWN = 20

app = Commands()


@app.command(
    "stats",
    examples=[
        "pgstow stats --from s3://bucket/prefix",
        "pgstow stats --from s3://bucket/prefix --database shop --days 365",
    ],
)
def stats(
    *,
    from_: options.From,
    database: options.Database = None,
    cluster: options.Cluster = None,
    days: Annotated[
        int, typer.Option(metavar="N", min=1, max=36500, help="Look at the backups of the last N days")
    ] = 90,
    json: options.Json = False,
    trusted_key: trust_options.TrustedKeys = None,
    no_cache: record_options.NoCache = False,
    store_option: options.StoreOptions = None,
    give_up_after: options.GiveUpAfter = 300,
) -> None:
    """Show how databases and tables grew from backup to backup, and how large they will be in 30 days if this goes on.

    No data is read. For a single database, every backup and the tables that changed most are shown.
    """
    from pipeline.audit.stats import summarize_database
    from pipeline.errors import BackupNotFound

    trust = trust_options.make_trust(trusted_key)
    since, problems = datetime.now(UTC) - timedelta(days=days), list[str]()
    with record_options.read_manifests(
        from_, store_option, give_up_after, trust, cluster=cluster, database=database, no_cache=no_cache, quiet=json
    ) as (url, databases):
        found = []
        for facts in databases:
            problems += [one.problem for one in facts.backups if one.problem]
            if facts.backups:
                found.append(summarize_database(facts, since, timedelta(days=_AHEAD)))
    if json:
        display.print_json({"databases": [_document(one) for one in found], "problems": problems})
    else:
        _print(found)
        record_options.print_problems(problems)
    if problems:
        raise typer.Exit(ExitCode.DAMAGED)
    if not found:
        raise BackupNotFound(f"There is no such backup in {url}.")


def _document(one: "DatabaseStats") -> dict[str, Any]:
    document = dataclasses.asdict(one)
    for night in document["nights"]:
        night["snapshot_at"] = _utc(night["snapshot_at"])
    for name in ("forecast", "transfer_forecast"):
        if document[name]:
            document[name]["at"] = _utc(document[name]["at"])
    return document


def _utc(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def _print(found: "Sequence[DatabaseStats]") -> None:
    _print_databases(found)
    if len(found) != 1:
        return
    [one] = found
    if one.nights:
        print()
        _print_nights(one.nights)
    if one.growth:
        print()
        _print_tables(one.growth)
    if one.left_out:
        print(f"\n{counted(one.left_out, 'backup')} didn't count: only whole backups that can be believed do.")


def _print_databases(found: "Sequence[DatabaseStats]") -> None:
    def last(cell: "Callable[[Night], str]") -> list[str]:
        return [cell(one.nights[-1]) if one.nights else "" for one in found]

    tables.print_table(
        [
            Column("CLUSTER", [display.literal(one.cluster) for one in found]),
            Column("DATABASE", [display.literal(one.database) for one in found]),
            Column("BACKUPS", [f"{len(one.nights):,}" for one in found], right=True),
            Column("LAST DATA OF", last(_minute)),
            Column("ROWS", last(lambda night: f"{night.rows:,}"), right=True, spare=3),
            Column("SIZE", last(lambda night: display.format_size(night.size)), right=True),
            Column("A DAY", [_per_day(one.forecast) for one in found], right=True, spare=1),
            Column(f"IN {_AHEAD} DAYS", [_range(one.forecast) for one in found], right=True),
            Column("SENT", last(lambda night: display.format_size(night.transferred)), right=True),
            Column("ALL STORED", [display.format_size(one.stored_size) for one in found], right=True, spare=2),
        ]
    )
    if found and not any(one.forecast for one in found):
        from pipeline.audit.stats import LEAST_NIGHTS

        print(f"There is no forecast: it takes whole backups on {LEAST_NIGHTS} days.")


def _print_nights(nights: "Sequence[Night]") -> None:
    size = display.format_size
    tables.print_table(
        [
            Column("BACKUP", [night.backup_id for night in nights]),
            Column("DATA OF", [_minute(night) for night in nights]),
            Column("TABLES", [f"{night.tables:,}" for night in nights], right=True, spare=2),
            Column("ROWS", [f"{night.rows:,}" for night in nights], right=True, spare=1),
            Column("SIZE", [size(night.size) for night in nights], right=True),
            Column("STORED", [size(night.stored_size) for night in nights], right=True, spare=3),
            Column("SENT", [size(night.transferred) for night in nights], right=True),
            Column("TOOK", [display.format_duration(night.duration) for night in nights], right=True, spare=4),
        ]
    )


def _print_tables(growth: "Sequence[TableGrowth]") -> None:
    shown = growth[:_TABLES_SHOWN]
    tables.print_table(
        [
            Column("TABLE", [display.literal(f"{one.schema}.{one.relation}") for one in shown]),
            Column("ROWS", [f"{one.last_rows:,}" for one in shown], right=True),
            Column("CHANGE", [f"{one.last_rows - one.first_rows:+,}" for one in shown], right=True),
            Column("SIZE", [display.format_size(one.last_size) for one in shown], right=True),
            Column("CHANGE", [_signed(one.last_size - one.first_size) for one in shown], right=True),
        ]
    )
    if more := len(growth) - len(shown):
        print(f"{counted(more, 'more table')} changed in size; --json has them all.")


def _minute(night: "Night") -> str:
    return f"{display.local_time(night.snapshot_at):%Y-%m-%d %H:%M}"


def _signed(size: float) -> str:
    return f"{'-' if size < 0 else '+'}{display.format_size(abs(size))}"


def _per_day(forecast: "Forecast | None") -> str:
    return _signed(forecast.per_day) if forecast else ""


def _range(forecast: "Forecast | None") -> str:
    if forecast is None:
        return ""
    low, high = display.format_size(forecast.low), display.format_size(forecast.high)
    return low if low == high else f"{low} to {high}"
