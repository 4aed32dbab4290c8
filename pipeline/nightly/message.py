"""Writes the message that tells people about a run: what failed, since when there is no good backup, and what to do.

Errors quote servers, stores and manifests, so an attacker may have written parts of them. The message shows these parts as plain text: no
web address, no mention of a person or a channel, no markup. A bare name such as example.com stays, although a service may turn it into a
link. For services that accept HTML or Markdown, Apprise also escapes the message.
"""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pipeline.counting import counted
from pipeline.errors import BackupDamaged, ManifestInvalid, PipelineError
from pipeline.nightly.metrics import Pair, Past
from pipeline.nightly.outcome import JobResult
from storage_backends import InvalidStorageURL, StorageError
from storage_backends.errors import without_userinfo

_MOST_NAMED = 10  # failures in a message, because services cut long messages off
_LONGEST_REASON = 300  # characters
_HARMLESS = str.maketrans({"<": "‹", ">": "›", "@": "＠", "[": "⟦", "]": "⟧"})
_LINK = re.compile(r"http(?=s?://)|ftp(?=s?://)|www(?=\.)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Message:
    """A message in plain text."""

    title: str
    body: str
    good: bool
    """True if the message reports that backups are good again."""


def write_message(
    outcomes: Sequence[JobResult], past: Mapping[Pair, Past], *, good: bool, host: str, config: Path
) -> Message | None:
    """Return the message about a run; None if there is nothing to report.

    Each failed run has a message. A good run has a message if one of its backups failed the last time. ``past`` has the results of earlier
    runs. ``good`` is True if the run did everything that was requested. ``host`` is this machine's name.
    """
    failed = [outcome for outcome in outcomes if outcome.error is not None]
    recovered = [one for one in outcomes if one.error is None and (pair := _pair(one)) in past and not past[pair].good]
    again = [f"Good again: {', '.join(map(_name, recovered))}."] if recovered else []
    if good:
        return Message(f"pgstow on {host}: backups are good again", again[0], good=True) if again else None
    lines = [line for outcome in failed[:_MOST_NAMED] for line in _describe(outcome, past.get(_pair(outcome)))]
    if (more := len(failed) - _MOST_NAMED) > 0:
        lines.append(f"And {more:,} more.")
    rest = len(outcomes) - len(failed)
    what = f"{_name(failed[0])} FAILED" if len(failed) == 1 else f"{len(failed):,} backups FAILED"
    lines += [f"Good: {rest:,}.", *again, *_advice(failed, config)]
    return Message(f"pgstow on {host}: {what if failed else 'the run was stopped'}", "\n".join(lines), good=False)


def harmless(text: str) -> str:
    """Return text of unknown origin on one line, changed so that a chat or mail program sees no link, mention or markup in it."""
    printable = "".join(character if character.isprintable() else "\ufffd" for character in " ".join(text.split()))
    return _LINK.sub(lambda match: match[0][0] + "xx" + match[0][3:], printable.translate(_HARMLESS))


def _describe(outcome: JobResult, past: Past | None) -> list[str]:
    # If the cut falls inside a URL's user and password, they aren't removed. But then they are at the end of a text that is cut again below.
    reason = without_userinfo(_reason(outcome.error)[: 10 * _LONGEST_REASON])
    shown = reason if len(reason) <= _LONGEST_REASON else f"{reason[:_LONGEST_REASON]} …"
    return [f"{_name(outcome)}: {harmless(shown)}", f"    {_last_good(outcome, past)}"]


def _reason(error: Exception | None) -> str:
    if isinstance(error, PipelineError | StorageError | InvalidStorageURL):
        return str(error)
    # The error is unexpected, so its text may contain a secret.
    return f"Unexpected {getattr(error, 'strerror', None) or type(error).__name__}. The log of the run says more."


def _last_good(outcome: JobResult, past: Past | None) -> str:
    if past is not None and past.last_success is not None:
        return f"There has been no good run since {_moment(past.last_success, outcome.ended_at)}."
    if outcome.newest_before is not None:
        return (
            f"The newest earlier backup at this destination is from {_moment(outcome.newest_before, outcome.ended_at)}."
        )
    if isinstance(outcome.error, StorageError):
        return "pgstow didn't ask this store for earlier backups, because the store failed."
    return "pgstow knows of no good backup at this destination."


def _moment(moment: datetime, now: datetime) -> str:
    age = max(timedelta(), now - moment)
    days, hours, minutes = age.days, age // timedelta(hours=1), age // timedelta(minutes=1)
    span = counted(days, "day") if days >= 2 else counted(hours, "hour") if hours else counted(minutes, "minute")
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC, {span} ago"


def _advice(failed: Sequence[JobResult], config: Path) -> list[str]:
    file = f"--config {shlex.quote(str(config))}"
    names = " ".join(shlex.quote(name) for name in dict.fromkeys(outcome.database for outcome in failed))
    lines = [
        "What to do on that machine:",
        f"    pgstow config check --connect {file}    finds the cause",
        f"    pgstow run {file} {names}    backs up again",
    ]
    if any(isinstance(outcome.error, BackupDamaged | ManifestInvalid) for outcome in failed):
        lines.append(
            "A backup is damaged. Remove no older backup until you know the cause. pgstow verify gives details."
        )
    return lines


def _name(outcome: JobResult) -> str:
    return harmless(f"{outcome.database} at {outcome.destination}")


def _pair(outcome: JobResult) -> Pair:
    return outcome.database, outcome.destination
