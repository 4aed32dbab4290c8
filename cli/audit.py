"""``pgstow audit``."""

from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

import typer

from cli import options, record_options, trust_options
from cli.command import Commands
from cli.errors import ExitCode
from cli.progress import show_progress

if TYPE_CHECKING:
    from pipeline.audit.policy import Policy
    from pipeline.audit.report import AuditReport

app = Commands()

_OUTPUT = "Output"
FromEach: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--from",
        metavar="URL",
        help="A store to audit: s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or a folder. If it is repeated, the same backup in two stores counts "
        f"as two copies. Default: the environment variable {options.STORE_VARIABLE}",
        show_default=False,
    ),
]


@app.command(
    "audit",
    examples=[
        "pgstow audit --from s3://bucket/prefix --trusted-key signing.pub",
        "pgstow audit --from s3://bucket/prefix --policy audit.toml --json -",
    ],
)
def audit(
    *,
    from_: FromEach = None,
    policy: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The file that says what to expect of the backups, such as audit.toml"),
    ] = None,
    days: Annotated[
        int,
        typer.Option(metavar="N", min=1, max=3660, help="Audit the last N days, today included"),
    ] = 30,
    cluster: options.Cluster = None,
    database: options.Database = None,
    fail_on: Annotated[
        Literal["critical", "warning", "note", "never"],
        typer.Option(
            metavar="SEVERITY",
            help="The exit code is 13 if there is a finding of this severity or a higher one: critical, warning, note or never",
        ),
    ] = "warning",
    trusted_key: trust_options.TrustedKeys = None,
    expect_head: trust_options.ExpectHead = None,
    json: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write the report as a JSON document; - writes it to standard output",
            rich_help_panel=_OUTPUT,
        ),
    ] = None,
    csv: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write a table of all backups as CSV; - writes it to standard output",
            rich_help_panel=_OUTPUT,
        ),
    ] = None,
    csv_findings: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write a table of all findings as CSV; - writes it to standard output",
            rich_help_panel=_OUTPUT,
        ),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write the report as one HTML page for people, which needs no network; - writes it to standard output",
            rich_help_panel=_OUTPUT,
        ),
    ] = None,
    no_cache: record_options.NoCache = False,
    store_option: options.StoreOptions = None,
    give_up_after: options.GiveUpAfter = 300,
) -> None:
    """Audit the backups in one or several stores: what was backed up, whether it is still there, and whether a restore proved it.

    No data are read, so an auditor's credentials are enough.
    """
    from cli import audit_files, audit_text
    from pipeline.audit.audit import AuditRequest
    from pipeline.audit.audit import audit as make_report
    from pipeline.events import Started

    files, now = audit_files.Files(json, csv, csv_findings, html), datetime.now(UTC)
    request = AuditRequest(
        since=now.date() - timedelta(days=days - 1),
        policy=_read_policy(policy),
        policy_name=None if policy is None else policy.name,
        trust=trust_options.make_trust(trusted_key),
        heads=expect_head or (),
        cluster=cluster,
        database=database,
    )
    quiet = files.use_stdout
    with ExitStack() as stack:
        stores = options.open_stores(from_, store_option, give_up_after, option="--from", quiet=quiet)
        for store in stores:
            stack.enter_context(closing(store))
        notify = stack.enter_context(show_progress(quiet=quiet))
        cache = stack.enter_context(closing(record_options.open_cache(notify, no_cache=no_cache)))
        notify(Started("Reading records"))
        report = make_report(request, stores, notify, now, cache)
    files.write(report)
    if not files.use_stdout:
        audit_text.print_report(report)
    if _fails(report, fail_on):
        raise typer.Exit(ExitCode.FINDINGS)


def _read_policy(file: Path | None) -> "Policy":
    """Return the policy; an empty one without a file. Raise InvalidRequest or ConfigInvalid."""
    from pipeline.audit.policy import Policy
    from pipeline.toml_file import TomlFile

    return Policy() if file is None else TomlFile(file).validate(Policy)


def _fails(report: "AuditReport", fail_on: str) -> bool:
    from pipeline.audit.report import Severity

    order = list(Severity)
    return fail_on != "never" and any(
        order.index(one.severity) <= order.index(Severity(fail_on)) for one in report.findings
    )
