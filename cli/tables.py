"""Tables on standard output. On a terminal, a table fits the width. Elsewhere, each row is one line. No name or ID is ever cut."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby, zip_longest
from typing import TYPE_CHECKING

from cli import display

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from pipeline.catalog.keys import BackupRef

_GAP = 2  # characters between two columns
_NARROWEST = 16  # characters of a column that wraps


@dataclass(frozen=True)
class Column:
    """A column of a table, with a cell for each row. The cells are rich's markup."""

    heading: str
    cells: Sequence[str]
    right: bool = False
    """True for numbers, which are aligned at their right end."""
    wraps: bool = False
    """True for sentences, which may take several lines."""
    spare: int = 0
    """The order in which a narrow terminal leaves out columns: the highest number first. A column with 0 always stays."""

    @cached_property
    def width(self) -> int:
        """The width of the widest cell, in columns of a terminal. Many Chinese, Japanese and Korean characters take two columns."""
        return max(map(_width, {self.heading, *self.cells}))

    @property
    def least_width(self) -> int:
        """The smallest width that the column can have, in columns of a terminal."""
        return min(self.width, _NARROWEST) if self.wraps else self.width


def print_backups(refs: "Sequence[BackupRef]", columns: Sequence[Column]) -> None:
    """Print a table of backups. A row has the cluster, the database, the ID, and a cell of each column.

    If a terminal has no room for all columns, the cluster and the database become a heading above their backups. In ``refs``, the backups
    of a database must follow one another.
    """
    clusters = Column("CLUSTER", [display.literal(ref.cluster) for ref in refs])
    databases = Column("DATABASE", [display.literal(ref.database) for ref in refs])
    whole = [clusters, databases, Column("BACKUP", [ref.backup_id for ref in refs]), *columns]
    if _least_width(_not_empty(whole)) <= display.console().width:
        print_table(whole)
    else:
        print_table(whole[2:], [display.literal(f"{ref.cluster}/{ref.database}") for ref in refs])


def print_table(columns: Sequence[Column], headings: Sequence[str] = ()) -> None:
    """Print a table. Leave out columns whose cells are all empty or 0, and spare columns for which a terminal has no room.

    ``headings`` has an item for each row. Successive rows with the same heading form a group below this heading.
    """
    out = display.console()
    indent = 2 if headings else 0
    if not (columns := _not_empty(columns)):
        return
    while _least_width(columns) > out.width - indent and (most := max(column.spare for column in columns)):
        columns = [column for column in columns if column.spare != most]
    room = out.width - indent - _least_width(columns)
    widths = []
    for column in columns:
        widths.append(min(column.width, column.least_width + max(room, 0)))
        room -= widths[-1] - column.least_width
    lines = _Lines(out, columns, widths, " " * indent)
    sys.stdout.writelines(lines.of([f"[bold]{column.heading}[/bold]" for column in columns]))
    rows = zip(*(column.cells for column in columns), strict=True)
    for heading, group in groupby(enumerate(rows), lambda row: headings[row[0]] if headings else ""):
        if heading:
            sys.stdout.write(lines.heading(heading))
        for _, row in group:
            sys.stdout.writelines(lines.of(row))


@dataclass(slots=True)
class _Lines:
    """Makes the lines of a table's rows. A rich table takes much longer for each row."""

    out: "Console"
    columns: Sequence[Column]
    widths: Sequence[int]
    indent: str
    folded: dict[tuple[str, int], Sequence[tuple[str, int]]] = field(default_factory=dict)
    """Cells that were folded before, with the width. Most sentences in a table occur often."""

    def of(self, row: Sequence[str]) -> list[str]:
        """Return the lines of a row. Each cell is as wide as its column."""
        cells = [self._fold(cell, width) for cell, width in zip(row, self.widths, strict=True)]
        gap = " " * _GAP
        return [
            f"{self.indent}{gap.join(map(self._pad, self.columns, self.widths, parts))}\n"
            for parts in zip_longest(*cells, fillvalue=("", 0))
        ]

    def heading(self, text: str) -> str:
        """Return the line of a heading."""
        from rich.text import Text

        return f"{self._styled(Text.from_markup(f'[bold]{text}[/bold]', emoji=False))}\n"

    @staticmethod
    def _pad(column: Column, width: int, part: tuple[str, int]) -> str:
        text, length = part
        spaces = " " * (width - length)
        return spaces + text if column.right else text + spaces

    def _fold(self, cell: str, width: int) -> Sequence[tuple[str, int]]:
        """Return a cell's lines, each at most ``width`` wide, as the terminal gets them, and the width of each line on the terminal."""
        if not _has_markup(cell) and (length := _width(cell)) <= width:
            return ((cell, length),)
        if (cell, width) not in self.folded:
            from rich.text import Text

            parts = Text.from_markup(cell, emoji=False).wrap(self.out, width, overflow="fold")
            self.folded[cell, width] = [(self._styled(part), part.cell_len) for part in parts] or [("", 0)]
        return self.folded[cell, width]

    def _styled(self, text: "Text") -> str:
        """Return the text with the terminal's codes for its styles."""
        with self.out.capture() as captured:
            self.out.print(text, end="", soft_wrap=True)
        return captured.get()


def _has_markup(cell: str) -> bool:
    return "[" in cell


def _width(cell: str) -> int:
    """Return the width of a cell on a terminal, in columns."""
    if cell.isascii() and not _has_markup(cell):
        return len(cell)
    from rich.text import Text

    return Text.from_markup(cell, emoji=False).cell_len


def _not_empty(columns: Sequence[Column]) -> Sequence[Column]:
    return [column for column in columns if set(column.cells) - ({"", "0"} if column.right else {""})]


def _least_width(columns: Sequence[Column]) -> int:
    return sum(column.least_width + _GAP for column in columns) - _GAP
