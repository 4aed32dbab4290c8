"""Statements: what a key signs about an object of the store. The format is `in-toto's`_, version 1.

A statement names one object, its subject, by the object's key and SHA-256. The predicate says more, by the statement's purpose. For a
backup, the predicate is the backup's place in the chain of its writer.

.. _in-toto's: https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md
"""

import hashlib
import json
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.errors import Untrusted

LONGEST_ENVELOPE = 256 * 1024
"""The most bytes of an envelope. Usual envelopes have about a thousand bytes."""

LONGEST_WRITER = 255
"""The most characters of a writer's name, so that envelopes and state files stay below their bounds."""

_Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Purpose(StrEnum):
    """What a key may be trusted for. Each purpose has a type of predicate."""

    BACKUP = "backup"
    """To commit backups."""
    VERIFY = "verify"
    """To attest verifications."""
    PRUNE = "prune"
    """To remove backups."""

    @property
    def predicate_type(self) -> str:
        """The URI of the type, with its version. A statement for one purpose is never taken for a statement for another purpose."""
        return f"pgstow:{self}/v1"


class _Part(BaseModel):
    """A part of a statement. Fields that this pgstow doesn't know are ignored."""

    model_config = ConfigDict(frozen=True, populate_by_name=True, serialize_by_alias=True)


class Predicate(_Part):
    """What a statement says about its subject."""

    purpose: ClassVar[Purpose]
    """What a key must be trusted for, so that pgstow believes the statement."""


P = TypeVar("P", bound=Predicate)


class Reference(_Part):
    """An earlier statement of the same chain."""

    backup_id: str
    sequence: int = Field(ge=1)
    sha256: _Sha256 = Field(description="SHA-256 of the statement's bytes, which are the payload of its envelope")


class Link(Predicate):
    """The place of a backup in its chain: the predicate of a backup's statement."""

    purpose = Purpose.BACKUP
    writer: str = Field(
        min_length=1, description="The name of the machine or job that backs up. Each writer has its own chain"
    )
    sequence: int = Field(ge=1, description="The number of the statement in the chain, from 1")
    predecessor: Reference | None = Field(description="The last committed backup; null if the chain begins here")
    interrupted: list[Reference] = Field(
        default=[],
        description="Statements after the predecessor; the writer doesn't know if their backups were committed",
    )
    anew: bool = Field(
        default=False,
        description="True if the chain begins here because the writer could not find out about earlier backups",
    )


class Verification(Predicate):
    """The predicate of an attestation's statement. The attestation itself has the results."""

    purpose = Purpose.VERIFY


class Removal(Predicate):
    """The predicate of a tombstone: the statement that a backup was removed. Its subject is the removed manifest."""

    purpose = Purpose.PRUNE
    statement_sha256: _Sha256 | None = Field(
        description="SHA-256 of the removed backup's statement; null if it was not signed"
    )
    link: Link | None = Field(description="The removed backup's place in its chain; null if it was not signed")


class Digest(_Part):
    """The digest of a subject."""

    sha256: _Sha256


class Subject(_Part):
    """The object that a statement is about."""

    name: str = Field(description="The object's key")
    digest: Digest


class Statement(_Part):
    """A statement about one object."""

    statement_type: Literal["https://in-toto.io/Statement/v1"] = Field(
        default="https://in-toto.io/Statement/v1", alias="_type"
    )
    subject: list[Subject] = Field(min_length=1, max_length=1)
    predicate_type: str = Field(alias="predicateType")
    predicate: dict[str, Any]

    def says(self, kind: type[P]) -> P:
        """Return the predicate. Raises Untrusted if it is of another kind, or isn't valid."""
        if self.predicate_type != kind.purpose.predicate_type:
            raise Untrusted(
                "untrusted",
                f"its signature is of the type {self.predicate_type[:100]}, not {kind.purpose.predicate_type}",
            )
        try:
            return kind.model_validate(self.predicate)
        except ValidationError as exc:
            raise Untrusted("untrusted", "its signature has a predicate that is not valid") from exc


def make_statement(key: str, sha256: str, predicate: Predicate) -> bytes:
    """Return the bytes of a statement about the object with this key and SHA-256."""
    statement = Statement(
        subject=[Subject(name=key, digest=Digest(sha256=sha256))],
        predicateType=predicate.purpose.predicate_type,
        predicate=predicate.model_dump(mode="json"),
    )
    return json.dumps(statement.model_dump(mode="json"), sort_keys=True, separators=(",", ":")).encode()


def parse_statement(payload: bytes) -> Statement:
    """Return the statement. Raises Untrusted if the bytes are no statement about one object."""
    try:
        return Statement.model_validate_json(payload)
    except ValidationError as exc:
        raise Untrusted("untrusted", "its signature is not a statement about one object") from exc


def digest_of(payload: bytes) -> str:
    """Return the SHA-256, in hexadecimal, by which later statements name the statement."""
    return hashlib.sha256(payload).hexdigest()
