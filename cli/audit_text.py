"""Prints the report of an audit: the findings first, in words, then a line for each database."""

from collections import Counter
from datetime import datetime
from typing import TYPE_CHECKING

from cli import display, tables
from cli.tables import Column
from pipeline.audit.report import AuditReport, NightState, Severity
from pipeline.counting import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pipeline.audit.report import AuditFinding, ChainHead, DatabaseAudit

_MOST_FINDINGS = 100
_MOST_HEADS = 20
_STYLES = {Severity.CRITICAL: "red", Severity.WARNING: "yellow", Severity.NOTE: "blue"}
_NOUNS = {Severity.CRITICAL: "critical finding", Severity.WARNING: "warning", Severity.NOTE: "note"}


def print_report(report: AuditReport) -> None:
    """Print the report. Only the first hundred findings are printed; --json has them all."""
    several = len(report.stores) > 1
    by = f", by {report.policy}" if report.policy else ""
    print(
        display.one_line(f"Audited {counted(len(report.stores), 'store')}, from {report.since} to {report.until}{by}.")
    )
    for finding in report.findings[:_MOST_FINDINGS]:
        _print_finding(finding, several=several)
    if (more := len(report.findings) - _MOST_FINDINGS) > 0:
        print(f"There are {counted(more, 'more finding')}: --json and --csv-findings have them all.")
    if report.databases:
        print()
        _print_databases(report)
        print()
    _print_heads([head for store in report.stores for head in store.heads], several=several)
    print(_summary(report))


def _print_finding(finding: "AuditFinding", *, several: bool) -> None:
    style = _STYLES[finding.severity]
    where = f" ({finding.store})" if several and finding.store and finding.store not in finding.sentence else ""
    sentence = display.literal(display.one_sentence(finding.sentence) + where)
    display.console().print(f"[{style}]{finding.severity} {finding.name}[/{style}]: {sentence}", soft_wrap=True)


def _print_databases(report: AuditReport) -> None:
    databases = report.databases

    def each(cell: "Callable[[DatabaseAudit], str]") -> list[str]:
        return [cell(one) for one in databases]

    tables.print_table(
        [
            Column("CLUSTER", each(lambda one: display.literal(one.cluster))),
            Column("DATABASE", each(lambda one: display.literal(one.database))),
            Column(
                "LAST GOOD BACKUP",
                each(lambda one: _minute(one.last_good.snapshot_at if one.last_good else None) or "none"),
            ),
            Column(
                "AGE", each(lambda one: display.format_age(one.last_good.snapshot_at) if one.last_good else ""), spare=3
            ),
            Column(
                "BACKUPS",
                each(lambda one: f"{len({backup.backup_id for backup in one.backups}):,}"),
                right=True,
                spare=2,
            ),
            Column("MISSED", each(_missed), right=True),
            Column(
                "SIZE",
                each(lambda one: display.format_size(one.last_good.size) if one.last_good else ""),
                right=True,
                spare=5,
            ),
            Column(
                "PROVEN", each(lambda one: _minute(one.last_proof.proven_at if one.last_proof else None) or "never")
            ),
            Column("RESTORE", each(_restore), right=True, spare=4),
            Column(
                "LOCKED UNTIL",
                each(lambda one: _minute(one.last_good.retained_until if one.last_good else None)),
                spare=1,
            ),
            Column("FINDINGS", each(_findings), wraps=True),
        ]
    )


def _print_heads(heads: "Sequence[ChainHead]", *, several: bool) -> None:
    """Print the heads of the chains, so that somebody can keep them elsewhere for --expect-head."""
    if len(heads) > _MOST_HEADS:
        print(f"There are {counted(len(heads), 'chain')} of signed backups: --json has their heads.")
    elif heads:
        tables.print_table(
            [
                *([Column("STORE", [display.literal(one.store) for one in heads])] if several else []),
                Column("CLUSTER", [display.literal(one.cluster) for one in heads]),
                Column("DATABASE", [display.literal(one.database) for one in heads]),
                Column("WRITER", [display.literal(one.writer) for one in heads]),
                Column("HEAD OF THE CHAIN", [one.statement_sha256 for one in heads]),
            ]
        )
        print()


def _minute(moment: datetime | None) -> str:
    return f"{display.local_time(moment):%Y-%m-%d %H:%M}" if moment else ""


def _missed(database: "DatabaseAudit") -> str:
    return str(sum(state is NightState.MISSING for _, state in database.nights))


def _restore(database: "DatabaseAudit") -> str:
    proof = database.last_proof
    return "" if proof is None or proof.restore_seconds is None else display.format_duration(proof.restore_seconds)


def _findings(database: "DatabaseAudit") -> str:
    numbers = Counter(one.severity for one in database.findings)
    return ", ".join(
        f"[{style}]{counted(numbers[severity], _NOUNS[severity].removesuffix(' finding'), _plural(severity))}[/{style}]"
        for severity, style in _STYLES.items()
        if numbers[severity]
    )


def _plural(severity: Severity) -> str | None:
    return "critical" if severity is Severity.CRITICAL else None


def _summary(report: AuditReport) -> str:
    numbers = Counter(one.severity for one in report.findings)
    words = [counted(numbers[severity], noun) for severity, noun in _NOUNS.items() if numbers[severity]]
    return f"{', '.join(words)}." if words else "Nothing is wrong."
