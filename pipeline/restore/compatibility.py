"""Checks that a backup can be restored into a server, and finds the program for the restore."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from pipeline.catalog.origin import Format, Source
from pipeline.errors import InvalidRequest, ProgramMissing
from pipeline.postgres.programs import SPEAKS_TO_OLD, Program, find_program, major_of, speaks_to
from pipeline.postgres.restore_options import RestoreOptions
from pipeline.postgres.restricted_mode import find_psql


class Versioned(Protocol):
    """A server, as far as its version matters."""

    @property
    def major(self) -> int:
        """The major version."""

    @property
    def version(self) -> str:
        """The version, as the server writes it."""


def check_server(
    server: Versioned, source: Source, format_: Format, *, allow_older: bool = False, keep_going: bool | None = None
) -> None:
    """Raise InvalidRequest if no program restores the backup into the server, or if the server is older than the backed-up server.

    With ``allow_older``, the server may be older. With ``keep_going``, pg_restore continues after an error on a setting that the server
    doesn't know. ``keep_going`` is None for restores that never continue after errors.
    """
    if not keep_going and not speaks_to(major_of(source.pg_dump_version), server.major):
        raise InvalidRequest(_why_impossible(server, source, format_, may_go_on=keep_going is not None))
    if server.major < major_of(source.server_version) and not allow_older:
        raise InvalidRequest(
            f"The backup is of PostgreSQL {source.server_version}, but the server to restore into is older ({server.version}) and may not "
            "understand the backup's SQL: restore into a newer server, or give --allow-older to try."
        )


def find_restorer(
    server: Versioned, source: Source, format_: Format, options: RestoreOptions, search: Sequence[Path]
) -> Program:
    """Return the program that restores the backup into this server: pg_restore for an archive, psql for a plain script.

    ``search`` has the folders in which to look; empty for the usual folders. Call :func:`check_server` first. Raises ProgramMissing if no
    installed version fits, and InvalidRequest if no fitting version has the options.
    """
    least = max(server.major, major_of(source.pg_dump_version))
    if format_ == "plain":
        return find_psql(at_least_major=least, search=search)
    major, option = options.newest
    if not options.keep_going and not speaks_to(major, server.major):
        raise InvalidRequest(
            f"{option} needs pg_restore {major} or newer, which can't restore into PostgreSQL {server.version}. Leave the option out, or "
            "choose the entries with --use-list."
        )
    fitting = " to ".join(map(str, sorted({max(least, major), SPEAKS_TO_OLD})))
    return find_pg_restore(
        least,
        options,
        search,
        fits=lambda program: options.keep_going or speaks_to(program.major, server.major),
        versions="" if least > SPEAKS_TO_OLD else f"{fitting} (newer versions can't restore into a server this old)",
    )


def find_pg_restore(
    least: int,
    options: RestoreOptions,
    search: Sequence[Path],
    fits: Callable[[Program], bool] = lambda _: True,
    versions: str = "",
) -> Program:
    """Return a pg_restore of the major version ``least`` or newer that has all the options; see :func:`find_program`.

    Raises InvalidRequest if an option is newer than the versions on this machine, and ProgramMissing if there is no fitting pg_restore.
    """
    major, option = options.newest
    try:
        return find_program("pg_restore", at_least_major=max(least, major), search=search, fits=fits, versions=versions)
    except ProgramMissing as exc:
        if major <= least:
            raise
        raise InvalidRequest(f"{option} is an option of newer versions: {exc}") from exc


def _why_impossible(server: Versioned, source: Source, format_: Format, *, may_go_on: bool) -> str:
    """Return two sentences: why the server is too old for each program that reads the backup, and what to do instead."""
    since, is_script = SPEAKS_TO_OLD + 1, format_ == "plain"
    going_on = "try --allow-older --keep-going --allow-error transaction_timeout --jobs 1"
    ways = [
        f"Restore into {max(since, major_of(source.server_version))} or newer",
        *([going_on] if may_go_on and not is_script else []),
        f"adapt the script that pgstow export writes{'' if is_script else ', or the archive of --to-directory'}",
    ]
    return (
        f"PostgreSQL {server.version} can't take a backup that pg_dump {source.pg_dump_version} made: since {since}, its programs set "
        f"transaction_timeout, which this server doesn't know. {', '.join(ways[:-1])}, or {ways[-1]}."
    )
