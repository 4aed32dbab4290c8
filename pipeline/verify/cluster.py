"""Verify a cluster's backup, by verifying each of the backups that its record names."""

from datetime import UTC, datetime

from pipeline.catalog.find import StoredManifest
from pipeline.errors import BackupDamaged
from pipeline.events import Notify
from pipeline.verify.backup import Verification, VerifyRequest, attest, doubts
from storage_backends import StorageBackend


class ClusterVerification:
    """What verifying the members, one by one, says of the whole."""

    def __init__(self, record: StoredManifest, request: VerifyRequest) -> None:
        self._request = request
        self._found = Verification(record, request.level, problems=doubts(record))
        self._started_at = datetime.now(UTC)
        self._untried = False

    def take(self, database: str, outcome: Verification | Exception) -> None:
        """What was found of a member, or why it wasn't verified."""
        found = self._found
        match outcome:
            case Verification():
                found.objects += outcome.objects
                found.files += outcome.files
                found.read += outcome.read
                found.without_checksum += outcome.without_checksum
                found.problems += [f"{database}: {problem}" for problem in outcome.problems]
                found.unreadable += [f"{database}: {sentence}" for sentence in outcome.unreadable]
                found.replaced += [f"{database}: {sentence}" for sentence in outcome.replaced]
            case BackupDamaged():
                found.problems.append(f"{database}: {outcome}")
            case _:
                self._untried = True

    def conclude(self, store: StorageBackend, notify: Notify) -> Verification | None:
        """What was found of all, which is attested if that is wanted.

        None where a member could not be tried, which says nothing about it nor about the whole. Raises StorageError.
        """
        if self._untried:
            return None
        self._found.attestation = attest(self._request, self._found, self._started_at, store, notify)
        return self._found
