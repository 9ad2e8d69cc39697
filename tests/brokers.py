"""The brokers in reach of a test run."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

import pytest

URLS = {"rabbitmq": "amqp://guest:guest@127.0.0.1:5672//", "redis": "redis://127.0.0.1:6379/15"}


def broker(name: str) -> str:
    """Return the URL of a broker, or skip the test if nobody answers there."""
    parts = urlsplit(URLS[name])
    try:
        socket.create_connection((str(parts.hostname), parts.port or 0), timeout=1).close()
    except OSError:
        pytest.skip(f"{name} does not answer at {parts.hostname}:{parts.port}.")
    return URLS[name]
