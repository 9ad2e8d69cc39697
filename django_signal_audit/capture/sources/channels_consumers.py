"""Consumers of Django Channels: what one changes is tied to its connection and the user in its scope."""

from __future__ import annotations

import io
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from functools import wraps
from importlib.metadata import PackageNotFoundError, distribution
from typing import Any, TypeAlias

from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest

from django_signal_audit.context.scopes import context_scope
from django_signal_audit.rules.registry import Registry

from .base import CaptureSource

logger = logging.getLogger("django_signal_audit")

Scope: TypeAlias = MutableMapping[str, Any]
Call: TypeAlias = Callable[..., Awaitable[Any]]

_MARK = "_audit_is_in_force"


def is_channels_installed() -> bool:
    """Return whether Django Channels is installed, and not only a package of the project by that name."""
    try:
        distribution("channels")
    except PackageNotFoundError:
        return False
    return True


class ConsumerSource(CaptureSource):
    """Runs each consumer in an audit context of its own.

    Channels has no middleware that sees the consumer's own scope, in which its ``login()`` puts the user. So the
    method that a connection begins with is wrapped: once, for others may wrap it after us.
    """

    is_connected = False

    def connect(self, registry: Registry) -> None:
        """Wrap the method if there is anything to record."""
        type(self).is_connected = bool(registry.rules)
        if not registry.rules:
            return
        try:
            from channels.consumer import AsyncConsumer
        except Exception:
            logger.exception("Django Channels cannot be imported; the events of consumers do not know the user.")
            return
        if not getattr(AsyncConsumer.__call__, _MARK, False):
            AsyncConsumer.__call__ = _in_context(AsyncConsumer.__call__)

    def disconnect(self) -> None:
        """Let consumers run without a context."""
        type(self).is_connected = False


def _in_context(call: Call) -> Call:
    @wraps(call)
    async def wrapper(consumer: object, scope: Scope, *args: object, **kwargs: object) -> object:
        request = _request_of(scope) if ConsumerSource.is_connected else None
        if request is None:
            return await call(consumer, scope, *args, **kwargs)
        with context_scope(request=request):
            return await call(consumer, scope, *args, **kwargs)

    setattr(wrapper, _MARK, True)
    return wrapper


def _request_of(scope: Scope) -> HttpRequest | None:
    """Return the request that a connection began with, with the live scope; None for what is no connection."""
    kind = scope.get("type")
    if kind not in ("http", "websocket"):
        return None
    try:
        request = ASGIRequest({"method": kind.upper(), "headers": [], **scope}, io.BytesIO())
    except Exception:
        logger.exception("The request of a consumer could not be read; its events do not know it.")
        return None
    request.scope = scope
    if "session" in scope:
        request.session = scope["session"]
    return request
