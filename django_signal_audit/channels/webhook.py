"""Messages as signed HTTP requests, by the rules of Standard Webhooks."""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import ipaddress
import json
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import cached_property
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any, ClassVar, TypeAlias
from urllib.parse import urlsplit

from django.core.checks import CheckMessage
from standardwebhooks import Webhook

from django_signal_audit.channels.base import RECIPIENT_OPTIONS, Channel, Message, Option, is_text, is_texts
from django_signal_audit.events.masking import without_secrets
from django_signal_audit.events.values import as_utc
from django_signal_audit.exceptions import GiveUp, RetryLater
from django_signal_audit.problems import Problem

IPAddress: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

# Nothing outside of these has been given to anybody on the Internet.
_UNICAST6 = ipaddress.ip_network("2000::/3")
# An IPv4 address in the clothes of an IPv6 one: a translator at the provider undresses it.
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def is_public(address: IPAddress) -> bool:
    """Return whether a host on the Internet can have the address: none private, loopback, link-local or reserved."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = _embedded(address)
        return is_public(inner) if inner else address in _UNICAST6 and address.is_global
    return address.is_global and not address.is_multicast and not address.is_reserved


def _embedded(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """Return the IPv4 address that packets to this one end up at, if so."""
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    teredo = address.teredo
    return address.ipv4_mapped or address.sixtofour or (teredo[1] if teredo else None)


@dataclass(frozen=True, slots=True)
class AddressPolicy:
    """What may be connected to: public addresses, and all (``everything``) or some (``networks``) of the others."""

    everything: bool = False
    networks: tuple[Network, ...] = ()

    @classmethod
    def of(cls, option: bool | str | Sequence[str]) -> AddressPolicy:
        """Return the policy that an option ``allow_private`` means: True, False, a network or a list of networks.

        Raises:
            ValueError: A text is no network.

        """
        if isinstance(option, bool):
            return cls(everything=option)
        texts = [option] if isinstance(option, str) else option
        return cls(networks=tuple(ipaddress.ip_network(text) for text in texts))

    def allows(self, address: IPAddress) -> bool:
        """Return whether a message may go to the address."""
        return self.everything or is_public(address) or any(address in network for network in self.networks)

    def resolve(self, host: str, port: int) -> list[str]:
        """Return the addresses of a host that may be connected to, best first.

        A connection has to be to one of these: a name that is resolved again may resolve to another.

        Raises:
            GiveUp: None of them may be.
            OSError: The name has no address, or cannot be looked up now.

        """
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        allowed = [address for address in addresses if self.allows(ipaddress.ip_address(address))]
        if not allowed:
            msg = (
                f"{host} is {', '.join(addresses)}, which is not on the Internet. If it is meant to be reached, "
                'allow its network by "allow_private" in the OPTIONS of the channel.'
            )
            raise GiveUp(msg)
        return allowed


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


TIMEOUT_SECONDS = 20.0
MAX_TIMEOUT_SECONDS = 60.0
# A digest may have any number of events, and a receiver a limit of its own.
MAX_EVENTS = 100
# How much of what a receiver answers is noted.
SHOWN_CHARACTERS = 200
# Those that say "not now". Every other 4xx says "not like this", and would say so again.
RETRYABLE_STATUSES = frozenset({408, 425, 429})
GONE = 410
HTTP_PROBLEM = "isn't https, so others can read the messages on their way"
HTTP_HINT = 'Use https, or add "allow_http": True if the way there is safe.'
LONGEST_WAIT_SECONDS = 86_400.0

# Fewer can be guessed, says Standard Webhooks.
SHORTEST_SECRET = 24
SECRET_HINT = f'Write "whsec_" and the base64 of {SHORTEST_SECRET} to 64 random bytes.'
# Names that no host on the Internet has: those of one machine, of a local network, or of containers.
_LOCAL_NAME = re.compile(r"[^.]+|.*\.(?:local|localdomain|internal|intranet|lan|corp|home|home\.arpa|test|invalid)")
_LOCALHOST = re.compile(r"(?:.*\.)?localhost")
_SECRET_PREFIX = "whsec_"  # noqa: S105  # the spec's mark of a secret, none itself
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"[\x20-\x7e]*")
# What the channel itself says, or must not be said twice.
_OWN_HEADERS = frozenset({"webhook-id", "webhook-timestamp", "webhook-signature", "content-type"})
_FRAMING_HEADERS = frozenset({"host", "content-length", "transfer-encoding", "connection", "accept-encoding"})


def is_url(value: Any) -> bool:
    """Return whether the value is an absolute http or https URL, in ASCII, without a user in it."""
    if not is_text(value) or not re.fullmatch(r"[\x21-\x7e]+", value):
        return False
    try:
        parts = urlsplit(value)
        # Reading the port is what tells whether it is one.
        return (
            parts.scheme in ("http", "https") and bool(parts.hostname) and "@" not in parts.netloc and parts.port != 0
        )
    except ValueError:
        return False


def is_timeout(value: object) -> bool:
    """Return whether the value is a number of seconds that a worker can wait while it holds a message."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value <= MAX_TIMEOUT_SECONDS


