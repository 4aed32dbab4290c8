"""--to-schema and --as restore objects under other names, beside the objects that exist."""

import itertools
import json
import re
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from support.pgstow import Result, assert_one_sentence, finish, run_pgstow, start_pgstow, wait_until
from support.postgres_fixtures import Database, DatabaseMaker
from support.stored_sample import StoredSample

from demo import compare
from pipeline.postgres.throwaway import ThrowawayCluster

SHOP = """
CREATE SCHEMA shop;
CREATE TABLE shop.customer (id integer PRIMARY KEY, name text);
INSERT INTO shop.customer SELECT i, md5(i::text) FROM generate_series(1, 50) AS i;
CREATE FUNCTION shop.touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN new.note := coalesce(new.note, 'touched'); RETURN new; END $$;
CREATE TYPE shop.state AS ENUM ('new', 'paid');
CREATE TABLE shop.orders (
    id serial PRIMARY KEY,
    number bigint GENERATED ALWAYS AS IDENTITY (START 100) UNIQUE,
    customer integer NOT NULL REFERENCES shop.customer,
    price numeric CHECK (price > 0),
    gross numeric GENERATED ALWAYS AS (price * 1.2) STORED,
    state shop.state DEFAULT 'new',
    note text
);
CREATE INDEX orders_customer_state ON shop.orders (customer, state) WHERE price > 10;
CREATE INDEX "by note" ON shop.orders (lower(note));
CREATE STATISTICS shop.orders_statistics (dependencies) ON customer, state FROM shop.orders;
CREATE TRIGGER touch BEFORE INSERT ON shop.orders FOR EACH ROW EXECUTE FUNCTION shop.touch();
INSERT INTO shop.orders (customer, price, state) SELECT 1 + i % 50, 1 + i, 'paid' FROM generate_series(1, 700) AS i;
COMMENT ON TABLE shop.orders IS 'what was ordered'; COMMENT ON INDEX shop."by note" IS 'an index';
COMMENT ON COLUMN shop.orders.price IS 'in euros';
ALTER TABLE shop.orders ENABLE ROW LEVEL SECURITY;
CREATE POLICY mine ON shop.orders TO clerk USING (note <> current_user);
GRANT SELECT, INSERT ON shop.orders TO clerk; GRANT USAGE ON SEQUENCE shop.orders_id_seq TO clerk;
CREATE TABLE shop.item (orders integer REFERENCES shop.orders, what text);
INSERT INTO shop.item SELECT 1 + i % 700, repeat('x', 100) FROM generate_series(1, 3000) AS i;
CREATE VIEW shop.open AS SELECT o.id, c.name FROM shop.orders AS o JOIN shop.customer AS c ON c.id = o.customer;
CREATE MATERIALIZED VIEW shop.top AS SELECT customer, sum(price) AS total FROM shop.orders GROUP BY customer;
CREATE UNIQUE INDEX top_customer ON shop.top (customer);
CREATE MATERIALIZED VIEW shop.never AS SELECT 1 AS one WITH NO DATA;
CREATE SEQUENCE shop.counter START 5; SELECT nextval('shop.counter'), nextval('shop.counter');
CREATE PUBLICATION orders_out FOR TABLE shop.orders;
CREATE FUNCTION public.refuse() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
    IF current_database() LIKE 'pgstow%' THEN RAISE 'not here'; END IF; END $$;
CREATE EVENT TRIGGER refuse ON ddl_command_start EXECUTE FUNCTION public.refuse();
"""


@dataclass(frozen=True)
class Shop:
    """A backup of a database, and the database itself, which still exists."""

    store: Path
    database: Database
    spool_dir: Path

    def restore(self, *options: object, into: Database | None = None) -> Result:
        target = into or self.database
        arguments = ("--from", self.store, "--into", target.conninfo, "--spool-dir", self.spool_dir, "--json")
        return run_pgstow("restore", *arguments, *options)


