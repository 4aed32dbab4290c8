"""Lists the objects of a store, database by database, in one pass over each of the store's folders."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import merge
from itertools import groupby

from pipeline.catalog.keys import ATTESTATIONS, DATA, KEYS, MANIFESTS, PRUNED, decode_name, encode_name, is_of_check
from pipeline.errors import ManifestInvalid
from storage_backends import AccessDenied, ObjectInfo, StorageBackend

RECORDS = (MANIFESTS, ATTESTATIONS, PRUNED)
"""The folders of the documents."""
CONTENT = (DATA, KEYS)
"""The folders of the objects with content."""
EVERYTHING = (*RECORDS, *CONTENT)
"""All folders of a store."""


@dataclass(frozen=True, slots=True)
class ListedDatabase:
    """The objects of one database."""

    cluster: str
    database: str
    place: str
    """The part of the keys that names the cluster and the database, such as ``prod/shop``."""
    objects: Mapping[str, Sequence[ObjectInfo]]
    """The database's objects in the order of their keys, by each folder that was listed."""


_Place = tuple[str, str, Sequence[ObjectInfo]]
"""The place of a database, a folder, and the database's objects in the folder."""


def list_databases(
    store: StorageBackend,
    folders: Sequence[str],
    cluster: str | None,
    database: str | None,
    denied: Callable[[str, AccessDenied], None],
) -> Iterator[ListedDatabase]:
    """Yield the databases that have an object in one of the folders, in the order of their keys.

    A listing costs one LIST per thousand objects of a folder, however many databases there are. Only the objects of one database, and one page
    of each listing, are in memory. Objects whose keys name no database are left out.

    Calls ``denied`` for each folder that the credentials can't list. Raises AccessDenied if it is the folder of the manifests, or StorageError.
    """
    listings = [_list_places(store, folder, cluster, database, denied) for folder in folders]
    # A listing has "shop-2/…" before "shop/…", since "-" comes before "/".
    merged = merge(*listings, key=lambda part: f"{part[0]}/")
    for place, parts in groupby(merged, key=lambda part: part[0]):
        of_cluster, name = map(decode_name, place.split("/"))
        found = {folder: infos for _, folder, infos in parts}
        yield ListedDatabase(of_cluster, name, place, {folder: found.get(folder, ()) for folder in folders})


def _list_places(
    store: StorageBackend,
    folder: str,
    cluster: str | None,
    database: str | None,
    denied: Callable[[str, AccessDenied], None],
) -> Iterator[_Place]:
    below = "" if cluster is None else f"{encode_name(cluster)}/"
    wanted = None if database is None else encode_name(database)
    if cluster is not None and wanted is not None:
        below += f"{wanted}/"
    began = False
    try:
        for place, infos in groupby(store.list(folder + below), key=_place_of):
            began = True
            if place is not None and wanted in (None, place.partition("/")[2]) and _is_place(place):
                yield place, folder, tuple(infos)
    except AccessDenied as exc:
        if began or folder == MANIFESTS:
            raise
        denied(folder, exc)


def _place_of(info: ObjectInfo) -> str | None:
    """Return the second and the third part of a key; None if the key has fewer than four parts."""
    parts = info.key.split("/", 3)
    return f"{parts[1]}/{parts[2]}" if len(parts) == 4 else None


def _is_place(place: str) -> bool:
    """True if pgstow may give these parts to the keys of a database. The keys of the test objects of ``check`` don't count."""
    try:
        return all(map(decode_name, place.split("/"))) and not is_of_check(f"/{place}")
    except ManifestInvalid:
        return False
