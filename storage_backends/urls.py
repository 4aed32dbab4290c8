"""Parsing of URLs. No error repeats a part of the URL, since a password may stand in it."""

from ipaddress import ip_address
from urllib.parse import SplitResult, urlsplit

from storage_backends.errors import InvalidStorageURL


def split_url(text: str) -> SplitResult:
    """Return a URL's parts. Raises ValueError, which repeats nothing of the URL and hides its cause."""
    try:
        text.encode()
        return urlsplit(text)
    except ValueError:
        raise ValueError("it is not a URL") from None


def split_web_url(text: str) -> SplitResult:
    """Return the parts of a URL with a valid host and, if given, a valid port. Raises ValueError as :func:`split_url`."""
    parts = split_url(text)
    try:
        if parts.port != 0 and (parts.hostname or "").encode("idna"):
            return parts
    except ValueError:
        pass
    raise ValueError("it is not a URL of a host")


def is_loopback(url: str) -> bool:
    """True if the URL's host is loopback, by name or address. Raises ValueError as :func:`split_url`."""
    host = split_url(url if "://" in url else f"http://{url}").hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")  # RFC 6761, 6.3


def is_plain_text(url: str) -> bool:
    """True if data to the URL crosses a network without encryption. Raises ValueError as :func:`split_url`."""
    return not url.lower().startswith("https:") and not is_loopback(url)


def check_encrypted(endpoint: str, *, allow_http: bool) -> None:
    """Raise InvalidStorageURL if a store's endpoint is http:// on another machine, unless ``allow_http`` allows it.

    Raises ValueError as :func:`split_url`.
    """
    if not allow_http and is_plain_text(endpoint):
        raise InvalidStorageURL(
            f"the store at {split_url(endpoint).hostname or endpoint} is reached without encryption: whoever is on the way can read the "
            "backups and use the credentials; use https://, or say allow_http=true if the network in between is yours"
        )
