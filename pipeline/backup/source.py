"""Describes the backed-up server for the manifest, and finds the program to dump it."""

from datetime import UTC, datetime

from pipeline.backup.request import BackupRequest
from pipeline.catalog.origin import Source
from pipeline.catalog.plausibility import doubt_time
from pipeline.errors import DumpFailed, InvalidRequest
from pipeline.postgres.encodings import ANY_BYTES, canonical, shown
from pipeline.postgres.loading import has_money, session_default
from pipeline.postgres.programs import Program, find_program
from pipeline.postgres.server import Server
from pipeline.selection import Selection


def check_server_clock(snapshot_at: datetime) -> None:
    """Raise DumpFailed if the database server's clock is over 15 minutes ahead of this machine's: readers would reject the manifest."""
    now = datetime.now(UTC)
    if doubt_time(snapshot_at, now, now):
        raise DumpFailed(
            f"The database server's clock says {snapshot_at:%Y-%m-%d %H:%M:%S}Z, and this machine's {now:%Y-%m-%d %H:%M:%S}Z: pgstow "
            "would reject a backup from the future. Correct the clock that is wrong."
        )


def default_cluster(server: Server) -> str:
    """Return the default name of a cluster: its host, and its port if the port isn't 5432."""
    host = "localhost" if server.host.startswith("/") else server.host
    return host if server.port == 5432 else f"{host}-{server.port}"


def find_dumper(name: str, server: Server, request: BackupRequest) -> Program:
    """Return pg_dump or pg_dumpall for the server. Raises ProgramMissing, or InvalidRequest if it can't take the request's options."""
    program = find_program(name, at_least_major=server.major, search=request.programs)
    for given in request.selection.options:
        if given.option.since > program.major:
            raise InvalidRequest(
                f"{given.option.name} needs {name} of PostgreSQL {given.option.since} or newer, but pgstow found {program.path} "
                f"{program.version} for this server: leave the option out, or name the folder of a newer {name} by --bin-dir."
            )
    _check_fit(server, request.selection)
    return program


def _check_fit(server: Server, selection: Selection) -> None:
    """Raise InvalidRequest if the server can't do what an option asks for. Raises ConnectionFailed."""
    if selection.has("--serializable-deferrable") and server.fetch("SELECT WHERE pg_catalog.pg_is_in_recovery()"):
        raise InvalidRequest(
            "--serializable-deferrable needs a primary, but the server is a standby, which has no serializable transactions: "
            "leave the option out, or back up from the primary."
        )
    for encoding in selection.values("--encoding"):
        if server.describe().encoding == ANY_BYTES:
            raise InvalidRequest(
                f"The database {server.name} has the encoding {ANY_BYTES}, so PostgreSQL can't convert its text: leave --encoding out."
            )
        if unsure := [name for name, data in server.names_in(encoding) if shown(data, canonical(encoding)) != name]:
            raise InvalidRequest(
                f"pgstow can't convert the name {unsure[0]} to the encoding {encoding}: use another encoding, or leave --encoding out."
            )


def describe_source(
    server: Server,
    program: Program,
    wal_lsn: str | None,
    selection: Selection | None = None,
    *,
    for_script: bool = False,
) -> Source:
    """Return the manifest's description of the session's server and database. Raises ConnectionFailed.

    The options of the dump's ``selection`` may change settings. ``for_script`` adds the server's roles, superusers and tablespaces, because a
    script may name any of them. With ``for_script``, ``lc_monetary`` is None if the database doesn't use the type money.
    """
    facts = server.describe()
    return Source(
        server_version=server.version,
        system_identifier=facts.system_identifier,
        pg_dump_version=program.version,
        encoding=facts.encoding,
        collation=facts.collation,
        character_type=facts.character_type,
        locale_provider=facts.locale_provider,
        locale=facts.locale,
        icu_rules=facts.icu_rules,
        tablespace=facts.tablespace,
        host=server.host,
        port=server.port,
        standby=facts.standby,
        wal_lsn=wal_lsn,
        time_zone=facts.time_zone,
        bytea_output=facts.bytea_output,
        lc_monetary=session_default(server, "lc_monetary") if not for_script or has_money(server) else None,
        quote_all_identifiers=session_default(server, "quote_all_identifiers") == "on"
        or (selection is not None and selection.has("--quote-all-identifiers")),
        extensions=list(facts.extensions),
        roles=server.roles() if for_script else [],
        superusers=server.superusers() if for_script else [],
        tablespaces=server.tablespaces() if for_script else [],
    )
