"""Build a realistic database, with one large table and many small tables. Also build many small databases.

Sizes are bytes of COPY text, as pg_dump writes it with ``-Z0``. Rows hold jsonb, uuids, timestamps, numerics, and words. Words are chosen as
in a natural language: the r-th word of the vocabulary has a probability proportional to 1/r.
"""

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import psycopg
from psycopg import sql

from pipeline.postgres.throwaway import ThrowawayCluster

LARGEST = "events"
DATABASES = 50
ROWS_OF_FEW = (4000, 2000, 1000, 500, 200, 100, 50, 10)
"""The number of rows in each table of a small database."""
SESSIONS = 2
"""The number of connections that fill tables at the same time."""

_EVENT_BYTES = 372
"""The measured average size of a row of the largest table, in bytes of COPY text."""
_SMALL_ROW_BYTES = 209
_SPREAD = 14.0
"""The sizes of the small tables fall exponentially. Before the shuffle, the first table is e to the power of 14 times larger than the last."""
_FEWEST_ROWS = 3
_VOCABULARY, _PHRASES = 5000, 100_000

_WORDS = f"""
CREATE UNLOGGED TABLE word AS
SELECT rank, (SELECT string_agg(substr('bcdfghlmnprstvwz', 1 + (h >> 4*i) % 16, 1) || substr('aeiouaei', 1 + (h >> 3*i) % 8, 1), '')
              FROM generate_series(0, 1 + (ln(rank) / 4)::int) i) AS word
FROM (SELECT rank, abs(hashint4(rank)) AS h FROM generate_series(1, {_VOCABULARY}) rank) r;

CREATE UNLOGGED TABLE phrase AS
SELECT n, string_agg(word, ' ') AS phrase
FROM (SELECT n, power({_VOCABULARY}, random())::int AS rank
      FROM generate_series(0, {_PHRASES} - 1) n, generate_series(1, 4 + n % 5) OFFSET 0) pick
JOIN word USING (rank) GROUP BY n;

ALTER TABLE phrase ADD PRIMARY KEY (n);
ANALYZE word, phrase;
"""

_CREATE_EVENTS = """
CREATE TABLE events (
    id bigint NOT NULL, event_id uuid NOT NULL, account_id integer NOT NULL, happened_at timestamptz NOT NULL,
    kind text NOT NULL, amount numeric(12,2), attributes jsonb NOT NULL, body text NOT NULL
)"""

_FILL_EVENTS = f"""
INSERT INTO events
SELECT id, gen_random_uuid(), 1 + id %% %(accounts)s, timestamptz '2024-01-01' + id * interval '7.3 s',
       (array['order.created', 'order.paid', 'order.shipped', 'invoice.sent', 'user.login'])[1 + a %% 5],
       CASE WHEN a %% 10 > 0 THEN round((b %% 1000000) / 100.0, 2) END,
       jsonb_build_object('source', (array['web', 'ios', 'android', 'api'])[1 + b %% 4], 'session', md5((c %% 50000)::text),
                          'retries', d %% 4, 'tags', jsonb_build_array(split_part(p1.phrase, ' ', 1), split_part(p2.phrase, ' ', 2))),
       concat_ws(' ', p1.phrase, p2.phrase, p3.phrase, p4.phrase) || E'.\n'
FROM (SELECT id, (random() * 2147483647)::int AS a, (random() * 2147483647)::int AS b,
             (random() * 2147483647)::int AS c, (random() * 2147483647)::int AS d
      FROM generate_series(%(first)s::bigint, %(last)s::bigint) id OFFSET 0) r
JOIN phrase p1 ON p1.n = a %% {_PHRASES} JOIN phrase p2 ON p2.n = b %% {_PHRASES}
JOIN phrase p3 ON p3.n = c %% {_PHRASES} JOIN phrase p4 ON p4.n = d %% {_PHRASES}
"""

_INDEX_EVENTS = """
ALTER TABLE events ADD PRIMARY KEY (id);
CREATE INDEX ON events (account_id, happened_at);
CREATE INDEX ON events (event_id);
"""

_CREATE_SMALL = """
CREATE TABLE {table} (
    id integer PRIMARY KEY, code uuid NOT NULL, parent_id integer, updated_at timestamptz NOT NULL,
    price numeric(10,2) NOT NULL, attributes jsonb NOT NULL, label text NOT NULL
)"""

_FILL_SMALL = f"""
INSERT INTO {{table}}
SELECT id, gen_random_uuid(), 1 + a %% {_FEWEST_ROWS}, timestamptz '2024-01-01' + a * interval '20 ms', (b %% 100000) / 100.0,
       jsonb_build_object('active', a %% 7 > 0, 'group', b %% 40, 'note', split_part(p1.phrase, ' ', 3)),
       concat_ws(' ', p1.phrase, p2.phrase)
FROM (SELECT id, (random() * 2147483647)::int AS a, (random() * 2147483647)::int AS b
      FROM generate_series(1, %(rows)s) id OFFSET 0) r
JOIN phrase p1 ON p1.n = a %% {_PHRASES} JOIN phrase p2 ON p2.n = b %% {_PHRASES}
"""

