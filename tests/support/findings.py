"""Look up the findings of a check."""

from collections.abc import Iterable

from pipeline.check.finding import Finding, Severity


def problems(findings: Iterable[Finding]) -> dict[str, Finding]:
    """Return the findings that make ``pgstow check`` fail, by their subjects."""
    return {finding.subject: finding for finding in findings if finding.outcome is Severity.PROBLEM}


def by_subject(findings: Iterable[Finding]) -> dict[str, Finding]:
    """Return all findings by their subjects. Raises AssertionError if two findings have the same subject."""
    found: dict[str, Finding] = {}
    for finding in findings:
        assert finding.subject not in found, finding
        found[finding.subject] = finding
    return found
