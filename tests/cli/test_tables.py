"""Tables on a terminal of 80 columns, and elsewhere."""

import io
import os
import pty
import sys
import termios

import pytest
from rich.table import Table

from cli.display import print_table

BACKUP, PROBLEM = "20261130T110403Z-51ac27", "The manifest can't be read: " + "x" * 200


def wide_table() -> Table:
    table = Table("CLUSTER", "BACKUP", "WHY", box=None, pad_edge=False, header_style="bold")
    table.add_row("db1.example.com-5433", BACKUP, PROBLEM)
    table.add_row("a" * 60, BACKUP)
    return table


EXPECTED = [
    f"{'CLUSTER':60}  {'BACKUP':23}  WHY",
    f"{'db1.example.com-5433':60}  {BACKUP}  {PROBLEM}",
    f"{'a' * 60}  {BACKUP}",
]


def test_a_narrow_terminal_gets_each_row_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.delenv("COLUMNS", raising=False)
    ours, its = pty.openpty()
    termios.tcsetwinsize(its, (24, 80))
    with os.fdopen(its, "w", encoding="utf-8") as terminal, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", terminal)
        print_table(wide_table())
        terminal.flush()
        shown = os.read(ours, 65536).decode()
    os.close(ours)
    assert shown.split("\r\n") == [*EXPECTED, ""]


def test_so_does_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.StringIO()
    monkeypatch.setattr(sys, "stdout", written)
    print_table(wide_table())
    assert written.getvalue().splitlines() == EXPECTED
