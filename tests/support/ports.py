"""Free ports, for servers that can't choose a port themselves."""

import random
import socket


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 on which nobody listens.

    The port is below the range from which clients get their ports (RFC 6335, on Linux from 32768 on). A client of another test could take a
    port of that range before the server does.
    """
    while True:
        port = random.randrange(20000, 32768)
        try:
            with socket.create_server(("127.0.0.1", port)):
                return port
        except OSError:
            continue