def made(folder: Path, spool_dir: Path, database: Database) -> Shop:
    result = run_pgstow("backup", database.conninfo, "--to", folder / "store", "--spool-dir", spool_dir, "-q")
    assert result.exit_code == 0, result
    return Shop(folder / "store", database, spool_dir)


@pytest.fixture(scope="module")
def shop_once(postgres: ThrowawayCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    server, database = Database("postgres", postgres.conninfo()), Database("shop", postgres.conninfo("shop"))
    server.execute("CREATE ROLE clerk")
    server.execute("CREATE DATABASE shop TEMPLATE template0")
    database.execute(SHOP)
    yield made(tmp_path_factory.mktemp("shop"), tmp_path_factory.mktemp("spool"), database)
    server.execute("DROP DATABASE shop WITH (FORCE)")
    server.execute("DROP ROLE clerk")


@pytest.fixture
def shop(shop_once: Shop, make_database: DatabaseMaker, spool_dir: Path) -> Shop:
    """Return the backup, which all tests share, and a copy of its database for this test."""
    return Shop(shop_once.store, make_database(template="shop"), spool_dir)


@pytest.fixture(autouse=True)
def _no_scratch_database_is_left(postgres: ThrowawayCluster) -> Iterator[None]:
    yield
    assert scratch_databases(postgres) == []


def scratch_databases(postgres: ThrowawayCluster) -> list[str]:
    server = Database("postgres", postgres.conninfo())
    return [name for (name,) in server.fetch("SELECT datname FROM pg_database WHERE datname LIKE 'pgstow%'")]


def told(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result
    return json.loads(result.stdout)


def definitions(database: Database, *names: str) -> list[str]:
    """Return the definitions and grants that contain one of these names."""
    grants = database.fetch(
        "SELECT concat_ws(' ', 'grants', oid::regclass, relacl::text) FROM pg_class WHERE relnamespace::regnamespace::text !~ '^(pg_|inf)'"
    )
    lines = [*compare.definitions(database.conninfo), *(line for (line,) in grants)]
    return sorted(line for line in lines if any(re.search(rf"\b{name}", line) for name in names))


def test_a_table_in_another_schema(shop: Shop) -> None:
    before, contents = compare.definitions(shop.database.conninfo), compare.contents(shop.database.conninfo)

    answer = told(shop.restore("-t", "shop.orders", "--to-schema", "aside"))

    assert (answer["tables"], answer["rows"]) == (1, 700)
    after = compare.definitions(shop.database.conninfo)
    assert [line for line in before if line not in after] == []
    expected = [
        re.sub(r"\bshop\.(orders|\"by note\")", r"aside.\1", line)
        for line in definitions(shop.database, "orders", "by note")
        if not re.search(r"\baside\b|shop\.(item|top|open)", line)
    ]
    assert len(expected) > 25
    found = [line for line in definitions(shop.database, "aside") if not line.startswith("grants aside.o ")]
    assert found == sorted(expected)
    assert compare.contents(shop.database.conninfo) == {**contents, "aside.orders": contents["shop.orders"]}
    shop.database.execute("INSERT INTO aside.orders (customer, price) VALUES (1, 1)")
    assert shop.database.fetch("SELECT id, number, note FROM aside.orders ORDER BY id DESC LIMIT 1") == [
        (701, 800, "touched")
    ]


def test_a_table_beside_the_one_that_is_there(shop: Shop) -> None:
    before, contents = compare.definitions(shop.database.conninfo), compare.contents(shop.database.conninfo)
    original = [
        line for line in definitions(shop.database, "orders", "by note") if not re.search("item|top|open", line)
    ]

    answer = told(shop.restore("-t", "shop.orders", "--as", "orders_old"))

    assert (answer["tables"], answer["rows"]) == (1, 700)
    assert [line for line in before if line not in compare.definitions(shop.database.conninfo)] == []
    own = r"\borders(?!_customer_fkey|_price_check)"
    expected = [re.sub(own, "orders_old", line).replace('"by note"', '"_by note"') for line in original]
    assert sorted(expected) == definitions(shop.database, "orders_old", "_by note")
    assert compare.contents(shop.database.conninfo) == {**contents, "shop.orders_old": contents["shop.orders"]}


def test_both_at_once_and_once_more(shop: Shop) -> None:
    move = ("-t", "shop.orders", "--to-schema", "aside", "--as", "orders_old")
    told(shop.restore(*move))
    assert relations(shop.database, "aside") == [
        "_by note",
        "orders_old",
        "orders_old_customer_state",
        "orders_old_id_seq",
        "orders_old_number_key",
        "orders_old_number_seq",
        "orders_old_pkey",
    ]
    assert_one_sentence(shop.restore(*move), 5, r"already has aside\.orders_old, ")
    shop.database.execute("DELETE FROM aside.orders_old WHERE id > 7")
    told(shop.restore(*move, "--clean"))
    contents = compare.contents(shop.database.conninfo)
    assert contents["aside.orders_old"] == contents["shop.orders"]
    assert shop.database.fetch("SELECT schemaname, tablename FROM pg_publication_tables") == [("shop", "orders")]


def relations(database: Database, schema: str) -> list[str]:
    rows = database.fetch(
        f"SELECT relname FROM pg_class WHERE relnamespace = to_regnamespace('{schema}') AND relkind <> 'c' ORDER BY 1"
    )
    return [name for (name,) in rows]


@pytest.mark.parametrize(
    ("there", "refused"),
    [
        ("CREATE TABLE shop.orders_old ()", r"shop\.orders_old"),
        ("CREATE VIEW shop.orders_old AS SELECT", r"shop\.orders_old"),
        ("CREATE SEQUENCE shop.orders_old_id_seq", r"shop\.orders_old_id_seq"),
        ("CREATE INDEX orders_old_customer_state ON shop.item (what)", r"shop\.orders_old_customer_state"),
        ("CREATE TABLE shop.orders_old_pkey ()", r"shop\.orders_old_pkey"),
        ("CREATE STATISTICS shop.orders_old_statistics ON what, orders FROM shop.item", r"shop\.orders_old_statistics"),
    ],
)
def test_what_is_there_already_is_refused_before_anything_is_changed(shop: Shop, there: str, refused: str) -> None:
    shop.database.execute(there)
    before, contents = compare.definitions(shop.database.conninfo), compare.contents(shop.database.conninfo)
    result = shop.restore("-t", "shop.orders", "--as", "orders_old")
    assert_one_sentence(result, 5, rf"The database \w+ already has {refused}")
    assert compare.definitions(shop.database.conninfo) == before
    assert compare.contents(shop.database.conninfo) == contents


PARTITIONED = """
CREATE SCHEMA app; CREATE SCHEMA cold;
CREATE TABLE app.events (id integer, at date, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE TABLE app.events_2025 PARTITION OF app.events FOR VALUES FROM ('2025-01-01') TO ('2026-01-01') PARTITION BY HASH (id);
CREATE TABLE app.events_2025_0 PARTITION OF app.events_2025 FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE app.other PARTITION OF app.events_2025 FOR VALUES WITH (MODULUS 2, REMAINDER 1);
CREATE TABLE cold.events PARTITION OF app.events DEFAULT;
CREATE INDEX ON app.events (at); CREATE INDEX by_id ON app.other (id DESC);
INSERT INTO app.events SELECT i, date '2024-07-01' + i FROM generate_series(1, 400) AS i;
"""


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (
            ("--as", "was"),
            {
                "app.events": "app.was",
                "app.events_2025": "app.was_2025",
                "app.events_2025_0": "app.was_2025_0",
                "app.other": "app._other",
                "cold.events": "cold.was",
            },
        ),
        (
            ("--as", "was", "--to-schema", "new"),
            {
                "app.events": "new.was",
                "app.events_2025": "new.was_2025",
                "app.events_2025_0": "new.was_2025_0",
                "app.other": "new._other",
                "cold.events": "new.was2",
            },
        ),
    ],
    ids=["name", "both"],
)
def test_partitions_come_with_their_table(
    postgres: ThrowawayCluster,
    database: Database,
    tmp_path: Path,
    spool_dir: Path,
    options: tuple[str, ...],
    names: dict[str, str],
) -> None:
    database.execute(PARTITIONED)
    stored, before = made(tmp_path, spool_dir, database), compare.definitions(database.conninfo)
    contents = compare.contents(database.conninfo)

    assert told(stored.restore("-t", "app.events", *options))["rows"] == 400

    assert [line for line in before if line not in compare.definitions(database.conninfo)] == []
    partitioned = ("app.events", "app.events_2025")
    copies = {new: contents[old] for old, new in names.items() if old not in partitioned}
    assert copies.keys().isdisjoint(contents)
    assert compare.contents(database.conninfo) == {**contents, **copies}
    root = names["app.events"]
    tree = f"SELECT relid::regclass::text, parentrelid::regclass::text FROM pg_partition_tree('{root}')"
    assert dict(database.fetch(tree)) == {
        root: None,
        names["app.events_2025"]: root,
        names["cold.events"]: root,
        names["app.events_2025_0"]: names["app.events_2025"],
        names["app.other"]: names["app.events_2025"],
    }
    assert database.fetch(f"SELECT count(*) FROM pg_inherits WHERE inhparent = '{root}_at_idx'::regclass") == [(2,)]


