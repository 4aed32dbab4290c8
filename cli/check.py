"""``pgstow check``."""

import dataclasses
import os
import re
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import TYPE_CHECKING

import typer

from cli import backup_options as what
from cli import display, key_options, options, trust_options
from cli.command import Commands
from cli.dump_options import with_dump_options
from cli.errors import ExitCode
from cli.progress import show_progress
from cli.values import parse_size
from pipeline.counting import counted

if TYPE_CHECKING:
    from pipeline.check.finding import Finding
    from pipeline.pg_dump_options import GivenOption

_MARKS = {"ok": ("✓", "green"), "note": ("·", "blue"), "warning": ("!", "yellow"), "problem": ("✗", "red")}
_STATEMENTS = 20  # the number to print; --json has them all
_QUOTED = re.compile(r'"(?:[^"]|"")*"')


app = Commands()


@app.command(
    "check",
    examples=[
        "pgstow check service=shop --to s3://bucket/prefix",
        "pgstow check 'host=db1 user=backup dbname=shop' --to /mnt/backups/postgres",
    ],
)
@with_dump_options
def check(
    conninfo: what.Source = "",
    *,
    to: options.To,
    cluster: what.FiledUnder = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    table: what.Tables = None,
    exclude_table: what.ExcludedTables = None,
    schema: what.Schemas = None,
    exclude_schema: what.ExcludedSchemas = None,
    exclude_table_data: what.ExcludedTableData = None,
    create_store: options.CreateStore = False,
    store_option: options.StoreOptions = None,
    give_up_after: options.GiveUpAfter = 20,
    jobs: options.Jobs = None,
    memory: options.BackupMemory = parse_size(options.BACKUP_MEMORY_DEFAULT),
    spool_limit: what.SpoolLimit = parse_size(what.SPOOL_DEFAULT),
    spool_dir: options.SpoolDir = None,
    bin_dir: options.BinDir = None,
    recipient: key_options.RecipientTexts = None,
    recipients_file: key_options.RecipientsFiles = None,
    sign_with: trust_options.SignWith = None,
    sign_passphrase_file: trust_options.SignPassphrase = None,
    writer: trust_options.Writer = None,
    state_dir: trust_options.StateDir = None,
    trusted_key: trust_options.TrustedKeys = None,
    dump_options: "Sequence[GivenOption]" = (),
) -> None:
    """Check that a backup will work, and that its credentials have no rights that endanger the backups.

    pgstow examines the server, this machine, the store, and the key that signs. For each problem, it prints what to do.
    """
    from pipeline.backup.request import BackupRequest
    from pipeline.check.check import Place
    from pipeline.check.check import check as examine
    from pipeline.check.finding import Severity
    from pipeline.errors import InvalidRequest

    if trusted_key and not sign_with:
        raise InvalidRequest("--trusted-key needs --sign-with.")
    request = BackupRequest(
        source=options.parse_conninfo(conninfo, quiet=quiet),
        cluster=cluster,
        selection=what.make_selection(table, exclude_table, schema, exclude_schema, exclude_table_data, dump_options),
        limits=options.make_limits(jobs, 4, memory, spool_dir, spool=spool_limit),
        programs=tuple(bin_dir or ()),
        recipients=key_options.read_recipients(recipient, recipients_file),
        signing=trust_options.make_signing(
            sign_with, sign_passphrase_file, writer, state_dir, trust_options.make_trust(trusted_key), warn=False
        ),
    )
    [store] = options.open_stores([to], store_option, give_up_after, create=create_store, quiet=quiet)
    with closing(store), show_progress(quiet=quiet or json) as notify:
        place = Place.of(to, options.parse_store_options(store_option), os.environ)
        findings = examine(request, store, notify, place)
    ready = all(finding.outcome is not Severity.PROBLEM for finding in findings)
    if json:
        display.print_json({"ready": ready, "findings": [dataclasses.asdict(finding) for finding in findings]})
    else:
        print_findings(
            [finding for finding in findings if not quiet or finding.outcome in (Severity.WARNING, Severity.PROBLEM)]
        )
        print(verdict(findings))
    if not ready:
        raise typer.Exit(ExitCode.CHECK)


def print_findings(findings: "Sequence[Finding]") -> None:
    """Print the findings. On a terminal, wrap their sentences, but not the SQL statements, so that they can be copied."""
    from rich.text import Text

    console = display.console()
    width = console.width if console.is_terminal else 10**6
    for finding in findings:
        mark, colour = _MARKS[finding.outcome]
        for line in _lines(finding, width):
            text = Text(f"{mark} {line}")
            text.stylize(colour, 0, 1)
            console.print(text, soft_wrap=True)
            mark = " "


def _lines(finding: "Finding", width: int) -> "Iterator[str]":
    yield from textwrap.wrap(
        display.one_line(f"{finding.subject}: {finding.sentence}"), width - 2, subsequent_indent="  "
    )
    if finding.remedy:
        yield from textwrap.wrap(
            f"→ {display.one_line(finding.remedy)}", width - 2, initial_indent="  ", subsequent_indent="    "
        )
    for statement in finding.sql[:_STATEMENTS]:
        yield f"      {_typeable(statement)}"
    if len(finding.sql) > _STATEMENTS:
        yield f"      -- and {len(finding.sql) - _STATEMENTS:,} more: --json has them all"


def _typeable(statement: str) -> str:
    """Return the SQL on one line, with the same meaning. Escapes replace the control characters in names."""

    def escape(quoted: re.Match[str]) -> str:
        if display.one_line(quoted[0]) == quoted[0]:
            return quoted[0]
        escaped = quoted[0].replace("\\", "\\\\")
        return "U&" + "".join(c if display.one_line(c) == c else f"\\{ord(c):04x}" for c in escaped)

    return display.one_line(_QUOTED.sub(escape, statement))


def verdict(findings: "Sequence[Finding]") -> str:
    """Return a sentence that says whether a backup will work, and how many problems and warnings there are."""
    count = {outcome: sum(finding.outcome == outcome for finding in findings) for outcome in ("problem", "warning")}
    words = [counted(number, name) for name, number in count.items() if number]
    if count["problem"]:
        return f"Not ready to back up: {' and '.join(words)}."
    return f"Ready to back up{f', with {words[0]}' if words else ''}."
