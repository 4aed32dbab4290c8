"""Examine a job of pgstow.toml as ``pgstow check`` does."""

import os
from contextlib import closing
from typing import TYPE_CHECKING

from cli import display
from cli.check import print_findings, verdict
from cli.errors import print_error
from cli.progress import show_progress

if TYPE_CHECKING:
    from pipeline.nightly.jobs import Job

PATIENCE = 20.0
"""The time to retry a request to a store, in seconds; the same as in ``pgstow check``."""


def examine_job(job: "Job", destination: str, *, quiet: bool) -> bool:
    """Print the findings of ``pgstow check`` for the job and the destination. Return True if there is no problem."""
    from pipeline.check.check import Place
    from pipeline.check.check import check as examine
    from pipeline.check.finding import Severity
    from pipeline.errors import PipelineError
    from pipeline.trust.statement import Purpose
    from storage_backends import StorageError, open_backend

    serves = {Purpose.BACKUP: True, Purpose.VERIFY: job.verify is not None, Purpose.PRUNE: job.retention is not None}
    print(f"\n{display.one_line(f'{job.name} to {destination}')}", flush=True)
    try:
        url = job.destinations[destination].url
        store = open_backend(url, give_up_after=PATIENCE)
        with closing(store), show_progress(quiet=quiet) as notify:
            findings = examine(
                job.request, store, notify, Place.of(url, {}, os.environ), [one for one in serves if serves[one]]
            )
    except (PipelineError, StorageError) as exc:
        print_error(str(exc))
        return False
    print_findings(
        [finding for finding in findings if not quiet or finding.outcome in (Severity.WARNING, Severity.PROBLEM)]
    )
    print(verdict(findings))
    return all(finding.outcome is not Severity.PROBLEM for finding in findings)