def test_two_tables_of_one_name_have_no_room_in_one_schema(
    postgres: ThrowawayCluster, database: Database, tmp_path: Path, spool_dir: Path
) -> None:
    database.execute(PARTITIONED)
    stored, before = made(tmp_path, spool_dir, database), compare.definitions(database.conninfo)
    result = stored.restore("-t", "app.events", "--to-schema", "new")
    assert_one_sentence(result, 5, 'can\'t be moved.*relation "events" already exists in schema "new"')
    assert compare.definitions(database.conninfo) == before


LONG = "long" + 58 * "x"
ODD = {
    '"Odd "" schema; é.x"': ["plain"],
    "plain": [
        '"ta""ble; DROP"',
        '"dot.ted"',
        '"with space"',
        '"größe 日本 🐘"',
        '"%s {} $1"',
        '"*?|("',
        LONG,
        '"SELECT"',
    ],
}


def test_odd_names(postgres: ThrowawayCluster, database: Database, tmp_path: Path, spool_dir: Path) -> None:
    tables = [f"{schema}.{table}" for schema, names in ODD.items() for table in names]
    for schema in ODD:
        database.execute(f"CREATE SCHEMA {schema}")
    for number, table in enumerate(tables, 1):
        database.execute(
            f'CREATE TABLE {table} ("na.me""" serial PRIMARY KEY, "Größe" integer UNIQUE, "select" text);'
            f"INSERT INTO {table} SELECT i, i, 'x' FROM generate_series(1, {number * 3}) AS i"
        )
    stored, contents = made(tmp_path, spool_dir, database), compare.contents(database.conninfo)
    before = set(compare.definitions(database.conninfo))
    odd = ['q"uo.ted; 🐘 %s', "UPPER", LONG + "y", "select"]
    for table, new in zip(tables, itertools.cycle(odd), strict=False):
        quoted = '"' + new.replace('"', '""') + '"'
        told(stored.restore("-t", table, "--as", new))
        schema = next(schema for schema in ODD if table.startswith(schema))
        [(name,)] = database.fetch(f"SELECT $x${schema}.{quoted}$x$::regclass::text")
        assert compare.contents(database.conninfo) == {**contents, name: contents[table]}
        database.execute(f"DROP TABLE {schema}.{quoted}")
    assert set(compare.definitions(database.conninfo)) == before
    copies = [word for table in tables for word in ("-t", table)]
    for count, new in enumerate((odd[0], odd[2]), 1):
        assert told(stored.restore(*copies[2:], "--to-schema", new))["tables"] == len(tables) - 1
        found = {name for name in compare.contents(database.conninfo) if name not in contents}
        assert len(found) == count * (len(tables) - 1)


