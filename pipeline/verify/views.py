"""Checks that materialized views have the rows that their queries return. A backup doesn't contain these rows: a restore runs the queries."""

import re
from collections.abc import Sequence

from pipeline.archive.reader import Archive
from pipeline.errors import StatementRefused
from pipeline.events import Notice, Notify, Started
from pipeline.postgres.conninfo import Conninfo
from pipeline.postgres.loading import with_dump_settings
from pipeline.postgres.server import Server
from pipeline.verify.content import LineDigest

_NO_INDEXES = ("enable_indexscan", "enable_indexonlyscan", "enable_bitmapscan")
_OTHER_PLANS = (
    ("enable_hashagg", "enable_hashjoin", "enable_mergejoin", "enable_bitmapscan", "enable_incremental_sort"),
    _NO_INDEXES,
    (*_NO_INDEXES, "enable_hashagg", "enable_hashjoin", "enable_mergejoin"),
    ("enable_seqscan", "enable_sort"),
)
"""Settings to turn off, to make the planner choose other plans. If a query's result depends on the order of rows, another plan may return
other rows."""
_BY_THE_CLOCK = re.compile(
    r"\bnow\(|\bCURRENT_(?:DATE|TIME)|\bLOCALTIME|_timestamp\(|\btimeofday\(|\bage\(|\bpg_(?:catalog\.)?\w*(?:size|stat)",
    re.IGNORECASE,
)


def compare_views(target: Conninfo, archive: Archive, notify: Notify) -> list[str]:
    """Refresh each filled materialized view in a new session under the database's settings, and undo the refresh.

    Return one sentence for each view whose rows a refresh changed. If a view can't be refreshed, or if its query can return other rows each
    time, only notify the user. Memory holds a few rows at a time. The server's disk holds a second copy of one view at a time.

    Raises ConnectionFailed if the server goes away.
    """
    with Server(target) as server:
        views = server.fetch(
            "SELECT n.nspname, c.relname, pg_catalog.pg_get_viewdef(c.oid) FROM pg_catalog.pg_class c "
            "JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'm' AND c.relispopulated "
            "AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass "
            "AND d.objid = c.oid AND d.deptype = 'e') ORDER BY 1, 2"
        )
    if not views:
        return []
    notify(Started("Comparing the content of materialized views"))
    target = with_dump_settings(target, archive.manifest.source, money=archive.uses_money(None))
    problems = []
    for schema, name, query in views:
        try:
            restored, refreshed = _refreshed(target, schema, name)
            if restored == refreshed:
                continue
            again = (_refreshed(target, schema, name, without=settings)[1] for settings in ((), *_OTHER_PLANS))
            same_each_time = all(content == refreshed for content in again) and not _BY_THE_CLOCK.search(query)
        except StatementRefused as exc:
            notify(Notice(f"The materialized view {schema}.{name} can't be compared. {exc}"))
            continue
        if not same_each_time:
            notify(
                Notice(
                    f"The materialized view {schema}.{name} can't be compared: its query doesn't return the same rows each time."
                )
            )
            continue
        problems.append(
            f"The materialized view {schema}.{name} doesn't have the rows that its query returns under the database's settings."
        )
    return problems


def _refreshed(target: Conninfo, schema: str, name: str, *, without: Sequence[str] = ()) -> tuple[int, int]:
    """Return digests of the view's rows before and after a refresh with the settings in ``without`` turned off.

    The digests don't depend on the rows' order.
    """
    # A refresh runs with the rights of the view's owner. If pgstow ran the query itself, it would run with this role's rights.
    with Server(target, users_settings=True) as server:
        server.execute("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE")
        server.leave_users_path()  # as in pg_restore, since the result may depend on search_path
        for setting in without:
            server.execute(f"SET max_parallel_workers_per_gather = 0; SET {setting} = off")
        before = _digest(server, schema, name)
        server.execute(server.encoded("REFRESH MATERIALIZED VIEW ") + server.quoted(schema, name))
        return before, _digest(server, schema, name)  # the end of the session undoes the refresh


def _digest(server: Server, schema: str, name: str) -> int:
    digest = LineDigest()
    digest.update_all(server.copy_view(schema, name))
    return digest.value
