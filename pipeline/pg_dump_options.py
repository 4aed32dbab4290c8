"""The options of pg_dump that pgstow passes on, and the options that it refuses. docs/pg_dump-options.md lists them all.

For the other options of pg_dump, such as ``--table`` and ``--jobs``, pgstow has its own options.
"""

from dataclasses import dataclass

from pipeline.errors import InvalidRequest

PATTERN = "PATTERN"


@dataclass(frozen=True, slots=True)
class DumpOption:
    """An option of pg_dump that pgstow supports."""

    name: str
    """The long name: ``--extension``."""
    help: str
    short: str | None = None
    """The short name: ``-e``; None if there is none."""
    metavar: str | None = None
    """A word for the option's value; None for a flag. An option that takes a pattern may be given several times."""
    also: str | None = None
    """The long name in older versions of pg_dump; None if the name never changed."""
    leaves_out: bool = True
    """True if the option may leave something out of the dump, so that the backup is partial."""
    since: int = 0
    """The major version of the first pg_dump that has the option; 0 if every pg_dump that pgstow supports has it."""
    in_pg_dumpall: bool = True
    """True if pg_dumpall has the option, too."""
    plain_only: bool = False
    """True if the option has an effect only on a script. For an archive, pg_restore has an option to the same effect."""
    passed: str | None = ""
    """A spelling that every version of pg_dump takes; empty if ``name`` is one. None if pgstow itself does what the option says."""

    @property
    def repeatable(self) -> bool:
        """True if the option may be given several times."""
        return self.metavar in (PATTERN, "FILE")


@dataclass(frozen=True, slots=True)
class GivenOption:
    """An option with its value."""

    option: DumpOption
    value: str | None = None
    """None for a flag."""

    def __str__(self) -> str:
        """Return the option in pg_dump's spelling, as the manifest records it."""
        return self._spelled(self.option.name)

    def arguments(self) -> list[str]:
        """Return the option for pg_dump's command line; empty if pgstow itself does what the option says."""
        return [] if self.option.passed is None else [self._spelled(self.option.passed or self.option.name)]

    def _spelled(self, name: str) -> str:
        return name if self.value is None else f"{name}={self.value}"


SUPPORTED = (
    DumpOption(
        "--table-and-children",
        "Like --table, with partitions and children",
        metavar=PATTERN,
        since=16,
        in_pg_dumpall=False,
    ),
    DumpOption(
        "--exclude-table-and-children",
        "Like --exclude-table, with partitions and children",
        metavar=PATTERN,
        since=16,
        in_pg_dumpall=False,
    ),
    DumpOption(
        "--exclude-table-data-and-children",
        "Like --exclude-table-data, with partitions and children",
        metavar=PATTERN,
        since=16,
        in_pg_dumpall=False,
    ),
    DumpOption("--extension", "Only these extensions", "-e", PATTERN, since=14, in_pg_dumpall=False),
    DumpOption("--exclude-extension", "All but these extensions", metavar=PATTERN, since=17, in_pg_dumpall=False),
    DumpOption(
        "--filter", "A file with pg_dump's filters, one filter on each line", metavar="FILE", in_pg_dumpall=False
    ),
    DumpOption(
        "--large-objects",
        "Large objects, even if only some tables or schemas are dumped",
        "-b",
        also="--blobs",
        leaves_out=False,
        in_pg_dumpall=False,
        passed="-b",  # --blobs until 15
    ),
    DumpOption("--no-large-objects", "No large objects", "-B", also="--no-blobs", in_pg_dumpall=False, passed="-B"),
    DumpOption("--no-unlogged-table-data", "No rows of unlogged tables"),
    DumpOption("--no-privileges", "No privileges (GRANT, REVOKE)", "-x"),
    DumpOption("--no-owner", "No owners; needs --format plain", "-O", plain_only=True),
    DumpOption("--no-comments", "No comments"),
    DumpOption("--no-publications", "No publications"),
    DumpOption("--no-subscriptions", "No subscriptions"),
    DumpOption("--no-security-labels", "No security labels"),
    DumpOption("--no-policies", "No policies of row security", since=18),
    DumpOption("--no-tablespaces", "No tablespaces of tables; needs --format plain", plain_only=True),
    DumpOption(
        "--no-table-access-method", "No access methods of tables; needs --format plain", since=15, plain_only=True
    ),
    DumpOption("--no-toast-compression", "No compression methods of columns", since=14),
    DumpOption("--statistics", "Also the planner's statistics", leaves_out=False, since=18),
    DumpOption("--no-statistics", "No statistics, as by default", leaves_out=False, since=18),
    DumpOption("--sequence-data", "Values of sequences, even with --schema-only", leaves_out=False, since=18),
    DumpOption("--strict-names", "Fail if a pattern matches nothing", leaves_out=False, in_pg_dumpall=False),
    DumpOption("--enable-row-security", "Only rows that row security lets the role read", in_pg_dumpall=False),
    DumpOption(
        "--serializable-deferrable",
        "Wait for a snapshot without serialization anomalies",
        leaves_out=False,
        in_pg_dumpall=False,
        passed=None,
    ),
    DumpOption("--role", "Act as this role after login", metavar="ROLE", leaves_out=False),
    DumpOption("--encoding", "The encoding of the dump; the database's by default", "-E", "ENCODING", leaves_out=False),
    DumpOption("--quote-all-identifiers", "Quote all identifiers, not only key words", leaves_out=False),
)
"""The options for ``backup``, ``check`` and ``pg_dump_options`` in pgstow.toml."""
OF_FILTERS = {
    name: DumpOption(name, "", metavar=PATTERN, in_pg_dumpall=False)
    for name in ("--table", "--exclude-table", "--schema", "--exclude-schema", "--exclude-table-data")
}
"""pgstow's own options that a file of filters may also hold."""
_BY_NAME = {name: option for option in SUPPORTED for name in (option.name, option.short, option.also) if name}

