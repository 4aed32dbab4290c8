"""Write metrics for node_exporter's textfile collector. Each run replaces the file at its end.

The metrics of the last success must survive runs that fail, and runs of some databases only. So they are read from the old file: credentials
that can only create objects can't ask the store.
"""

import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pipeline.nightly.outcome import JobResult

Pair = tuple[str, str]
"""The names of a database and a destination."""
Samples = dict[Pair, dict[str, tuple[str, float]]]
"""By pair and metric: the level of a verification, or an empty text, and the value."""

_LAST_GOOD = "pgstow_last_attempt_success"
_LAST_VERIFIED = "pgstow_last_verified_timestamp_seconds"
_LAST_SUCCESS = "pgstow_last_success_timestamp_seconds"
METRICS = {
    "pgstow_last_attempt_timestamp_seconds": "The time when the last attempt ended, successful or not.",
    _LAST_GOOD: "1 if the last attempt succeeded, with verification and retention; otherwise 0.",
    _LAST_SUCCESS: "The time when the last successful attempt ended; 0 if none has succeeded.",
    "pgstow_snapshot_timestamp_seconds": "The time of the data in the last backup.",
    "pgstow_backup_duration_seconds": "The seconds from the beginning of the last backup to its manifest.",
    "pgstow_dumped_bytes": "The size of the last backup before compression.",
    "pgstow_stored_bytes": "The size of the objects of the last backup.",
    "pgstow_objects": "The number of objects of the last backup.",
    "pgstow_tables": "The number of tables of the last backup.",
    "pgstow_rows": "The number of rows of the last backup.",
    "pgstow_retained_until_timestamp_seconds": "The time at which the lock on the last backup ends; 0 without a lock.",
    _LAST_VERIFIED: "The time when a run last verified its backup and found the backup good.",
}
_SAMPLE = re.compile(r'(\w+)\{database="((?:[^"\\]|\\.)*)",destination="((?:[^"\\]|\\.)*)"(?:,level="(\w+)")?\} (\S+)')


@dataclass(frozen=True, slots=True)
class Past:
    """What the metrics know of the runs for one database at one destination."""

    good: bool
    """True unless the last run failed."""
    last_success: datetime | None
    """The time when the last run ended that did all that was asked, in UTC; None if there is none."""


def read_past(path: Path) -> dict[Pair, Past]:
    """Return what the metrics in the file know; an empty dict if there is no file. Raises OSError."""
    return {
        pair: Past(
            good=values.get(_LAST_GOOD, ("", 1.0))[1] != 0,
            last_success=_moment(values.get(_LAST_SUCCESS, ("", 0.0))[1]),
        )
        for pair, values in _read(path).items()
    }


def write_textfile(path: Path, outcomes: Iterable[JobResult], known: Iterable[Pair]) -> None:
    """Update the metrics in the file with ``outcomes``, and remove the metrics of pairs that aren't in ``known``.

    The file is replaced as a whole, so that no scrape sees a part. Raises OSError if the file can't be read or written.
    """
    samples = _read(path)
    for outcome in outcomes:
        samples.setdefault((outcome.database, outcome.destination), {}).update(_sample(outcome))
    kept = set(known)
    for pair in kept:  # a pair that never succeeded gets the oldest possible time
        samples.setdefault(pair, {}).setdefault(_LAST_SUCCESS, ("", 0.0))
    text = "".join(_lines({pair: values for pair, values in samples.items() if pair in kept}))
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # not *.prom: not read meanwhile
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            os.fchmod(file.fileno(), 0o644)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(temporary).unlink()
        raise


def _moment(seconds: float) -> datetime | None:
    """Return the moment; None for 0, which stands for never, and for no possible time."""
    with suppress(ValueError, OverflowError, OSError):
        return datetime.fromtimestamp(seconds, UTC) if seconds else None
    return None


def _sample(outcome: JobResult) -> dict[str, tuple[str, float]]:
    ended = outcome.ended_at.timestamp()
    values: dict[str, float | None] = {
        "pgstow_last_attempt_timestamp_seconds": ended,
        _LAST_GOOD: float(outcome.error is None),
    }
    if outcome.error is None:
        values[_LAST_SUCCESS] = ended
    if outcome.manifest is not None:
        totals, until = outcome.manifest.totals, outcome.manifest.retained_until
        values |= {
            "pgstow_snapshot_timestamp_seconds": outcome.manifest.snapshot_at.timestamp(),
            "pgstow_backup_duration_seconds": outcome.seconds,
            "pgstow_dumped_bytes": totals.size,
            "pgstow_stored_bytes": totals.stored_size,
            "pgstow_objects": totals.objects,
            "pgstow_tables": totals.tables,
            "pgstow_rows": totals.rows,
            "pgstow_retained_until_timestamp_seconds": 0 if until is None else until.timestamp(),
        }
    samples = {name: ("", float(value)) for name, value in values.items() if value is not None}
    if outcome.verified is not None:
        samples[_LAST_VERIFIED] = outcome.verified.value, ended
    return samples


def _lines(samples: Samples) -> Iterator[str]:
    for name, words in METRICS.items():
        told = [(pair, *values[name]) for pair, values in sorted(samples.items()) if name in values]
        if told:
            yield f"# HELP {name} {words}\n# TYPE {name} gauge\n"
        for (database, destination), level, value in told:
            labels = f'database="{_escape(database)}",destination="{_escape(destination)}"'
            labels += f',level="{level}"' if level else ""
            yield f"{name}{{{labels}}} {value:.15g}\n"


def _read(path: Path) -> Samples:
    """Return the metrics in the file; an empty dict if there is no file. Other lines are ignored. Raises OSError."""
    samples: Samples = {}
    with suppress(FileNotFoundError):
        for line in path.read_text("utf-8", "replace").splitlines():
            if (match := _SAMPLE.fullmatch(line)) and match[1] in METRICS:
                with suppress(ValueError):
                    pair = _unescape(match[2]), _unescape(match[3])
                    samples.setdefault(pair, {})[match[1]] = match[4] or "", float(match[5])
    return samples


def _escape(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _unescape(text: str) -> str:
    return re.sub(r"\\(.)", lambda match: "\n" if match[1] == "n" else match[1], text)
