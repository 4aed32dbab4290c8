"""The result of a verification, in words and in JSON."""

from typing import TYPE_CHECKING, Any

from cli import display
from cli.errors import print_error
from pipeline.counting import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.catalog.manifest import Manifest
    from pipeline.verify.proof import Proof
    from pipeline.verify.request import Verification

_NAMED = 20  # the most objects to name on standard error


def as_document(found: "Verification") -> dict[str, Any]:
    """Return the result in JSON's types."""
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


def describe_all(documents: "Sequence[dict[str, Any]]") -> str:
    """Return a sentence that names the good backups in the results of :func:`as_document`."""
    good = ", ".join(f"{one['database']} {one['backup_id']}" for one in documents if one["good"])
    return display.one_line(f"Verified {counted(len(documents), 'backup')}. Good: {good or 'none'}.")


def print_result(found: "Verification", seconds: float) -> None:
    """Print the problems on standard error, and the verdict on standard output. The verification took ``seconds``."""
    for problem in found.problems:
        print_error(problem)
    for sentences in (found.replaced, found.unreadable):
        for sentence in sentences[:_NAMED]:
            print_error(sentence)
        if len(sentences) > _NAMED:
            print_error(f"… and {counted(len(sentences) - _NAMED, 'more object')}: --json names them all.")
    name = display.one_line(f"{found.manifest.cluster}/{found.manifest.database} {found.manifest.backup_id}")
    if found.stored.doubt:
        print(f"{name} is NOT BELIEVED: pgstow list says why, and docs/retention.md says what to do.")
        return
    if found.problems and found.proof:
        print(
            f"{name} is NOT PROVEN: {counted(len(found.problems), 'problem')} {'was' if len(found.problems) == 1 else 'were'} found."
        )
        return
    if found.problems:
        print(f"{name} is DAMAGED: {len(found.problems)} of its objects or files differ from what was stored.")
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
    hashed = f"{every} and {counted(found.files, 'file')} have the SHA-256 in the manifest"
    proof = {
        "objects": f"{every} {are} there, as the store reports {them}; no data was read",
        "bytes": f"{every} {were} read ({display.format_size(found.read)}) and {have} SHA-256",
        "archive": f"{hashed}{_parsed(found.manifest)}",
        "restore": f"{hashed}, and {_describe_restore(found.proof)}",
    }[found.level]
    print(f"{name} is good: {proof} ({display.format_duration(seconds)}).")
    if found.without_checksum:
        print(
            f"The store reports no checksum for {counted(found.without_checksum, 'object')}: this level checked only the size."
        )


def _every(count: int, noun: str) -> str:
    return f"the one {noun}" if count == 1 else f"all {count:,} {noun}s"


def _parsed(manifest: "Manifest") -> str:
    if manifest.kind == "globals":
        return ""
    if manifest.dump.format in {"plain", "script"}:
        return ", and the script is complete"
    return ", and pg_restore can parse the archive"


def print_cluster_result(found: "Verification") -> None:
    """Print the result for the backup of a cluster. The problems of its members are already printed."""
    manifest = found.manifest
    good = "good: all" if found.good else "NOT GOOD: not all"
    name = display.one_line(f"{manifest.cluster}/{manifest.database}")
    print(f"{name} {manifest.backup_id} is {good} of its backups ({len(manifest.members)}) are good.")


def _describe_restore(proof: "Proof | None") -> str:
    if proof is None or proof.restored is None:
        return ""
    restored = proof.restored
    words = [
        f"PostgreSQL {restored.server_version} restored {_every(restored.rows, 'row')} of {counted(restored.tables, 'table')}"
    ]
    if proof.compared is not None:
        words.append(f"with the same content in {proof.compared:,} of these tables")
    if proof.assertions:
        words.append(
            f"{counted(len(proof.assertions), 'assertion')} {'holds' if len(proof.assertions) == 1 else 'hold'}"
        )
    return ", ".join(words)
