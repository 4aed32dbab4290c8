"""The model of audit.toml: what the audit expects of each database. docs/audit.md explains the keys."""

import re
from datetime import date, timedelta
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator, WithJsonSchema

from pipeline.audit.names import SEVERITIES
from pipeline.config import parse_duration
from pipeline.toml_file import Settings

WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
"""In the order of :meth:`datetime.date.weekday`."""
_PERIODS = {
    "hourly": timedelta(hours=1),
    "daily": timedelta(days=1),
    "weekly": timedelta(weeks=1),
    "monthly": timedelta(days=31),
}
_WILDCARDS = re.compile(r"[*?\[]")


def _read_duration(value: Any) -> timedelta:
    text = str(value)
    if match := re.fullmatch("([0-9]{1,6})m", text):
        return timedelta(minutes=int(match[1]))
    try:
        return parse_duration(text)
    except ValueError:
        raise ValueError("must be a duration such as 30m, 26h, 30d or 8w") from None


def _read_schedule(value: Any) -> Any:
    if isinstance(value, str) and value in _PERIODS:
        return value
    if isinstance(value, list) and value and all(day in WEEKDAYS for day in value):
        return value
    raise ValueError(f'must be {", ".join(_PERIODS)}, or a list of days such as ["monday", "thursday"]')


def _check_finding(name: str) -> str:
    if name in SEVERITIES:
        return name
    close = get_close_matches(name, SEVERITIES, n=1)
    raise ValueError("is no name of a finding" + (f"; did you mean {close[0]}?" if close else ""))


def _check_place(pattern: str) -> str:
    cluster, slash, database = pattern.partition("/")
    if not (cluster and slash and database) or "/" in database:
        raise ValueError("must be CLUSTER/DATABASE, as pgstow list shows them")
    return pattern


Duration = Annotated[
    timedelta,
    BeforeValidator(_read_duration),
    WithJsonSchema({"type": "string", "pattern": "^[0-9]{1,6}[mhdw]$"}),
]
Place = Annotated[str, AfterValidator(_check_place)]
"""A pattern for ``CLUSTER/DATABASE``, with the wildcards of a shell. A slash in a name is written ``%2F``, and a percent sign ``%25``."""
Schedule = Annotated[
    str | list[str],
    PlainValidator(_read_schedule),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "enum": list(_PERIODS)},
                {"type": "array", "items": {"type": "string", "enum": list(WEEKDAYS)}, "minItems": 1},
            ]
        }
    ),
]
FindingName = Annotated[
    str, AfterValidator(_check_finding), WithJsonSchema({"type": "string", "enum": sorted(SEVERITIES)})
]
Percent = Annotated[float, Field(ge=0, le=100)]


