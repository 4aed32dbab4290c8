"""The names of all findings. docs/audit.md explains each name."""

from collections.abc import Mapping

from pipeline.audit.report import Severity
from pipeline.trust.chain import Fault

SEVERITIES: Mapping[str, Severity] = {
    # coverage
    "no-backup": Severity.CRITICAL,
    "only-partial": Severity.WARNING,
    "overdue": Severity.CRITICAL,
    "missed": Severity.WARNING,
    "rpo-missed": Severity.WARNING,
    "few-copies": Severity.WARNING,
    "no-rpo": Severity.NOTE,
    "no-backups-left": Severity.NOTE,
    # records
    "unreadable-manifest": Severity.CRITICAL,
    "implausible": Severity.CRITICAL,
    "odd-name": Severity.WARNING,
    "no-trusted-keys": Severity.NOTE,
    Fault.UNSIGNED: Severity.WARNING,
    Fault.UNTRUSTED: Severity.CRITICAL,
    Fault.SWAPPED: Severity.CRITICAL,
    Fault.GAP: Severity.CRITICAL,
    Fault.FORK: Severity.CRITICAL,
    Fault.ANEW: Severity.WARNING,
    Fault.REPLAY: Severity.CRITICAL,
    Fault.CLOCK_BACK: Severity.WARNING,
    Fault.OTHER_SYSTEM: Severity.WARNING,
    Fault.HEAD_LOST: Severity.CRITICAL,
    # objects
    "object-missing": Severity.CRITICAL,
    "object-altered": Severity.CRITICAL,
    "member-missing": Severity.CRITICAL,
    "not-listed": Severity.WARNING,
    "orphans": Severity.NOTE,
    # verifications
    "damaged": Severity.CRITICAL,
    "overwritten": Severity.CRITICAL,
    "unreadable": Severity.WARNING,
    "not-proven": Severity.WARNING,
    "slow-restore": Severity.WARNING,
    # the policy
    "not-sealed": Severity.WARNING,
    "other-recipients": Severity.WARNING,
    "not-locked": Severity.WARNING,
    # silent loss
    "rows-fell": Severity.WARNING,
    "table-vanished": Severity.WARNING,
    "shrunk": Severity.WARNING,
    "fast": Severity.WARNING,
}
"""How much each finding matters, by its name."""
