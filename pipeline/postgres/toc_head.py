"""The table of contents at the beginning of an archive that is a single file."""

from tarfile import BLOCKSIZE, HeaderError, TarInfo

from pipeline.catalog.manifest import Format
from pipeline.errors import DumpFailed
from pipeline.postgres.toc import Toc, TocCutShort, read_toc


def parse_head(head: bytes, format_: Format) -> tuple[bytes, Toc]:
    """Return the table of contents at the beginning of a custom or a tar archive: its bytes, which others may follow, and its parsed form.

    Raises TocCutShort if ``head`` doesn't have all of it, or DumpFailed if it is damaged.
    """
    toc_data = _first_member(head) if format_ == "tar" else head
    return toc_data, read_toc(toc_data)


def _first_member(head: bytes) -> bytes:
    """Return the content of a tar archive's first file, ``toc.dat``, as far as ``head`` has it.

    Raises TocCutShort if ``head`` begins with no tar header, or DumpFailed if the header's size is below 0.
    """
    try:
        size = TarInfo.frombuf(head[:BLOCKSIZE], "utf-8", "replace").size
    except (HeaderError, ValueError, OverflowError) as exc:
        raise TocCutShort(f"The archive doesn't begin as a tar archive does: {exc}.") from exc
    if size < 0:
        raise DumpFailed("The archive's first file has a size below 0.")
    return head[BLOCKSIZE : BLOCKSIZE + size]
