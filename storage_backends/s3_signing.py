"""Signs puts with the SHA-256 that they already carry. botocore would hash each body again, for the signature."""

import base64

from botocore.auth import AUTH_TYPE_MAPS, S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.hooks import BaseEventHooks

_VERSION = "pgstow-s3v4"


class _KnownDigestAuth(S3SigV4Auth):
    """`Signature Version 4`_. The request has a header with the SHA-256 of its body, in base64.

    .. _Signature Version 4: https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
    """

    def payload(self, request: AWSRequest) -> str:
        """Return the SHA-256 of the body, in hexadecimal."""
        digest: str | None = request.headers.get("x-amz-checksum-sha256")
        return base64.b64decode(digest).hex() if digest else super().payload(request)


AUTH_TYPE_MAPS[_VERSION] = _KnownDigestAuth


def sign_known_digests(events: BaseEventHooks) -> None:
    """Let a client, whose events these are, sign each put by its header ``x-amz-checksum-sha256``, if the put has the header."""
    events.register("choose-signer.s3.PutObject", _choose_signer)  # type: ignore[arg-type]  # it may return something


def _choose_signer(signature_version: object, **_: object) -> str | None:
    """Return the name of the signature in botocore's list; None for botocore's choice, such as no signature."""
    return _VERSION if signature_version == "s3v4" else None
