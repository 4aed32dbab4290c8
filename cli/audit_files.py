"""Writes the report of an audit into files: JSON, CSV for spreadsheets, and HTML for people."""

import csv
import dataclasses
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from cli import display
from pipeline.audit.report import AuditedBackup, AuditFinding
from pipeline.errors import InvalidRequest, LocalResourceExhausted, ProgramMissing

if TYPE_CHECKING:
    from pipeline.audit.report import AuditReport

_STDOUT = Path("-")
_FORMULA = re.compile("(^|;)(?=[=+@\t\r＝＋－＠-])")
"""The place where a formula begins. Where the comma is the decimal sign, a spreadsheet begins a new cell at a semicolon."""


@dataclass(frozen=True, slots=True)
class Files:
    """The files to write; None for a file that nobody wants. ``-`` stands for standard output."""

    json: Path | None
    csv: Path | None
    csv_findings: Path | None
    html: Path | None

    def __post_init__(self) -> None:
        """Raise InvalidRequest if two files go to the same place, or if a file's folder doesn't exist.

        Raise ProgramMissing if HTML is wanted, but its libraries aren't installed.
        """
        wanted = [path for path in self._paths if path]
        if len(set(wanted)) < len(wanted):
            raise InvalidRequest("Two outputs go to the same place: give each output its own file.")
        for path in wanted:
            if not path.parent.is_dir() or path.is_dir():
                raise InvalidRequest(f"{path} can't be written: give a file in a folder that exists.")
        if self.html and not all(find_spec(name) for name in ("jinja2", "vl_convert")):
            raise ProgramMissing("--html needs Jinja2 and vl-convert: pip install 'pgstow[report]'.")

    @property
    def use_stdout(self) -> bool:
        """True if a file goes to standard output."""
        return _STDOUT in self._paths

    @property
    def _paths(self) -> Sequence[Path | None]:
        return self.json, self.csv, self.csv_findings, self.html

    def write(self, report: "AuditReport") -> None:
        """Write the files. Raises OSError for standard output, or LocalResourceExhausted for a file."""
        if self.json:
            with _opened(self.json) as file:
                file.writelines(json_lines(report, file.encoding))
        if self.csv:
            with _opened(self.csv) as file:
                backups = (one for database in report.databases for one in database.backups)
                write_csv(file, [field.name for field in dataclasses.fields(AuditedBackup)], backups)
        if self.csv_findings:
            with _opened(self.csv_findings) as file:
                write_csv(file, [field.name for field in dataclasses.fields(AuditFinding)], report.findings)
        if self.html:
            from pipeline.audit.html.page import render

            with _opened(self.html) as file:
                file.writelines(render(report))


@contextmanager
def _opened(path: Path) -> Iterator[TextIO]:
    if path == _STDOUT:
        yield sys.stdout
        return
    try:
        with path.open("w", encoding="utf-8", newline="") as file:
            yield file
    except OSError as exc:
        raise LocalResourceExhausted(f"Cannot write to {path}: {exc.strerror}.") from exc


def json_lines(report: "AuditReport", encoding: str) -> Iterator[str]:
    """Yield the report as a JSON document. Each database and each finding has a line, so that the document isn't in memory as a whole."""
    before = "{\n"
    for field in dataclasses.fields(report):
        value = getattr(report, field.name)
        yield f'{before}"{field.name}": '
        if field.name in ("databases", "findings", "stores"):
            start = "[\n"
            for each in value:
                yield start + display.json_line(_plain(each), encoding)
                start = ",\n"
            yield "[]" if start == "[\n" else "\n]"
        else:
            yield display.json_line(_plain(value), encoding)
        before = ",\n"
    yield "\n}\n"


def _plain(value: Any) -> Any:
    """Return the value in JSON's types."""
    from pydantic_core import to_jsonable_python

    return to_jsonable_python(value)


def write_csv(file: TextIO, names: Sequence[str], rows: Iterable[Any]) -> None:
    """Write a table with a column for each of these attributes. No cell is a formula, whatever the names in the store are."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(names)
    for row in rows:
        writer.writerow([_cell(getattr(row, name)) for name in names])


def _cell(value: object) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case int() | float():
            return str(value)
        case datetime():
            return f"{value.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
        case _:
            return _FORMULA.sub(r"\1'", display.one_line(str(value)))
