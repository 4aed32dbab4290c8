"""The table of contents at the beginning of an archive that is a single file."""

from tarfile import BLOCKSIZE, HeaderError, TarInfo

from pipeline.catalog.manifest import Format
from pipeline.errors import DumpFailed
from pipeline.postgres.toc import Toc
from pipeline.postgres.toc_format import TocCutShort, read_toc


def parse_head(head: bytes, format_: Format) -> tuple[bytes, Toc]:
    """Return the table of contents at the beginning of a custom or a tar archive: its bytes, which others may follow, and its parsed form.

    Raises TocCutShort if ``head`` doesn't have all of it, or DumpFailed if it is damaged.
    """
    toc_data = _first_member(head) if format_ == "tar" else head
    return toc_data, read_toc(toc_data)


def tar_member_size(header: bytes) -> int:
    """Return the bytes of a tar archive's member, by its header of 512 bytes. Raises DumpFailed if the header isn't valid."""
    try:
        size = TarInfo.frombuf(header, "utf-8", "replace").size
    except (HeaderError, ValueError, OverflowError) as exc:
        raise DumpFailed(f"The archive is no tar archive: {exc}.") from exc
    if size < 0:
        raise DumpFailed("The archive is no tar archive: a file in it has a size below 0.")
    return size


def _first_member(head: bytes) -> bytes:
    """Return the content of a tar archive's first file, ``toc.dat``, as far as ``head`` has it.

    Raises TocCutShort if ``head`` is shorter than a header, or DumpFailed if the header isn't valid.
    """
    if len(head) < BLOCKSIZE:
        raise TocCutShort("The archive ends before its first file.")
    return head[BLOCKSIZE : BLOCKSIZE + tar_member_size(head[:BLOCKSIZE])]
