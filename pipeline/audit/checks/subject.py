"""What a finding is about, and the words that findings share."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from pipeline.audit.facts import DatabaseFacts
from pipeline.audit.names import SEVERITIES
from pipeline.audit.report import AuditFinding
from pipeline.counting import counted

_LONGEST_SENTENCE = 1000  # characters: names in a forged manifest may be longer than any real one


@dataclass(frozen=True, slots=True)
class Subject:
    """A database, in one store or in all stores together; or a store, or all stores."""

    store: str | None = None
    """The URL of the store; None for all stores together."""
    cluster: str | None = None
    database: str | None = None

    @classmethod
    def of(cls, facts: DatabaseFacts) -> "Subject":
        """Return the database, in the store that the facts are about."""
        return cls(facts.store, facts.cluster, facts.database)

    @property
    def name(self) -> str:
        """The cluster and the database, for sentences."""
        return f"{self.cluster}/{self.database}"

    def finding(self, name: str, sentence: str, backup_id: str | None = None) -> AuditFinding:
        """Return a finding about the subject, or about one of its backups."""
        if len(sentence) > _LONGEST_SENTENCE:
            sentence = f"{sentence[:_LONGEST_SENTENCE]}…"
        return AuditFinding(name, SEVERITIES[name], self.store, self.cluster, self.database, backup_id, sentence)


def moment_in_words(moment: datetime) -> str:
    """Return a time in UTC, to the minute."""
    return f"{moment:%Y-%m-%d %H:%M}Z"


def span_in_words(span: timedelta) -> str:
    """Return a duration in words, such as ``4 days``, ``26h 05m`` or ``12m``. From three days on, hours are left out."""
    if span >= timedelta(days=3):
        return counted(span.days, "day")
    minutes = int(span.total_seconds()) // 60
    if minutes < 60:
        return f"{minutes}m"
    return f"{minutes // 60}h" + (f" {minutes % 60:02d}m" if minutes % 60 else "")
