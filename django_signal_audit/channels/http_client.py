"""One POST over HTTP to a receiver that may be hostile: to a checked address, bounded in time, redirected nowhere."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from urllib.parse import urlsplit

from django_signal_audit.exceptions import RetryLater

from .addresses import AddressPolicy

CONNECT_SECONDS = 5.0
# As much of an answer as anybody will read. The rest is left where it is.
MAX_ANSWER_BYTES = 1024


@dataclass(frozen=True, slots=True)
class Answer:
    """What a receiver answered: the status, ``Retry-After`` as it came, and how its text begins."""

    status: int
    retry_after: str
    text: str


class HttpClient:
    """Posts to one URL, by any number of threads at once.

    Args:
        url: An absolute http or https URL without a user.
        policy: Which addresses may be connected to.
        timeout: The seconds a call may take in all, but for looking up the name.

    """

    def __init__(self, url: str, *, policy: AddressPolicy, timeout: float) -> None:
        parts = urlsplit(url)
        self.host = parts.hostname or ""
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._target = f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}"
        self._policy, self._timeout = policy, timeout
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None

    def post(self, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Return the answer.

        Raises:
            GiveUp: The host has no address that may be connected to.
            RetryLater: The network failed, or the answer did not come in time.

        """
        deadline = time.monotonic() + self._timeout
        try:
            with self._connected(deadline) as connection:
                connection.request("POST", self._target, body, dict(headers))
                with connection.getresponse() as response:
                    text = response.read(MAX_ANSWER_BYTES).decode(errors="replace")
                    return Answer(response.status, response.headers.get("Retry-After", ""), text)
        except (OSError, HTTPException) as error:
            failed = f"{self.host} could not be reached: {type(error).__name__}: {error}"
            late = f"{self.host} did not answer within {self._timeout:g} s."
            raise RetryLater(late if time.monotonic() >= deadline else failed) from error

    @contextmanager
    def _connected(self, deadline: float) -> Iterator[HTTPConnection]:
        sock = self._connect(deadline)
        connection: HTTPConnection
        if self._tls is None:
            connection = HTTPConnection(self.host, self._port)
        else:
            connection = HTTPSConnection(self.host, self._port, context=self._tls)
            # The certificate has to be the name's, however the address was found.
            sock = self._tls.wrap_socket(sock, server_hostname=self.host, do_handshake_on_connect=False)
        # A socket that is there already is used; without one the name would be resolved again.
        connection.sock = sock
        with closing(connection), _cut_off(sock, deadline):
            if isinstance(sock, ssl.SSLSocket):
                sock.do_handshake()
            yield connection

    def _connect(self, deadline: float) -> socket.socket:
        addresses = self._policy.resolve(self.host, self._port)
        for address in addresses[:-1]:
            with suppress(OSError):
                return self._open(address, deadline)
        return self._open(addresses[-1], deadline)

    def _open(self, address: str, deadline: float) -> socket.socket:
        left = max(deadline - time.monotonic(), 0.001)
        sock = socket.create_connection((address, self._port), min(CONNECT_SECONDS, left))
        sock.settimeout(max(deadline - time.monotonic(), 0.001))
        return sock


@contextmanager
def _cut_off(sock: socket.socket, deadline: float) -> Iterator[None]:
    """Shut the socket down at the deadline: its timeout starts anew with each byte that a slow receiver lets drip."""

    def cut() -> None:
        with suppress(OSError):
            # Not the method of a TLS socket, which would drop its state under the thread that is reading.
            socket.socket.shutdown(sock, socket.SHUT_RDWR)

    timer = threading.Timer(max(deadline - time.monotonic(), 0), cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
