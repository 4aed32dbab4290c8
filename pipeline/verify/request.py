"""The request for a verification, and its result."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.catalog.attestation import Level
from pipeline.catalog.manifest import Manifest
from pipeline.catalog.reader import StoredManifest
from pipeline.config import Limits
from pipeline.verify.proof import Proof, ProofRequest

if TYPE_CHECKING:
    from pipeline.trust.envelope import Signer


@dataclass(frozen=True, slots=True)
class VerifyRequest:
    """How to verify a backup."""

    level: Level = Level.BYTES
    limits: Limits = field(default_factory=Limits)
    programs: Sequence[Path] = ()
    """Folders in which to look for PostgreSQL's programs; empty for the usual folders."""
    proof: ProofRequest = field(default_factory=ProofRequest)
    """How to restore the backup at level restore."""
    attest: bool | None = None
    """True to put an attestation into the store, False to put no attestation. None puts an attestation only at level restore."""
    signer: "Signer | None" = None
    """The key that signs the attestation; None for no signature."""


@dataclass(slots=True)
class Verification:
    """The result of a verification."""

    stored: StoredManifest
    level: Level
    """The level that was verified. For a script of globals or of a cluster, the highest level is archive."""
    objects: int = 0
    """The number of objects that were examined."""
    files: int = 0
    """The number of the archive's files that were examined."""
    read: int = 0
    """Bytes read from the store."""
    without_checksum: int = 0
    """The number of objects for which the store reports no checksum. Only their existence and size were checked."""
    problems: list[str] = field(default_factory=list)
    """One sentence for each problem."""
    unreadable: list[str] = field(default_factory=list)
    """One sentence for each object that the store failed to give, although it gave other objects."""
    replaced: list[str] = field(default_factory=list)
    """One sentence for each overwritten or deleted object whose original version the store still has, undamaged."""
    proof: Proof | None = None
    """The result of the restore; None below level restore."""
    attestation: str | None = None
    """The key of the attestation in the store; None if no attestation was put."""

    @property
    def manifest(self) -> Manifest:
        """The backup's manifest."""
        return self.stored.manifest

    @property
    def good(self) -> bool:
        """True if there is no problem, and everything that ``level`` requires could be read as it was stored."""
        return not (self.problems or self.unreadable or self.replaced)
