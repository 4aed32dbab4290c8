"""URLs taken apart, without a word of theirs in an error: a password may stand in them."""

from ipaddress import ip_address
from urllib.parse import SplitResult, urlsplit

from storage_backends.errors import InvalidStorageURL


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


def is_loopback(url: str) -> bool:
    """True if the URL's host is this very machine by its name or address."""
    host = split_url(url if "://" in url else f"http://{url}").hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")  # RFC 6761, 6.3


def is_plain_text(url: str) -> bool:
    """True if what is sent to the URL crosses a network without encryption."""
    return not url.lower().startswith("https:") and not is_loopback(url)


def check_encrypted(endpoint: str, *, allow_http: bool) -> None:
    """Raise InvalidStorageURL if a store's endpoint is plain text on another machine, and nobody allowed that."""
    if not allow_http and is_plain_text(endpoint):
        raise InvalidStorageURL(
            f"the store at {split_url(endpoint).hostname or endpoint} is reached without encryption: whoever is on the way can read the "
            "backups and use the credentials; use https://, or say allow_http=true if the network in between is yours"
        )
