"""Makes the jobs of a run from the settings in pgstow.toml."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.archive.destinations import BackupResults
from pipeline.backup.request import BackupRequest
from pipeline.backup.retry import back_up_with_retries
from pipeline.catalog.attestation import Level
from pipeline.cluster.backup import back_up_cluster
from pipeline.cluster.request import ClusterRequest
from pipeline.config import Labels, Limits
from pipeline.errors import InvalidRequest
from pipeline.events import Notify
from pipeline.nightly.config_file import ConfigFile
from pipeline.nightly.hooks import ask
from pipeline.nightly.settings import Config, DatabaseSettings, DestinationSettings
from pipeline.pg_dump_options import parse_option
from pipeline.postgres.conninfo import Conninfo
from pipeline.prune.facts import ANY, Signatures
from pipeline.prune.policy import Policy
from pipeline.selection import Selection
from pipeline.toml_file import Problem
from pipeline.trust.age import Recipients
from pipeline.trust.key_files import read_recipients
from pipeline.verify.proof import Assertion, ProofRequest
from storage_backends import StorageBackend, place_of

if TYPE_CHECKING:
    from pipeline.backup.signing import Signing
    from pipeline.trust.envelope import Signer
    from pipeline.trust.policy import Trust


@dataclass(frozen=True, slots=True)
class Job:
    """The work for one database, or one whole server, of the file."""

    name: str
    """The name of the database in the file."""
    request: BackupRequest
    whole_server: bool
    """True if the job backs up all databases of the server."""
    agree: Callable[[], None]
    """Runs the command before the backup. Raises BackupRefused if the command refuses."""
    back_up: Callable[[Sequence[StorageBackend], Notify], BackupResults]
    """Backs up into the given stores. Raises PipelineError, or StorageError if all stores fail."""
    destinations: Mapping[str, DestinationSettings]
    """The destinations, by their names in the file."""
    verify: Level | None
    """The level at which to verify the backup; None for no verification."""
    proof: ProofRequest
    """How to restore the backup if ``verify`` is the level restore."""
    retention: Policy | None
    """The rules for the backups to keep after this backup; None to remove no backups."""
    signatures: Signatures = ANY
    """The signatures that count for retention, and for the newest earlier backup."""

    @property
    def signer(self) -> "Signer | None":
        """The key that signs verifications and removals; None for no signatures."""
        return self.request.signing.signer if self.request.signing else None


def make_jobs(
    file: ConfigFile,
    config: Config,
    names: Sequence[str],
    overrides: Mapping[str, Any],
    environment: Mapping[str, str] | None = None,
    signing: "Signing | None" = None,
    trust: "Trust | None" = None,
) -> list[Job]:
    """Return the jobs of the named databases, or of all databases if ``names`` is empty, in the order of the file.

    ``overrides`` has settings of a database that replace the settings in the file, unless they are None. ``environment`` is for the commands
    before the backups; None for this process's environment. ``signing`` and ``trust`` have the opened keys of the file.

    Raises InvalidRequest if the file lacks a database or a destination, and ConfigInvalid if settings contradict each other.
    """
    if unknown := [name for name in names if name not in config.databases]:
        raise InvalidRequest(
            f"There is no [databases.{unknown[0]}] in {file.path}; it has {_listed(config.databases)}."
        )
    if unknown := [name for name in overrides.get("destinations") or () if name not in config.destinations]:
        raise InvalidRequest(
            f"There is no [destinations.{unknown[0]}] in {file.path}; it has {_listed(config.destinations)}."
        )
    jobs, problems = list[Job](), list[Problem]()
    encryption = config.encryption
    try:
        recipients = read_recipients(encryption.recipients, map(Path, filter(None, [encryption.recipients_file])))
    except InvalidRequest as exc:
        raise file.invalid([Problem(("encryption",), str(exc))]) from exc
    for name in [name for name in config.databases if name in names or not names]:
        try:
            job = _make_job(name, _effective(config, name, overrides), config, recipients, environment, signing)
            jobs.append(replace(job, signatures=Signatures(trust, config.trust.unsigned)))
        except InvalidRequest as exc:
            problems.append(Problem(("databases", name), str(exc)))
    if problems:
        raise file.invalid(problems)
    return jobs


def listed_pairs(config: Config) -> list[tuple[str, str]]:
    """Return the name of each database in the file, paired with the name of each of its destinations."""
    return [
        (name, destination)
        for name in config.databases
        for destination in _effective(config, name, {}).destinations or config.destinations
    ]


def _effective(config: Config, name: str, overrides: Mapping[str, Any]) -> DatabaseSettings:
    """Return a database's settings. If a setting is missing, its default applies. The overrides replace both."""
    database = config.databases[name]
    defaults = {key: value for key, value in config.defaults if value is not None and getattr(database, key) is None}
    given = {key: value for key, value in overrides.items() if value is not None}
    return database.model_copy(update=defaults | given)


