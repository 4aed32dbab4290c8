"""Options of PostgreSQL's programs that a command refuses, each with the reason. If a command gets such an option, it prints the reason."""

from collections.abc import Mapping

from pipeline.pg_dump_options import refusal

Refused = Mapping[tuple[str, ...], str]
"""The reason for each option, by its spellings. A reason is a clause that follows a colon. docs/pg_restore-options.md repeats it."""

OF_PG_RESTORE: Refused = {
    ("-d", "--dbname"): "pgstow restore --into names the database",
    ("-f", "--file"): "pgstow export writes a script, and has this option",
    ("-F", "--format"): "the manifest names the backup's format",
    ("-l", "--list"): "pgstow show --toc prints the list",
    ("-v", "--verbose"): "pgstow reports the progress itself",
    ("-V", "--version"): "say pgstow --version, or pg_restore --version",
    ("-?",): "say --help or -h",
    ("-e", "--exit-on-error"): "pgstow stops at the first error unless you say --keep-going",
    ("--enable-row-security",): "row security doesn't allow COPY, and pgstow's backups hold rows only as COPY",
    ("--filter",): "give each line of the file as an option: -t, -n, -I, -P, -T or -N",
    ("--no-data-for-failed-tables",): "with it, a table could stay empty, and pgstow reports missing rows as an error: "
    "leave the table out with --exclude-table",
    (
        "--restrict-key",
    ): "the key protects psql from commands in the data: it must be secret, so pgstow or pg_restore chooses it",
    ("--strict-names",): "a name or a pattern that matches nothing is always an error, except a pattern that excludes",
    ("--host",): "write host=NAME into pgstow restore --into; -h is --help",
    ("-p", "--port"): "write port=NUMBER into pgstow restore --into",
    ("-U", "--username"): "write user=NAME into pgstow restore --into",
    ("-w", "--no-password"): "pgstow never asks for a password",
    ("-W", "--password"): "pgstow never asks for a password: put it into ~/.pgpass, or into a service",
}


def why_refused(command: str | None, option: str) -> str | None:
    """Return a sentence that says why the command doesn't take the option; None if no program of PostgreSQL has the option."""
    if command in {"backup", "check"}:
        return refusal(option)
    if command not in {"restore", "export"}:
        return None
    reason = next((reason for spellings, reason in OF_PG_RESTORE.items() if option in spellings), None)
    return reason and f"pgstow {command} doesn't take {option}: {reason}."