def test_a_whole_schema(shop: Shop, empty_target: Database) -> None:
    before, contents = compare.definitions(shop.database.conninfo), compare.contents(shop.database.conninfo)

    assert told(shop.restore("-n", "shop", "--to-schema", "copy"))["rows"] == 3750

    after = compare.definitions(shop.database.conninfo)
    assert [line for line in before if line not in after] == []
    added = [line for line in after if line not in before]
    assert sorted(re.sub(r"\bcopy\.", "shop.", line) for line in added) == [line for line in before if "shop." in line]
    copies = {name.replace("shop.", "copy."): content for name, content in contents.items() if name.startswith("shop.")}
    assert {"copy.top", "copy.item"} <= copies.keys()
    assert compare.contents(shop.database.conninfo) == {**contents, **copies}
    assert shop.database.fetch("SELECT nextval('copy.counter')") == [(7,)]


def test_one_of_each_kind(shop: Shop) -> None:
    contents = compare.contents(shop.database.conninfo)
    chosen = [word for name in ("open", "top", "never", "counter", "item") for word in ("-t", f"shop.{name}")]
    told(shop.restore(*chosen, "--to-schema", "aside"))
    assert compare.contents(shop.database.conninfo) == {
        **contents,
        "aside.top": contents["shop.top"],
        "aside.item": contents["shop.item"],
    }
    assert shop.database.fetch("SELECT nextval('aside.counter')") == [(7,)]
    assert shop.database.fetch("SELECT count(*) FROM aside.open") == [(700,)]
    assert shop.database.fetch("SELECT relispopulated FROM pg_class WHERE oid = 'aside.never'::regclass") == [(False,)]
    for name in ("open", "top", "counter"):
        told(shop.restore("-t", f"shop.{name}", "--as", f"{name} 2"))
    assert shop.database.fetch('SELECT count(*) FROM shop."top 2"') == [(50,)]
    assert relations(shop.database, "shop")[-1] == "top_customer"
    assert "top 2_customer" in relations(shop.database, "shop")


