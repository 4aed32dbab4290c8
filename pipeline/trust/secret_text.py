"""Recognizes text that may be a secret key, so that no error repeats the text."""

import re

_OF_AGE = ("AGE-SECRET-KEY-", "AGE-PLUGIN-")
"""The beginnings of the secret keys of age, in capitals. Some are of kinds that pgstow can't use."""
_BASE64 = re.compile(r"(?=.*[a-z])(?=.*[A-Z])(?=.*[0-9])[A-Za-z0-9+/]{32,}={0,2}")


def is_secret(text: str) -> bool:
    """True if the text begins as a secret key of age does."""
    return text.upper().startswith(_OF_AGE)


def may_be_secret(text: str) -> bool:
    """True if a part of the text, between slashes, begins as a secret key of age does, or if the text may be of a key in PEM.

    A key in PEM is base64 in lines. Some paths look like a line of base64, too.
    """
    lines = text.split()
    return "-----BEGIN" in text or any(map(is_secret, text.split("/"))) or any(map(_BASE64.fullmatch, lines))
