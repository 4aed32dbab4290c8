"""Tests of reading a table of contents in parts."""

import struct
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.calls import calls
from support.postgres_fixtures import Database
from support.stored_sample import StoredSample

from pipeline.catalog.manifest import TOC_NAME
from pipeline.errors import DumpFailed
from pipeline.postgres.throwaway import ThrowawayCluster
from pipeline.postgres.toc import DataEntry
from pipeline.postgres.toc_data import DataEntryReader
from pipeline.postgres.toc_format import TocCutShort, TocReader, read_toc


def dump(postgres: ThrowawayCluster, conninfo: str, folder: Path) -> bytes:
    command = [postgres.bin_dir / "pg_dump", "--format=directory", "--compress=0", "--no-sync", f"--file={folder}"]
    subprocess.run([*command, f"--dbname={conninfo}"], check=True)
    return (folder / TOC_NAME).read_bytes()


@pytest.fixture
def toc(postgres: ThrowawayCluster, stored_sample: StoredSample, tmp_path: Path) -> bytes:
    return dump(postgres, stored_sample.source, tmp_path / "archive")


def read(data: bytes, *sizes: int) -> list[DataEntry]:
    """Read the bytes in parts of these sizes, and then the rest."""
    reader = DataEntryReader()
    for size in sizes:
        reader.take(data[:size])
        data = data[size:]
    reader.take(data)
    return reader.finish()


def data_entries(data: bytes) -> list[DataEntry]:
    return [
        DataEntry(entry.dump_id, entry.oid, entry.description, entry.namespace, entry.tag, entry.filename)
        for entry in read_toc(data).data_entries
    ]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(st.lists(st.sampled_from([0, 1, 4, 50, 1000]) | st.integers(0, 100_000)))
def test_the_parts_may_have_any_size(toc: bytes, sizes: list[int]) -> None:
    expected = data_entries(toc)
    assert len(expected) > 5
    assert read(toc, *sizes) == expected


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(st.integers(0))
def test_a_table_of_contents_that_is_cut_short_is_refused(toc: bytes, size: int) -> None:
    with pytest.raises(TocCutShort):
        read(toc[: size % len(toc)])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(st.integers(0), st.binary(min_size=1, max_size=1))
def test_damage_raises_no_other_error(toc: bytes, position: int, byte: bytes) -> None:
    """A backup doesn't need all fields. So it may accept a table of contents that a restore refuses."""
    at = position % len(toc)
    damaged = toc[:at] + byte + toc[at + 1 :]
    try:
        expected = data_entries(damaged)
    except DumpFailed:
        with suppress(DumpFailed):
            read(damaged, 1000)
    else:
        assert read(damaged, 1000) == expected


def test_a_negative_number_of_entries_is_damage(toc: bytes) -> None:
    at = TocReader(toc).end_of_head
    damaged = toc[:at] + b"\x01" + toc[at + 1 :]
    for reading in (read, read_toc):
        with pytest.raises(DumpFailed, match=r"damaged: it has -\d+ entries"):
            reading(damaged)


def test_each_entry_is_read_once(postgres: ThrowawayCluster, database: Database, tmp_path: Path) -> None:
    """A long function takes many parts. If each part began the entry anew, the cost would be quadratic."""
    database.execute(f"CREATE FUNCTION long() RETURNS text LANGUAGE sql AS $$ SELECT '{'x' * 8_000_000}'::text $$")
    toc = dump(postgres, database.conninfo, tmp_path / "archive")
    pieces = [toc[start : start + 1000] for start in range(0, len(toc), 1000)]

    def read_in_parts() -> None:
        reader = DataEntryReader()
        for piece in pieces:
            reader.take(piece)
            reader.step()
        assert reader.finish() == data_entries(toc)

    assert calls(read_in_parts) < 20 * len(pieces) + calls(lambda: read(toc))


def test_a_step_is_short(toc: bytes) -> None:
    """Its cost doesn't grow with the number of entries. The caller has other work between the steps."""
    head, costs, steps = TocReader(toc), [], []
    for times in (50, 100):
        reader = DataEntryReader()
        count = struct.pack("<?I", False, times * head.count)
        reader.take(toc[: head.end_of_head] + count + times * toc[head.first :])
        found = []
        while reader.unread:
            found.append(calls(reader.step))
        assert len(reader.finish()) == times * len(data_entries(toc))
        costs.append(max(found))
        steps.append(len(found))
    assert costs[1] <= 1.1 * costs[0]
    assert steps[1] >= 1.9 * steps[0]
