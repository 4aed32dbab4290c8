-- A sample database that resembles real databases. It has several schemas, tables of very different sizes, many kinds of
-- objects, and names that break careless tools. Nothing is random: every machine and every version gets the same rows.
--
-- The setting pgstow.scale multiplies the number of rows (1 makes about 670,000 rows; tests use less).
-- To run it by hand: PGOPTIONS='-c pgstow.scale=0.1' psql -f demo/sample.sql

CREATE FUNCTION pg_temp.rows(at_full_scale integer) RETURNS integer LANGUAGE sql AS $$
    SELECT greatest(10, (at_full_scale * coalesce(nullif(current_setting('pgstow.scale', true), ''), '1')::float8)::integer)
$$;

CREATE SCHEMA shop;
COMMENT ON SCHEMA shop IS 'What is sold, to whom; a comment with ''quotes'', \backslashes and
a second line';

CREATE TYPE shop.order_state AS ENUM ('placed', 'paid', 'sent', 'returned');
CREATE DOMAIN shop.email AS text CHECK (VALUE LIKE '%@%');
CREATE TYPE shop.address AS (street text, city text);

CREATE TABLE shop.customer (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL,
    email shop.email UNIQUE,
    home shop.address,
    tags text[] NOT NULL DEFAULT '{}',
    since date NOT NULL,
    name_length integer GENERATED ALWAYS AS (length(name)) STORED
);
INSERT INTO shop.customer (name, email, home, tags, since)
SELECT (ARRAY['Zoë', 'Łukasz', 'O''Brien', '山田', 'Ann "Annie"', 'Tab' || chr(9) || 'ula', 'back\slash'])[1 + i % 7] || ' ' || i,
       CASE WHEN i % 11 <> 0 THEN 'customer' || i || '@example.org' END,
       ROW('Street ' || i % 100, 'City ' || i % 37)::shop.address,
       CASE i % 3 WHEN 0 THEN ARRAY['new', 'a,b', 'NULL', NULL] ELSE '{}' END,
       date '2015-01-01' + i % 3650
FROM generate_series(1, pg_temp.rows(20000)) AS i;

CREATE TABLE shop.product (
    sku text PRIMARY KEY,
    title text NOT NULL,
    price numeric(10, 2) NOT NULL CHECK (price >= 0),
    attributes jsonb NOT NULL
);
INSERT INTO shop.product
SELECT 'SKU-' || to_char(i, 'FM00000'), 'Product ' || md5(i::text), (i * 37 % 100000) / 100.0,
       jsonb_build_object('colour', (ARRAY['red', 'grün', '青'])[1 + i % 3], 'weight', i % 500, 'parts', jsonb_build_array(i, i + 1))
FROM generate_series(1, pg_temp.rows(2000)) AS i;

CREATE TABLE shop."order" (
    id bigint NOT NULL,
    placed_at timestamptz NOT NULL,
    customer_id integer NOT NULL,
    state shop.order_state NOT NULL,
    PRIMARY KEY (id, placed_at)
) PARTITION BY RANGE (placed_at);
CREATE TABLE shop.order_2023 PARTITION OF shop."order" FOR VALUES FROM ('2023-01-01 UTC') TO ('2024-01-01 UTC');
CREATE TABLE shop.order_2024 PARTITION OF shop."order" FOR VALUES FROM ('2024-01-01 UTC') TO ('2025-01-01 UTC');
CREATE TABLE shop.order_other PARTITION OF shop."order" DEFAULT;
INSERT INTO shop."order"
SELECT i, timestamptz '2023-01-01 UTC' + i * interval '10 minutes', 1 + i % pg_temp.rows(20000),
       (enum_range(NULL::shop.order_state))[1 + i % 4]
FROM generate_series(1, pg_temp.rows(120000)) AS i;

