"""The brokers in reach of a test run."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from celery import Celery
from kombu.pools import reset

URLS = {"rabbitmq": "amqp://guest:guest@127.0.0.1:5672//", "redis": "redis://127.0.0.1:6379/15"}


def broker(name: str) -> str:
    """Return the URL of a broker, or skip the test if nobody answers there."""
    parts = urlsplit(URLS[name])
    try:
        socket.create_connection((str(parts.hostname), parts.port or 0), timeout=1).close()
    except OSError:
        pytest.skip(f"{name} does not answer at {parts.hostname}:{parts.port}.")
    return URLS[name]


@contextmanager
def memory_app() -> Iterator[Celery]:
    """Make an app with a broker in memory, and a queue of its own there: what is in memory is any app's."""
    with Celery("tests", broker="memory://") as app:
        app.set_default()
        app.conf.task_default_queue = str(uuid4())
        yield app
        reset()


def published(app: Celery, queue: str = "") -> list[Any]:
    """Return the messages that wait in a queue, and take them out."""
    found = []
    with app.connection_for_read() as connection:
        waiting = connection.SimpleQueue(queue or app.conf.task_default_queue)
        while waiting.qsize():
            found.append(waiting.get(block=False))
            found[-1].ack()
        waiting.close()
    return found
