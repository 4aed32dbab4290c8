"""Examines everything that a backup depends on, before the backup is needed."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pipeline.backup.dry_run import plan_backup
from pipeline.backup.request import BackupRequest
from pipeline.backup.source import default_cluster
from pipeline.catalog.keys import BackupRef
from pipeline.check.finding import Finding, Severity, said
from pipeline.check.machine import examine_machine
from pipeline.check.privileges import LOCKS
from pipeline.check.secrets import examine_secrets, judge_sealing
from pipeline.check.server import examine_server
from pipeline.check.store import examine_store, judge_endpoint
from pipeline.counting import counted
from pipeline.errors import ConnectionFailed, InvalidRequest, PipelineError
from pipeline.events import Notify, Started
from pipeline.postgres.conninfo import Conninfo
from pipeline.postgres.dump import CHECK_ADVICE
from pipeline.postgres.server import Server
from pipeline.trust.statement import Purpose
from storage_backends import EMULATOR, StorageBackend, endpoint_of, looks_first


@dataclass(frozen=True, slots=True)
class Place:
    """How pgstow reaches a store, by its URL, its options and the environment."""

    looks_first: bool = False
    """True if pgstow asks before each put whether the object exists (the store's option create_only=look)."""
    endpoint: str | None = None
    """The store's endpoint; None for the vendor's default endpoint."""
    emulator: bool = False
    """True if the environment names an emulator as the endpoint."""

    @classmethod
    def of(cls, url: str, options: Mapping[str, str], environment: Mapping[str, str]) -> "Place":
        """Return how pgstow reaches the store at ``url``. Raises InvalidStorageURL if no backend accepts the URL or an option."""
        endpoint = endpoint_of(url, options, environment)
        emulator = url.startswith("gs:") and endpoint is not None and endpoint == environment.get(EMULATOR)
        return cls(looks_first(url, options), endpoint, emulator)


def check(
    request: BackupRequest,
    store: StorageBackend,
    notify: Notify,
    place: Place | None = None,
    purposes: Iterable[Purpose] = (Purpose.BACKUP,),
) -> list[Finding]:
    """Return findings on everything that the requested backup into ``store`` depends on: the server, this machine, and the store.

    No data is read, and no backup is made. A few small objects stay in the store if the credentials can't delete them. ``place`` says how
    pgstow reaches the store; None if unknown. ``purposes`` are the purposes for which the request's key signs.

    Raises InvalidRequest if a pattern is invalid, or if pg_dump or the server can't do what an option asks for. Every other failure of the
    server or the store is a finding.
    """
    place = place or Place()
    findings: list[Finding] = []
    cluster, database = request.cluster or _host(request.source), str(request.source.parameters.get("dbname") or "")
    notify(Started("Examining the server"))
    try:
        with Server(request.source) as server:
            cluster = request.cluster or default_cluster(server)
            findings.extend(examine_server(server, request))
            database = server.name
    except ConnectionFailed as exc:
        findings.append(
            Finding(
                "connection",
                Severity.PROBLEM,
                said(exc),
                "Try the same connection with psql, from this host and as this user.",
            )
        )
    notify(Started("Examining this machine"))
    findings.extend(examine_machine(request.limits))
    findings.extend(examine_secrets(request))
    if request.signing:
        # The libraries for signatures are loaded only if something is signed.
        from pipeline.check.signing import examine_signing, examine_states

        notify(Started("Trying the key that signs"))
        findings.extend(examine_signing(request.signing, purposes))
        findings.extend(examine_states(request.signing, store, BackupRef(cluster, database, "")))
    if not any(finding.outcome is Severity.PROBLEM or finding.subject == LOCKS for finding in findings):
        notify(Started("Starting pg_dump, and stopping it once it has locked its tables"))
        findings.append(try_dump(request))
    notify(Started("Trying the store"))
    if listeners := judge_endpoint(place.endpoint, emulator=place.emulator):
        findings.append(listeners)
    findings.extend(judge_sealing(request, store.url))
    sealed = request.recipients is not None
    findings.extend(examine_store(store, cluster, looks_first=place.looks_first, sealed=sealed))
    return findings


def try_dump(request: BackupRequest) -> Finding:
    """Start pg_dump as a backup does, stop it before it dumps data, and return a finding. Raises InvalidRequest as :func:`check` does."""
    try:
        plan = plan_backup(request)
    except InvalidRequest:
        raise
    except PipelineError as exc:
        return Finding("dump", Severity.PROBLEM, said(exc).removesuffix(CHECK_ADVICE))
    large_objects = " and large objects" if plan.large_objects else ""
    return Finding(
        "dump", Severity.OK, f"pg_dump starts, and would dump {counted(len(plan.tables), 'table')}{large_objects}."
    )


def _host(source: Conninfo) -> str:
    """Return the cluster's name as :func:`default_cluster` does, as far as that is possible without a connection."""
    host = str(source.parameters.get("host") or "localhost")
    return "localhost" if host.startswith("/") else host