def test_more_than_tables_needs_a_new_schema(shop: Shop) -> None:
    """pgstow can move other objects, such as functions, only with their whole schema, and only to a new schema."""
    shop.database.execute("CREATE SCHEMA other; CREATE TABLE other.t ()")
    result = shop.restore("-n", "shop", "--to-schema", "public")
    assert_one_sentence(result, 2, r"FUNCTION shop\.touch\(\) can't be moved.*-t|TYPE shop\.state can't be moved.*-t")
    told(shop.restore("-t", "shop.*", "--to-schema", "public"))
    contents = compare.contents(shop.database.conninfo)
    assert contents["orders"] == contents["shop.orders"]


def test_the_schema_public(postgres: ThrowawayCluster, database: Database, tmp_path: Path, spool_dir: Path) -> None:
    """The extensions in the schema public stay there, and the moved objects still use them."""
    [(available,)] = database.fetch("SELECT count(*) FROM pg_available_extensions WHERE name = 'hstore'")
    if not available:
        pytest.skip("the server lacks hstore")
    database.execute("CREATE EXTENSION hstore; CREATE TABLE t (h hstore); INSERT INTO t VALUES ('a=>1')")
    database.execute("CREATE FUNCTION f(hstore) RETURNS text LANGUAGE sql AS 'SELECT $1::text'")
    stored = made(tmp_path, spool_dir, database)
    told(stored.restore("-n", "public", "--to-schema", "copy"))
    assert database.fetch("SELECT h->'a', copy.f(h) FROM copy.t") == [("1", '"a"=>"1"')]
    assert database.fetch("SELECT extnamespace::regnamespace::text FROM pg_extension WHERE extname = 'hstore'") == [
        ("public",)
    ]
    assert database.fetch("SELECT count(*) FROM public.t") == [(1,)]


