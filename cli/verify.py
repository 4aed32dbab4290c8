"""``pgstow verify``."""

import dataclasses
import functools
import os
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import display, options
from cli.errors import ExitCode, exit_code_of, print_error, result_of
from cli.progress import show_progress
from pipeline.counting import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pipeline.catalog.manifest import Manifest
    from pipeline.events import Notify
    from pipeline.verify.proof import Proof, ProofRequest
    from pipeline.verify.request import Verification

PROOF = "What to prove by restoring"
_NAMED = 20  # objects that could not be read, named on standard error


def verify(
    backup: options.BackupId = "latest",
    *,
    from_: options.From,
    store_option: options.StoreOptions = None,
    give_up_after: options.GiveUpAfter = 300.0,
    cluster: options.Cluster = None,
    database: options.Database = None,
    at: options.At = None,
    partial: options.Partial = False,
    latest_of_each: Annotated[
        bool, typer.Option("--latest-of-each", help="The latest backup of each database, one after the other")
    ] = False,
    level: Annotated[
        str,
        typer.Option(
            metavar="LEVEL",
            help="objects: all there, as the store reports; bytes: all read and hashed; archive: all decompressed and parsed too; "
            "restore: all restored into a server",
        ),
    ] = "bytes",
    scratch: Annotated[
        str | None,
        typer.Option(
            metavar="CONNINFO",
            help="Where to restore: in a database of its own that is dropped again. By default on a server that is started for this",
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
            "--assert", metavar="SQL", help="This has to return one row, one value: true", rich_help_panel=PROOF
        ),
    ] = None,
    sql_check: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="So has each statement in this file",
            rich_help_panel=PROOF,
        ),
    ] = None,
    attest: Annotated[
        bool | None,
        typer.Option("--attest/--no-attest", help="Put what was found into the store; at level restore by default"),
    ] = None,
    jobs: options.Jobs = None,
    transfers: options.Transfers = 4,
    memory: options.Memory = options.parse_size(options.MEMORY_DEFAULT),
    spool_dir: options.SpoolDir = None,
    limit_rate: options.LimitRate = None,
    nice: options.Nice = 0,
    bin_dir: options.BinDir = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Verify that a backup is still what was stored, as far as restoring it; of a cluster's, each backup that it is made of."""
    from pipeline.catalog.attestation import Level
    from pipeline.catalog.find import LATEST, BackupSelector, find_stored, sources
    from pipeline.errors import InvalidRequest
    from pipeline.verify.backup import verify as verify_backup
    from pipeline.verify.cluster import ClusterVerification
    from pipeline.verify.request import Verification, VerifyRequest

    if level not in list(Level):
        raise typer.BadParameter(f"{level!r} is none of {', '.join(Level)}", param_hint="--level")
    if level != Level.RESTORE and (scratch is not None or checksums or assertion or sql_check):
        raise InvalidRequest("--scratch, --checksums, --assert and --sql-check need --level restore.")
    if latest_of_each and backup != LATEST:
        raise InvalidRequest(f"Verify either {backup} or --latest-of-each.")
    request = VerifyRequest(
        level=Level(level),
        limits=options.make_limits(jobs, transfers, memory, spool_dir),
        programs=tuple(bin_dir or ()),
        proof=_proof_request(scratch, checksums, assertion or (), sql_check or ()),
        attest=attest,
    )

    def run(verify_it: "Callable[[Notify], Verification]") -> Verification:
        started = time.monotonic()
        with show_progress(quiet=quiet or json) as notify:
            found = verify_it(notify)
        if not json:
            _print(found, time.monotonic() - started)
        return found

    def verify_one(selector: BackupSelector, notify: "Notify") -> Verification:
        return verify_backup(find_stored(store, selector), request, store, notify)

    os.nice(nice)
    wanted = BackupSelector(backup=backup, cluster=cluster, database=database, at=at, partial=partial)
    with closing(options.open_store(from_, store_option, give_up_after, limit_rate, quiet=quiet)) as store:
        if latest_of_each:
            each = [
                (
                    source,
                    name,
                    functools.partial(verify_one, dataclasses.replace(wanted, cluster=source, database=name)),
                )
                for source, name in sources(store, cluster, database)
            ]
            documents, codes = _run_each(run, each)
        elif (manifest := (stored := find_stored(store, wanted)).manifest).members:
            whole = ClusterVerification(stored, request, store)
            each = [
                (manifest.cluster, member.database, functools.partial(whole.verify, member))
                for member in manifest.members
            ]
            documents, codes = _run_each(run, each)
            with show_progress(quiet=True) as notify:
                conclusion = whole.conclude(notify)
            if conclusion:
                documents.append(_document(conclusion))
                if not json:
                    _print_whole(conclusion)
        else:
            found = run(functools.partial(verify_backup, stored, request, store))
            documents, codes = [_document(found)], _codes(found)
    with result_of(_describe_all(documents)):
        if json:
            display.print_json(documents if latest_of_each or manifest.members else documents[0])
    if codes:
        raise typer.Exit(ExitCode.DAMAGED if ExitCode.DAMAGED in codes else min(codes))


