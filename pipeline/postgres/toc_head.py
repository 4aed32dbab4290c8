"""Reads the table of contents at the beginning of an archive that is a single file."""

from tarfile import BLOCKSIZE, HeaderError, TarInfo

from pipeline.catalog.origin import Format
from pipeline.errors import DumpFailed
from pipeline.postgres.toc import Toc
from pipeline.postgres.toc_format import TocCutShort, read_toc


def parse_head(head: bytes, format_: Format) -> tuple[bytes, Toc]:
    """Return the bytes and the parsed form of the table of contents at the beginning of an archive in the custom or tar format.

    More bytes may follow the table of contents in the returned bytes. Raises TocCutShort if ``head`` ends within the table of contents, or
    DumpFailed if the table of contents is damaged.
    """
    toc_data = _first_member(head) if format_ == "tar" else head
    return toc_data, read_toc(toc_data)


def tar_member_size(header: bytes) -> int:
    """Return the size in bytes of a tar archive's member, from its header of 512 bytes. Raises DumpFailed if the header isn't valid."""
    try:
        size = TarInfo.frombuf(header, "utf-8", "replace").size
    except (HeaderError, ValueError, OverflowError) as exc:
        raise DumpFailed(f"The archive is not a tar archive: {exc}.") from exc
    if size < 0:
        raise DumpFailed("The archive is not a tar archive: a file in it has a size below 0.")
    return size


def _first_member(head: bytes) -> bytes:
    """Return the part of a tar archive's first file, ``toc.dat``, that is in ``head``.

    Raises TocCutShort if ``head`` is shorter than a header, or DumpFailed if the header isn't valid.
    """
    if len(head) < BLOCKSIZE:
        raise TocCutShort("The archive ends before its first file.")
    return head[BLOCKSIZE : BLOCKSIZE + tar_member_size(head[:BLOCKSIZE])]
