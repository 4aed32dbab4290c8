"""Runs pg_dumpall, which writes one script: either roles and tablespaces, or a whole server."""

from collections.abc import Sequence
from contextlib import closing

from pipeline.archive.dump_context import DumpContext
from pipeline.archive.single_file import pass_on
from pipeline.catalog.manifest import TableData
from pipeline.events import Notice, Notify
from pipeline.postgres.dump import StreamDump
from pipeline.postgres.script import ScriptReader
from pipeline.postgres.server import Server
from pipeline.stages.stream_validator import StreamValidator


def dump_all(name: str, arguments: Sequence[str], context: DumpContext, *, role_passwords: bool) -> list[TableData]:
    """Run pg_dumpall with the arguments, and move its script into the writer as the file ``name``. Return the tables whose rows passed.

    Without ``role_passwords``, the script has no password hashes. Raises DumpFailed, ConnectionFailed, LocalResourceExhausted or
    StorageError.
    """
    call = context.call
    passwords = [] if role_passwords else ["--no-role-passwords"]
    stream = StreamDump(call, [f"--database={call.server.name}", *arguments, *passwords])
    with closing(stream), StreamValidator(ScriptReader(context.seal, of_cluster=True), call.workspace) as validator:
        return pass_on(stream, name, validator, context, expected=0)


def decide_passwords(server: Server, notify: Notify, *, wanted: bool) -> bool:
    """True if password hashes are ``wanted`` and the session's role may read them. If it may not, notify. Raises ConnectionFailed."""
    if wanted and not server.may_read_passwords():
        notify(Notice("Roles are backed up without their passwords, because this role may not read them."))
        return False
    return wanted
