"""Find out from a table of contents what a parallel pg_restore would do before it loads which data."""

import subprocess
from collections.abc import Mapping
from pathlib import Path

from support.postgres_fixtures import Database

from pipeline.catalog.manifest import TOC_NAME
from pipeline.postgres.throwaway import ThrowawayCluster
from pipeline.postgres.toc import Section, Toc, TocEntry


def dumped_toc(postgres: ThrowawayCluster, conninfo: str, folder: Path, *options: str) -> bytes:
    """Dump the database into ``folder`` with stock pg_dump. Return the bytes of its ``toc.dat``."""
    pg_dump = [postgres.bin_dir / "pg_dump", "--format=directory", *options, f"--file={folder}", f"--dbname={conninfo}"]
    subprocess.run(pg_dump, check=True)
    return (folder / TOC_NAME).read_bytes()


def awaited(toc: Toc) -> Mapping[int, set[int]]:
    """Return the dump IDs of the data entries for which each entry waits, by dump ID.

    The rules are those of fix_dependencies() and repoint_table_dependencies() in pg_backup_archiver.c.
    """
    by_id = {entry.dump_id: entry for entry in toc.entries}
    data_of = {e.dependencies[0]: e.dump_id for e in toc.entries if e.description == "TABLE DATA"}
    found: dict[int, set[int]] = {}

    def waits(entry: TocEntry) -> set[int]:
        if entry.dump_id not in found:
            found[entry.dump_id] = set()
            for dependency in entry.dependencies:
                other = data_of.get(dependency, dependency) if entry.section == Section.POST_DATA else dependency
                if (needed := by_id.get(other)) is not None and needed.section != Section.PRE_DATA:
                    own = {other} if needed.section == Section.DATA else set()
                    found[entry.dump_id] |= own | waits(needed)
        return found[entry.dump_id]

    for entry in toc.entries:
        waits(entry)
    return found


LOADED_BEFORE = """
WITH RECURSIVE below (top, relation) AS (
    SELECT oid, oid FROM pg_class WHERE relkind IN ('r', 'p')
    UNION SELECT top, inhrelid FROM below JOIN pg_inherits ON inhparent = relation
)
SELECT n.nspname, c.relname, array_agg(tn.nspname || '.' || t.relname)
FROM below JOIN pg_class c ON c.oid = top JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_class t ON t.oid = relation JOIN pg_namespace tn ON tn.oid = t.relnamespace
WHERE n.nspname !~ '^(pg_|information_schema$)' GROUP BY 1, 2
"""
"""SQL for each table's schema and name, and the names of the tables whose rows it shows: itself, its partitions and its children."""


def early(toc: Toc, database: Database) -> list[str]:
    """Return the entries that are ready before the data of a table on which they act, each with the table's name."""
    below = {(schema, name): set(tables) for schema, name, tables in database.fetch(LOADED_BEFORE)}
    by_id = {entry.dump_id: entry for entry in toc.entries}
    data = {f"{e.namespace}.{e.tag}": e.dump_id for e in toc.entries if e.description == "TABLE DATA"}
    waits = awaited(toc)
    found = []
    for entry in toc.entries:
        if entry.section != Section.POST_DATA:
            continue
        on = [by_id[other] for other in entry.dependencies if other in by_id and by_id[other].description == "TABLE"]
        names = {name for table in on for name in below[table.namespace, table.tag]}
        found += [
            f"{entry.description} {entry.tag}: {name}"
            for name in sorted(names)
            if name in data and data[name] not in waits[entry.dump_id]
        ]
    return found


AUDITED = r"""
CREATE TABLE audit (id int GENERATED ALWAYS AS IDENTITY, sold int);
CREATE TABLE sale (id int, kind int, note text, PRIMARY KEY (id, kind)) PARTITION BY LIST (kind);
CREATE TABLE sale_0 PARTITION OF sale FOR VALUES IN (0) PARTITION BY RANGE (id);
CREATE TABLE sale_0_early PARTITION OF sale_0 FOR VALUES FROM (0) TO (500);
CREATE TABLE sale_0_late PARTITION OF sale_0 DEFAULT;
CREATE TABLE sale_1 PARTITION OF sale FOR VALUES IN (1);
CREATE TABLE sale_2 PARTITION OF sale FOR VALUES IN (2);
CREATE TABLE sale_rest PARTITION OF sale DEFAULT;
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.audit (sold) VALUES (new.id); RETURN new; END $$;
CREATE FUNCTION change() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN new.note := new.note || '!'; RETURN new; END $$;
INSERT INTO sale SELECT i, i % 5, 'sale ' || i FROM generate_series(1, 1000) AS i;
CREATE TRIGGER note AFTER INSERT ON sale FOR EACH ROW EXECUTE FUNCTION note();
CREATE TRIGGER change BEFORE INSERT ON sale FOR EACH ROW EXECUTE FUNCTION change();
INSERT INTO sale VALUES (1001, 1, 'audited');
CREATE TABLE refund (sale int, kind int, FOREIGN KEY (sale, kind) REFERENCES sale) PARTITION BY RANGE (sale);
CREATE TABLE refund_early PARTITION OF refund FOR VALUES FROM (0) TO (500);
CREATE TABLE refund_late PARTITION OF refund DEFAULT;
INSERT INTO refund SELECT id, kind FROM sale WHERE id % 3 = 0;
CREATE TYPE mood AS ENUM ('sad', 'so so', 'glad');
CREATE TABLE mooded (mood mood, i int) PARTITION BY HASH (mood);
CREATE TABLE mooded_0 PARTITION OF mooded FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE mooded_1 PARTITION OF mooded FOR VALUES WITH (MODULUS 2, REMAINDER 1);
INSERT INTO mooded SELECT (enum_range(NULL::mood))[1 + i % 3], i FROM generate_series(1, 60) AS i;
CREATE TRIGGER note AFTER INSERT ON mooded_0 FOR EACH STATEMENT EXECUTE FUNCTION note();
CREATE TABLE base (a int); CREATE TABLE child () INHERITS (base); INSERT INTO child VALUES (1);
ALTER TABLE base ADD CONSTRAINT large CHECK (a > 5) NOT VALID;
CREATE DOMAIN d AS int; CREATE TABLE domained (a d); INSERT INTO domained VALUES (1);
ALTER DOMAIN d ADD CONSTRAINT large CHECK (VALUE > 5) NOT VALID;
"""
"""SQL for tables whose triggers and constraints would change, add or refuse rows, if they existed while the rows are loaded."""

CONFIGURED = r"""
CREATE TABLE queue (id int PRIMARY KEY, name text);
CREATE TABLE consumer (id int PRIMARY KEY, queue int NOT NULL REFERENCES queue);
CREATE TABLE a_subscription (id int PRIMARY KEY, consumer int NOT NULL REFERENCES consumer, queue int NOT NULL REFERENCES queue);
SELECT pg_catalog.pg_extension_config_dump('a_subscription', '');
SELECT pg_catalog.pg_extension_config_dump('consumer', '');
SELECT pg_catalog.pg_extension_config_dump('queue', '');
"""
"""The script of an extension whose configuration tables refer to each other. The first table by name refers to both others."""
FILL_CONFIGURED = r"""
INSERT INTO queue SELECT i, repeat('q', 200) FROM generate_series(1, 3000) AS i;
INSERT INTO consumer SELECT i, i % 3000 + 1 FROM generate_series(1, 6000) AS i;
INSERT INTO a_subscription SELECT i, i % 6000 + 1, i % 3000 + 1 FROM generate_series(1, 10000) AS i;
"""
