"""``pgstow verify``."""

import dataclasses
import functools
import os
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import display, key_options, options, trust_options, verify_result
from cli.command import Commands
from cli.errors import ExitCode, exit_code_of, print_error, result_of
from cli.progress import show_progress
from cli.values import parse_size

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pipeline.catalog.reader import StoredManifest
    from pipeline.events import Notify
    from pipeline.postgres.conninfo import Conninfo
    from pipeline.verify.proof import ProofRequest
    from pipeline.verify.request import Verification

PROOF = "With --level restore"


app = Commands()


@app.command(
    "verify",
    examples=[
        "pgstow verify --from s3://bucket/prefix --database shop",
        "pgstow verify --from s3://bucket/prefix --latest-of-each --level restore",
    ],
)
def verify(
    backup: options.BackupId = "latest",
    *,
    from_: options.From,
    level: Annotated[
        str,
        typer.Option(
            metavar="LEVEL",
            help="How far to verify. objects: the store reports every object. bytes: pgstow reads every object, and compares its SHA-256 "
            "with the manifest. archive: every file also "
            "decompresses, and pg_restore can parse the archive. restore: PostgreSQL also restores everything",
        ),
    ] = "bytes",
    database: options.Database = None,
    cluster: options.Cluster = None,
    latest_of_each: Annotated[
        bool, typer.Option("--latest-of-each", help="Verify the latest backup of each database, one after another")
    ] = False,
    at: options.At = None,
    partial: options.Partial = False,
    attest: Annotated[
        bool | None,
        typer.Option(
            "--attest/--no-attest",
            help="Write the result to the store, as an attestation. Default: only with --level restore",
        ),
    ] = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    scratch: Annotated[
        str | None,
        typer.Option(
            metavar="CONNINFO",
            help="The server for the test restore. pgstow creates a database there, and later drops it. Default: a server that pgstow starts",
            rich_help_panel=PROOF,
        ),
    ] = None,
    checksums: Annotated[
        bool,
        typer.Option(
            "--checksums", help="Compare the content of each restored table with the archive", rich_help_panel=PROOF
        ),
    ] = False,
    assertion: Annotated[
        list[str] | None,
        typer.Option(
            "--assert",
            metavar="SQL",
            help="A statement that must return one row with the single value true; can be repeated",
            rich_help_panel=PROOF,
        ),
    ] = None,
    sql_check: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="A file of such statements; can be repeated",
            rich_help_panel=PROOF,
        ),
    ] = None,
    server_settings: Annotated[
        bool,
        typer.Option("--server-settings", help=options.SERVER_SETTINGS, rich_help_panel=PROOF),
    ] = False,
    trusted_key: trust_options.TrustedKeys = None,
    unsigned: trust_options.Unsigned = False,
    sign_with: trust_options.SignWith = None,
    sign_passphrase_file: trust_options.SignPassphrase = None,
    identity: key_options.IdentityFiles = None,
    identity_command: key_options.IdentityCommand = None,
    store_option: options.StoreOptions = None,
    give_up_after: options.GiveUpAfter = 300,
    jobs: options.Jobs = None,
    split_tables: options.SplitTables = "auto",
    transfers: options.Transfers = 4,
    memory: options.Memory = parse_size(options.MEMORY_DEFAULT),
    spool_dir: options.SpoolDir = None,
    limit_rate: options.LimitRate = None,
    nice: options.Nice = 0,
    bin_dir: options.BinDir = None,
) -> None:
    """Verify that a backup is undamaged, optionally by a test restore.

    For a backup of a whole server, pgstow verifies the backups of all its databases and of its roles.
    """
    from pipeline.catalog.attestation import Level
    from pipeline.catalog.find import LATEST, BackupSelector, find_stored, sources
    from pipeline.errors import InvalidRequest
    from pipeline.verify.backup import verify as verify_backup
    from pipeline.verify.cluster import ClusterVerification
    from pipeline.verify.request import Verification, VerifyRequest

    if level not in list(Level):
        raise typer.BadParameter(f"{level!r} is not a level; write {', '.join(Level)}", param_hint="--level")
    of_proofs = scratch is not None or checksums or assertion or sql_check or server_settings or split_tables != "auto"
    if of_proofs and level != Level.RESTORE:
        raise InvalidRequest(
            "--scratch, --checksums, --assert, --sql-check, --server-settings and --split-tables need --level restore."
        )
    if latest_of_each and backup != LATEST:
        raise InvalidRequest(f"{backup} and --latest-of-each exclude each other: leave one out.")
    server = None if scratch is None else options.parse_conninfo(scratch, quiet=quiet)
    request = VerifyRequest(
        level=Level(level),
        limits=options.make_limits(jobs, transfers, memory, spool_dir, split_tables=split_tables),
        keys=key_options.read_keys(identity, identity_command, quiet=quiet),
        programs=tuple(bin_dir or ()),
        proof=_proof_request(server, checksums, assertion or (), sql_check or (), server_settings=server_settings),
        attest=attest,
        signer=trust_options.make_signer(sign_with, sign_passphrase_file),
    )

    def run(verify_it: "Callable[[Notify], Verification]") -> Verification:
        started = time.monotonic()
        with show_progress(quiet=quiet or json) as notify:
            found = verify_it(notify)
        if not json:
            verify_result.print_result(found, time.monotonic() - started)
        return found

    def verify_one(selector: BackupSelector, notify: "Notify") -> Verification:
        return verify_backup(find_stored(store, selector, notify if trust else None), request, store, notify)

    def find() -> "StoredManifest":
        with show_progress(quiet=True) as notify:
            # Without trusted keys, the result says why the backup isn't believed.
            return find_stored(store, wanted, notify if trust else None)

    os.nice(nice)
    trust = trust_options.make_trust(trusted_key)
    wanted = BackupSelector(backup, cluster, database, at, partial, trust, unsigned)
    with closing(options.open_store(from_, store_option, give_up_after, limit_rate, quiet=quiet)) as store:
        if latest_of_each:
            each = [
                (
                    source,
                    name,
                    functools.partial(verify_one, dataclasses.replace(wanted, cluster=source, database=name)),
                )
                for source, name in sources(store, cluster, database, trust)
            ]
            documents, codes = _run_each(run, each)
        elif (manifest := (stored := find()).manifest).members:
            whole = ClusterVerification(stored, request, store)
            each = [
                (manifest.cluster, member.database, functools.partial(whole.verify, member))
                for member in manifest.members
            ]
            documents, codes = _run_each(run, each)
            with show_progress(quiet=True) as notify:
                conclusion = whole.conclude(notify)
            if conclusion:
                documents.append(verify_result.as_document(conclusion))
                if not json:
                    verify_result.print_cluster_result(conclusion)
        else:
            found = run(functools.partial(verify_backup, stored, request, store))
            documents, codes = [verify_result.as_document(found)], _codes(found)
    with result_of(verify_result.describe_all(documents)):
        if json:
            display.print_json(documents if latest_of_each or manifest.members else documents[0])
    if codes:
        raise typer.Exit(ExitCode.DAMAGED if ExitCode.DAMAGED in codes else min(codes))