def is_headers(value: object) -> bool:
    """Return whether the value is a mapping of names to texts that can stand in a header."""
    return isinstance(value, Mapping) and all(
        isinstance(name, str)
        and _HEADER_NAME.fullmatch(name)
        and isinstance(text, str)
        and _HEADER_VALUE.fullmatch(text)
        for name, text in value.items()
    )


def is_allowance(value: Any) -> bool:
    """Return whether the value says which private addresses may be reached: True, False, or networks."""
    if not isinstance(value, bool) and not is_texts(value):
        return False
    try:
        AddressPolicy.of(value)
    except ValueError:
        return False
    return True


class WebhookChannel(Channel):
    """Posts each message to one URL, signed with each secret.

    Every attempt has the same ``webhook-id`` and a fresh ``webhook-timestamp``. An answer of 2xx has taken it; 408,
    425, 429, 5xx and what the network does wrong are tried again, all else is given up.
    """

    option_schema: ClassVar[Mapping[str, Option]] = {
        **RECIPIENT_OPTIONS,
        "url": Option(
            expects="an http or https URL in ASCII, without a user", accepts=is_url, required=True, confidential=True
        ),
        "secret": Option(
            expects='a secret such as "whsec_…", or a list of them, the newest first', accepts=is_texts, required=True
        ),
        "timeout": Option(expects=f"seconds, more than 0, at most {MAX_TIMEOUT_SECONDS:g}", accepts=is_timeout),
        "headers": Option(expects="a dict of header names to ASCII texts", accepts=is_headers, confidential=True),
        "allow_http": Option(expects="True or False", accepts=lambda value: isinstance(value, bool)),
        "allow_private": Option(
            expects='True, False, or a list of networks such as "10.1.0.0/16"', accepts=is_allowance
        ),
    }

    def send(self, message: Message) -> None:
        """Post the message once."""
        if not self._is_safe:
            msg = f"The URL {HTTP_PROBLEM}. {HTTP_HINT}"
            raise GiveUp(msg)
        body = json.dumps(payload(message), ensure_ascii=False, separators=(",", ":"))
        answer = self._poster.post(body.encode(), self._headers(message, body))
        problem = _verdict(answer, message.attempt)
        if problem:
            raise problem

    def check(self) -> list[CheckMessage]:
        """Return what is wrong with the options, plain http and secrets that are none among it."""
        found = super().check()
        if found:
            return [self._with_reason(problem) for problem in found]
        return [
            *self._url_problems(),
            *self._address_problems(),
            *self._secret_problems(),
            *self._header_problems(),
        ]

    def _with_reason(self, problem: CheckMessage) -> CheckMessage:
        """Return what is wrong with the URL with the edit to make, which shows no part of it."""
        url: Any = self.options.get("url")
        if problem.msg.startswith(f"{self._path('url')} must be") and is_text(url):
            if "//" not in url:
                problem.hint = 'It has no scheme. Write "https://" before it.'
            elif "@" in url.partition("//")[2].partition("/")[0]:
                problem.hint = 'It has a user. Write user and password as "headers": {"Authorization": "Basic …"}.'
        if problem.msg.startswith(f"{self._path('timeout')} must be") and isinstance(self.options["timeout"], int):
            problem.hint = f"It is {self.options['timeout']}, and in seconds, not milliseconds."
        return problem

    def _url_problems(self) -> Iterator[CheckMessage]:
        if not self._is_safe:
            yield self.error("url", HTTP_PROBLEM, HTTP_HINT)

    def _address_problems(self) -> Iterator[CheckMessage]:
        """Report a host that is most likely refused. No name is looked up: other machines have other answers."""
        policy = AddressPolicy.of(self.options.get("allow_private", False))
        host = (urlsplit(self.options["url"]).hostname or "").rstrip(".")
        address = _address(host)
        if address is not None and not policy.allows(address):
            hint = f'Add "allow_private": ["{address}"] if it is meant to be reached.'
            yield self.error("url", f"leads to {host}, which is not on the Internet: no message is sent", hint)
        elif address is None and not policy.everything and not policy.networks and _LOCAL_NAME.fullmatch(host):
            message = f"leads to {host}, which isn't a name on the Internet: no message is sent to a private address."
            hint = 'Add "allow_private" with the networks that may be reached, such as ["10.1.0.0/16"].'
            yield Problem("W039", self._path("url"), message, hint).as_check()

    def _secret_problems(self) -> Iterator[CheckMessage]:
        keys = [_key_of(secret) for secret in self._secrets]
        if not all(keys):
            yield self.error("secret", "has one that is not base64", SECRET_HINT)
        elif (shortest := min(map(len, keys))) < SHORTEST_SECRET:
            length = f"{shortest} byte{'' if shortest == 1 else 's'}"
            message = f"has a secret of {length}, which can be guessed."
            yield Problem("W040", self._path("secret"), message, SECRET_HINT).as_check()

    def _header_problems(self) -> Iterator[CheckMessage]:
        for name in self.options.get("headers", {}):
            if name.lower() in _OWN_HEADERS | _FRAMING_HEADERS:
                yield self.error("headers", f"has {name!r}, which the channel sets itself", f"Remove {name!r}.")

    @property
    def _is_safe(self) -> bool:
        return urlsplit(self.options["url"]).scheme == "https" or bool(self.options.get("allow_http"))

    @property
    def _secrets(self) -> list[str]:
        secret = self.options["secret"]
        return [secret] if isinstance(secret, str) else list(secret)

    @cached_property
    def _poster(self) -> HttpClient:
        policy = AddressPolicy.of(self.options.get("allow_private", False))
        return HttpClient(self.options["url"], policy=policy, timeout=self.options.get("timeout", TIMEOUT_SECONDS))

    def _headers(self, message: Message, body: str) -> dict[str, str]:
        # In UTC, whatever the zone of the worker: the library signs the clock's digits as if they were.
        now = dt.datetime.now(dt.UTC)
        signatures = [Webhook(secret).sign(message.id, now, body) for secret in self._secrets]
        return {
            "User-Agent": "django-signal-audit",
            **self.options.get("headers", {}),
            "Content-Type": "application/json",
            "webhook-id": message.id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": " ".join(signatures),
        }


