import subprocess
from pathlib import Path

import pytest
from support.postgres_fixtures import Database

from demo import compare
from pipeline.postgres.throwaway import ThrowawayCluster


def test_stock_dump_and_restore_give_an_equal_database(
    postgres: ThrowawayCluster, sample_database: Database, empty_target: Database, tmp_path: Path
) -> None:
    archive = tmp_path / "archive"
    subprocess.run([postgres.bin_dir / "pg_dump", "-Fd", "-f", archive, "-d", sample_database.conninfo], check=True)
    subprocess.run([postgres.bin_dir / "pg_restore", "-e", "-d", empty_target.conninfo, archive], check=True)

    assert compare.contents(empty_target.conninfo) == compare.contents(sample_database.conninfo)
    assert compare.definitions(empty_target.conninfo) == compare.definitions(sample_database.conninfo)


def test_the_sample_is_the_same_everywhere(sample_database: Database) -> None:
    """Pinned, so that two machines, or two versions of PostgreSQL, can compare what they hold."""
    contents = compare.contents(sample_database.conninfo)

    assert contents["telemetry.reading"] == compare.Content(5000, "d76bd45cefbeded08799ebdc597bdfec")
    assert contents["large objects"] == compare.Content(10, "b1ae81700d0018110a67da6b0464a811")


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE shop.review SET body = body || '.' WHERE id = 7",
        "DELETE FROM shop.review WHERE id = 7",
        'UPDATE "odd names/日本 %41"."UPPER" SET id = NULL',
        "SELECT lo_put(900003, 0, 'x')",
        "SELECT lo_create(1234567)",
    ],
)
def test_a_change_of_the_data_shows(sample_database: Database, change: str) -> None:
    before = compare.contents(sample_database.conninfo)
    sample_database.execute(change)
    assert compare.contents(sample_database.conninfo) != before


@pytest.mark.parametrize(
    "change",
    [
        "DROP INDEX shop.product_attributes",
        "ALTER TABLE shop.review DROP CONSTRAINT review_sku_fkey",
        "ALTER TABLE shop.review DISABLE TRIGGER check_stars; DROP TRIGGER check_stars ON shop.review",
        "DROP POLICY everyone_reads ON shop.review",
        "DROP VIEW shop.turnover",
        "SELECT nextval('shop.invoice_number')",
        "COMMENT ON SCHEMA shop IS 'other'",
        "ALTER TABLE telemetry.reading ALTER value TYPE numeric",
        "ALTER TYPE shop.order_state ADD VALUE 'lost'",
        "CREATE OR REPLACE FUNCTION shop.total(of_order bigint) RETURNS numeric LANGUAGE sql STABLE AS 'SELECT 1.0'",
        "DROP STATISTICS shop.review_statistics",
        'ALTER TABLE shop."order" DETACH PARTITION shop.order_2024',
    ],
)
def test_a_change_of_the_definitions_shows(sample_database: Database, change: str) -> None:
    before = compare.definitions(sample_database.conninfo)
    sample_database.execute(change)
    assert compare.definitions(sample_database.conninfo) != before
