"""Partitions that are restored without their partitioned table.

An archive attaches a partition before the partition has indexes, and attaches the indexes afterwards, one by one. But if the partitioned
table already exists, the server makes new indexes for a partition that has none. So pgstow attaches the partition last. The server then uses
the partition's indexes and constraints (https://www.postgresql.org/docs/current/sql-altertable.html, ATTACH PARTITION).
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from pipeline.errors import RestoreFailed, StatementRefused
from pipeline.events import Notice, Notify
from pipeline.postgres.server import Server
from pipeline.postgres.toc import Toc

_NAME = r'(?:"(?:[^"]|"")+"|[^\s".]+)'
_ATTACH = re.compile(
    rf"\s*ALTER TABLE ONLY (?P<table>{_NAME}\.{_NAME}) ATTACH PARTITION (?P<partition>{_NAME}\.{_NAME}) "
)
"""``dumpTableAttach`` in pg_dump.c."""


@dataclass(frozen=True, slots=True)
class Attachment:
    """The attachment of a table to its partitioned table."""

    partition: str
    """The partition's name as in SQL, with its schema."""
    table: str
    """The partitioned table's name as in SQL, with its schema."""
    definition: str
    """The SQL that attaches the partition."""


def attachments_left_out(toc: Toc, chosen: Collection[int]) -> list[Attachment]:
    """Return the attachments of the chosen tables to partitioned tables that aren't chosen. ``chosen`` has dump IDs."""
    wanted = frozenset(chosen)
    tables = {
        (entry.namespace, entry.tag)
        for entry in toc.entries
        if _makes_table(entry.description) and entry.dump_id in wanted
    }
    found = []
    for entry in toc.entries:
        if entry.description != "TABLE ATTACH" or entry.dump_id in wanted or (entry.namespace, entry.tag) not in tables:
            continue
        if match := _ATTACH.match(entry.definition):
            found.append(Attachment(match["partition"], match["table"], entry.definition))
    return found


def _makes_table(description: str) -> bool:
    return description in {"TABLE", "FOREIGN TABLE"}


def attachable(server: Server, attachments: Sequence[Attachment]) -> list[Attachment]:
    """Return the attachments whose partitioned table exists in the database.

    Raises ConnectionFailed, or RestoreFailed if a relation that has a partitioned table's name isn't partitioned.
    """
    found = []
    for one in attachments:
        [(kind,)] = server.fetch(
            "SELECT (SELECT relkind FROM pg_catalog.pg_class WHERE oid = pg_catalog.to_regclass(%s))", [one.table]
        )
        if kind not in {None, "p"}:
            raise RestoreFailed(
                f"{one.table} in the database {server.name} isn't partitioned, so {one.partition} can't become its partition again. "
                "Restore the partition under another name with --as, or into another database."
            )
        if kind:
            found.append(one)
    return found


def attach(server: Server, attachments: Sequence[Attachment]) -> None:
    """Attach restored tables to their partitioned tables. Raises ConnectionFailed, or RestoreFailed if the server refuses; the rows stay."""
    for one in attachments:
        try:
            server.execute(server.encoded(one.definition))
        except StatementRefused as exc:
            raise RestoreFailed(
                f"{one.partition} is restored, but can't become a partition of {one.table} again, and stands alone. {exc}"
            ) from exc


def tell_alone(attachments: Collection[Attachment], notify: Notify) -> None:
    """Report each table that isn't attached to its partitioned table."""
    for one in attachments:
        notify(Notice(f"{one.partition} stands alone: it was a partition of {one.table}, but isn't attached to it."))