def _make_job(
    name: str,
    settings: DatabaseSettings,
    config: Config,
    recipients: Recipients | None,
    environment: Mapping[str, str] | None,
    signing: "Signing | None",
) -> Job:
    request = replace(_make_request(name, settings, recipients), signing=signing)
    retries = settings.retries or 0
    if settings.all_databases:
        back_up = partial(back_up_cluster, _make_cluster_request(settings, request, retries))
    else:
        for key in ("exclude_databases", "databases_at_once", "role_passwords"):
            if getattr(settings, key) != DatabaseSettings.model_fields[key].default:
                raise InvalidRequest(f"{key} needs all_databases = true.")
        back_up = partial(back_up_with_retries, request, retries=retries)
    destinations = {chosen: config.destinations[chosen] for chosen in settings.destinations or config.destinations}
    if len({place_of(destination.url) for destination in destinations.values()}) < len(destinations):
        raise InvalidRequest("Two of its destinations have the same url, which can hold only one copy of a backup.")
    retention = config.retention.get(settings.retention or "default")
    document = {"database": name, "destinations": list(destinations)}
    before, patience = settings.before, config.monitoring.hook_timeout
    return Job(
        name=name,
        request=request,
        whole_server=settings.all_databases,
        agree=partial(ask, before, document, patience, environment) if before else lambda: None,
        back_up=back_up,
        destinations=destinations,
        verify=Level(settings.verify) if settings.verify and settings.verify != "none" else None,
        proof=_make_proof(settings),
        retention=None if retention is None else retention.policy(),
    )


def _listed(names: Mapping[str, object]) -> str:
    return ", ".join(names)


def _make_request(name: str, settings: DatabaseSettings, recipients: Recipients | None) -> BackupRequest:
    source = Conninfo.parse(settings.conninfo)
    if settings.password_file is not None:
        source = source.with_password(_read_password(settings.password_file))
    return BackupRequest(
        source=source,
        cluster=settings.cluster,
        selection=Selection(
            only=settings.only,
            tables=tuple(settings.tables),
            exclude_tables=tuple(settings.exclude_tables),
            schemas=tuple(settings.schemas),
            exclude_schemas=tuple(settings.exclude_schemas),
            exclude_table_data=tuple(settings.exclude_table_data),
        ).with_options(map(parse_option, settings.pg_dump_options or ())),
        limits=_make_limits(settings),
        programs=tuple(map(Path, settings.bin_dir or ())),
        recipients=recipients,
        labels=Labels(tuple(settings.tags or ()), name),
        password_file=None if settings.password_file is None else Path(settings.password_file),
        **_given(settings, "format", "level", "lock_wait_timeout", "statement_timeout"),
    )


def _make_proof(settings: DatabaseSettings) -> ProofRequest:
    return ProofRequest(
        scratch=None if settings.scratch is None else Conninfo.parse(settings.scratch),
        assertions=[Assertion(" ".join(statement.split()), statement) for statement in settings.assertions or ()],
        **_given(settings, "checksums", "server_settings"),
    )


def _make_limits(settings: DatabaseSettings) -> Limits:
    return Limits(
        spool_parent=None if settings.spool_dir is None else Path(settings.spool_dir),
        **_given(settings, "jobs", "split_tables", "transfers", "memory", "object_size"),
        **({} if settings.spool_limit is None else {"spool": settings.spool_limit}),
    )


def _given(settings: DatabaseSettings, *names: str) -> dict[str, Any]:
    """Return the named settings that the file has, by name. The other settings get their defaults."""
    return {name: value for name in names if (value := getattr(settings, name)) is not None}


def _make_cluster_request(settings: DatabaseSettings, each: BackupRequest, retries: int) -> ClusterRequest:
    return ClusterRequest(
        each=each,
        exclude=tuple(settings.exclude_databases),
        role_passwords=settings.role_passwords,
        at_once=settings.databases_at_once,
        retries=retries,
    )


def _read_password(path: str) -> str:
    try:
        password = Path(path).read_text("utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as exc:
        reason = getattr(exc, "strerror", None) or "it is not UTF-8"
        raise InvalidRequest(f"The password_file {path} can't be read: {reason}.") from exc
    if "\0" in password:
        raise InvalidRequest(f"The password_file {path} contains a NUL character.")
    return password