_FOREIGN_KEY = "ALTER TABLE {table} ADD FOREIGN KEY (parent_id) REFERENCES {parent} (id)"
_SECOND_INDEX = "CREATE INDEX ON {table} (updated_at)"


@dataclass(frozen=True, slots=True)
class Shape:
    """The size of the database, and the share and the place of its largest table."""

    megabytes: float
    """The size of all tables in 10^6 bytes of COPY text."""
    largest: Literal["first", "last"] = "last"
    """``first`` if the largest table is created before the small tables, ``last`` if after them. Dump IDs have the same order."""

    largest_share: float = 0.7
    """The share of the largest table in the bytes."""
    small_tables: int = 2000
    """The number of the other tables."""

    @property
    def events(self) -> int:
        """The number of rows in the largest table."""
        return int(self.megabytes * 1e6 * self.largest_share / _EVENT_BYTES)

    def small_rows(self) -> list[int]:
        """Return the number of rows in each small table, shuffled the same way every time."""
        fall_off = [2.718281828 ** (-_SPREAD * rank / self.small_tables) for rank in range(self.small_tables)]
        unit = self.megabytes * 1e6 * (1 - self.largest_share) / _SMALL_ROW_BYTES / sum(fall_off)
        rows = [max(_FEWEST_ROWS, round(unit * size)) for size in fall_off]
        random.Random(0).shuffle(rows)
        return rows


def build(conninfo: str, shape: Shape) -> None:
    """Fill the empty database at ``conninfo``. At the end, vacuum, freeze and analyze it."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute("SELECT setseed(0.5)")
        connection.execute(_WORDS)
        if shape.largest == "first":
            connection.execute(_CREATE_EVENTS)
        for number in range(1, shape.small_tables + 1):
            connection.execute(_statement(_CREATE_SMALL, number))
        if shape.largest == "last":
            connection.execute(_CREATE_EVENTS)

    with ThreadPoolExecutor(SESSIONS) as sessions:
        for part in [sessions.submit(_fill, conninfo, shape, session) for session in range(SESSIONS)]:
            part.result()

    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute("DROP TABLE word, phrase")
        connection.execute(_INDEX_EVENTS)
        connection.execute("ALTER TABLE events ADD FOREIGN KEY (account_id) REFERENCES table_0001 (id)")
        for statement in _constraints(shape.small_tables):
            connection.execute(statement)
        connection.execute("VACUUM (FREEZE, ANALYZE)")


def build_many(cluster: ThrowawayCluster) -> None:
    """Create the small databases, with a few tables each: fill the first database, and copy it."""
    first, *others = (sql.Identifier(f"small_{number:02}") for number in range(1, DATABASES + 1))
    with psycopg.connect(cluster.conninfo(), autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(first))
        with psycopg.connect(cluster.conninfo("small_01"), autocommit=True) as one:
            one.execute("SELECT setseed(0.5)")
            one.execute(_WORDS)
            for number, rows in enumerate(ROWS_OF_FEW, start=1):
                one.execute(_statement(_CREATE_SMALL, number))
                one.execute(_statement(_FILL_SMALL, number), {"rows": rows})
                one.execute(_statement(_SECOND_INDEX, number))
            one.execute("DROP TABLE word, phrase")
            one.execute("VACUUM (FREEZE, ANALYZE)")
        for other in others:
            connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(other, first))


def _fill(conninfo: str, shape: Shape, session: int) -> None:
    rows = shape.small_rows()
    with psycopg.connect(conninfo, autocommit=True, options="-c synchronous_commit=off -c work_mem=64MB") as connection:
        first, last = (shape.events * part // SESSIONS for part in (session, session + 1))
        connection.execute(_FILL_EVENTS, {"first": first + 1, "last": last, "accounts": rows[0]})
        for number in range(1 + session, shape.small_tables + 1, SESSIONS):
            connection.execute(_statement(_FILL_SMALL, number), {"rows": rows[number - 1]})


def _constraints(tables: int) -> Iterator[sql.Composed]:
    for number in range(10, tables + 1, 10):
        yield sql.SQL(_FOREIGN_KEY).format(table=_name(number), parent=_name(number - 1))
        yield _statement(_SECOND_INDEX, number)


def _statement(template: str, number: int) -> sql.Composed:
    return sql.SQL(template).format(table=_name(number))


def _name(number: int) -> sql.Identifier:
    return sql.Identifier(f"table_{number:04}")
