"""A database on somebody's server for as long as it is of use."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.errors import ConnectionFailed
from pipeline.events import Notice, Notify
from pipeline.postgres.conninfo import Conninfo
from pipeline.postgres.server import Server


@contextmanager
def scratch_database(server: Conninfo, purpose: str, notify: Notify) -> Iterator[Conninfo]:
    """A name for a new database, ``pgstow_<purpose>_…``, where no database will have it in the end."""
    name = f"pgstow_{purpose}_{secrets.token_hex(6)}"
    try:
        yield server.with_database(name)
    finally:
        try:
            with Server(server.with_database("postgres")) as maintenance:
                maintenance.drop_database(name)
        except ConnectionFailed as exc:
            notify(Notice(f"The database {name} could not be dropped. {exc}"))