_ROWS = "pgstow counts rows in COPY's output, not in INSERTs"
_AT_RESTORE = "it belongs to a restore: give it to pgstow restore or pgstow export"
_CONNECTION = "write the value into CONNINFO, the first argument"
_PASSWORD = "pgstow never asks for a password: keep it in libpq's password file"  # noqa: S105 - a sentence
REFUSED: dict[str, str] = {
    "--file": "the backup goes into a store: say --to",
    "--verbose": "pgstow reads pg_dump's messages, and reports the progress itself",
    "--version": "say pgstow --version",
    "--compress": "pgstow compresses with zstd itself: say --level",
    "--no-sync": "pgstow always gives pg_dump this option",
    "--sync-method": "pgstow never syncs pg_dump's files, which are temporary",
    "--clean": _AT_RESTORE,
    "--if-exists": _AT_RESTORE,
    "--create": _AT_RESTORE,
    "--disable-triggers": _AT_RESTORE,
    "--superuser": _AT_RESTORE,
    "--use-set-session-authorization": _AT_RESTORE,
    "--binary-upgrade": "only pg_upgrade uses it",
    "--inserts": _ROWS,
    "--column-inserts": _ROWS,
    "--rows-per-insert": _ROWS,
    "--on-conflict-do-nothing": _ROWS,
    "--disable-dollar-quoting": "only programs other than PostgreSQL's need it",
    "--extra-float-digits": "with fewer digits, a restore would change numbers",
    "--include-foreign-data": "pgstow restore and pgstow verify --level restore would write the rows into the foreign server: "
    "back up that server itself",
    "--load-via-partition-root": "with it, pgstow could not restore one partition alone, or count its rows",
    "--restrict-key": "the key protects psql from commands in the data: it must be secret, so pg_dump chooses a random key",
    "--section": "a backup always has all sections: choose sections with pgstow restore --section",
    "--snapshot": "pgstow exports the snapshot itself",
    "--no-data": "say --schema-only",
    "--no-schema": "say --data-only",
    "--statistics-only": "statistics alone are no backup: say --statistics",
    "--dbname": _CONNECTION,
    "--host": _CONNECTION,
    "--port": _CONNECTION,
    "--username": _CONNECTION,
    "--database": _CONNECTION,
    "--no-password": _PASSWORD,
    "--password": _PASSWORD,
    "-r": "say --roles-only",
    "-?": "say --help",
}
"""The reasons why pgstow refuses options of pg_dump and pg_dumpall, by their long names. If pgstow has an option of the same long name, the
reason is listed by the short name."""
_SHORT = {
    "-f": "--file",
    "-v": "--verbose",
    "-V": "--version",
    "-Z": "--compress",
    "-c": "--clean",
    "-C": "--create",
    "-S": "--superuser",
    "-d": "--dbname",
    "-h": "--host",
    "-p": "--port",
    "-U": "--username",
    "-l": "--database",
    "-w": "--no-password",
    "-W": "--password",
}


def refusal(name: str) -> str | None:
    """Return a sentence with the reason why pgstow refuses the option ``name``; None if pgstow doesn't refuse an option of that name."""
    long = _SHORT.get(name, name)
    return f"pgstow doesn't take pg_dump's option {name}: {REFUSED[long]}." if long in REFUSED else None


def names_of_refused(long: str) -> list[str]:
    """Return the short and the long name of a refused option."""
    return [*(short for short, name in _SHORT.items() if name == long), long]


def parse_option(text: str) -> GivenOption:
    """Return the option in a text such as ``--no-comments``, ``--extension=postgis`` or ``-x``. Raises InvalidRequest."""
    name, equals, value = text.partition("=")
    if (option := _BY_NAME.get(name)) is None:
        unknown = (
            f"{name!r} is not an option of pg_dump that pgstow passes on; docs/pg_dump-options.md lists the options."
        )
        raise InvalidRequest(refusal(name) or unknown)
    if bool(equals) != (option.metavar is not None):
        raise InvalidRequest(
            f"{name} takes no value."
            if option.metavar is None
            else f"{name} needs a value: write {name}={option.metavar}."
        )
    return GivenOption(option, value if equals else None)


def leaves_out(text: str) -> bool:
    """True if an option in a manifest may leave something out of the dump. Also true if this pgstow doesn't know the option."""
    option = _BY_NAME.get(text.partition("=")[0])
    return option is None or option.leaves_out
