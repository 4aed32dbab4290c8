"""Ports for servers that can't be told to take any."""

import random
import socket


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on.

    Below the range from which connections get theirs (RFC 6335, and Linux's from 32768 on): one of those might be taken again before the
    server is there, as other tests connect meanwhile.
    """
    while True:
        port = random.randrange(20000, 32768)
        try:
            with socket.create_server(("127.0.0.1", port)):
                return port
        except OSError:
            continue
