"""A free port for the processes of a test."""

import socket


def free_port() -> int:
    """Returns a port of this machine that nobody listened at a moment ago."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]