def payload(message: Message) -> dict[str, object]:
    """Return the body of the request: ``type``, ``timestamp`` and ``data``, as Standard Webhooks wants them."""
    event = message.event
    kinds = {(event.model, event.event_type) for event in message.events}
    return {
        "type": ".".join(filter(None, (event.model, event.event_type))) if len(kinds) == 1 else "mixed",
        "timestamp": as_utc(event.recorded_at).isoformat(),
        "data": {
            "rule": message.rule,
            "recipient": message.recipient,
            "subject": message.subject,
            "body": message.body,
            "reason": message.reason,
            "count": len(message.events),
            "events": _events(message.events[:MAX_EVENTS]),
        },
    }


def _events(events: Sequence[Any]) -> list[dict[str, object]]:
    names = ("event_type", "level", "model", "object_id", "object_repr", "actor_id", "actor_repr", "correlation_id")
    return [
        {
            "uid": str(event.uid),
            "recorded_at": as_utc(event.recorded_at).isoformat(),
            **{name: str(getattr(event, name)) for name in names},
            **({"tenant": event.tenant} if getattr(event, "tenant", "") else {}),
            "changes": {name: without_secrets(change) for name, change in event.changes.items()},
            "data": without_secrets(event.data),
        }
        for event in events
    ]


def _key_of(secret: str) -> bytes:
    """Return the key that a secret stands for, ``b""`` if it is not base64."""
    encoded = secret.removeprefix(_SECRET_PREFIX).rstrip("=")
    try:
        return base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except binascii.Error:
        return b""


def _address(host: str) -> IPAddress | None:
    """Return the address that a host is in any notation, as the machine will read it; None if it is a name."""
    if _LOCALHOST.fullmatch(host):
        return ipaddress.IPv4Address("127.0.0.1")
    try:
        found = socket.getaddrinfo(host, None, flags=socket.AI_NUMERICHOST)
    except OSError:
        return None
    return ipaddress.ip_address(str(found[0][4][0]))


def _verdict(answer: Answer, attempt: int) -> GiveUp | RetryLater | None:
    """Return what to raise, None if the message was taken."""
    if 200 <= answer.status < 300:
        return None
    error = _error(answer, attempt)
    # Cut where it is noted, when the secrets in it are hidden: half a secret is not recognized.
    error.shown_characters = SHOWN_CHARACTERS
    return error


def _error(answer: Answer, attempt: int) -> GiveUp | RetryLater:
    meaning = ", which says that nobody listens at this URL any more" if answer.status == GONE else ""
    said = f"It answered {answer.status}{meaning}: {' '.join(answer.text.split())}".rstrip(": ")
    if answer.status in RETRYABLE_STATUSES or answer.status >= 500:
        return RetryLater(said, seconds=wait_seconds(answer.retry_after, attempt))
    if answer.status < 400:
        return GiveUp(f'It answered {answer.status}, a redirect, and none is followed. Set "url" to where it leads.')
    return GiveUp(said)


def wait_seconds(retry_after: str, attempt: int) -> float | None:
    """Return the wait that a receiver asked for, None if it asked for none that can be understood.

    It is at most a day, and at least 2, 4, 8 … seconds with each attempt: a receiver that always says "at once" would
    use up all attempts in a moment.
    """
    seconds = _seconds(retry_after.strip())
    if seconds is None:
        return None
    return min(max(seconds, 2.0**attempt), LONGEST_WAIT_SECONDS)


def _seconds(text: str) -> float | None:
    if re.fullmatch(r"\d{1,9}", text, re.ASCII):
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=dt.UTC)
    return (moment - dt.datetime.now(dt.UTC)).total_seconds()
