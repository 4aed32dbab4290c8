"""The parts of a database to dump, and other options for pg_dump."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pipeline.errors import InvalidRequest
from pipeline.pg_dump_filter import read_filters
from pipeline.pg_dump_options import OF_FILTERS, PATTERN, GivenOption

_OPPOSITES = (
    ("--large-objects", "--no-large-objects"),
    ("--statistics", "--no-statistics"),
)


@dataclass(frozen=True, slots=True)
class Selection:
    """The parts of a database to dump, as pg_dump's patterns, with other options. Raises InvalidRequest if options contradict each other."""

    tables: tuple[str, ...] = ()
    exclude_tables: tuple[str, ...] = ()
    schemas: tuple[str, ...] = ()
    exclude_schemas: tuple[str, ...] = ()
    exclude_table_data: tuple[str, ...] = ()
    only: Literal["schema", "data"] | None = None
    """``schema`` for the definitions alone, ``data`` for the rows alone, None for both."""
    options: tuple[GivenOption, ...] = ()
    """The options that no other field holds. :data:`pipeline.pg_dump_options.SUPPORTED` has each of them."""

    def __post_init__(self) -> None:
        names = [given.option.name for given in self.options]
        for given in self.options:
            if not given.option.repeatable and names.count(given.option.name) > 1:
                raise InvalidRequest(f"{given.option.name} is given twice.")
        for one, other in _OPPOSITES:
            if one in names and other in names:
                raise InvalidRequest(f"{one} and {other} exclude each other.")

    def with_options(self, given: Iterable[GivenOption]) -> "Selection":
        """Return the selection with more options. Reads files of filters, and adds their patterns and options. Raises InvalidRequest."""
        options, patterns = list[GivenOption](), dict[str, tuple[str, ...]]()
        for one in given:
            for read in read_filters(Path(one.value or "")) if one.option.name == "--filter" else [one]:
                if read.option.name in OF_FILTERS:
                    field = _field(read.option.name)
                    patterns[field] = (*patterns.get(field, getattr(self, field)), read.value or "")
                else:
                    options.append(read)
        changed: dict[str, Any] = {**patterns, "options": (*self.options, *options)}
        return replace(self, **changed)

    def has(self, name: str) -> bool:
        """True if the option is given."""
        return any(given.option.name == name for given in self.options)

    def values(self, name: str) -> tuple[str, ...]:
        """Return the values of an option, in the order in which they are given."""
        return tuple(given.value or "" for given in self.options if given.option.name == name)

    @property
    def role(self) -> str | None:
        """The role that pg_dump acts as; None for the role that logs in."""
        return next(iter(self.values("--role")), None)

    @property
    def is_all_tables(self) -> bool:
        """True if no pattern chooses a part of the database."""
        return not (any(self._patterns().values()) or any(given.option.metavar == PATTERN for given in self.options))

    @property
    def takes_large_objects(self) -> bool:
        """True if pg_dump dumps the database's large objects."""
        if self.has("--large-objects") or self.has("--no-large-objects"):
            return self.has("--large-objects")
        chosen = (*self.tables, *self.schemas, *self.values("--table-and-children"), *self.values("--extension"))
        return not chosen

    def arguments(self) -> list[str]:
        """Return the options for pg_dump's command line."""
        only = [f"--{self.only}-only"] if self.only else []
        chosen = [f"{option}={pattern}" for option, patterns in self._patterns().items() for pattern in patterns]
        return only + chosen + [argument for given in self.options for argument in given.arguments()]

    def arguments_of_cluster(self) -> list[str]:
        """Return those of ``options`` that pg_dumpall has, too, for its command line."""
        return [argument for given in self.of_cluster() for argument in given.arguments()]

    def of_cluster(self) -> list[GivenOption]:
        """Return those of ``options`` that pg_dumpall has, too."""
        return [given for given in self.options if given.option.in_pg_dumpall]

    def _patterns(self) -> dict[str, tuple[str, ...]]:
        return {option: getattr(self, _field(option)) for option in OF_FILTERS}


def _field(option: str) -> str:
    """Return the name of the field for an option's patterns: ``exclude_tables`` for ``--exclude-table``."""
    name = option.removeprefix("--").replace("-", "_")
    return name if name.endswith("data") else f"{name}s"
