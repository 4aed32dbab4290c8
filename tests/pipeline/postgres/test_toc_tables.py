"""Entries for tables' data that pg_dump did not dump. The integration tests compare them with pg_dump's own."""

from pathlib import Path

import pytest
from support.postgres_fixtures import Database
from support.stored_sample import StoredSample

from pipeline.errors import DumpFailed
from pipeline.postgres.throwaway import ThrowawayCluster
from pipeline.postgres.toc_format import TocCutShort, read_toc
from pipeline.postgres.toc_tables import add_table_data, archive_encoding

from .test_toc import dump


@pytest.fixture
def tables(stored_sample: StoredSample) -> dict[str, int]:
    """The OIDs of the sample's tables, by name."""
    return dict(
        Database("", stored_sample.source).fetch("SELECT relname, oid::bigint FROM pg_class WHERE relkind = 'r'")
    )


def test_a_table_whose_data_have_an_entry_gets_no_other(
    postgres: ThrowawayCluster, stored_sample: StoredSample, tables: dict[str, int], tmp_path: Path
) -> None:
    toc = dump(postgres, stored_sample.source, tmp_path / "whole")
    added = add_table_data(toc, {tables["customer"]: b"COPY"})
    assert (added.data, added.files) == (toc, {})


def test_a_new_entry(
    postgres: ThrowawayCluster, stored_sample: StoredSample, tables: dict[str, int], tmp_path: Path
) -> None:
    whole = dump(postgres, stored_sample.source, tmp_path / "whole")
    toc = dump(postgres, stored_sample.source, tmp_path / "part", "--exclude-table-data=shop.customer")
    [entry] = [one for one in read_toc(whole).entries if one.description == "TABLE DATA" and one.tag == "customer"]
    added = add_table_data(toc, {tables["customer"]: entry.copy_statement.encode()})
    [made] = [one for one in read_toc(added.data).entries if one.description == "TABLE DATA" and one.tag == "customer"]
    assert made.dump_id == max(one.dump_id for one in read_toc(added.data).entries)
    assert added.files == {tables["customer"]: made.filename}
    assert [(one.description, one.namespace, one.tag) for one in read_toc(added.data).entries] == [
        (one.description, one.namespace, one.tag) for one in read_toc(whole).entries
    ]


def test_a_missing_table(postgres: ThrowawayCluster, stored_sample: StoredSample, tmp_path: Path) -> None:
    toc = dump(postgres, stored_sample.source, tmp_path / "whole")
    with pytest.raises(DumpFailed, match="pg_dump left out the table with the OID 1"):
        add_table_data(toc, {1: b"COPY"})


def test_a_damaged_table_of_contents(postgres: ThrowawayCluster, stored_sample: StoredSample, tmp_path: Path) -> None:
    toc = dump(postgres, stored_sample.source, tmp_path / "whole")
    assert archive_encoding(toc) == "UTF8"
    with pytest.raises(TocCutShort):
        add_table_data(toc[:-1], {1: b"COPY"})
    with pytest.raises(DumpFailed, match="is not a PostgreSQL archive's"):
        archive_encoding(b"x" * 1000)
