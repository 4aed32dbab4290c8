"""What an archive says of its database as a whole: owner, settings, comment, grants."""

import re
from collections.abc import Collection

from pipeline.postgres.toc import Toc, TocEntry


def database_statements(toc: Toc, name: str, *, no_owner: bool = False, without: Collection[str] = ()) -> list[str]:
    """The SQL that gives a database of this name what the archive's had as a whole.

    Of all entries, only these name the database itself, so pg_restore leaves them out unless it makes a database of the same name.
    ``without`` are descriptions of entries to leave out.
    """
    found = [entry for entry in toc.entries if _is_of_the_database(entry) and entry.description not in without]
    databases = [entry for entry in found if entry.description == "DATABASE"]
    if not databases:
        return []
    original, owner = databases[0].tag, databases[0].owner
    # pg_dump quotes a name only where it has to be (fmtId in string_utils.c).
    named = re.compile(
        r"^((?:ALTER|COMMENT ON) DATABASE |(?:GRANT|REVOKE) [A-Z, ]*?ON DATABASE |SECURITY LABEL FOR \S+ ON DATABASE "
        rf'|ALTER ROLE (?:"(?:[^"]|"")+"|\w+) IN DATABASE )(?:{re.escape(_quoted(original))}|{re.escape(original)})(?=[ ;])',
        re.MULTILINE,
    )
    statements = [f"ALTER DATABASE {_quoted(name)} OWNER TO {_quoted(owner)};"] if owner and not no_owner else []
    return statements + [
        named.sub(lambda match: match[1] + _quoted(name), entry.definition)
        for entry in found
        if entry.description != "DATABASE"
    ]


def _is_of_the_database(entry: TocEntry) -> bool:
    if entry.description in {"COMMENT", "ACL", "SECURITY LABEL"}:
        return entry.tag.startswith("DATABASE ") and not entry.namespace
    return entry.description in {"DATABASE", "DATABASE PROPERTIES"}


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
