from contextlib import closing

import psycopg
from support.pgstow import wait_until
from support.postgres_fixtures import Database

from pipeline.postgres.activity import Statement, longest_statement
from pipeline.postgres.conninfo import Conninfo
from pipeline.postgres.server import Server


def test_the_longest_running_statement_of_a_dump_is_found(database: Database) -> None:
    with (
        Server(Conninfo.parse(f"{database.conninfo} application_name='pgstow one'")) as server,
        closing(psycopg.connect(database.conninfo, application_name="pgstow one")) as dump,
        closing(psycopg.connect(database.conninfo, application_name="pgstow two")) as other,
    ):
        server.export_snapshot()
        other.pgconn.send_query(b"SELECT pg_sleep(600)")
        wait_until(lambda: longest_statement(server, "pgstow two"), "the other session runs its statement")
        assert longest_statement(server, "pgstow one") is None, (
            "neither the server's own session nor the other application's counts"
        )

        dump.pgconn.send_query(b"SELECT pg_sleep(601)")
        seen: list[Statement | None] = []
        wait_until(
            lambda: seen.append(longest_statement(server, "pgstow one")) or seen[-1], "the dump runs its statement"
        )
        later = longest_statement(server, "pgstow one")
        assert later is not None
        assert later.text == "SELECT pg_sleep(601)"
        assert later.seconds > seen[-1].seconds, "even in the same transaction"
        dump.cancel()
        other.cancel()
