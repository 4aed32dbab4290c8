"""Verify a cluster's backup, by verifying each of the backups that its record names."""

from datetime import UTC, datetime

from pipeline.catalog.find import StoredManifest
from pipeline.catalog.manifest import Member
from pipeline.catalog.members import read_member
from pipeline.errors import BackupDamaged
from pipeline.events import Notify
from pipeline.verify.backup import Verification, VerifyRequest, attest, doubts, verify
from storage_backends import StorageBackend


class ClusterVerification:
    """Verifies the members one by one, and says what that means for the whole."""

    def __init__(self, record: StoredManifest, request: VerifyRequest, store: StorageBackend) -> None:
        self._record, self._request, self._store = record.manifest, request, store
        self._found = Verification(record, request.level, problems=doubts(record))
        self._started_at = datetime.now(UTC)
        self._untried = False

    def verify(self, member: Member, notify: Notify) -> Verification:
        """Verify one member. Raises what :func:`verify` raises, and BackupDamaged if the member isn't the recorded one."""
        try:
            outcome = verify(read_member(self._store, self._record, member), self._request, self._store, notify)
        except Exception as exc:
            self._take(member.database, exc)
            raise
        self._take(member.database, outcome)
        return outcome

    def _take(self, database: str, outcome: Verification | Exception) -> None:
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

    def conclude(self, notify: Notify) -> Verification | None:
        """Return what was found of all members, and attest it if that is wanted. Raises StorageError.

        Return None if a member could not be tried: that says nothing about the member, nor about the whole.
        """
        if self._untried:
            return None
        self._found.attestation = attest(self._request, self._found, self._started_at, self._store, notify)
        return self._found
