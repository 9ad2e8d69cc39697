"""The last step: a message goes to its channel, or in tests to a sink."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

from django.db import connections, transaction

from django_signal_audit.channels.base import Channel, Message

Sink = Callable[[Message], None]

_sinks: list[Sink] = []


def transmit(channel: Channel, message: Message, using: str) -> None:
    """Send the message, or raise as the channel does."""
    send = _sinks[-1] if _sinks else channel.send
    # Inside a test case's transaction an error of the database would otherwise end all that follows.
    nested = connections[using].in_atomic_block
    with transaction.atomic(using=using) if nested else nullcontext():
        send(message)


@contextmanager
def intercepted(sink: Sink) -> Iterator[None]:
    """Give every message to the sink in place of its channel, in all threads."""
    _sinks.append(sink)
    try:
        yield
    finally:
        _sinks.remove(sink)
