"""A temporary database on a server of the user's."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.errors import ConnectionFailed, DatabaseLeft
from pipeline.events import Notice, Notify
from pipeline.postgres.conninfo import Conninfo
from pipeline.postgres.maintenance import drop_database, maintenance_database


@contextmanager
def scratch_database(server: Conninfo, purpose: str, notify: Notify) -> Iterator[Conninfo]:
    """Yield a connection string with the name of a new database, ``pgstow_<purpose>_…``. The caller makes the database.

    The end of the block drops the database. Raises ConnectionFailed, or DatabaseLeft if the database can't be dropped. If the block itself
    fails and the database can't be dropped either, the block's error is raised, and a notice names the database.
    """
    name = f"pgstow_{purpose}_{secrets.token_hex(6)}"
    maintenance = maintenance_database(server)
    try:
        yield server.with_database(name).maintained_in(maintenance.database)
    except BaseException:
        try:
            _drop(maintenance, name)
        except DatabaseLeft as exc:
            notify(Notice(str(exc)))
        raise
    _drop(maintenance, name)


def _drop(maintenance: Conninfo, name: str) -> None:
    try:
        drop_database(maintenance, name)
    except ConnectionFailed as exc:
        raise DatabaseLeft(f"The database {name} could not be dropped; drop it by hand. {exc}") from exc