CREATE TABLE shop.order_item (
    order_id bigint NOT NULL,
    placed_at timestamptz NOT NULL,
    position smallint NOT NULL,
    sku text NOT NULL,
    quantity integer NOT NULL,
    PRIMARY KEY (order_id, position)
);
INSERT INTO shop.order_item
SELECT o.id, o.placed_at, p, 'SKU-' || to_char(1 + (o.id * p) % pg_temp.rows(2000), 'FM00000'), 1 + o.id % 9
FROM shop."order" AS o, generate_series(1, 2) AS p;

CREATE TABLE shop.review (
    id serial PRIMARY KEY,
    sku text NOT NULL REFERENCES shop.product,
    stars smallint NOT NULL,
    body text
);
INSERT INTO shop.review (sku, stars, body)
SELECT 'SKU-' || to_char(1 + i % pg_temp.rows(2000), 'FM00000'), 1 + i % 5,
       CASE WHEN i % 10 <> 0 THEN 'Review ' || i || E': it\\s \\. fine,\n\\.\nsaid someone\tbefore ' || repeat(md5(i::text), 3) END
FROM generate_series(1, pg_temp.rows(30000)) AS i;

ALTER TABLE shop."order" ADD FOREIGN KEY (customer_id) REFERENCES shop.customer;
ALTER TABLE shop.order_item ADD FOREIGN KEY (sku) REFERENCES shop.product;
ALTER TABLE shop.order_item ADD CONSTRAINT item_of_order FOREIGN KEY (order_id, placed_at)
    REFERENCES shop."order" (id, placed_at) ON DELETE CASCADE;
CREATE INDEX ON shop."order" (customer_id);
CREATE INDEX customer_by_lower_name ON shop.customer (lower(name)) WHERE email IS NOT NULL;
CREATE INDEX product_attributes ON shop.product USING gin (attributes jsonb_path_ops);
CREATE STATISTICS shop.review_statistics (dependencies) ON sku, stars FROM shop.review;
COMMENT ON INDEX shop.customer_by_lower_name IS 'For looking people up';
COMMENT ON COLUMN shop.customer.since IS 'First order';

CREATE VIEW shop.turnover AS
SELECT date_trunc('month', i.placed_at AT TIME ZONE 'UTC') AS month, sum(i.quantity * p.price) AS amount
FROM shop.order_item AS i JOIN shop.product AS p USING (sku) GROUP BY 1;
CREATE MATERIALIZED VIEW shop.bestseller AS
SELECT sku, sum(quantity) AS sold FROM shop.order_item GROUP BY sku ORDER BY sold DESC, sku LIMIT 100;
CREATE UNIQUE INDEX ON shop.bestseller (sku);

CREATE SEQUENCE shop.invoice_number START 1000 INCREMENT 10 CACHE 5;
SELECT setval('shop.invoice_number', 123450);

CREATE FUNCTION shop.total(of_order bigint) RETURNS numeric LANGUAGE sql STABLE AS $$
    SELECT sum(quantity * price) FROM shop.order_item JOIN shop.product USING (sku) WHERE order_id = of_order
$$;
CREATE FUNCTION shop.refuse_bad_stars() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN
    IF NEW.stars NOT BETWEEN 1 AND 5 THEN
        RAISE EXCEPTION 'stars are 1 to 5, not %', NEW.stars;
    END IF;
    RETURN NEW;
END
$body$;
CREATE TRIGGER check_stars BEFORE INSERT OR UPDATE ON shop.review FOR EACH ROW EXECUTE FUNCTION shop.refuse_bad_stars();
ALTER TABLE shop.review ENABLE ROW LEVEL SECURITY;
CREATE POLICY everyone_reads ON shop.review FOR SELECT USING (true);

