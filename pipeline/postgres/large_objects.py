"""``blobs.toc``: the list of large objects in an archive of the directory format.

Each line has the OID of a large object and the name of its file.
"""

import re
from collections.abc import Container
from io import BytesIO

from pipeline.errors import BackupDamaged

_LARGE_OBJECT = re.compile(rb"[0-9]{1,10} (blob_[0-9]{1,10}\.dat)")
"""``_EndLO`` in pg_backup_directory.c."""
_LARGEST_OID = 2**32 - 1
_LONGEST_EXCERPT = 60


def read_large_object_list(path: str, data: bytes, known: Container[str]) -> tuple[str, ...]:
    """Return the names of the files in a list, in the list's order. ``path`` is the list's own name, for errors.

    Raises BackupDamaged if a line has another form, names a file that isn't in ``known``, or names a file that another line names, too.
    """
    found: dict[str, None] = {}
    for line in map(bytes.rstrip, BytesIO(data)):
        match = _LARGE_OBJECT.fullmatch(line)
        if match is None or not 0 < oid_of(match[1].decode()) <= _LARGEST_OID:
            raise BackupDamaged(
                f"{path} is not a list of large objects: the line {line[:_LONGEST_EXCERPT]!r} names no large object."
            )
        name = match[1].decode()
        if name not in known:
            raise BackupDamaged(f"{path} lists {name}, but the manifest names no such file.")
        if name in found:
            raise BackupDamaged(f"{path} lists {name} twice.")
        found[name] = None
    return tuple(found)


def oid_of(path: str) -> int:
    """Return the OID of the large object in a file that a list names."""
    return int(path.removeprefix("blob_").removesuffix(".dat"))
