"""A way to a server that can be closed and opened again."""

from __future__ import annotations

import contextlib
import socket
import threading
from urllib.parse import urlsplit

Address = tuple[str, int]


def free_port() -> int:
    """Return a port that nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def split(url: str, port: int) -> tuple[Address, str]:
    """Return the address in a URL, and the URL with the port in place of it."""
    parts = urlsplit(url)
    login, at, _ = parts.netloc.rpartition("@")
    address = parts.hostname or "127.0.0.1", parts.port or 0
    return address, parts._replace(netloc=f"{login}{at}127.0.0.1:{port}").geturl()


def serve(port: int, target: Address) -> None:
    """Pass on what comes in at the port, for ever."""
    with socket.create_server(("127.0.0.1", port)) as server:
        while True:
            client, _ = server.accept()
            beyond = socket.create_connection(target)
            for one, other in ((client, beyond), (beyond, client)):
                threading.Thread(target=_pass_on, args=(one, other), daemon=True).start()


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with source:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                target.sendall(data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