class Expectations(Settings):
    """What the audit expects of a database's backups. [defaults] may set these keys for all databases, and each entry for its databases."""

    rpo: Duration | None = Field(
        default=None,
        description="The longest time without a new good backup, such as 26h; default: twice the time between two scheduled backups",
    )
    schedule: Schedule | None = Field(
        default=None,
        description='When backups are made: hourly, daily, weekly, monthly, or a list of days such as ["monday", "thursday"]; default: unknown',
    )
    kept_for: Duration | None = Field(
        default=None,
        description="How long each backup is kept. The audit expects no older backups; default: for the whole audited time",
    )
    partial: bool = Field(
        default=False, description="Let partial backups count, for a database of which you back up only a part"
    )
    stores: Annotated[int, Field(ge=1)] = Field(
        default=1, description="How many of the audited stores must have a good copy of a recent backup"
    )
    signed: bool = Field(default=False, description="Backups must be signed by a trusted key")
    sealed: bool = Field(default=False, description="Backups must be sealed")
    recipients: list[str] | None = Field(
        default=None,
        description="The recipients to whom backups must be sealed, and to no others; default: any recipients",
    )
    locked_for: Duration | None = Field(
        default=None,
        description="How long the store must lock a backup's objects, counted from the backup's beginning; default: no lock is needed",
    )
    proven_within: Duration | None = Field(
        default=None,
        description="A restore must have proved a backup within this time; default: no proof is needed",
    )
    rto: Duration | None = Field(
        default=None, description="The longest time that a restore may take, such as 4h; default: any time"
    )
    rows_fall: Percent = Field(
        default=90,
        description="Warn if a table lost at least this percentage of its rows, compared with the backups before",
    )
    size_share: Percent = Field(
        default=50,
        description="Warn if a backup is smaller than this percentage of the usual size of the backups before",
    )
    duration_share: Percent = Field(
        default=10,
        description="Warn if a backup took less than this percentage of the usual time of the backups before",
    )
    volatile: list[str] = Field(
        default=[],
        description='Patterns of tables that may vanish or lose their rows, such as ["public.queue", "log.*"]; default: none',
    )

    @property
    def longest_gap(self) -> timedelta | None:
        """The longest time without a new good backup; None if neither ``rpo`` nor ``schedule`` says anything."""
        if self.rpo is not None or self.schedule is None:
            return self.rpo
        if isinstance(self.schedule, str):
            return 2 * _PERIODS[self.schedule]
        days = sorted(WEEKDAYS.index(day) for day in self.schedule)
        return timedelta(days=2 * max((after - day) for day, after in zip(days, [*days[1:], days[0] + 7], strict=True)))

    def is_volatile(self, schema: str, relation: str) -> bool:
        """True if the table may vanish or lose its rows."""
        return any(fnmatchcase(f"{schema}.{relation}", pattern) for pattern in self.volatile)


class Ignored(Settings):
    """A finding that the audit shall only note."""

    finding: FindingName = Field(description="The finding's name, such as shrunk")
    databases: Place = Field(default="*/*", description="A pattern of the databases")
    backup: str | None = Field(default=None, description="The backup's ID; default: any backup")
    reason: Annotated[str, Field(min_length=1)] = Field(
        description="Why somebody accepts the finding. The report repeats the reason"
    )
    until: date | None = Field(
        default=None, description="The last day, in UTC, on which the finding is only noted; default: no end"
    )


class Policy(Settings):
    """audit.toml. Without a file, the policy is empty."""

    defaults: Expectations = Expectations()
    databases: dict[Place, Expectations] = Field(default={})
    ignore: list[Ignored] = Field(default=[])

    def expectations(self, cluster: str, database: str) -> Expectations:
        """Return what the audit expects of the database. If several entries match, a later one overrides an earlier one, key by key."""
        found = self.defaults
        for pattern, entry in self.databases.items():
            if fnmatchcase(place_of(cluster, database), pattern):
                found = found.model_copy(update={name: getattr(entry, name) for name in entry.model_fields_set})
        return found

    @property
    def required(self) -> list[tuple[str, str]]:
        """The cluster and the name of each database that the policy names without a wildcard. These must have backups."""
        exact = (pattern for pattern in self.databases if not _WILDCARDS.search(pattern))
        parts = (pattern.split("/") for pattern in exact)
        return [(_decoded(cluster), _decoded(database)) for cluster, database in parts]

    def ignoring(
        self, name: str, cluster: str | None, database: str | None, backup_id: str | None, today: date
    ) -> Ignored | None:
        """Return the entry that accepts a finding; None if there is none."""
        place = None if cluster is None or database is None else place_of(cluster, database)
        for entry in self.ignore:
            if entry.finding != name or entry.backup not in (None, backup_id) or (entry.until and today > entry.until):
                continue
            if entry.databases == "*/*" or (place and fnmatchcase(place, entry.databases)):
                return entry
        return None


def place_of(cluster: str, database: str) -> str:
    """Return ``CLUSTER/DATABASE``, as :data:`Place` matches it. No two databases have the same place."""
    return "/".join(name.replace("%", "%25").replace("/", "%2F") for name in (cluster, database))


def _decoded(name: str) -> str:
    return name.replace("%2F", "/").replace("%25", "%")


def policy_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of the file, for editors, as published in docs/audit.schema.json."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Policy.model_json_schema(),
        "title": "audit.toml",
    }
