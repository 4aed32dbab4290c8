"""The rules that say which backups to keep, by their times and tags.

A backup stays if any rule keeps it. The rules are those of `restic forget`_: a daily rule keeps the newest backup of each of the last N days
that have a backup. Days, weeks and so on are in UTC. A duration is counted back from the newest backup, not from now, so that a series that
has ended isn't removed bit by bit.

.. _restic forget: https://restic.readthedocs.io/en/stable/060_forget.html
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from pipeline.catalog.attestation import Level
from pipeline.counting import counted
from pipeline.errors import InvalidRequest

_SPANS: dict[str, Callable[[datetime], str]] = {
    "hourly": lambda moment: f"{moment:%Y-%m-%d %H}h",
    "daily": lambda moment: f"{moment:%Y-%m-%d}",
    "weekly": lambda moment: f"{moment:%G-W%V}",
    "monthly": lambda moment: f"{moment:%Y-%m}",
    "yearly": lambda moment: f"{moment:%Y}",
}
"""For each rule, a function from a moment in UTC to the name of its span of time. Weeks are those of ISO 8601."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What to keep. A policy without any rule keeps everything. Raises InvalidRequest if a number or the duration is below 0."""

    keep_last: int = 0
    keep_hourly: int = 0
    keep_daily: int = 0
    keep_weekly: int = 0
    keep_monthly: int = 0
    keep_yearly: int = 0
    keep_within: timedelta = timedelta()
    """Keep the backups of this time, counted back from the newest good backup of the series."""
    keep_tagged: frozenset[str] = frozenset()
    """Keep the backups with one of these tags."""
    only_verified: Level | None = None
    """Rules count a backup only if its latest attestation says that the backup is good, at this level or above; None to count any."""

    def __post_init__(self) -> None:
        if min(self.keep_last, *map(self._number, _SPANS)) < 0 or self.keep_within < timedelta():
            raise InvalidRequest("A number of backups to keep, and a duration, can't be below 0.")

    @property
    def is_empty(self) -> bool:
        """True if the policy has no rule."""
        return not (self.keep_last or any(map(self._number, _SPANS)) or self.keep_within or self.keep_tagged)

    def apply(self, newest_first: Sequence[datetime]) -> Iterator[tuple[int, str]]:
        """Yield the index of each moment that a rule keeps, with the rule's name. The moments are the snapshots' times, in UTC."""
        for index in range(min(self.keep_last, len(newest_first))):
            yield index, f"last {self.keep_last}"
        for rule, span_of in _SPANS.items():
            newest: dict[str, int] = {}
            for index, moment in enumerate(newest_first):
                newest.setdefault(span_of(moment), index)
            for span, index in list(newest.items())[: self._number(rule)]:
                yield index, f"{rule} {span}"
        for index, moment in enumerate(newest_first):
            if self.keep_within and moment > newest_first[0] - self.keep_within:
                yield index, f"within {_describe(self.keep_within)}"

    def _number(self, rule: str) -> int:
        """Return the number of spans of which a rule keeps one backup each."""
        number: int = getattr(self, f"keep_{rule}")
        return number


def _describe(duration: timedelta) -> str:
    hours = duration // timedelta(hours=1)
    return counted(hours // 24, "day") if hours % 24 == 0 else counted(hours, "hour")