def test_operator_classes_of_an_extension(
    postgres: ThrowawayCluster, database: Database, tmp_path: Path, spool_dir: Path
) -> None:
    """An exclusion constraint may need operator classes of an extension, but the archive doesn't say so."""
    [(available,)] = database.fetch("SELECT count(*) FROM pg_available_extensions WHERE name = 'btree_gist'")
    if not available:
        pytest.skip("the server lacks btree_gist")
    database.execute(
        "CREATE EXTENSION btree_gist; CREATE TABLE room (number integer, at int4range, EXCLUDE USING gist (number WITH =, at WITH &&));"
        "INSERT INTO room VALUES (1, '[1,2]')"
    )
    stored = made(tmp_path, spool_dir, database)
    told(stored.restore("-t", "room", "--as", "chamber"))
    with pytest.raises(psycopg.errors.ExclusionViolation, match="chamber_number_at_excl"):
        database.execute("INSERT INTO chamber VALUES (1, '[2,3]')")


def test_the_only_table_of_a_schema(
    postgres: ThrowawayCluster, database: Database, tmp_path: Path, spool_dir: Path
) -> None:
    database.execute("CREATE SCHEMA one; CREATE TABLE one.t AS SELECT 1 AS i; CREATE SCHEMA one_is_empty")
    stored = made(tmp_path, spool_dir, database)
    told(stored.restore("-n", "one", "--to-schema", "two", "--as", "u"))
    told(stored.restore("-n", "one*", "--to-schema", "three"))
    assert compare.contents(database.conninfo).keys() == {"one.t", "two.u", "three.t", "large objects"}


def test_data_of_no_other_table_is_fetched(
    stored_sample: StoredSample, sample_database: Database, spool_dir: Path
) -> None:
    manifest = stored_sample.manifest
    structure = [segment.object for file in manifest.files if file.kind == "toc" for segment in file.segments]
    needed = {stored.key for stored in stored_sample.objects_of("shop.product")}
    needed |= {manifest.objects[index].key for index in structure}
    others = [stored for stored in manifest.objects if stored.key not in needed]
    assert len(others) > 5
    for stored in others:
        stored_sample.path(stored).unlink()
    shop = Shop(stored_sample.folder, sample_database, spool_dir)

    answer = told(shop.restore("-t", "shop.product", "--to-schema", "aside", "--as", "goods"))

    assert answer["rows"] == stored_sample.table("shop.product").rows
    contents = compare.contents(sample_database.conninfo)
    assert contents["aside.goods"] == contents["shop.product"]


