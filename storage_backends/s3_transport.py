"""How boto3's requests go over the network: by botocore's own HTTP session, with connections that send in pieces."""

from typing import TYPE_CHECKING, Any

from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.endpoint import EndpointCreator
from botocore.httpsession import URLLib3Session

from storage_backends.connections import patient_pools, socket_options

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


class _PatientSession(URLLib3Session):
    """botocore's session. It takes other pools only by its own dict of them, which the stubs leave out."""

    _pool_classes_by_scheme: dict[str, Any]

    def __init__(self, *, timeout: Any, **options: Any) -> None:
        _, read_timeout = timeout
        super().__init__(timeout=timeout, **options | {"socket_options": list(socket_options())})
        self._pool_classes_by_scheme.update(patient_pools(self._pool_classes_by_scheme, silence=read_timeout))


class S3Transport:
    """Sends all requests of ``client``, in botocore's place: a handler of before-send may answer a request.

    ``timeout`` is seconds for a connection to come up, and seconds of silence. ``ca_bundle`` is the client's own.
    """

    def __init__(
        self, client: "S3Client", *, timeout: tuple[float, float], connections: int, ca_bundle: str | None
    ) -> None:
        options: dict[str, Any] = {"timeout": timeout, "verify": ca_bundle}  # the stubs allow less than botocore takes
        # The creator adds what the environment says of proxies and certificates.
        endpoint = EndpointCreator(client.meta.events).create_endpoint(
            client.meta.service_model,
            client.meta.region_name,
            client.meta.endpoint_url,
            max_pool_connections=connections,
            http_session_cls=_PatientSession,
            **options,
        )
        self._session: Any = endpoint.http_session
        client.meta.events.register("before-send.s3", self._send)  # type: ignore[arg-type]  # it may return something

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def _send(self, request: AWSPreparedRequest, **_: object) -> AWSResponse:
        answer: AWSResponse = self._session.send(request)
        return answer
