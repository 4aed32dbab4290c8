"""Runs pg_restore, which restores an archive into a database or writes it as a script, and reads its messages."""

import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from subprocess import DEVNULL
from typing import Self

from pipeline.catalog.origin import Format
from pipeline.counting import counted
from pipeline.errors import RefusedStatement, RestoreFailed, ServerUnavailable
from pipeline.postgres.diagnosis import lacks_session
from pipeline.postgres.programs import Program
from pipeline.postgres.restore_options import RestoreOptions
from pipeline.postgres.toc import Toc
from pipeline.postgres.use_list import format_list
from pipeline.postgres.workspace import Workspace, describe_failure, run

_IGNORED = re.compile(r"^pg_restore: warning: errors ignored on restore: \d+$")
"""pg_restore's last message if it went on after errors (pg_restore.c)."""
_BEGINNINGS = ("error: ", "warning: ", "while ", "from TOC entry ", "detail: ", "hint: ")
"""The beginnings of pg_restore's messages (pg_log_generic_v() in logging.c)."""
_REFUSED = re.compile(
    r'error: (?P<message>(?:COPY failed for table "(?P<relation>.*?)": )?[^\n]*)(?:.*?^Command was: (?P<statement>.*))?',
    re.DOTALL | re.MULTILINE,
)
_LONGEST = 200  # characters of an error's command that are shown


@dataclass(frozen=True, slots=True)
class IgnoredError:
    """An error after which pg_restore went on."""

    message: str
    command: str | None = None
    """The first line of the SQL that failed; None if pg_restore doesn't show the SQL."""
    hint: str = ""
    """The server's hint; empty if there is none."""

    def __str__(self) -> str:
        words = f"{self.message} Hint: {self.hint}" if self.hint else self.message
        command = textwrap.shorten(self.command or "", _LONGEST, placeholder=" …")
        return f"{words} Command was: {command}" if command else words


class PgRestore:
    """A running pg_restore of an archive in the format ``format_``, either into a database or into a script.

    ``dump_ids`` names the entries to restore, in the order of the restore; None for all entries.
    """

    def __init__(
        self,
        program: Program,
        workspace: Workspace,
        archive: Path,
        format_: Format,
        *,
        dump_ids: Sequence[int] | None,
        options: RestoreOptions,
        into: Sequence[str],
        unset: Sequence[str] | None = None,
        stdout: int = DEVNULL,
        inherit: Sequence[int] = (),
    ) -> None:
        arguments = [f"--format={format_}", *into, *options.arguments()]
        if dump_ids is not None:
            arguments.append(f"--use-list={workspace.write_private('list', format_list(dump_ids))}")
        self._keep_going = options.keep_going
        self._running = workspace.start(
            program, [*arguments, str(archive)], unset=unset, stdout=stdout, inherit=inherit
        )

    @classmethod
    def into_database(
        cls,
        program: Program,
        connection: str,
        workspace: Workspace,
        archive: Path,
        format_: Format,
        *,
        jobs: int = 1,
        dump_ids: Sequence[int] | None,
        options: RestoreOptions,
        unset: Sequence[str],
        inherit: Sequence[int] = (),
    ) -> Self:
        """Return a running pg_restore into a database. It never asks for a password.

        ``connection`` and ``unset`` are :meth:`Conninfo.for_program` and :attr:`Conninfo.overrides`. With several jobs, it holds ``jobs`` + 1
        connections, otherwise one.
        """
        into = ["--no-password", *([f"--jobs={jobs}"] if jobs > 1 else []), f"--dbname={connection}"]
        return cls(
            program,
            workspace,
            archive,
            format_,
            dump_ids=dump_ids,
            options=options,
            into=into,
            unset=unset,
            inherit=inherit,
        )

    @classmethod
    def into_script(
        cls,
        program: Program,
        workspace: Workspace,
        archive: Path,
        format_: Format,
        output: int,
        *,
        create: bool,
        dump_ids: Sequence[int] | None,
        options: RestoreOptions,
        inherit: Sequence[int] = (),
    ) -> Self:
        """Return a running pg_restore that writes a script to the file descriptor ``output``.

        With ``create``, the script makes the database.
        """
        into = ["--file=-", *(["--create"] if create else [])]
        return cls(
            program,
            workspace,
            archive,
            format_,
            dump_ids=dump_ids,
            options=options,
            into=into,
            stdout=output,
            inherit=inherit,
        )

    def has_ended(self) -> bool:
        """True if pg_restore has done all its work; False while it runs.

        Raises RestoreFailed with pg_restore's message if it failed, or ServerUnavailable if the server has no free session for it.
        """
        status = self._running.poll()
        if status and not (self._keep_going and status == 1 and self._went_on()):
            messages = self._running.messages()
            reason = describe_failure("pg_restore", status, messages)
            raise (
                ServerUnavailable(reason) if lacks_session(messages) else RestoreFailed(reason, find_refused(messages))
            )
        return status is not None

    def wait(self) -> None:
        """Wait for the end of pg_restore. Raises RestoreFailed as :meth:`has_ended` does."""
        self._running.wait()
        self.has_ended()

    def ignored_errors(self) -> list[IgnoredError]:
        """Return the errors after which pg_restore went on. Raises RestoreFailed if pgstow can't tell them apart."""
        if not self._went_on():
            return []
        found = parse_errors(self._running.messages())
        if not found:
            raise RestoreFailed("pg_restore went on after errors, but pgstow can't find them in its messages.")
        return found

    def _went_on(self) -> bool:
        """True if pg_restore did all its work in spite of errors. Its last message says so. The number in it is wrong with several jobs."""
        return bool(_IGNORED.match(self._running.messages().rpartition("\n")[2]))

    def stop(self) -> None:
        """End pg_restore and its sessions on the server."""
        self._running.stop()


