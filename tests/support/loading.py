"""Dumps for tests of restores with several jobs, and schemas whose restores are easily wrong."""

import subprocess
from pathlib import Path

from pipeline.catalog.manifest import TOC_NAME
from pipeline.postgres.throwaway import ThrowawayCluster


def dumped_toc(postgres: ThrowawayCluster, conninfo: str, folder: Path, *options: str) -> bytes:
    """Dump the database into ``folder`` with stock pg_dump. Return the bytes of its ``toc.dat``."""
    pg_dump = [postgres.bin_dir / "pg_dump", "--format=directory", *options, f"--file={folder}", f"--dbname={conninfo}"]
    subprocess.run(pg_dump, check=True)
    return (folder / TOC_NAME).read_bytes()


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
