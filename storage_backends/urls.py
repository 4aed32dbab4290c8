"""URLs taken apart, without a word of theirs in an error: a password may stand in them."""

from urllib.parse import SplitResult, urlsplit


def split_url(text: str) -> SplitResult:
    """Return a URL's parts. Raises ValueError, whose words repeat nothing of the URL and whose cause is hidden."""
    try:
        text.encode()
        return urlsplit(text)
    except ValueError:
        raise ValueError("it is not a URL") from None


def split_web_url(text: str) -> SplitResult:
    """Return the parts of a URL with a host and perhaps a port, both of which can be ones. Raises ValueError likewise."""
    parts = split_url(text)
    try:
        if parts.port != 0 and (parts.hostname or "").encode("idna"):
            return parts
    except ValueError:
        pass
    raise ValueError("it is not a URL of a host")
