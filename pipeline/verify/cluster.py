"""Verifies a cluster's backup by verifying each backup that the cluster manifest names."""

from datetime import UTC, datetime

from pipeline.catalog.manifest import Member
from pipeline.catalog.members import read_member
from pipeline.catalog.reader import StoredManifest
from pipeline.errors import BackupDamaged
from pipeline.events import Notify
from pipeline.verify.backup import attest, doubts, verify
from pipeline.verify.request import Verification, VerifyRequest
from storage_backends import StorageBackend


class ClusterVerification:
    """Verifies a cluster's members one by one, and combines the results into one verification of the cluster."""

    def __init__(self, cluster_manifest: StoredManifest, request: VerifyRequest, store: StorageBackend) -> None:
        self._cluster_manifest, self._request, self._store = cluster_manifest.manifest, request, store
        self._found = Verification(cluster_manifest, request.level, problems=doubts(cluster_manifest))
        self._started_at = datetime.now(UTC)
        self._untried = {member.database for member in cluster_manifest.manifest.members}

    def verify(self, member: Member, notify: Notify) -> Verification:
        """Verify one member, and return the result. Raises as :func:`verify` and :func:`read_member` do."""
        try:
            outcome = verify(
                read_member(self._store, self._cluster_manifest, member), self._request, self._store, notify
            )
        except Exception as exc:
            self._take(member.database, exc)
            raise
        self._take(member.database, outcome)
        return outcome

    def _take(self, database: str, outcome: Verification | Exception) -> None:
        found = self._found
        match outcome:
            case Verification():
                self._untried.discard(database)
                found.objects += outcome.objects
                found.files += outcome.files
                found.read += outcome.read
                found.without_checksum += outcome.without_checksum
                found.problems += [f"{database}: {problem}" for problem in outcome.problems]
                found.unreadable += [f"{database}: {sentence}" for sentence in outcome.unreadable]
                found.replaced += [f"{database}: {sentence}" for sentence in outcome.replaced]
            case BackupDamaged():
                self._untried.discard(database)
                found.problems.append(f"{database}: {outcome}")
            case _:
                pass  # the member wasn't verified: this error is no evidence against it

    def conclude(self, notify: Notify) -> Verification | None:
        """Return the combined result of all members, and put an attestation into the store if the request asks for one. Raises StorageError.

        Return None if a member was not verified, or could not be verified here: this is no evidence against the member or the cluster.
        """
        if self._untried:
            return None
        self._found.attestation = attest(self._request, self._found, self._started_at, self._store, notify)
        return self._found


def verify_cluster(
    cluster_manifest: StoredManifest, request: VerifyRequest, store: StorageBackend, notify: Notify
) -> Verification:
    """Verify every member, even if a member fails, and return the combined result.

    If a member could not be verified here, raise its error. Also raises StorageError.
    """
    whole, failures = ClusterVerification(cluster_manifest, request, store), list[Exception]()
    for member in cluster_manifest.manifest.members:
        try:
            whole.verify(member, notify)
        except Exception as exc:
            failures.append(exc)
    if (found := whole.conclude(notify)) is None:
        raise next(failure for failure in failures if not isinstance(failure, BackupDamaged))
    return found
