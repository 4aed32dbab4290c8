"""The rules that say which backups to keep, by their times and tags.

A backup stays if any rule keeps it. The rules work as in `restic forget`_: a daily rule keeps the newest backup of each of the last N days
that have a backup. Days, weeks and so on are in UTC. A duration is counted back from the newest backup and not from now. So if a series gets
no new backups, its old backups stay.

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
"""For each rule, a function that names the hour, day and so on that contains a moment in UTC. Weeks are ISO 8601 weeks."""


@dataclass(frozen=True, slots=True)
class Policy:
    """The rules for the backups to keep. Without rules, all backups stay. Raises InvalidRequest if a number or the duration is negative."""

    keep_last: int = 0
    keep_hourly: int = 0
    keep_daily: int = 0
    keep_weekly: int = 0
    keep_monthly: int = 0
    keep_yearly: int = 0
    keep_within: timedelta = timedelta()
    """Keep the backups of this time span, which ends with the newest good backup of the series."""
    keep_tagged: frozenset[str] = frozenset()
    """Keep backups that have one of these tags."""
    only_verified: Level | None = None
    """Rules count a backup only if its latest attestation says that the backup is good, at this level or higher; None to count any backup."""

    def __post_init__(self) -> None:
        if min(self.keep_last, *map(self._number, _SPANS)) < 0 or self.keep_within < timedelta():
            raise InvalidRequest("The number of backups to keep and the duration can't be negative.")

    @property
    def is_empty(self) -> bool:
        """True if the policy has no rule."""
        return not (self.keep_last or any(map(self._number, _SPANS)) or self.keep_within or self.keep_tagged)

    def apply(self, newest_first: Sequence[datetime]) -> Iterator[tuple[int, str]]:
        """Yield the index of each moment that a rule keeps, and the rule's name. The moments are the times of snapshots, in UTC."""
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
        """Return the number of time spans for which a rule keeps one backup each."""
        number: int = getattr(self, f"keep_{rule}")
        return number


def _describe(duration: timedelta) -> str:
    hours = duration // timedelta(hours=1)
    return counted(hours // 24, "day") if hours % 24 == 0 else counted(hours, "hour")