def _run_each(
    run: "Callable[[Callable[[Notify], Verification]], Verification]",
    each: "Sequence[tuple[str, str, Callable[[Notify], Verification]]]",
) -> tuple[list[dict[str, Any]], set[ExitCode]]:
    """Verify each backup. Return a document for each backup, and the exit codes of all backups that aren't good.

    ``each`` holds the cluster, the database, and a function that verifies the backup. After a failure, print it and go on.
    """
    from pipeline.errors import PipelineError
    from storage_backends import StorageError

    documents: list[dict[str, Any]] = []
    codes: set[ExitCode] = set()
    for cluster, database, find in each:
        try:
            found = run(find)
        except (PipelineError, StorageError, OSError) as exc:
            print_error(f"{cluster}/{database}: {exc}")
            codes.add(exit_code_of(exc))
            documents.append({"cluster": cluster, "database": database, "good": False, "problems": [str(exc)]})
        else:
            codes |= _codes(found)
            documents.append(verify_result.as_document(found))
    return documents, codes


def _codes(found: "Verification") -> set[ExitCode]:
    """Return the exit codes for a result; empty if the backup is good."""
    damaged = found.problems or found.replaced
    return ({ExitCode.DAMAGED} if damaged else set()) | ({ExitCode.STORE} if found.unreadable else set())


def _proof_request(
    scratch: "Conninfo | None",
    checksums: bool,
    statements: "Sequence[str]",
    files: "Sequence[Path]",
    *,
    server_settings: bool,
) -> "ProofRequest":
    from pipeline.errors import InvalidRequest
    from pipeline.verify.proof import Assertion, ProofRequest

    assertions = [Assertion(display.one_line(statement), statement) for statement in statements]
    for file in files:
        try:
            assertions.append(Assertion(str(file), file.read_text("utf-8")))
        except (OSError, UnicodeDecodeError) as exc:
            raise InvalidRequest(
                f"--sql-check {file} can't be read: {getattr(exc, 'strerror', None) or 'it is not UTF-8'}."
            ) from exc
    return ProofRequest(scratch, checksums, assertions, server_settings)