def find_refused(messages: str) -> RefusedStatement | None:
    """Return the first statement or rows that the server refused, from pg_restore's messages; None if the server refused nothing.

    pg_restore names the entry only with ``--verbose``, which prints much more. So the result doesn't name it.
    """
    for block in re.split("^pg_restore: ", messages, flags=re.MULTILINE)[1:]:
        if (match := _REFUSED.match(block)) and (match["relation"] or match["statement"]):
            statement = (match["statement"] or "").strip().removesuffix("...")  # pg_restore shows its first 1,020 bytes
            return RefusedStatement(match["message"], statement, match["relation"] or "")
    return None


def parse_errors(messages: str) -> list[IgnoredError]:
    """Return the errors in pg_restore's messages on its standard error.

    pg_restore needs three writes for a message, so messages of several jobs may mix, and one error may hide another.
    Raises RestoreFailed if several jobs wrote at once.
    """
    found = []
    for block in re.split("^pg_restore: ", messages, flags=re.MULTILINE)[1:]:
        line = block.partition("\n")[0]
        if not line.startswith(_BEGINNINGS) or "pg_restore: " in line:
            raise RestoreFailed(
                f"Several jobs of pg_restore wrote at once, so their errors can't be told apart ({line}): use --jobs 1."
            )
        if line.startswith("error: "):
            command = re.search("^Command was: (.*)$", block, re.MULTILINE)
            hint = re.search("^HINT:  (.*)$", block[: command.start()] if command else block, re.MULTILINE)
            message = " ".join(line.removeprefix("error: ").split())
            found.append(IgnoredError(message, command and command[1], hint[1] if hint else ""))
    return found


def list_entries(program: Program, archive: Path, format_: Format) -> str:
    """Return the output of ``pg_restore --list`` for an archive. The archive may be cut off after its table of contents.

    Raises RestoreFailed if pg_restore fails.
    """
    listed = run(program, ["--list", f"--format={format_}", str(archive)])
    if listed.returncode:
        raise RestoreFailed(describe_failure("pg_restore", listed.returncode, listed.stderr.decode("utf-8", "replace")))
    return listed.stdout.decode("utf-8", "replace")


def check_toc(program: Program, folder: Path, toc: Toc) -> None:
    """Have pg_restore parse the table of contents in ``folder``. Raises RestoreFailed unless it finds all data entries of ``toc``."""
    lines = list_entries(program, folder, "directory").split(
        "\n"
    )  # splitlines() would also split at characters in names
    found = {int(line.split(";")[0]) for line in lines if line[:1].isdigit() and ";" in line}
    data = {entry.dump_id for entry in toc.data_entries}
    if not data <= found:
        raise RestoreFailed(
            f"pg_restore --list shows {len(data & found)} of the archive's {counted(len(data), 'data entry', 'data entries')}."
        )
