"""Sessions with Google's credentials, and the CAs that they trust."""

import os
from pathlib import Path
from typing import Any

import google.auth
from google.auth.credentials import AnonymousCredentials
from google.auth.transport.requests import AuthorizedSession

from storage_backends.faults import check_bundle
from storage_backends.gcs_transport import GCSAdapter, TrustingAdapter

_SCOPE = "https://www.googleapis.com/auth/devstorage.read_write"
_TOKEN_RETRIES = 3  # as google.auth has it


def open_session(endpoint: str | None, read_timeout: float, ca_bundle: str | None) -> AuthorizedSession:
    """Return a session that sends over :class:`GCSAdapter`, with the application default credentials.

    An ``endpoint`` of http:// gets no credentials. The requests that fetch tokens trust ``ca_bundle``, too. Raises google.auth's error
    if there are no credentials, and StorageError if a CA bundle can't be used.
    """
    if endpoint and not endpoint.startswith("https://"):
        credentials: Any = AnonymousCredentials()  # type: ignore[no-untyped-call]
    else:
        _check_bundles(ca_bundle)
        credentials, _ = google.auth.default(scopes=[_SCOPE])
    session = AuthorizedSession(credentials)  # type: ignore[no-untyped-call]
    for scheme in ("https://", "http://"):
        session.mount(scheme, GCSAdapter(read_timeout, ca_bundle))
    if ca_bundle:
        session._auth_request_session.mount("https://", TrustingAdapter(ca_bundle, max_retries=_TOKEN_RETRIES))
    return session


def _check_bundles(ca_bundle: str | None) -> None:
    if ca_bundle:
        check_bundle(ca_bundle, "ca_bundle")
        return
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):  # the library requests obeys both; each may name a folder
        if (path := os.environ.get(name)) and not Path(path).is_dir():
            check_bundle(path, name)
