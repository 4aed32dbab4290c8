"""Tables of backups have whole names and IDs, on terminals of any width and in a pipe."""

import os
import pty
import re
import subprocess
import sys
import termios
from contextlib import suppress

import pytest
from rich.cells import cell_len
from support.calls import calls

from cli.tables import Column, print_table

SCRIPT = """
from cli.tables import Column, print_backups
from pipeline.catalog.keys import BackupRef

names = [("prod", "shop"), ("prod", "shop"), ("eu-" + "c" * 60, "d" * 63), ("東京", "会社の本番データベース名前長い二〇二六"), ("0", "[red]")]
refs = [BackupRef(*name, f"20261123T02000{place}Z-7f3a9c") for place, name in enumerate(names)]
print_backups(refs, [
    Column("DATA OF", ["2026-11-23 02:00"] * 5),
    Column("TABLES", ["0", "1", "12", "0", "3"], right=True, spare=1),
    Column("ROWS", ["0", "0", "0", "", "0"], right=True, spare=2),
    Column("SIZE", ["168.2 MiB"] * 5, right=True, spare=2),
    Column("PROVEN", ["2026-11-23 restore"] * 5, wraps=True),
    Column("", ["", "a long sentence on what is wrong with this backup", "", "", ""], wraps=True),
])
print_backups([], [Column("DATA OF", [])])
"""
NAMES = ("prod", "shop", "eu-" + "c" * 60, "d" * 63, "東京", "会社の本番データベース名前長い二〇二六", "0", "[red]")
IDS = tuple(f"20261123T02000{place}Z-7f3a9c" for place in range(5))


def printed(width: int | None, script: str = SCRIPT, **variables: str) -> str:
    """Return what the script prints on a terminal of this width, or in a pipe if ``width`` is None."""
    command = [sys.executable, "-c", script]
    environment = {**os.environ, "TERM": "xterm", "PYTHONIOENCODING": "utf-8", **variables}
    environment.pop("COLUMNS", None)
    if width is None:
        return subprocess.run(command, env=environment, capture_output=True, check=True).stdout.decode()
    ours, its = pty.openpty()
    termios.tcsetwinsize(its, (24, width))
    with subprocess.Popen(command, stdin=its, stdout=its, stderr=its, env=environment) as process:
        os.close(its)
        received = b""
        with suppress(OSError):  # EIO: the other end is closed, and all is read
            while part := os.read(ours, 65536):
                received += part
        os.close(ours)
    assert process.returncode == 0, received
    return received.decode().replace("\r\n", "\n")


def without_styles(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


@pytest.mark.parametrize("width", [None, 300, 80, 60, 30])
def test_names_and_ids_are_whole(width: int | None) -> None:
    text = without_styles(printed(width))
    lines = text.splitlines()
    assert "…" not in text
    for whole in (*NAMES, *IDS):
        assert whole in text
    assert "ROWS" not in text
    assert ("TABLES" in text) == (width in (None, 300))
    if width in (None, 300):
        assert [line.split()[2] for line in lines] == ["BACKUP", *IDS]
        assert len({cell_len(line) for line in lines}) == 1
    else:
        assert [line for line in lines if "/" in line] == [
            f"{cluster}/{database}" for cluster, database in zip(NAMES[::2], NAMES[1::2], strict=True)
        ]
    if width == 80:
        assert max(cell_len(line) for line in lines if "/" not in line) <= 80
    for word in ("sentence", "wrong", "restore"):
        assert word in text


@pytest.mark.parametrize(("cluster", "database"), [("a[", "b]"), ("a[red", "b]")])
def test_a_cluster_and_a_database_together_are_no_markup(cluster: str, database: str) -> None:
    script = f"""
from cli.tables import Column, print_backups
from pipeline.catalog.keys import BackupRef

print_backups([BackupRef({cluster!r}, {database!r}, "20261123T020000Z-7f3a9c")], [Column("DATA OF", ["2026-11-23 02:00"])])
"""
    assert f"{cluster}/{database}" in without_styles(printed(20, script)).splitlines()


STYLED = """
from cli.tables import Column, print_table

print_table([Column("NAME", ["one", "two"]), Column("", ["[red]a sentence of many words[/red]", "\\\\[red]"], wraps=True)])
"""


def test_each_line_of_a_cell_has_the_style_of_the_cell() -> None:
    lines = printed(30, STYLED).splitlines()
    assert [re.findall(r"\x1b\[31m(.*?)\x1b\[0m", line) for line in lines] == [
        [],
        ["a sentence of many words"],
        [],
    ]
    assert without_styles(lines[2]).split() == ["two", "[red]"]
    assert "\x1b[31m" not in printed(30, STYLED, NO_COLOR="1")
    assert "\x1b" not in printed(None, STYLED)
    lines = printed(22, STYLED).splitlines()
    assert [re.findall(r"\x1b\[31m(.*?) *\x1b\[0m", line) for line in lines[1:3]] == [["a sentence of"], ["many words"]]


def test_a_row_costs_few_calls() -> None:
    """A rich table calls more than a thousand functions for each row."""

    def table(rows: int) -> None:
        names = [f"name-{row}" for row in range(rows)]
        print_table(
            [
                Column("NAME", names),
                Column("ROWS", names, right=True),
                Column("", ["[red]damaged[/red]"] * rows, wraps=True),
            ]
        )

    table(1)
    assert (calls(lambda: table(1010)) - calls(lambda: table(10))) / 1000 < 50
