"""AuditMiddleware: ties what a request changes to the request and its user."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextvars import Context, copy_context
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.db import router
from django.http import HttpRequest, StreamingHttpResponse
from django.http.response import HttpResponseBase

from django_signal_audit.conf import get_settings
from django_signal_audit.context.actors import begins_to_impersonate, may_impersonate, note_starter
from django_signal_audit.context.clients import MAX_PATH, clean_path
from django_signal_audit.context.request_user import watch_user
from django_signal_audit.context.scopes import AuditContext, context_scope, current_context, replaced_context
from django_signal_audit.enums import EventType, Source
from django_signal_audit.events.changes import Change
from django_signal_audit.events.payloads import cut
from django_signal_audit.models import AuditEvent
from django_signal_audit.recorder import record_changes
from django_signal_audit.rules.registry import get_registry
from django_signal_audit.viewing import record_views, watches_views


def watches_requests() -> bool:
    """Return whether any rule asks for requests."""
    return get_settings().enabled and get_registry().watches_event(EventType.REQUEST)


def record_request(request: HttpRequest, response: HttpResponseBase) -> None:
    """Record a request that was answered, if a rule wants it."""
    using = router.db_for_write(AuditEvent)
    data: dict[str, object] = {
        "method": request.method or "",
        "path": cut(clean_path(request), MAX_PATH),
        "status": response.status_code,
        "view": getattr(request.resolver_match, "view_name", "") or "",
    }
    record_changes([Change(event_type=EventType.REQUEST, source=Source.SIGNAL, using=using, data=data)], using)


class AuditMiddleware:
    """Keeps the request in the audit context while it is answered, streamed bodies included.

    The user is not asked for here: the actor is ``request.user`` as it is when an event is written, so
    authentication inside the view counts. Place it after AuthenticationMiddleware, or anywhere.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response
        is_async = iscoroutinefunction(get_response)
        if is_async:
            markcoroutinefunction(self)
        # A method would have a thread of its own for each asynchronous request.
        self.process_view = _before_view_async if is_async else _before_view

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        """Answer the request."""
        watch_user(request)
        if iscoroutinefunction(self.get_response):
            return self._answer_async(request)
        with context_scope(request=request):
            response: HttpResponseBase = self.get_response(request)
            if watches_requests():
                record_request(request, response)
            if watches_views():
                record_views(request, response)
            return _keep_context(response)

    async def _answer_async(self, request: HttpRequest) -> HttpResponseBase:
        with context_scope(request=request):
            response: HttpResponseBase = await self.get_response(request)
            if watches_requests():
                await sync_to_async(record_request)(request, response)
            if watches_views():
                await sync_to_async(record_views)(request, response)
            return _keep_context(response)


def _before_view(request: HttpRequest, view: object, *_: object) -> None:
    watch_user(request)  # the middleware that has put a user on the request may come after ours
    if may_impersonate() and begins_to_impersonate(view):
        note_starter(request)


async def _before_view_async(request: HttpRequest, view: object, *_: object) -> None:
    watch_user(request)
    if may_impersonate() and begins_to_impersonate(view):
        await sync_to_async(note_starter)(request)


def _keep_context(response: HttpResponseBase) -> HttpResponseBase:
    """Let a streamed body, which runs after the middleware has left, run in the request's context."""
    if isinstance(response, StreamingHttpResponse):
        context = copy_context()
        # What a body does at its end, it does there if the client goes away before.
        response.close = _within(current_context(), response.close)  # type: ignore[method-assign]
        if response.is_async:
            response.streaming_content = _AsyncStream(response.streaming_content, context)  # type: ignore[arg-type]
        else:
            response.streaming_content = _Stream(response.streaming_content, context)  # type: ignore[arg-type]
    return response


def _within(context: AuditContext, function: Callable[[], None]) -> Callable[[], None]:
    def call() -> None:
        with replaced_context(context):
            function()

    return call


class _Stream:
    """An iterator that takes every step in a context."""

    def __init__(self, content: Iterator[bytes], context: Context) -> None:
        self._content, self._context = iter(content), context

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return self._context.run(next, self._content)


class _AsyncStream:
    """An asynchronous iterator that takes every step in a context."""

    def __init__(self, content: AsyncIterator[bytes], context: Context) -> None:
        self._content, self._context = aiter(content), context

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        return await asyncio.create_task(_step(self._content), context=self._context)


async def _step(content: AsyncIterator[bytes]) -> bytes:
    return await anext(content)
