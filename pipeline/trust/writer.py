"""The end of a writer's own chain: which statement comes next, and the file that remembers the last ones.

A chain belongs to one store, one database and one writer. A machine that can't read the store continues its chains from its state files.
"""

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from pipeline.errors import InvalidRequest, LocalResourceExhausted
from pipeline.trust.statement import Link, Reference
from storage_backends.durable import make_directory, sync_directory, write_file

_LONGEST_STATE = 64 * 1024  # bytes
_MOST_INTERRUPTED = 100
"""The most statements that the next statement names as perhaps committed, so that an envelope stays small."""


@dataclass(frozen=True, slots=True)
class ChainName:
    """The names that identify a chain."""

    store: str
    """The store's URL, without options and credentials."""
    cluster: str
    database: str
    writer: str


class ChainEnd(BaseModel):
    """What a writer remembers of the end of its chain."""

    model_config = ConfigDict(frozen=True, strict=True)

    state_version: Literal["1.0"] = "1.0"
    store: str
    cluster: str
    database: str
    writer: str
    committed: Reference | None = None
    """The last statement whose backup was committed."""
    interrupted: list[Reference] = []
    """Later statements, of which the writer doesn't know if their backups were committed."""


def next_link(writer: str, end: ChainEnd, stored: Reference | None, *, readable: bool) -> Link:
    """Return the place of the writer's next statement in its chain.

    ``end`` is what the writer remembers, and ``stored`` the last statement that the store has. The later of both is the predecessor: the
    state file may be old, and somebody may have removed the newest backup from the store. ``readable`` is false if the store could not
    be asked.
    """
    last = max(filter(None, (end.committed, stored)), key=lambda one: one.sequence, default=None)
    interrupted = [one for one in end.interrupted if last is None or one.sequence > last.sequence]
    sequence = max((one.sequence for one in (last, *interrupted) if one), default=0) + 1
    return Link(
        writer=writer,
        sequence=sequence,
        predecessor=last,
        interrupted=interrupted[-_MOST_INTERRUPTED:],
        anew=last is None and not readable,
    )


@dataclass(frozen=True, slots=True)
class StateFile:
    """The file in which a writer remembers the end of one chain."""

    folder: Path
    chain: ChainName

    @property
    def path(self) -> Path:
        """The file. Its name is a digest, since the chain's names may be longer than a file's name."""
        names = (self.chain.store, self.chain.cluster, self.chain.database, self.chain.writer)
        return self.folder / f"chain-{hashlib.sha256(repr(names).encode()).hexdigest()}.json"

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other runs on this machine from continuing the chain during the block. Raises LocalResourceExhausted."""
        with _reported(self.folder):
            make_directory(self.folder)
            fd = os.open(self.path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def read(self) -> ChainEnd:
        """Return what the file says; an end without statements if there is no file. Raises InvalidRequest if the file isn't valid."""
        try:
            with _reported(self.path), self.path.open("rb") as file:
                data = file.read(_LONGEST_STATE + 1)
        except FileNotFoundError:
            return self._end(None, [])
        try:
            end = ChainEnd.model_validate_json(data)
        except ValidationError as exc:
            raise self._invalid() from exc
        if len(data) > _LONGEST_STATE or end != self._end(end.committed, end.interrupted):
            raise self._invalid()
        return end

    def attempted(self, link: Link, statement: Reference) -> None:
        """Remember a statement and what it cites, before its backup is committed. Raises LocalResourceExhausted."""
        self._write(link.predecessor, [*link.interrupted, statement][-_MOST_INTERRUPTED:])

    def committed(self, statement: Reference) -> None:
        """Remember the statement of a backup that was committed. Raises LocalResourceExhausted."""
        self._write(statement, [])

    def _write(self, committed: Reference | None, interrupted: list[Reference]) -> None:
        end, new = self._end(committed, interrupted), self.path.with_suffix(".new")
        with _reported(self.path):
            new.unlink(missing_ok=True)
            write_file(new, end.model_dump_json().encode())
            new.rename(self.path)
            sync_directory(self.folder)

    def _end(self, committed: Reference | None, interrupted: list[Reference]) -> ChainEnd:
        return ChainEnd(**asdict(self.chain), committed=committed, interrupted=interrupted)

    def _invalid(self) -> InvalidRequest:
        return InvalidRequest(
            f"The state file {self.path} of the chain of {self.chain.database} is damaged. Remove it: the next backup then "
            "continues the chain from the store, or begins a new one."
        )


@contextmanager
def _reported(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as exc:
        raise LocalResourceExhausted(
            f"{path}, which remembers a chain of signed backups, can't be used: {exc.strerror}."
        ) from exc
