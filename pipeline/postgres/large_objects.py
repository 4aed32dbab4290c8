"""The files of large objects in an archive of the directory format.

The archive also has lists of these files, such as ``blobs.toc``. pgstow doesn't read the lists: the table of contents names the same OIDs.
"""

import re
from collections.abc import Collection, Iterable

from pipeline.errors import BackupDamaged
from pipeline.postgres.toc import Toc

_FILE = re.compile(r"blob_([1-9][0-9]{0,9})\.dat")
"""The name of a large object's file, with its OID (``_StartLO`` in pg_backup_directory.c)."""
_LARGEST_OID = 2**32 - 1
_LONGEST_EXCERPT = 60


def files_by_list(toc: Toc, files: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Return the names of the large objects' files in pg_dump's order, by the lists that name them in the archive.

    ``files`` has the names of all large objects' files. Raises BackupDamaged if a name is no large object's, or if the table of contents
    names a large object twice, or a large object without a file.
    """
    left, lists = dict.fromkeys(files), dict[str, tuple[str, ...]]()
    for name in left:
        match = _FILE.fullmatch(name)
        if match is None or int(match[1]) > _LARGEST_OID:
            raise BackupDamaged(f"The manifest calls {name[:_LONGEST_EXCERPT]!r} a large object.")
    oids = {entry.dump_id: entry.definition.split() for entry in toc.entries if entry.description == "BLOB METADATA"}
    for entry in toc.data_entries:
        if entry.description == "BLOBS":
            # pg_dump 17 and newer write several lists, and each list depends on an entry that names the OIDs. Older versions write one list,
            # in the order of the OIDs.
            named = next((oids[dump_id] for dump_id in entry.dependencies if dump_id in oids), None)
            names = tuple(sorted(left, key=oid_of)) if named is None else tuple(f"blob_{oid}.dat" for oid in named)
            _take(names, left)
            lists[entry.filename] = names
    return lists


def _take(names: Collection[str], left: dict[str, None]) -> None:
    for name in names:
        if name not in left:
            raise BackupDamaged(
                f"The table of contents names {name[:_LONGEST_EXCERPT]!r} twice, or the manifest lacks this large object."
            )
        del left[name]


def oid_of(path: str) -> int:
    """Return the OID of the large object in this file."""
    return int(path.removeprefix("blob_").removesuffix(".dat"))
