"""Examines the key that signs backups, and the folder that remembers their chains."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from pipeline.backup.signing import Signing
from pipeline.catalog.keys import BackupRef
from pipeline.check.finding import Finding, Severity, said
from pipeline.errors import InvalidRequest, LocalResourceExhausted, SigningFailed, Untrusted
from pipeline.trust.envelope import verify_envelope
from pipeline.trust.key_files import is_open_to_others
from pipeline.trust.statement import Purpose
from storage_backends import StorageBackend

_TRIAL = b'{"pgstow": "Signed by pgstow check, to test the key. It says nothing about any object."}'


def examine_signing(signing: Signing, purposes: Iterable[Purpose]) -> Iterator[Finding]:
    """Yield findings on the key. It signs a trial, which is stored nowhere. ``purposes`` are the purposes that the key serves."""
    signer = signing.signer
    try:
        verify_envelope(signer.sign(_TRIAL), [signer.public_key])
    except (SigningFailed, Untrusted) as exc:
        reason = said(exc) if isinstance(exc, SigningFailed) else f"{signer.uri} made a signature that isn't valid."
        yield Finding(
            "signing",
            Severity.PROBLEM,
            reason,
            "Check the key, and that these credentials may sign with it (kms:Sign).",
        )
    else:
        yield Finding(
            "signing", Severity.OK, f"{signer.uri} signs. The ID of its public key is {signer.public_key.keyid}."
        )
    file = Path(signer.uri.removeprefix("file:"))
    if signer.uri.startswith("file:") and is_open_to_others(file):
        yield Finding(
            "private key",
            Severity.WARNING,
            f"Other users may use the private key {file}. They could sign backups of their own.",
            f"Let only its owner use it: chmod 0600 {file}",
        )
    lacking = [purpose for purpose in purposes if signing.trust and not signing.trust.has(signer.public_key, purpose)]
    if lacking:
        yield Finding(
            "trusted keys",
            Severity.WARNING,
            f"No trusted key with the purpose {' or '.join(lacking)} is the public key of {signer.uri}. With these trusted keys, "
            "pgstow would ignore what the key signs.",
            "Add the public key to the trusted keys: --trusted-key, or keys of [trust] in pgstow.toml.",
        )


def examine_states(signing: Signing, store: StorageBackend, ref: BackupRef) -> Iterator[Finding]:
    """Yield a problem if the folder of the state files can't be used, or if the state file of the backup's chain isn't valid.

    Creates no file, since the check may run as another user than the backups.
    """
    try:
        signing.state_of(store, ref).read()
    except (InvalidRequest, LocalResourceExhausted) as exc:
        yield Finding("state folder", Severity.PROBLEM, said(exc))
        return
    folder = signing.states.absolute()
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        yield Finding(
            "state folder",
            Severity.PROBLEM,
            f"{folder}, which remembers the chains of signed backups, can't be written.",
            "Name a writable folder by --state-dir, or by state_dir in pgstow.toml.",
        )
