"""``blobs.toc``, the list of large objects in an archive of the directory format: a line for each with its OID and its file's name."""

import re
from collections.abc import Container
from io import BytesIO

from pipeline.errors import BackupDamaged

_LARGE_OBJECT = re.compile(rb"[0-9]{1,10} (blob_[0-9]{1,10}\.dat)")
"""``_EndLO`` in pg_backup_directory.c."""
_LONGEST_EXCERPT = 60


def read_large_object_list(path: str, data: bytes, known: Container[str]) -> tuple[str, ...]:
    """Return the names of the files in the list that has the name ``path``, in the list's order.

    Raises BackupDamaged if a line is of another form, or if it names a file that isn't ``known`` or that another line names.
    """
    found: dict[str, None] = {}
    for line in map(bytes.rstrip, BytesIO(data)):
        match = _LARGE_OBJECT.fullmatch(line)
        if match is None:
            raise BackupDamaged(f"{path} is no list of large objects: the line {line[:_LONGEST_EXCERPT]!r} names none.")
        name = match[1].decode()
        if name not in known:
            raise BackupDamaged(f"{path} lists {name}, but the manifest names no such file.")
        if name in found:
            raise BackupDamaged(f"{path} lists {name} twice.")
        found[name] = None
    return tuple(found)