def _run_each(
    run: "Callable[[Callable[[Notify], Verification]], Verification]",
    each: "Sequence[tuple[str, str, Callable[[Notify], Verification]]]",
) -> tuple[list[dict[str, Any]], set[ExitCode]]:
    """Verify each backup. Return a document for each, and the exit codes of all backups that aren't good.

    ``each`` has the cluster, the database, and a function that verifies the backup. A failure is printed, and the others go on.
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
            documents.append(_document(found))
    return documents, codes


def _codes(found: "Verification") -> set[ExitCode]:
    """Return the exit codes that the result asks for."""
    damaged = found.problems or found.replaced
    return ({ExitCode.DAMAGED} if damaged else set()) | ({ExitCode.STORE} if found.unreadable else set())


def _proof_request(
    scratch: str | None, checksums: bool, statements: "Sequence[str]", files: "Sequence[Path]"
) -> "ProofRequest":
    from pipeline.errors import InvalidRequest
    from pipeline.postgres.conninfo import Conninfo
    from pipeline.verify.proof import Assertion, ProofRequest

    assertions = [Assertion(display.one_line(statement), statement) for statement in statements]
    for file in files:
        try:
            assertions.append(Assertion(str(file), file.read_text("utf-8")))
        except (OSError, UnicodeDecodeError) as exc:
            raise InvalidRequest(f"Cannot read {file}: {getattr(exc, 'strerror', None) or 'it is not UTF-8'}.") from exc
    return ProofRequest(None if scratch is None else Conninfo.parse(scratch), checksums, assertions)


def _document(found: "Verification") -> dict[str, Any]:
    manifest, proof = found.manifest, found.proof
    restored = proof and proof.restored
    return {
        "cluster": manifest.cluster,
        "database": manifest.database,
        "backup_id": manifest.backup_id,
        "level": found.level,
        "good": found.good,
        "objects": found.objects,
        "objects_without_checksum": found.without_checksum,
        "files": found.files,
        "read": found.read,
        "restored": proof
        and restored
        and {
            "server_version": restored.server_version,
            "tables": restored.tables,
            "rows": restored.rows,
            "compared": proof.compared,
            "assertions": proof.assertions,
        },
        "problems": found.problems,
        "unreadable": found.unreadable,
        "replaced": found.replaced,
        "attestation": found.attestation,
    }


def _describe_all(documents: "Sequence[dict[str, Any]]") -> str:
    good = ", ".join(f"{one['database']} {one['backup_id']}" for one in documents if one["good"])
    return display.one_line(f"Verified {counted(len(documents), 'backup')}. Good: {good or 'none'}.")


def _print(found: "Verification", seconds: float) -> None:
    for problem in found.problems:
        print_error(problem)
    for sentences in (found.replaced, found.unreadable):
        for sentence in sentences[:_NAMED]:
            print_error(sentence)
        if len(sentences) > _NAMED:
            print_error(f"… and {counted(len(sentences) - _NAMED, 'more object')}: --json names them all.")
    name = display.one_line(f"{found.manifest.cluster}/{found.manifest.database} {found.manifest.backup_id}")
    if found.stored.doubt:
        print(f"{name} is NOT BELIEVED: pgstow list says why, and README.md says what to do.")
        return
    if found.problems and found.proof:
        print(
            f"{name} is NOT PROVEN: {len(found.problems)} {'things are' if len(found.problems) > 1 else 'thing is'} wrong."
        )
        return
    if found.problems:
        print(f"{name} is DAMAGED: {len(found.problems)} of its objects or files are not what they were.")
        return
    if found.replaced:
        print(
            f"{name} is NOT AS IT WAS STORED: {len(found.replaced)} of its objects were overwritten or deleted. The stored versions "
            "still exist: restore takes them, and docs/recovery.md shows how to bring them back."
        )
        return
    if found.unreadable:
        print(f"{name} is NOT PROVEN: {len(found.unreadable)} of its objects could not be read; no damage was found.")
        return
    every = _every(found.objects, "object")
    are, were, have, them = (
        ("is", "was", "has its", "it") if found.objects == 1 else ("are", "were", "have their", "them")
    )
    hashed = f"{every} and {counted(found.files, 'file')} have their SHA-256"
    proof = {
        "objects": f"{every} {are} there, as the store reports {them}; no data was read",
        "bytes": f"{every} {were} read ({display.format_size(found.read)}) and {have} SHA-256",
        "archive": f"{hashed}{_parsed(found.manifest)}",
        "restore": f"{hashed}, and {_describe_restore(found.proof)}",
    }[found.level]
    print(f"{name} is good: {proof} ({display.format_duration(seconds)}).")
    if found.without_checksum:
        print(
            f"For {counted(found.without_checksum, 'object')} the store reports no checksum: only the size is known at this level."
        )


def _every(count: int, noun: str) -> str:
    return f"the one {noun}" if count == 1 else f"all {count:,} {noun}s"


def _parsed(manifest: "Manifest") -> str:
    if manifest.kind == "globals":
        return ""
    if manifest.dump.format in {"plain", "script"}:
        return ", and the script is whole"
    return ", and pg_restore can parse the archive"


def _print_whole(found: "Verification") -> None:
    """Print the result for a cluster's backup. The problems of its members were printed one by one."""
    manifest = found.manifest
    good = "good: all" if found.good else "NOT GOOD: not all"
    name = display.one_line(f"{manifest.cluster}/{manifest.database}")
    are = "is" if len(manifest.members) == 1 else "are"
    print(f"{name} {manifest.backup_id} is {good} of its {counted(len(manifest.members), 'backup')} {are}.")


def _describe_restore(proof: "Proof | None") -> str:
    if proof is None or proof.restored is None:
        return ""
    restored = proof.restored
    words = [
        f"PostgreSQL {restored.server_version} has {_every(restored.rows, 'row')} of {counted(restored.tables, 'table')} restored"
    ]
    if proof.compared is not None:
        words.append(f"the same content in {proof.compared:,} of these tables")
    if proof.assertions:
        words.append(f"what was asserted in {counted(len(proof.assertions), 'place')}")
    return ", ".join(words)