def test_with_the_options_of_a_restore(shop: Shop, postgres: ThrowawayCluster, empty_target: Database) -> None:
    """The target may be another database, if it has the objects that the table needs."""
    empty_target.execute(
        "CREATE SCHEMA shop; CREATE TYPE shop.state AS ENUM ('new', 'paid'); CREATE TABLE shop.customer (id integer PRIMARY KEY)"
    )
    empty_target.execute("CREATE FUNCTION shop.touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END'")
    move = ("-t", "shop.orders", "--to-schema", "aside", "--jobs", 2)
    missing = shop.restore(*move, into=empty_target)
    assert_one_sentence(missing, 5, "violates foreign key")
    empty_target.execute("DROP SCHEMA aside CASCADE; INSERT INTO shop.customer SELECT generate_series(1, 50)")
    assert told(shop.restore(*move, "--schema-only", into=empty_target))["rows"] == 0
    assert empty_target.fetch("SELECT count(*) FROM aside.orders") == [(0,)]
    assert told(shop.restore(*move, "--data-only", "--disable-triggers", into=empty_target))["rows"] == 700
    contents = compare.contents(shop.database.conninfo)["shop.orders"]
    assert compare.contents(empty_target.conninfo)["aside.orders"] == contents
    options = ("--clean", "--no-owner", "--no-privileges", "--no-comments", "--map-role", "clerk=pg_monitor")
    assert told(shop.restore(*move, *options, into=empty_target))["rows"] == 700
    assert empty_target.fetch(
        "SELECT relacl, obj_description(oid) FROM pg_class WHERE oid = 'aside.orders'::regclass"
    ) == [(None, None)]
    assert empty_target.fetch("SELECT polroles::regrole[]::text FROM pg_policy") == [("{pg_monitor}",)]
    new = Database("new", postgres.conninfo("new"))
    try:
        told(shop.restore("-t", "shop.customer", "--as", "clients", "--create", into=new))
        assert new.fetch("SELECT count(*) FROM shop.clients") == [(50,)]
    finally:
        Database("postgres", postgres.conninfo()).execute("DROP DATABASE IF EXISTS new")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--to-schema", "x"), "-t or -n"),
        (("--as", "x"), "-t or -n"),
        (("-t", "shop.orders", "--as", ""), "--as needs a name of 1 to 63 bytes"),
        (("-t", "shop.orders", "--to-schema", "é" * 32), "--to-schema needs a name"),
        (("-t", "shop.orders", "-t", "shop.item", "--as", "x"), r"2 were chosen: shop\.item, shop\.orders"),
        (("-n", "shop", "--as", "x"), "were chosen: "),
        (("-t", "shop.orders_id_seq", "--as", "x"), r"sequence shop\.orders_id_seq belongs to shop\.orders"),
        (
            ("-t", "shop.orders_number_seq", "--to-schema", "x"),
            r"sequence shop\.orders_number_seq belongs to shop\.orders",
        ),
        (("-t", "shop.absent", "--as", "x"), "no table that matches"),
    ],
)
def test_requests_that_make_no_sense(shop: Shop, options: tuple[str, ...], reason: str) -> None:
    assert_one_sentence(shop.restore(*options), 2, reason)


def test_they_need_a_database_to_restore_into(shop: Shop, tmp_path: Path) -> None:
    for where in (("--to-directory", tmp_path / "x"), ("--into", shop.database.conninfo, "--all-databases")):
        result = run_pgstow("restore", "--from", shop.store, *where, "-t", "shop.orders", "--as", "x")
        assert result.exit_code == 2, result


def test_names_that_the_server_refuses(shop: Shop) -> None:
    result = shop.restore("-t", "shop.orders", "--to-schema", "pg_mine")
    assert_one_sentence(result, 5, 'can\'t be moved.*unacceptable schema name "pg_mine"')


def test_columns_in_another_order(
    postgres: ThrowawayCluster, database: Database, tmp_path: Path, spool_dir: Path
) -> None:
    """In a new child, inherited columns come first. So the new table can have another order of columns than the stored rows."""
    database.execute(
        "CREATE TABLE parent (b integer); CREATE TABLE child (a integer, b integer); ALTER TABLE child INHERIT parent;"
        "INSERT INTO child VALUES (1, 2)"
    )
    stored = made(tmp_path, spool_dir, database)
    assert_one_sentence(stored.restore("-t", "child", "--as", "kid"), 5, r"public\.child can't be moved.*another order")


def test_roles_with_and_without_the_right_to_it(
    postgres: ThrowawayCluster, make_database: DatabaseMaker, tmp_path: Path, spool_dir: Path
) -> None:
    """The owner of the database needs CREATEDB, but no superuser. The owner's table has row-level security."""
    server, database = Database("postgres", postgres.conninfo()), make_database()
    server.execute(f"CREATE ROLE tenant LOGIN; ALTER DATABASE {database.name} OWNER TO tenant")
    mine = Database(database.name, f"{database.conninfo} user=tenant")
    try:
        mine.execute(
            "CREATE SCHEMA own; CREATE TABLE own.t AS SELECT generate_series(1, 9) AS i; ALTER TABLE own.t ENABLE ROW LEVEL SECURITY"
        )
        stored = made(tmp_path, spool_dir, mine)
        assert_one_sentence(stored.restore("-t", "own.t", "--as", "u"), 3, "CREATEDB")
        server.execute("ALTER ROLE tenant CREATEDB")
        assert told(stored.restore("-t", "own.t", "--as", "u"))["rows"] == 9
        as_tenant = ("-t", "own.t", "--to-schema", "other", "--role", "tenant", "--no-owner")
        assert told(stored.restore(*as_tenant, into=database))["rows"] == 9
        assert mine.fetch("SELECT relowner::regrole::text FROM pg_class WHERE oid = 'other.t'::regclass") == [
            ("tenant",)
        ]
        assert mine.fetch("SELECT relname, relowner::regrole::text FROM pg_class WHERE relname = 'u'") == [
            ("u", "tenant")
        ]
    finally:
        server.execute(f"DROP DATABASE {database.name} WITH (FORCE)")
        server.execute("DROP ROLE tenant")


