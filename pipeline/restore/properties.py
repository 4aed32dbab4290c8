"""Gives a restored database the properties of the backed-up database: owner, comment, grants and settings."""

from collections.abc import Collection, Sequence

from pipeline.archive.reader import Archive
from pipeline.errors import RestoreFailed, StatementRefused
from pipeline.events import Notice, Notify
from pipeline.postgres.conninfo import Conninfo
from pipeline.postgres.database_entries import database_statements, is_of_a_role, setting_name, text_search_default
from pipeline.postgres.pg_restore import IgnoredError
from pipeline.postgres.restore_options import RestoreOptions
from pipeline.postgres.server import Server


def set_literal_syntax(server: Server, archive: Archive) -> None:
    """Make the session read string literals as the archive's SQL writes them. Call this for each session that runs the archive's SQL.

    Raises ConnectionFailed.
    """
    server.execute(f"SET standard_conforming_strings = {'off' if archive.toc.backslashes_escape else 'on'}")


def apply_settings(server: Server, archive: Archive, options: RestoreOptions) -> list[IgnoredError]:
    """Give the session's database the settings on which restored objects may depend. They take effect only in new sessions.

    With ``options.keep_going``, return an error for each setting that the server refused. Otherwise raise RestoreFailed at the first
    refusal. Also raises ConnectionFailed.
    """
    refused = []
    for statement in database_statements(archive.toc, server.name).first:
        try:
            _apply(server, [statement])
        except RestoreFailed as exc:
            if not options.keep_going:
                raise
            refused.append(IgnoredError(str(exc), statement))
    return refused


def try_settings(server: Server, archive: Archive, database: str, notify: Notify) -> None:
    """Give the scratch database ``database`` the settings on which restored objects may depend, except settings of single roles.

    ``server`` may be a session on another database. If the server refuses a setting, this only notifies the user. Raises ConnectionFailed.
    """
    set_literal_syntax(server, archive)
    for statement in database_statements(archive.toc, database).first:
        if is_of_a_role(statement):
            continue
        try:
            server.execute(server.encoded(statement))
        except StatementRefused as exc:
            notify(Notice(f"The scratch database lacks the setting {setting_name(statement)}. {exc}"))


def refresh_views(target: Conninfo, archive: Archive, chosen: Collection[int] | None, options: RestoreOptions) -> None:
    """Refresh the restored materialized views again, if the backup has the database's default text search configuration.

    The session of a pg_restore with a single job begins before the configuration exists, so it doesn't use the configuration. Only views
    with entries in ``chosen`` are refreshed; None stands for all views.

    Raises RestoreFailed if a view can't be refreshed, or ConnectionFailed.
    """
    own = {entry.tag for entry in archive.toc.entries if entry.description == "TEXT SEARCH CONFIGURATION"}
    settings = database_statements(archive.toc, archive.manifest.database).first
    if own.isdisjoint(name for statement in settings if (name := text_search_default(statement))):
        return
    if not options.loads_data or (options.sections and "post-data" not in options.sections):
        return
    with Server(target, users_settings=True) as server:
        server.leave_users_path()
        set_literal_syntax(server, archive)
        for entry in archive.toc.entries:
            if entry.description == "MATERIALIZED VIEW DATA" and (chosen is None or entry.dump_id in chosen):
                try:
                    server.execute(server.encoded(entry.definition))
                except StatementRefused as exc:
                    raise RestoreFailed(f"{entry.namespace}.{entry.tag} can't be refreshed. {exc}") from exc


def apply_rest(server: Server, archive: Archive, options: RestoreOptions, *, whole: bool) -> None:
    """Give the session's database the settings that would have disturbed the restore. If ``whole``, also set owner, comment and grants.

    ``whole`` is true if the whole database was restored. Raises RestoreFailed if the server refuses a statement, or ConnectionFailed.
    """
    statements = database_statements(archive.toc, server.name, no_owner=options.no_owner, without=options.left_out)
    _apply(server, statements.last)
    if whole:
        _apply(server, statements.others)


def _apply(server: Server, statements: Sequence[str]) -> None:
    for statement in statements:
        try:
            server.execute(server.encoded(statement))
        except StatementRefused as exc:
            if (setting := setting_name(statement)) is None:
                raise RestoreFailed(f"The database's owner, settings and grants could not be restored. {exc}") from exc
            raise RestoreFailed(
                f"The server refuses the database's setting {setting}. {exc} Restore as a superuser, onto a server that has "
                "everything that the setting needs, or make the database yourself and restore into it without --create."
            ) from exc
