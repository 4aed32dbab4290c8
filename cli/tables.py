"""Tables on standard output. On a terminal, a table fits the width. Elsewhere, each row is one line. No name or ID is ever cut."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import TYPE_CHECKING

from cli import display

if TYPE_CHECKING:
    from rich.padding import Padding

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
        from rich.text import Text

        return max(Text.from_markup(cell).cell_len for cell in (self.heading, *self.cells))

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
        print_table(
            whole[2:], [f"{cluster}/{name}" for cluster, name in zip(clusters.cells, databases.cells, strict=True)]
        )


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
    out.width = max(out.width, out.width - room)  # rich would cut a line that is too wide; a terminal wraps it
    out.print(_table(columns, widths, range(0), indent, header=True))
    for heading, places in groupby(range(len(columns[0].cells)), lambda place: headings[place] if headings else None):
        if heading:
            out.print(f"[bold]{heading}[/bold]", soft_wrap=True)
        out.print(_table(columns, widths, places, indent))


def _table(
    columns: Sequence[Column], widths: Sequence[int], places: Iterable[int], indent: int, *, header: bool = False
) -> "Padding":
    from rich.padding import Padding
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), show_header=header, header_style="bold")
    for column, width in zip(columns, widths, strict=True):
        table.add_column(column.heading, justify="right" if column.right else "left", width=width, overflow="fold")
    for place in places:
        table.add_row(*(column.cells[place] for column in columns))
    return Padding.indent(table, indent)


def _not_empty(columns: Sequence[Column]) -> Sequence[Column]:
    return [column for column in columns if set(column.cells) - ({"", "0"} if column.right else {""})]


def _least_width(columns: Sequence[Column]) -> int:
    return sum(column.least_width + _GAP for column in columns) - _GAP
