"""Asking for findings of a check."""

from collections.abc import Iterable

from pipeline.check.finding import Finding, Severity


def problems(findings: Iterable[Finding]) -> dict[str, Finding]:
    """Those that would make ``pgstow check`` fail, by their subjects."""
    return {finding.subject: finding for finding in findings if finding.outcome is Severity.PROBLEM}


def by_subject(findings: Iterable[Finding]) -> dict[str, Finding]:
    """All of them; no two have one subject."""
    found: dict[str, Finding] = {}
    for finding in findings:
        assert finding.subject not in found, finding
        found[finding.subject] = finding
    return found