-- One table is much larger than the others, so that a parallel dump waits for its last job.
CREATE SCHEMA telemetry;
CREATE TABLE telemetry.reading (
    sensor integer NOT NULL,
    at timestamptz NOT NULL,
    value double precision,
    raw bytea,
    note text
);
INSERT INTO telemetry.reading
SELECT i % 500, timestamptz '2024-03-01 UTC' + i * interval '1 second',
       CASE i % 1000 WHEN 0 THEN 'NaN' WHEN 1 THEN '-Infinity' WHEN 2 THEN NULL ELSE sqrt(i) END,
       decode(md5(i::text) || md5((i + 1)::text), 'hex'), 'station ' || i % 500 || ' reports as usual'
FROM generate_series(1, pg_temp.rows(250000)) AS i;
CREATE INDEX reading_by_time ON telemetry.reading USING brin (at);
CREATE TABLE telemetry.nothing_yet (LIKE telemetry.reading INCLUDING ALL);
CREATE UNLOGGED TABLE telemetry.scratch (id integer, span tstzrange);
INSERT INTO telemetry.scratch VALUES (1, '[2024-01-01 00:00Z,2024-02-01 00:00Z)'), (2, 'empty'), (3, NULL);

-- Names that need quotes in SQL, in a shell, in a path, in a pattern or in a URL.
CREATE SCHEMA "odd names/日本 %41";
SET LOCAL search_path = "odd names/日本 %41";
CREATE TABLE "it's ""quoted""" (id integer PRIMARY KEY, "select" text);
CREATE TABLE "with space" ("a column" text DEFAULT 'it''s');
CREATE TABLE "with/slash/../up" (id integer);
CREATE TABLE U&"new\000Aline" (U&"column\000Aline" integer);
CREATE TABLE U&"tab\0009here" (id integer);
CREATE TABLE "-leading dash" (id integer);
CREATE TABLE "--jobs=9" (id integer);
CREATE TABLE ".hidden" (id integer);
CREATE TABLE "dot.ted.name" (id integer);
CREATE TABLE "back\slash" (id integer);
CREATE TABLE "wild*card?[a-z]|(x)" (id integer);
CREATE TABLE "$HOME `id`; rm -rf %s {}" (id integer);
CREATE TABLE "größe ∑ 名前 🐘" (id integer, "naïve" text);
CREATE TABLE "UPPER" (id integer);
CREATE TABLE "upper" (id integer);
CREATE TABLE "a name of exactly sixty-three bytes, the longest PostgreSQL has" (id integer);
CREATE TABLE "no columns" ();
CREATE VIEW "a view's ""name""" AS SELECT * FROM "it's ""quoted""";
CREATE SEQUENCE "odd 'sequence'";
INSERT INTO "it's ""quoted""" SELECT i, 'row ' || i FROM generate_series(1, 100) AS i;
INSERT INTO "with space" VALUES (''), (NULL), ('\N'), ('\.'), (E'\\.\n'), (E'\r\n'), (E'\x01'), (repeat('long ', 100000)), (DEFAULT);
INSERT INTO "with/slash/../up" VALUES (1);
INSERT INTO U&"new\000Aline" VALUES (2), (NULL);
INSERT INTO "-leading dash" VALUES (3);
INSERT INTO "größe ∑ 名前 🐘" VALUES (4, 'ünïcödé 🐘'), (5, NULL);
INSERT INTO "UPPER" VALUES (6);
INSERT INTO "upper" VALUES (7);
INSERT INTO "no columns" SELECT FROM generate_series(1, 3);
COMMENT ON TABLE U&"new\000Aline" IS E'A comment\n-- that looks like SQL;\nDROP TABLE nothing;';
RESET search_path;

-- Large objects from 0 bytes to some megabytes. In an archive, each is a file of its own.
SELECT lo_from_bytea((900000 + i)::oid, convert_to(repeat(md5(i::text), CASE WHEN i = 1 THEN 0 ELSE i * i * 20 END), 'UTF8'))
FROM generate_series(1, least(60, pg_temp.rows(60))) AS i;
COMMENT ON LARGE OBJECT 900002 IS 'A scanned contract';

ANALYZE;
