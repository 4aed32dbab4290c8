"""Tests of the validation of a stream in pieces of any size."""

import subprocess
from pathlib import Path

import pytest

from pipeline.errors import DumpFailed
from pipeline.postgres.programs import find_program
from pipeline.postgres.script import ScriptReader
from pipeline.postgres.throwaway import ThrowawayCluster
from pipeline.postgres.workspace import Workspace
from pipeline.stages.stream_validator import StreamValidator


def number(value: int) -> bytes:
    """Return the number in the format of ``WriteInt`` in pg_dump."""
    return bytes([value < 0]) + abs(value).to_bytes(4, "little")


HEAD = b"PGDMP" + bytes([1, 14, 0, 4, 8, 1]) + number(0) + 7 * number(0) + 3 * (number(1) + b"x") + number(1_000_000)
ENTRY = 2 * number(1) + 4 * number(0) + number(2) + 8 * number(0) + number(-1) + b"\3" + bytes(8)
"""An entry of a custom archive in which all texts are empty."""


@pytest.fixture(scope="module")
def archive(postgres: ThrowawayCluster, _sample_template: str) -> bytes:
    """Return the sample as a custom archive of stock pg_dump."""
    command = [postgres.bin_dir / "pg_dump", "-Fc", "-d", postgres.conninfo(_sample_template)]
    return subprocess.run(command, capture_output=True, check=True).stdout


@pytest.mark.parametrize("size", [7, 1 << 20])
def test_the_tables_of_an_archive_are_found_in_pieces_of_any_size(
    postgres: ThrowawayCluster, archive: bytes, tmp_path: Path, size: int
) -> None:
    pg_restore = find_program("pg_restore", at_least_major=postgres.major)
    with Workspace(tmp_path) as workspace, StreamValidator(ScriptReader(), workspace, "custom", pg_restore) as along:
        for start in range(0, len(archive), size):
            along.write(archive[start : start + size])
        assert {table.relation for table in along.finish()} > {"order_item"}


def test_a_table_of_contents_in_tiny_pieces_takes_little_time(tmp_path: Path) -> None:
    """If it were parsed after each piece, this test would take hours."""
    archive = HEAD + ENTRY * 50_000
    pg_restore = find_program("pg_restore", at_least_major=12)
    with Workspace(tmp_path) as workspace, StreamValidator(ScriptReader(), workspace, "custom", pg_restore) as along:
        for start in range(0, len(archive), 32):
            along.write(archive[start : start + 32])
        with pytest.raises(DumpFailed, match="The archive is cut short"):
            along.finish()


def tar_header(size: bytes, name: bytes = b"toc.dat") -> bytes:
    header = bytearray(512)
    header[: len(name)] = name
    header[124 : 124 + len(size)] = size
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


@pytest.mark.parametrize(
    "header",
    [
        tar_header(b"\xff" * 10 + b"\xfc\0"),
        tar_header(b"\x80" + b"\xff" * 11),
        tar_header(b"9" * 11),
        bytes(511) + b"x",
    ],
)
def test_a_tar_archive_with_an_invalid_header_is_refused(tmp_path: Path, header: bytes) -> None:
    for archive in (header, tar_header(b"00000001000") + HEAD.ljust(512, b"\0") + header):
        with pytest.raises(DumpFailed):
            read_tar(archive + bytes(1024), tmp_path)


def test_the_names_in_a_tar_archive_may_have_any_bytes(tmp_path: Path) -> None:
    with pytest.raises(DumpFailed, match="cut short"):
        read_tar(tar_header(b"00000000000", name=b"\xff"), tmp_path)


def read_tar(archive: bytes, folder: Path) -> None:
    pg_restore = find_program("pg_restore", at_least_major=12)
    with Workspace(folder) as workspace, StreamValidator(ScriptReader(), workspace, "tar", pg_restore) as along:
        along.write(archive)
        along.finish()
