"""Writes metrics for node_exporter's textfile collector. Each run replaces the file at its end.

If a run fails, or covers only some databases, the metrics of the last success must stay. So pgstow reads them from the old file. It can't
read them from the store, because the credentials may only create objects.
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
"""By pair and metric: the level of the verification (empty if the metric has no level), and the metric's value."""

_LAST_GOOD = "pgstow_last_attempt_success"
_LAST_VERIFIED = "pgstow_last_verified_timestamp_seconds"
_LAST_SUCCESS = "pgstow_last_success_timestamp_seconds"
METRICS = {
    "pgstow_last_attempt_timestamp_seconds": "When the last run ended, whether it succeeded or not.",
    _LAST_GOOD: "1 if the last run did everything that was requested, else 0.",
    _LAST_SUCCESS: "When the last successful run ended; 0 if no run succeeded.",
    "pgstow_snapshot_timestamp_seconds": "When the snapshot of the last backup was taken.",
    "pgstow_backup_duration_seconds": "Duration of the last backup, from its beginning to its manifest.",
    "pgstow_dumped_bytes": "Bytes of the last backup, uncompressed.",
    "pgstow_stored_bytes": "Bytes of the objects of the last backup.",
    "pgstow_objects": "Objects of the last backup.",
    "pgstow_tables": "Tables of the last backup.",
    "pgstow_rows": "Rows of the last backup.",
    "pgstow_retained_until_timestamp_seconds": "Until when the store protects the last backup from deletion; 0 if the store doesn't lock it.",
    _LAST_VERIFIED: "When a run last verified its backup and found it good.",
}
_SAMPLE = re.compile(r'(\w+)\{database="((?:[^"\\]|\\.)*)",destination="((?:[^"\\]|\\.)*)"(?:,level="(\w+)")?\} (\S+)')


@dataclass(frozen=True, slots=True)
class Past:
    """The metrics of earlier runs for one database at one destination."""

    good: bool
    """False if the last run failed."""
    last_success: datetime | None
    """The time when the last successful run ended, in UTC; None if no run succeeded."""


def read_past(path: Path) -> dict[Pair, Past]:
    """Return the results of earlier runs from the metrics in the file; an empty dict if there is no file. Raises OSError."""
    return {
        pair: Past(
            good=values.get(_LAST_GOOD, ("", 1.0))[1] != 0,
            last_success=_moment(values.get(_LAST_SUCCESS, ("", 0.0))[1]),
        )
        for pair, values in _read(path).items()
    }


def write_textfile(path: Path, outcomes: Iterable[JobResult], known: Iterable[Pair]) -> None:
    """Update the metrics in the file with ``outcomes``, and remove the metrics of pairs that aren't in ``known``.

    The new file replaces the old file at once, so that no scrape sees a part of it. Raises OSError if the file can't be read or written.
    """
    samples = _read(path)
    for outcome in outcomes:
        samples.setdefault((outcome.database, outcome.destination), {}).update(_sample(outcome))
    kept = set(known)
    for pair in kept:  # if a pair never succeeded, its time is 0, so that alerts on the age fire
        samples.setdefault(pair, {}).setdefault(_LAST_SUCCESS, ("", 0.0))
    text = "".join(_lines({pair: values for pair, values in samples.items() if pair in kept}))
    # The collector doesn't read the temporary file, because its name doesn't end with .prom.
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
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
    """Return the moment in UTC; None for 0, which stands for never, and for numbers that can't be a time."""
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
    """Return the metrics in the file; an empty dict if there is no file. Unknown lines are ignored. Raises OSError."""
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
