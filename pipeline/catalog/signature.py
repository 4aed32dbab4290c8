"""Reads the signature that lies beside an object of the store: an envelope under the object's key and ``.sig``."""

from typing import TYPE_CHECKING

from pipeline.catalog.keys import SIGNATURE_SUFFIX
from pipeline.errors import Untrusted
from pipeline.trust.statement import LONGEST_ENVELOPE, P
from storage_backends import ObjectNotFound, ObjectTooLarge, StorageBackend

if TYPE_CHECKING:  # the libraries for signatures are loaded only if there are trusted keys
    from pipeline.trust.policy import Signed, Trust


def read_signature(store: StorageBackend, key: str, kind: type[P], trust: "Trust") -> "Signed[P]":
    """Return what a trusted key says about the object ``key``. The object itself isn't read.

    Raises Untrusted if no key that is trusted for the purpose of ``kind`` says anything about the object. Raises StorageError.
    """
    try:
        envelope = store.get(key + SIGNATURE_SUFFIX, at_most=LONGEST_ENVELOPE)
    except ObjectNotFound as exc:
        raise Untrusted("unsigned", "it is not signed") from exc
    except ObjectTooLarge as exc:
        raise Untrusted("untrusted", f"its signature is longer than {LONGEST_ENVELOPE:,} bytes") from exc
    return trust.read(envelope, key, kind)
