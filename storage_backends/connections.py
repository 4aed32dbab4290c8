"""urllib3's connections, which both SDKs use. They send a body in pieces, each with its own timeout.

So a silent store causes a timeout, but a large body on a slow link doesn't.
"""

import functools
import socket
from collections.abc import Mapping
from typing import Any

from urllib3.connectionpool import HTTPConnectionPool
from urllib3.exceptions import ReadTimeoutError


class Misanswered(Exception):
    """The answer isn't the store's own: a redirect, a login page, a proxy's error. The text is a clause that describes the answer."""

    def __init__(self, clause: str, status: int = 0) -> None:
        super().__init__(clause)
        self.status = status
        """The HTTP status of an error; 0 if the answer is no error."""


REMEDY = "check the endpoint, and whether a proxy or a login page answers in the store's place"

_PIECE = 64 * 1024
"""Bytes for one ``sendall``. A timeout bounds the whole call, so a slow link must be able to take these bytes within it."""
_UNSENT = 128 * 1024
"""Bytes that may wait in the kernel of one connection."""


@functools.cache
def socket_options() -> tuple[tuple[int, int, int], ...]:
    """Return urllib3's own socket option, and `TCP_NOTSENT_LOWAT`_, which bounds the unsent bytes in the kernel.

    The wait for the answer begins when the kernel has taken the last piece. Without a bound, the kernel takes 4 MB and more. A slow
    link needs longer for these than the read timeout. Unlike SO_SNDBUF, this option doesn't bound the bytes on the network.

    .. _TCP_NOTSENT_LOWAT: https://docs.kernel.org/networking/ip-sysctl.html
    """
    options = [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)]
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):
        bounded = (socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT)
        try:
            with socket.socket() as probe:
                probe.setsockopt(*bounded)
        except OSError:  # a sandbox's kernel may not know the option
            return tuple(options)
        options.append(bounded)
    return tuple(options)


def patient_pools(pools: Mapping[str, type[HTTPConnectionPool]], silence: float) -> dict[str, type[HTTPConnectionPool]]:
    """Return classes of pools whose connections send in pieces, by scheme, as ``PoolManager.pool_classes_by_scheme`` has them.

    urllib3 bounds sending by the connect timeout. These connections raise ReadTimeoutError when they could send nothing for
    ``silence`` seconds. They follow no redirects.
    """
    return {scheme: _patient(pool, silence) for scheme, pool in pools.items()}


def _patient(pool: type[HTTPConnectionPool], silence: float) -> type[HTTPConnectionPool]:
    class Connection(pool.ConnectionCls):  # type: ignore[name-defined,misc]  # mypy knows no base that is a variable
        def send(self, data: Any) -> None:
            if self.sock is None:
                super().send(data)  # connects, within the connect timeout, and sends the headers
                return
            self.sock.settimeout(silence)
            if hasattr(data, "read"):  # which http.client sends in pieces itself
                super().send(data)
                return
            try:
                # Each view is released at once: an error's traceback would keep the caller's buffer locked.
                with memoryview(data) as whole, whole.cast("B") as view:
                    for start in range(0, len(view), _PIECE):
                        with view[start : start + _PIECE] as piece:
                            super().send(piece)
            except TimeoutError as exc:
                raise ReadTimeoutError(pool, self.host, f"nothing could be sent for {silence:g} s") from exc  # type: ignore[arg-type]

    class Pool(pool):  # type: ignore[valid-type,misc]
        ConnectionCls = Connection

        def urlopen(self, *args: Any, **options: Any) -> Any:
            return super().urlopen(*args, **options | {"redirect": False})

    return Pool
