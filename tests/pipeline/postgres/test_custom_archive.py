"""Stock pg_restore reads the archives that pgstow makes from an archive of the directory format."""

import re
import subprocess
from pathlib import Path

from support.loading import dumped_toc
from support.postgres_fixtures import Database

from pipeline.postgres.custom_archive import custom_toc, large_objects_block, rows_block
from pipeline.postgres.throwaway import ThrowawayCluster
from pipeline.postgres.toc_format import read_toc


def test_pg_restore_reads_rows_and_large_objects(
    postgres: ThrowawayCluster, database: Database, tmp_path: Path
) -> None:
    largest = 2**32 - 1
    database.execute(f"CREATE TABLE a (i int); CREATE TABLE b (t text); SELECT lo_create(7), lo_create({largest}::oid)")
    toc = dumped_toc(postgres, database.conninfo, tmp_path / "archive", "--compress=0")
    entries = read_toc(toc).entries
    ids = {entry.tag if entry.description == "TABLE DATA" else entry.description: entry.dump_id for entry in entries}
    archive = tmp_path / "custom"
    parts = [
        custom_toc(toc, entries),
        *rows_block(ids["a"], [b"1\n", b"", b"2\n", b"\\.\n\n\n"]),
        *rows_block(ids["b"], [b"x" * 100_000, b"y\n\\.\n\n\n"]),
        *large_objects_block(ids["BLOBS"], [(7, [b"se", b"ven"]), (largest, [])]),
    ]
    archive.write_bytes(b"".join(parts))
    pg_restore = [postgres.bin_dir / "pg_restore", "--file=-", "--format=custom", "/dev/stdin"]
    with subprocess.Popen(["cat", archive], stdout=subprocess.PIPE) as cat:
        script = subprocess.run(pg_restore, stdin=cat.stdout, capture_output=True, text=True, check=True).stdout
    assert "1\n2\n\\.\n" in script
    assert "x" * 100_000 + "y\n\\.\n" in script
    assert re.findall(r"lo_open\('(\d+)'", script) == ["7", str(largest)]
    assert rf"'\x{b'seven'.hex()}'" in script


def test_chosen_entries_come_in_their_order(postgres: ThrowawayCluster, database: Database, tmp_path: Path) -> None:
    database.execute("CREATE TABLE a (i int); CREATE TABLE b (t text)")
    toc = dumped_toc(postgres, database.conninfo, tmp_path / "archive", "--compress=0")
    chosen = [entry for entry in read_toc(toc).entries if entry.description == "TABLE"][::-1]
    assert [entry.tag for entry in read_toc(custom_toc(toc, chosen)).entries] == ["b", "a"]
