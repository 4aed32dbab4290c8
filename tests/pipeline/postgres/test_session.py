"""A session tells a refused statement from a server that went away, and a restore reports the right cause."""

from collections.abc import Callable, Iterator

import pytest
from psycopg.conninfo import make_conninfo
from support.postgres_fixtures import Database
from support.stored_sample import StoredSample

from pipeline.archive.reader import open_archive
from pipeline.concurrency import Workers
from pipeline.config import Limits
from pipeline.errors import RestoreFailed, ServerUnavailable, StatementRefused
from pipeline.postgres.conninfo import Conninfo
from pipeline.postgres.partitions import Attachment, attach
from pipeline.postgres.psql import run_script
from pipeline.postgres.restore_options import RestoreOptions
from pipeline.postgres.restricted_mode import find_psql
from pipeline.postgres.server import Server
from pipeline.postgres.workspace import Workspace
from pipeline.restore.properties import apply_rest
from pipeline.trust.seal import Keys

END_OTHERS = (
    "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
    "WHERE datname = current_database() AND pid <> pg_backend_pid();"
)


@pytest.fixture
def server(database: Database) -> Iterator[Server]:
    with Server(Conninfo.parse(database.conninfo)) as server:
        yield server


def test_a_refused_statement_is_told_from_an_ended_session(database: Database, server: Server) -> None:
    with pytest.raises(StatementRefused, match=r'refused a statement: .*"none"'):
        server.execute("DROP TABLE none")
    with pytest.raises(StatementRefused, match="server closed the connection unexpectedly"):
        server.execute("DO $$BEGIN RAISE 'server closed the connection unexpectedly'; END$$")
    server.check_alive()
    database.execute(END_OTHERS)
    for _ in range(2):
        with pytest.raises(ServerUnavailable, match="went away"):
            server.execute("SELECT")


@pytest.mark.parametrize(("options", "value"), [("", None), ("-c own.value=a\\", "a"), ("-c own.value=a\\\\", "a\\")])
def test_a_setting_follows_options_that_end_with_a_backslash(
    database: Database, options: str, value: str | None
) -> None:
    target = Conninfo.parse(make_conninfo(database.conninfo, options=options))
    for conninfo in (target, target.with_setting("jit", "off")):
        with Server(conninfo) as server:
            assert server.fetch("SELECT current_setting('own.value', true)") == [(value,)]
    with Server(target.with_setting("jit", "off")) as server:
        assert server.fetch("SELECT current_setting('jit')") == [("off",)]


def test_a_session_that_ends_during_a_statement_is_reported(server: Server) -> None:
    with pytest.raises(ServerUnavailable, match="went away: terminating connection"):
        server.execute("SELECT pg_terminate_backend(pg_backend_pid()), pg_sleep(5)")


@pytest.mark.parametrize(("script", "failure"), [("", RestoreFailed), (END_OTHERS, ServerUnavailable)])
def test_a_failed_program_is_told_from_a_server_that_went_away(
    database: Database, server: Server, script: str, failure: type[Exception]
) -> None:
    """In both cases, psql's own session ends. Only in the second case does pgstow's session end, too."""
    target = Conninfo.parse(database.conninfo)
    whole = f"{script} SELECT pg_terminate_backend(pg_backend_pid());".encode()
    with Workspace() as workspace, pytest.raises(failure), server.blamed():
        run_script(find_psql(at_least_major=server.major), target, workspace, whole, "pgstow test")


def test_the_last_statements_of_a_restore_tell_a_refusal_from_an_ended_session(
    database: Database, server: Server, stored_sample: StoredSample
) -> None:
    """If the server refuses a statement, the restore fails. The end of the session doesn't speak against the backup."""
    with Workers() as workers:
        archive = open_archive(stored_sample.store, stored_sample.manifest, Keys(), workers, Limits())
    steps: list[Callable[[], None]] = [
        lambda: attach(server, [Attachment("app.p", "app.t", "ALTER TABLE none ATTACH PARTITION p DEFAULT")]),
        lambda: apply_rest(server, archive, RestoreOptions(), whole=True),
    ]
    database.execute(f"ALTER DATABASE {database.name} OWNER TO pg_monitor")
    server.execute("SET ROLE pg_monitor")  # this role can't give the database to the backup's owner
    for step in steps:
        with pytest.raises(RestoreFailed):
            step()
    database.execute(END_OTHERS)
    for step in steps:
        with pytest.raises(ServerUnavailable):
            step()