def test_definitions_that_can_not_be_restored(shop: Shop) -> None:
    """The target stays unchanged. The module's fixture asserts that no scratch database is left."""
    shop.database.execute("DROP OWNED BY clerk; ALTER ROLE clerk RENAME TO former")
    before = compare.definitions(shop.database.conninfo)
    result = shop.restore("-t", "shop.orders", "--as", "orders_old")
    assert_one_sentence(result, 5, 'scratch database.*role "clerk" does not exist')
    assert compare.definitions(shop.database.conninfo) == before
    shop.database.execute("ALTER ROLE former RENAME TO clerk")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_definitions_are_restored(
    postgres: ThrowawayCluster, database: Database, tmp_path: Path, spool_dir: Path, number: signal.Signals
) -> None:
    """pgstow drops the scratch database. The module's fixture asserts that after each test."""
    database.execute(
        "CREATE TABLE pace AS SELECT 0 AS seconds; CREATE FUNCTION slow() RETURNS text LANGUAGE sql AS "
        "'SELECT pg_sleep(CASE WHEN (SELECT count(*) FROM public.pace) = 0 THEN 600 END)::text';"
        "CREATE MATERIALIZED VIEW v AS SELECT public.slow() FROM (SELECT count(*) FROM pace) AS once"
    )
    stored = made(tmp_path, spool_dir, database)
    server = Database("postgres", postgres.conninfo())
    arguments = ("--from", stored.store, "--into", database.conninfo, "--spool-dir", spool_dir, "-q")
    with start_pgstow("restore", *arguments, "-t", "v", "--as", "w") as process:
        sleeping = "SELECT FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname LIKE 'pgstow%'"
        wait_until(lambda: server.fetch(sleeping), "the view is being filled in the scratch database")
        process.send_signal(number)
        result = finish(process)
    assert_one_sentence(result, 128 + number, f"Stopped by {number.name}")
    assert database.fetch("SELECT FROM pg_class WHERE relname = 'w'") == []


def test_a_signal_while_the_scratch_database_is_made(shop: Shop, postgres: ThrowawayCluster) -> None:
    """pgstow cancels CREATE DATABASE. Otherwise the server would still make the database after pgstow has ended."""
    server = Database("postgres", postgres.conninfo())
    waiting = (
        "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%s DATABASE%%pgstow_scratch%%'"
    )
    arguments = ("--from", shop.store, "--into", shop.database.conninfo, "--spool-dir", shop.spool_dir, "-q")
    with psycopg.connect(server.conninfo) as lock:
        lock.execute("LOCK TABLE pg_database IN EXCLUSIVE MODE")
        with start_pgstow("restore", *arguments, "-t", "shop.orders", "--as", "x") as process:
            wait_until(lambda: server.fetch(waiting % "CREATE"), "CREATE DATABASE waits for the lock")
            process.send_signal(signal.SIGINT)
            wait_until(lambda: server.fetch(waiting % "DROP"), "DROP DATABASE waits for the lock")
            lock.rollback()
            result = finish(process)
    assert_one_sentence(result, 130, "Stopped by SIGINT")
    active = "SELECT FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'CREATE DATABASE%'"
    wait_until(lambda: not server.fetch(active), "no session makes the database any more")
